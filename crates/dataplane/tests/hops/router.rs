use std::net::Ipv4Addr;

use minivpc_dataplane::{DropReason, Kind};
use minivpc_model::{Peer, RouteTarget, Traffic};
use minivpc_testkit::{Article, Builder, Packet, Sim, article};

use crate::{DESTINATION, answers, assert_drops, ping, udp};

fn all() -> [(Traffic, Peer); 1] {
    [(Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()))]
}

#[test]
fn r_16_a_local_route_joins_the_subnets_and_takes_no_ttl() {
    let mut b = Builder::default();
    let vpc = b.vpc("vpc", "10.0.0.0/16");
    let group = b.group(vpc, "all", &all());
    for (n, name) in ["a", "b"].iter().enumerate() {
        let subnet = b.subnet(vpc, name, &format!("10.0.{n}.0/24"));
        b.instance(subnet, name, &format!("10.0.{n}.4"), &[group], true);
    }
    let mut sim = Sim::new(&b.world);
    sim.send("a", &ping(Ipv4Addr::new(10, 0, 1, 4), 7).ttl(1));
    assert_eq!(sim.received("b")[0].headers.ttl, 1, "SEED-1: the router is no hop");
    assert_eq!(sim.received("a")[0].headers.ttl, 255);
}

#[test]
fn r_15_sg_25_nacl_9_a_router_answers_an_echo_request_of_its_own_subnet_and_nothing_else() {
    // `assumed`: seen once, in 2013. SG-25: groups and lists don't filter it.
    let mut article = article("10.0.0.0/16");
    let subnet = article.builder.subnet(article.vpc, "closed", "10.0.3.0/24");
    article.builder.acl(article.vpc, subnet, &[]);
    let closed = article.builder.group(article.vpc, "closed", &[]);
    article.builder.egress(closed, &[]);
    article.builder.instance(subnet, "closed", "10.0.3.4", &[closed], true);
    let mut sim = Sim::new(&article.builder.world);
    let own = Ipv4Addr::new(10, 0, 3, 1);
    assert!(answers(&mut sim, "closed", own, 7));
    assert_drops(&sim, &[]);
    sim.send("closed", &udp(own, 1, 53));
    sim.send("destination", &ping(own, 7));
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::RouterAddress, 2)]);
}

#[test]
fn r_17_the_longest_prefix_wins() {
    let mut article = article("10.0.0.0/16");
    let neighbour = article.builder.subnet(article.vpc, "third", "10.0.3.0/24");
    let group = article.builder.group(article.vpc, "all", &all());
    article.builder.instance(neighbour, "third", "10.0.3.4", &[group], true);
    let mut sim = Sim::new(&article.builder.world);
    assert!(answers(&mut sim, "source", Ipv4Addr::new(10, 0, 3, 4), 7));
    assert_eq!(sim.received("third")[0].headers.ttl, 255, "10.0.0.0/16 → local");
    assert!(answers(&mut sim, "source", DESTINATION, 7));
    assert_eq!(sim.received("destination")[0].headers.ttl, 254, "10.0.1.0/24 → nat");
}

#[test]
fn r_22_without_a_route_a_packet_is_dropped_silently() {
    let mut b = Builder::default();
    let vpc = b.vpc("vpc", "10.0.0.0/16");
    let subnet = b.subnet(vpc, "a", "10.0.0.0/24");
    b.instance(subnet, "a", "10.0.0.4", &[], true);
    let mut sim = Sim::new(&b.world);
    sim.send("a", &ping(Ipv4Addr::new(192, 0, 2, 1), 7));
    assert!(sim.received("a").is_empty());
    assert_drops(&sim, &[(DropReason::NoRoute, 1)]);
}

#[test]
fn r_29_a_new_route_serves_the_next_packet() {
    let mut article = article("10.0.0.0/16");
    let b = &mut article.builder;
    let subnet = b.subnet(article.vpc, "client", "10.0.3.0/24");
    let table = b.route_table(article.vpc, subnet);
    b.instance(subnet, "client", "10.0.3.4", &[], true);
    let mut sim = Sim::new(&b.world);
    assert!(answers(&mut sim, "client", DESTINATION, 7));
    let nat = b.world.find_nat_gateway(None, "osaka-NAT").unwrap();
    b.route(table, "10.0.1.0/24", RouteTarget::NatGateway(nat));
    sim.publish(&b.world);
    assert!(answers(&mut sim, "client", DESTINATION, 7), "the same ping");
    let sources: Vec<_> = sim.received("destination").iter().map(|seen| seen.src().to_string()).collect();
    assert_eq!(sources, ["10.0.3.4", "10.0.2.149"]);
}

