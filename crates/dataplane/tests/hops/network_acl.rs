use minivpc_dataplane::{DropReason, tcp_flags};
use minivpc_model::{Peer, PortRange, RuleAction, Traffic};
use minivpc_testkit::{Article, Sim, article};

use crate::{DESTINATION, SOURCE, answers, assert_drops, ping, tcp, udp};

const ICMP: Traffic = Traffic::Icmp { kind: None, code: None };

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
    assert!(sim.received("client").is_empty(), "its answer does not go out: NACL-17, silently");
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
    assert!(answers(&mut sim, "client", "10.0.3.5".parse().unwrap(), 7));
    assert!(!answers(&mut sim, "client", DESTINATION, 7));
}

#[test]
fn nacl_10_the_nat_gateways_subnet_is_asked_four_times_per_round_trip() {
    // Each of the four entries that a round trip needs is taken away in turn.
    let needed = [
        (false, 100, RuleAction::Allow, ICMP, "10.0.0.11/32"),
        (true, 100, RuleAction::Allow, ICMP, "10.0.1.55/32"),
        (false, 110, RuleAction::Allow, ICMP, "10.0.1.55/32"),
        (true, 110, RuleAction::Allow, ICMP, "10.0.0.11/32"),
    ];
    let mut whole = article("10.0.0.0/16");
    whole.builder.acl(whole.vpc, whole.nat, &needed);
    assert!(answers(&mut Sim::new(&whole.builder.world), "source", DESTINATION, 7));
    for missing in 0..needed.len() {
        let mut entries = needed.to_vec();
        entries.remove(missing);
        let mut article = article("10.0.0.0/16");
        article.builder.acl(article.vpc, article.nat, &entries);
        let mut sim = Sim::new(&article.builder.world);
        assert!(!answers(&mut sim, "source", DESTINATION, 7), "without {:?}", needed[missing]);
        assert_drops(&sim, &[(DropReason::NetworkAcl, 1)]);
    }
    assert_eq!(SOURCE.octets()[3], 11);
}
