//! Virtual private gateways and customers' sites.

use std::net::{IpAddr, Ipv4Addr};

use minivpc_dataplane::{DropReason, Kind};
use minivpc_model::{
    GatewayId, NetworkInterfaceId, Op, Origin, Peer, RouteTarget, SubnetId, Traffic, VpcId, VpnGatewayId,
};
use minivpc_testkit::{Body, Builder, Packet, Sim};

use super::{answers, assert_drops, ping, tcp};

const APP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const PC: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 9);

struct Hybrid {
    builder: Builder,
    vpc: VpcId,
    subnet: SubnetId,
    gateway: VpnGatewayId,
    app: NetworkInterfaceId,
}

/// A VPC with a site, whose routes are propagated.
fn hybrid() -> Hybrid {
    let mut b = Builder::default();
    let vpc = b.vpc("vpc", "10.0.0.0/16");
    let subnet = b.subnet(vpc, "subnet", "10.0.0.0/24");
    let gateway = b.vpn_gateway(vpc, "vgw");
    let site = b.site(gateway, "office", &["192.168.0.0/24", "10.0.1.0/24"]);
    b.host_in(Some(site), "pc", "192.168.0.9");
    b.host("example.com", "93.184.216.34");
    let route_table = b.route_table(vpc, subnet);
    b.apply(Op::EnableVgwRoutePropagation { route_table, gateway });
    let all = b.group(vpc, "all", &[(Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()))]);
    let app = b.instance(subnet, "app", "10.0.0.10", &[all], true);
    Hybrid { builder: b, vpc, subnet, gateway, app }
}

#[test]
fn vpn_1_both_sides_reach_what_the_gateway_knows_and_nothing_else() {
    let mut hybrid = hybrid();
    let b = &mut hybrid.builder;
    let table = b.world.subnet(hybrid.subnet).unwrap().route_table.unwrap();
    b.route(table, "0.0.0.0/0", RouteTarget::VpnGateway(hybrid.gateway));
    let mut sim = Sim::new(&b.world);
    assert!(answers(&mut sim, "app", PC, 1));
    assert!(answers(&mut sim, "office/pc", APP, 2));
    assert_drops(&sim, &[]);
    sim.send("app", &ping(Ipv4Addr::new(8, 8, 8, 8), 3));
    sim.send("office/pc", &ping(Ipv4Addr::new(10, 0, 0, 99), 4));
    sim.send("office/pc", &ping(Ipv4Addr::new(93, 184, 216, 34), 5));
    sim.send("office/pc", &ping(APP, 6).from(Ipv4Addr::new(10, 0, 0, 99)));
    let expected = [
        (DropReason::Spoofed, 1),
        (DropReason::NoSuchHost, 1),
        (DropReason::VpnDestination, 1),
        (DropReason::VpnNoRoute, 1),
    ];
    assert_drops(&sim, &expected);
}

#[test]
fn vpn_1_nobody_else_of_the_vpc_speaks_through_the_gateway() {
    let mut hybrid = hybrid();
    let off = Op::ModifySourceDestCheck { network_interface: hybrid.app, source_dest_check: false };
    hybrid.builder.apply(off);
    let mut sim = Sim::new(&hybrid.builder.world);
    sim.send("app", &ping(PC, 1).from(Ipv4Addr::new(172, 16, 0, 1)));
    assert!(sim.received("office/pc").is_empty());
    assert_drops(&sim, &[(DropReason::VpnSource, 1)]);
}

#[test]
fn r_19_vpn_3_a_propagated_route_inside_the_vpc_stays_local() {
    let mut hybrid = hybrid();
    let b = &mut hybrid.builder;
    let near = b.subnet(hybrid.vpc, "near", "10.0.1.0/24");
    let all = b.world.network_interface(hybrid.app).unwrap().groups[0];
    b.instance(near, "near", "10.0.1.10", &[all], true);
    let mut sim = Sim::new(&b.world);
    assert!(answers(&mut sim, "app", Ipv4Addr::new(10, 0, 1, 10), 1));
    sim.send("app", &ping(Ipv4Addr::new(10, 0, 1, 99), 2));
    assert_drops(&sim, &[(DropReason::NoSuchAddress, 1)]);
}

#[test]
fn vpn_4_a_tunnel_carries_1446_bytes_and_only_the_customers_end_says_so() {
    let mut sim = Sim::new(&hybrid().builder.world);
    let large = |to, length| Packet::to(to, Body::Udp { from: 5000, to: 7, length });
    sim.silence();
    // 20 bytes of IP and 8 of UDP.
    sim.send("app", &large(PC, 1418));
    assert_eq!(sim.received("office/pc").len(), 1);
    sim.send("app", &large(PC, 1419));
    assert!(sim.received("office/pc").is_empty() && sim.received("app").is_empty());
    assert_drops(&sim, &[(DropReason::VpnTooLarge, 1)]);
    sim.send("office/pc", &large(APP, 1419));
    assert!(sim.received("app").is_empty());
    let said = sim.received("office/pc").remove(0);
    assert_eq!(said.headers.flow.src, IpAddr::from(Ipv4Addr::new(192, 168, 0, 1)));
    assert!(matches!(said.headers.kind, Kind::IcmpError { kind: 3, code: 4, .. }));
    assert_eq!(u16::from_be_bytes(said.frame[40..42].try_into().unwrap()), 1446);
}