#[test]
fn r_5_no_route_leads_to_awss_own_services() {
    let mut sim = Sim::new(&article("10.0.0.0/16").builder.world);
    sim.send("source", &ping(Ipv4Addr::new(169, 254, 169, 254), 7));
    assert_drops(&sim, &[(DropReason::NoRoute, 1)]);
    sim.send("source", &ping(Ipv4Addr::new(169, 254, 172, 1), 7));
    assert_drops(&sim, &[(DropReason::NoRoute, 1), (DropReason::NoPublicAddress, 1)]);
}

#[test]
fn an_address_of_the_vpc_that_nobody_has_is_a_silent_end() {
    let mut sim = Sim::new(&article("10.0.0.0/16").builder.world);
    sim.send("destination", &ping(Ipv4Addr::new(10, 0, 2, 200), 7));
    sim.send("destination", &ping(Ipv4Addr::new(10, 0, 77, 1), 7));
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::NoSuchAddress, 2)]);
}

/// The article's VPC with an appliance that `client` reaches the destination by.
fn with_appliance(source_dest_check: bool, referenced: bool) -> Sim {
    let mut article = article("192.0.2.0/24");
    let b = &mut article.builder;
    let middle = b.subnet(article.vpc, "middle", "10.0.5.0/24");
    let client = b.subnet(article.vpc, "client", "10.0.6.0/24");
    let clients = b.group(article.vpc, "clients", &[]);
    let open = b.group(article.vpc, "open", &all());
    let appliance = b.instance(middle, "appliance", "10.0.5.4", &[open], source_dest_check);
    b.instance(client, "client", "10.0.6.4", &[clients], true);
    let peer = if referenced { Peer::SecurityGroup(clients) } else { Peer::Cidr("10.0.6.0/24".parse().unwrap()) };
    let servers = b.group(article.vpc, "servers", &[(Traffic::All, peer)]);
    b.instance(article.destination, "server", "10.0.1.77", &[servers], true);
    let table = b.route_table(article.vpc, client);
    b.route(table, "10.0.1.0/24", RouteTarget::NetworkInterface(appliance));
    Sim::new(&b.world)
}

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 77);

#[test]
fn sdc_2_a_routed_packet_reaches_an_appliance_only_with_the_check_off() {
    let mut sim = with_appliance(true, false);
    sim.send("client", &ping(SERVER, 7));
    assert!(sim.received("appliance").is_empty());
    assert_drops(&sim, &[(DropReason::DestinationCheck, 1)]);

    let mut sim = with_appliance(false, false);
    sim.send("client", &ping(SERVER, 7));
    let seen = sim.received("appliance");
    assert_eq!(seen[0].headers.flow.dst, SERVER, "the destination stays");
    assert_eq!(seen[0].headers.kind, Kind::EchoRequest);
}

/// The article's VPC with an appliance in a subnet whose table leads `destination` to it.
fn with_route_to_own_appliance(destination: &str) -> Builder {
    let Article { builder: mut b, vpc, .. } = article("10.0.0.0/16");
    let subnet = b.subnet(vpc, "one", "10.0.5.0/24");
    let group = b.group(vpc, "all", &all());
    let appliance = b.instance(subnet, "appliance", "10.0.5.4", &[group], false);
    for (name, ip) in [("a", "10.0.5.5"), ("b", "10.0.5.6")] {
        b.instance(subnet, name, ip, &[group], true);
    }
    let table = b.route_table(vpc, subnet);
    b.route(table, destination, RouteTarget::NetworkInterface(appliance));
    b
}

#[test]
fn r_12_r_26_no_route_steers_neighbours_through_an_appliance() {
    let mut sim = Sim::new(&with_route_to_own_appliance("10.0.5.0/24").world);
    assert!(answers(&mut sim, "a", Ipv4Addr::new(10, 0, 5, 6), 7));
    assert!(sim.received("appliance").is_empty());
}

#[test]
fn r_27_what_an_appliance_sends_by_a_route_to_itself_comes_back_with_its_ttl() {
    // `assumed`. So the loop ends in the appliance's kernel, which takes one off at each turn.
    let mut sim = Sim::new(&with_route_to_own_appliance("10.0.1.0/24").world);
    for ttl in [3, 2, 1] {
        sim.send("appliance", &ping(DESTINATION, 7).ttl(ttl));
        let back: Vec<_> = sim.received("appliance").iter().map(|seen| seen.headers.ttl).collect();
        assert_eq!(back, [ttl]);
    }
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[]);
}

#[test]
fn sg_7_a_reference_matches_only_on_the_direct_path() {
    for (referenced, expected) in [(false, 1), (true, 0)] {
        let mut sim = with_appliance(false, referenced);
        sim.send("client", &ping(SERVER, 7));
        // The appliance forwards what it received, as a kernel would: with its own MAC address and a lower TTL.
        let client = Ipv4Addr::new(10, 0, 6, 4);
        let forwarded = Packet { ttl: 254, ..ping(SERVER, 7) }.from(client);
        sim.send("appliance", &forwarded);
        let arrived = sim.received("server").len();
        assert_eq!(arrived, expected, "referenced: {referenced}");
    }
}
