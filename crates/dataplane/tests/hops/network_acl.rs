use minivpc_dataplane::{DropReason, tcp_flags};
use minivpc_model::{Peer, PortRange, RouteTarget, RuleAction, Traffic};
use minivpc_testkit::{Article, Body, Packet, Sim, article};

use crate::{DESTINATION, answers, assert_drops, ping, said_of_packets, tcp, udp};

const ICMP: Traffic = Traffic::Icmp { kind: None, code: None };

/// For what leaves the subnet, number, action, traffic, block.
type Entry = (bool, u16, RuleAction, Traffic, &'static str);

fn ports(from: u16, to: u16) -> PortRange {
    PortRange { from, to }
}

/// The article's VPC with a third subnet that reaches the destination by the local route.
fn direct() -> Article {
    let mut article = article("0.0.0.0/0");
    let b = &mut article.builder;
    let client = b.subnet(article.vpc, "client", "10.0.3.0/24");
    let all = b.group(article.vpc, "all", &[(Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()))]);
    b.instance(client, "client", "10.0.3.4", &[all], true);
    b.instance(client, "neighbour", "10.0.3.5", &[all], true);
    article
}

#[test]
fn nacl_1_a_list_is_stateless_and_a_new_one_denies_everything() {
    let mut article = direct();
    article.builder.acl(article.vpc, article.destination, &[(false, 100, RuleAction::Allow, ICMP, "0.0.0.0/0")]);
    let mut sim = Sim::new(&article.builder.world);
    sim.send("client", &ping(DESTINATION, 7));
    assert_eq!(sim.received("destination").len(), 1, "the request comes in");
    assert!(sim.received("client").is_empty(), "its answer does not go out");
    assert_drops(&sim, &[(DropReason::NetworkAcl, 1)]);
}

#[test]
fn nacl_2_the_lowest_number_that_matches_decides() {
    let mut article = direct();
    let all = |egress| (egress, 200, RuleAction::Allow, Traffic::All, "0.0.0.0/0");
    let deny = (false, 100, RuleAction::Deny, Traffic::Tcp(ports(80, 80)), "10.0.3.0/24");
    let allow = (false, 90, RuleAction::Allow, Traffic::Tcp(ports(80, 80)), "10.0.3.4/32");
    article.builder.acl(article.vpc, article.destination, &[all(true), all(false), deny, allow]);
    let mut sim = Sim::new(&article.builder.world);
    sim.open("destination", 80);
    sim.send("client", &tcp(DESTINATION, 40_000, 80, tcp_flags::SYN));
    assert_eq!(sim.received("client").len(), 1);
    sim.send("neighbour", &tcp(DESTINATION, 40_000, 80, tcp_flags::SYN));
    assert!(sim.received("neighbour").is_empty());
    assert_drops(&sim, &[(DropReason::NetworkAcl, 1)]);
}

#[test]
fn nacl_3_an_entry_is_for_a_protocol_and_its_ports_or_icmp_types() {
    for (traffic, packet, allowed) in said_of_packets(DESTINATION) {
        let mut article = direct();
        let entry = (false, 100, RuleAction::Allow, traffic, "10.0.3.0/24");
        article.builder.acl(article.vpc, article.destination, &[entry]);
        let mut sim = Sim::new(&article.builder.world);
        sim.send("client", &packet);
        assert_eq!(sim.received("destination").len(), usize::from(allowed), "{traffic}: {packet:?}");
    }
}

#[test]
fn nacl_4_the_port_is_the_packets_destination_port_both_ways() {
    let mut article = direct();
    let entries = [
        (false, 100, RuleAction::Allow, Traffic::Udp(ports(53, 53)), "0.0.0.0/0"),
        (true, 100, RuleAction::Allow, Traffic::Udp(ports(1024, 65_535)), "0.0.0.0/0"),
    ];
    article.builder.acl(article.vpc, article.destination, &entries);
    let mut sim = Sim::new(&article.builder.world);
    sim.open("destination", 53);
    sim.send("client", &udp(DESTINATION, 40_000, 53));
    assert_eq!(sim.received("client").len(), 1, "the answer goes to an ephemeral port");
    sim.send("client", &udp(DESTINATION, 53, 53));
    assert!(sim.received("client").is_empty(), "the answer goes to port 53");
}

#[test]
fn nacl_5_within_a_subnet_no_list_is_asked() {
    let mut article = direct();
    let client = article.builder.world.find_subnet(None, "client").unwrap();
    article.builder.acl(article.vpc, client, &[]);
    let mut sim = Sim::new(&article.builder.world);
    let neighbour = "10.0.3.5".parse().unwrap();
    assert!(answers(&mut sim, "client", neighbour, 7));
    let router = sim.arp("client", "10.0.3.1".parse().unwrap()).unwrap();
    sim.received("neighbour");
    sim.send_to_mac("client", &ping(neighbour, 8), router);
    assert_eq!(sim.received("neighbour").len(), 1, "nor by way of the router");
    assert!(!answers(&mut sim, "client", DESTINATION, 7));
}