#[test]
fn the_customers_router_is_a_hop_and_the_gateway_is_none() {
    let mut sim = Sim::new(&hybrid().builder.world);
    for (from, to) in [("app", PC), ("office/pc", APP)] {
        sim.received(from);
        sim.send(from, &ping(to, 1).ttl(1));
        let said = sim.received(from).remove(0);
        assert_eq!(said.headers.flow.src, IpAddr::from(Ipv4Addr::new(192, 168, 0, 1)), "{from}");
        assert!(matches!(said.headers.kind, Kind::IcmpError { kind: 11, .. }));
        sim.send(from, &ping(to, 1).ttl(2));
        assert_eq!(sim.received(from).len(), 1, "{from}");
    }
}

#[test]
fn r_32_vpn_6_the_gateways_table_hands_a_subnets_packets_to_the_appliance() {
    let mut hybrid = hybrid();
    let b = &mut hybrid.builder;
    let middle = b.subnet(hybrid.vpc, "middle", "10.0.9.0/24");
    let all = b.world.network_interface(hybrid.app).unwrap().groups[0];
    let appliance = b.instance(middle, "appliance", "10.0.9.10", &[all], false);
    let edge = b.gateway_route_table(hybrid.vpc, GatewayId::Vpn(hybrid.gateway));
    let (destination, origin) = ("10.0.0.0/24".parse().unwrap(), Origin::default());
    let target = RouteTarget::NetworkInterface(appliance);
    b.apply(Op::CreateRoute { route_table: edge, destination, target, origin });
    let mut sim = Sim::new(&b.world);
    sim.send("office/pc", &ping(APP, 1));
    let seen = sim.received("appliance").remove(0);
    assert_eq!((seen.headers.flow.src, seen.headers.flow.dst), (PC.into(), APP.into()));
    assert!(sim.received("app").is_empty());
    assert_drops(&sim, &[]);
}

#[test]
fn nat_20_a_nat_gateway_serves_nobody_from_a_site() {
    let mut hybrid = hybrid();
    let b = &mut hybrid.builder;
    let middle = b.subnet(hybrid.vpc, "middle", "10.0.9.0/24");
    let nat = b.nat_gateway(middle, "nat", "10.0.9.200");
    // No route of a gateway's table leads to it, and what is addressed to it is no reply.
    let edge = b.gateway_route_table(hybrid.vpc, GatewayId::Vpn(hybrid.gateway));
    let (destination, origin) = ("10.0.0.0/24".parse().unwrap(), Origin::default());
    let target = RouteTarget::NatGateway(nat);
    assert!(b.world.clone().apply(Op::CreateRoute { route_table: edge, destination, target, origin }).is_err());
    let mut sim = Sim::new(&b.world);
    sim.send("office/pc", &ping(Ipv4Addr::new(10, 0, 9, 200), 1));
    assert_drops(&sim, &[(DropReason::NatNoSession, 1)]);
}

#[test]
fn nat_2_nat_25_behind_a_nat_gateway_a_site_sees_the_gateways_private_address() {
    let mut hybrid = hybrid();
    let b = &mut hybrid.builder;
    let middle = b.subnet(hybrid.vpc, "middle", "10.0.9.0/24");
    let nat = b.nat_gateway(middle, "nat", "10.0.9.200");
    let (client, all) =
        (b.subnet(hybrid.vpc, "client", "10.0.8.0/24"), b.world.network_interface(hybrid.app).unwrap().groups[0]);
    b.instance(client, "client", "10.0.8.10", &[all], true);
    let to_nat = b.route_table(hybrid.vpc, client);
    b.route(to_nat, "192.168.0.0/16", RouteTarget::NatGateway(nat));
    let out = b.route_table(hybrid.vpc, middle);
    b.route(out, "192.168.0.0/24", RouteTarget::VpnGateway(hybrid.gateway));
    let mut sim = Sim::new(&b.world);
    sim.open("office/pc", 80);
    sim.send("client", &tcp(PC, 40_000, 80, minivpc_dataplane::tcp_flags::SYN));
    let seen = sim.received("office/pc").remove(0);
    assert_eq!(seen.headers.flow.src, IpAddr::from(Ipv4Addr::new(10, 0, 9, 200)));
    assert_eq!(sim.received("client").len(), 1, "the reply is brought back");
}