/// `from` pings the destination with these lists for subnets, and once more without each of their entries.
fn each_entry_is_needed(lab: fn() -> Article, from: &str, lists: &[(&str, &[Entry])]) {
    let ping_without = |missing: Option<(&str, usize)>| {
        let mut article = lab();
        for (name, entries) in lists {
            let there = (0..entries.len()).filter(|n| missing != Some((*name, *n)));
            let entries: Vec<Entry> = there.map(|n| entries[n]).collect();
            let subnet = article.builder.world.find_subnet(None, name).unwrap();
            article.builder.acl(article.vpc, subnet, &entries);
        }
        let mut sim = Sim::new(&article.builder.world);
        (answers(&mut sim, from, DESTINATION, 7), sim.drops())
    };
    assert_eq!(ping_without(None), (true, vec![]));
    for (name, entries) in lists {
        for n in 0..entries.len() {
            let lost = (false, vec![(DropReason::NetworkAcl, 1)]);
            assert_eq!(ping_without(Some((name, n))), lost, "{name} without {:?}", entries[n]);
        }
    }
}

#[test]
fn nacl_6_the_lists_of_two_subnets_are_asked_four_times_per_round_trip() {
    // `assumed`.
    let of_client: [Entry; 2] =
        [(true, 100, RuleAction::Allow, ICMP, "10.0.1.55/32"), (false, 100, RuleAction::Allow, ICMP, "10.0.1.55/32")];
    let of_destination: [Entry; 2] =
        [(false, 100, RuleAction::Allow, ICMP, "10.0.3.4/32"), (true, 100, RuleAction::Allow, ICMP, "10.0.3.4/32")];
    each_entry_is_needed(direct, "client", &[("client", &of_client), ("destination", &of_destination)]);
}

#[test]
fn nacl_10_the_nat_gateways_subnet_is_asked_four_times_per_round_trip() {
    let of_nat: [Entry; 4] = [
        (false, 100, RuleAction::Allow, ICMP, "10.0.0.11/32"),
        (true, 100, RuleAction::Allow, ICMP, "10.0.1.55/32"),
        (false, 110, RuleAction::Allow, ICMP, "10.0.1.55/32"),
        (true, 110, RuleAction::Allow, ICMP, "10.0.0.11/32"),
    ];
    each_entry_is_needed(|| article("10.0.0.0/16"), "source", &[("nat", &of_nat)]);
}

#[test]
fn nacl_14_an_appliances_subnet_is_asked_when_a_packet_comes_and_when_it_goes() {
    // `assumed`.
    let comes: Entry = (false, 100, RuleAction::Allow, ICMP, "10.0.3.4/32");
    let goes: Entry = (true, 100, RuleAction::Allow, ICMP, "10.0.1.55/32");
    for (entries, expected) in
        [(vec![], (0, 0)), (vec![comes], (1, 0)), (vec![goes], (0, 1)), (vec![comes, goes], (1, 1))]
    {
        let mut article = direct();
        let b = &mut article.builder;
        let middle = b.subnet(article.vpc, "middle", "10.0.5.0/24");
        let all = b.group(article.vpc, "open", &[(Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()))]);
        let appliance = b.instance(middle, "appliance", "10.0.5.4", &[all], false);
        let client = b.world.find_subnet(None, "client").unwrap();
        let table = b.route_table(article.vpc, client);
        b.route(table, "10.0.1.0/24", RouteTarget::NetworkInterface(appliance));
        b.acl(article.vpc, middle, &entries);
        let mut sim = Sim::new(&b.world);
        sim.send("client", &ping(DESTINATION, 7));
        // What its kernel would forward.
        sim.send("appliance", &ping(DESTINATION, 7).from("10.0.3.4".parse().unwrap()).ttl(254));
        assert_eq!((sim.received("appliance").len(), sim.received("destination").len()), expected, "{entries:?}");
    }
}

#[test]
fn nacl_17_a_denial_is_silent() {
    let mut article = direct();
    article.builder.acl(article.vpc, article.destination, &[]);
    let mut sim = Sim::new(&article.builder.world);
    sim.send("client", &ping(DESTINATION, 7));
    sim.send("client", &udp(DESTINATION, 40_000, 53));
    sim.send("client", &tcp(DESTINATION, 40_000, 80, tcp_flags::SYN));
    assert!(sim.received("client").is_empty() && sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::NetworkAcl, 3)]);
}

#[test]
fn r_43_nacl_18_what_is_too_large_and_what_ran_out_of_ttl_is_told_only_where_entries_allow_it() {
    let icmp = |kind, code| Traffic::Icmp { kind: Some(kind), code: Some(code) };
    let needed: [Entry; 2] = [
        (false, 110, RuleAction::Allow, icmp(11, 0), "0.0.0.0/0"),
        (false, 120, RuleAction::Allow, icmp(3, 4), "0.0.0.0/0"),
    ];
    for there in 0..=needed.len() {
        let mut article = article("10.0.0.0/16");
        let mut entries: Vec<Entry> = vec![(true, 100, RuleAction::Allow, Traffic::All, "0.0.0.0/0")];
        entries.extend(&needed[..there]);
        article.builder.acl(article.vpc, article.source, &entries);
        let mut sim = Sim::new(&article.builder.world);
        sim.send("source", &udp(DESTINATION, 40_000, 33_434).ttl(1));
        sim.send("source", &Packet::to(DESTINATION, Body::Udp { from: 40_000, to: 9000, length: 8900 }));
        assert_eq!(sim.received("source").len(), there, "{entries:?}");
    }
}
