//! IGW-1 to IGW-18: public addresses, and the internet behind them.

use std::net::{IpAddr, Ipv4Addr};

use minivpc_dataplane::{DropReason, Kind, tcp_flags};
use minivpc_model::{
    Connectivity, GatewayId, LoadBalancer, NetworkInterfaceId, Op, Origin, Peer, RouteTarget, RuleAction, SubnetId,
    Traffic, VpcId,
};
use minivpc_testkit::{Body, Builder, Packet, Sim};

use crate::{answers, assert_drops, ping, tcp, udp};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const WEB_PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 21);
const OTHER_PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 22);
const HOST: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// The router between gateways and hosts.
const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// A VPC on the internet: `web` with a public address, `bare` without one, and two hosts.
struct Public {
    builder: Builder,
    vpc: VpcId,
    subnet: SubnetId,
    web: NetworkInterfaceId,
    bare: NetworkInterfaceId,
}

fn public() -> Public {
    let mut b = Builder::default();
    let vpc = b.vpc("vpc", "10.0.0.0/16");
    let igw = b.internet_gateway(vpc);
    let subnet = b.subnet(vpc, "public", "10.0.0.0/24");
    let table = b.route_table(vpc, subnet);
    b.route(table, "0.0.0.0/0", RouteTarget::InternetGateway(igw));
    let all = b.group(vpc, "all", &[(Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()))]);
    let web = b.instance(subnet, "web", "10.0.0.10", &[all], true);
    let bare = b.instance(subnet, "bare", "10.0.0.11", &[all], true);
    b.public(web, "203.0.113.21");
    b.host("example.com", "93.184.216.34");
    b.host("client", "192.0.2.10");
    Public { builder: b, vpc, subnet, web, bare }
}

impl Public {
    fn sim(&self) -> Sim {
        Sim::new(&self.builder.world)
    }

    fn private_nat_gateway(&mut self, connectivity: Connectivity) {
        let subnet = self.builder.subnet(self.vpc, "private", "10.0.1.0/24");
        let nat = self.builder.nat_gateway_of_kind(self.subnet, "nat", "10.0.0.200", connectivity);
        let table = self.builder.route_table(self.vpc, subnet);
        self.builder.route(table, "0.0.0.0/0", RouteTarget::NatGateway(nat));
        self.builder.instance(subnet, "private", "10.0.1.10", &[], true);
    }
}

#[test]
fn igw_2_seed_16_the_internet_sees_the_public_address_and_the_guest_its_own_with_ports_untouched() {
    let mut sim = public().sim();
    sim.open("example.com", 53);
    sim.send("web", &udp(HOST, 40_000, 53));
    let seen = sim.received("example.com").remove(0);
    assert_eq!((seen.headers.flow.src, seen.headers.flow.src_port), (WEB_PUBLIC.into(), 40_000));
    let answer = sim.received("web").remove(0);
    assert_eq!((answer.headers.flow.src, answer.headers.flow.dst), (HOST.into(), WEB.into()));
    assert_eq!(answer.headers.flow.dst_port, 40_000);
    // And the other way round.
    sim.open("web", 80);
    sim.send("client", &tcp(WEB_PUBLIC, 50_000, 80, tcp_flags::SYN));
    let seen = sim.received("web").remove(0);
    assert_eq!(seen.headers.flow.dst, IpAddr::from(WEB), "the guest never sees its public address");
    let answer = sim.received("client").remove(0);
    assert_eq!(answer.headers.flow.src, IpAddr::from(WEB_PUBLIC));
    assert_drops(&sim, &[]);
}

#[test]
fn igw_3_without_a_public_address_nothing_leaves_and_nobody_says_so() {
    let mut sim = public().sim();
    assert!(!answers(&mut sim, "bare", HOST, 7));
    assert!(sim.received("bare").is_empty());
    assert_drops(&sim, &[(DropReason::NoPublicAddress, 1)]);
}

#[test]
fn igw_5_an_address_that_stands_for_nobody_leads_nowhere() {
    let mut public = public();
    public.builder.elastic_ip("203.0.113.99");
    let mut sim = public.sim();
    sim.send("client", &ping(Ipv4Addr::new(203, 0, 113, 99), 7));
    sim.send("web", &ping(Ipv4Addr::new(8, 8, 8, 8), 7));
    assert_drops(&sim, &[(DropReason::NoSuchHost, 2)]);
}

#[test]
fn igw_9_a_moved_address_leads_to_its_new_holder_with_the_next_packet() {
    let mut public = public();
    let mut sim = public.sim();
    assert!(answers(&mut sim, "client", WEB_PUBLIC, 7));
    assert_eq!(sim.received("web").len(), 1);
    let allocation = public.builder.world.addresses().next().unwrap().id;
    let (network_interface, private_ip) = (public.bare, None);
    let op =
        |allow_reassociation| Op::AssociateAddress { allocation, network_interface, private_ip, allow_reassociation };
    assert!(public.builder.world.apply(op(false)).is_err(), "it is somebody's");
    public.builder.apply(op(true));
    sim.publish(&public.builder.world);
    assert!(answers(&mut sim, "client", WEB_PUBLIC, 7));
    assert_eq!((sim.received("web").len(), sim.received("bare").len()), (0, 1));
    assert!(!answers(&mut sim, "web", HOST, 8), "its old holder has none any more");
    assert!(public.builder.world.network_interface(public.web).unwrap().public_ip.is_none());
}

#[test]
fn igw_10_sg_9_a_neighbours_public_address_is_reached_by_both_public_addresses() {
    // `assumed`.
    let mut public = public();
    let group = public.builder.group(public.vpc, "named", &[]);
    let web = public.builder.group(public.vpc, "web", &[]);
    public.builder.ingress(group, (Traffic::All, Peer::SecurityGroup(web)));
    let strict = public.builder.instance(public.subnet, "strict", "10.0.0.12", &[group], true);
    public.builder.public(strict, "203.0.113.23");
    public.builder.public(public.bare, "203.0.113.22");
    let groups = vec![web, public.builder.world.network_interface(public.web).unwrap().groups[0]];
    public.builder.apply(Op::ModifyNetworkInterfaceGroups { network_interface: public.web, groups });
    let mut sim = public.sim();
    assert!(answers(&mut sim, "web", OTHER_PUBLIC, 7));
    let seen = sim.received("bare").remove(0);
    assert_eq!((seen.headers.flow.src, seen.headers.flow.dst), (WEB_PUBLIC.into(), Ipv4Addr::new(10, 0, 0, 11).into()));
    assert_eq!(seen.headers.ttl, 255, "no router of the internet on the way");
    assert!(answers(&mut sim, "web", WEB_PUBLIC, 8), "also its own one");
    assert!(!answers(&mut sim, "web", Ipv4Addr::new(203, 0, 113, 23), 9), "a group names private addresses");
    assert_drops(&sim, &[(DropReason::SecurityGroup, 1)]);
}

#[test]
fn igw_11_r_42_the_subnets_router_says_that_1500_bytes_fit() {
    let mut sim = public().sim();
    sim.send("web", &udp(HOST, 40_000, 53).with_length(1473));
    let answer = sim.received("web").remove(0);
    assert_eq!(answer.headers.flow.src, IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)));
    assert!(matches!(answer.headers.kind, Kind::IcmpError { kind: 3, code: 4, .. }));
    assert_eq!(answer.payload()[6..8], 1500_u16.to_be_bytes());
    sim.send("web", &udp(HOST, 40_000, 53).with_length(1472));
    assert_eq!(sim.received("example.com").len(), 1);
    assert_drops(&sim, &[]);
}

#[test]
fn r_41_without_the_df_bit_a_large_packet_is_cut() {
    let mut sim = public().sim();
    let whole = udp(HOST, 40_000, 53).with_length(3000);
    sim.send_fragments("web", &whole, 77, 9001, &[0]);
    let pieces = sim.received("example.com");
    assert_eq!(pieces.len(), 3, "1500, 1500 and the rest");
    assert!(pieces.iter().all(|piece| piece.headers.size <= 1500));
    assert!(pieces.iter().all(|piece| piece.headers.flow.src == IpAddr::from(WEB_PUBLIC)));
}

#[test]
fn igw_12_a_traceroute_shows_a_router_between_gateway_and_host() {
    let mut sim = public().sim();
    sim.send("web", &udp(HOST, 40_000, 33_434).ttl(1));
    let answer = sim.received("web").remove(0);
    assert_eq!(answer.headers.flow.src, IpAddr::from(INTERNET));
    let Kind::IcmpError { kind: 11, quoted, .. } = answer.headers.kind else { panic!("{:?}", answer.headers) };
    assert_eq!(quoted.src, IpAddr::from(WEB), "IGW-17: as the guest has sent it");
    sim.send("web", &udp(HOST, 40_000, 33_435).ttl(2));
    let seen = sim.received("example.com").remove(0);
    assert_eq!(seen.headers.ttl, 1, "neither router nor gateway takes any");
    assert_eq!(sim.received("web").len(), 1, "port unreachable: the trace ends");
}

#[test]
fn rfc_1122_of_a_datagram_in_pieces_only_the_first_is_answered() {
    let mut sim = public().sim();
    sim.send_fragments("web", &udp(HOST, 40_000, 33_434).with_length(3000).ttl(1), 77, 1500, &[0, 1, 2]);
    assert_eq!(sim.received("web").len(), 1);
    assert_drops(&sim, &[(DropReason::TtlExpired, 2)]);
}

#[test]
fn igw_17_an_error_quotes_the_address_that_its_receiver_knows() {
    let mut sim = public().sim();
    // A traceroute from the internet ends with the guest's own port unreachable.
    sim.send("client", &udp(WEB_PUBLIC, 40_000, 33_434).ttl(64));
    let answer = sim.received("client").remove(0);
    let Kind::IcmpError { kind: 3, code: 3, quoted } = answer.headers.kind else { panic!("{:?}", answer.headers) };
    assert_eq!(answer.headers.flow.src, IpAddr::from(WEB_PUBLIC));
    assert_eq!(quoted.dst, IpAddr::from(WEB_PUBLIC));
}

#[test]
fn igw_15_igw_18_private_and_shared_addresses_do_not_cross_the_gateway() {
    let mut sim = public().sim();
    for to in [[192, 168, 1, 1], [172, 16, 0, 1], [10, 9, 9, 9]] {
        sim.send("web", &ping(to.into(), 7));
    }
    sim.send("web", &ping([100, 64, 0, 1].into(), 7));
    sim.send("client", &ping(WEB_PUBLIC, 7).from([10, 0, 0, 99].into()));
    sim.send("client", &ping(WEB_PUBLIC, 7).from([100, 127, 0, 1].into()));
    sim.send("client", &ping(WEB_PUBLIC, 7).from(WEB_PUBLIC));
    assert!(sim.received("web").is_empty());
    let expected = [
        (DropReason::PrivateDestination, 3),
        (DropReason::SharedDestination, 1),
        (DropReason::PrivateSource, 1),
        (DropReason::SharedSource, 1),
        (DropReason::Spoofed, 1),
    ];
    assert_drops(&sim, &expected);
}

#[test]
fn nat_2_nat_16_a_public_nat_gateway_is_seen_by_its_elastic_ip() {
    let mut public = public();
    let allocation = public.builder.elastic_ip("203.0.113.31");
    public.private_nat_gateway(Connectivity::Public(vec![allocation]));
    let mut sim = public.sim();
    sim.send("private", &Packet::to(HOST, Body::Tcp { from: 65_535, to: 443, flags: tcp_flags::SYN }));
    let seen = sim.received("example.com").remove(0);
    assert_eq!(seen.headers.flow.src, IpAddr::from(Ipv4Addr::new(203, 0, 113, 31)));
    assert!(seen.headers.flow.src_port >= 1024, "NAT-9");
    assert_eq!(seen.headers.ttl, 253, "the NAT gateway and the internet's router");
    assert_eq!(sim.received("private").len(), 1, "the reset comes back");
    sim.send("client", &ping(Ipv4Addr::new(203, 0, 113, 31), 7));
    assert_drops(&sim, &[(DropReason::NatNoSession, 1)]);
}

#[test]
fn nat_3_a_private_nat_gateway_gets_nothing_through_the_internet_gateway() {
    let mut public = public();
    public.private_nat_gateway(Connectivity::Private);
    let mut sim = public.sim();
    sim.send("private", &ping(HOST, 7));
    assert_drops(&sim, &[(DropReason::NoPublicAddress, 1)]);
}

#[test]
fn igw_11_behind_a_nat_gateway_the_client_learns_what_fits() {
    let mut public = public();
    let allocation = public.builder.elastic_ip("203.0.113.31");
    public.private_nat_gateway(Connectivity::Public(vec![allocation]));
    let mut sim = public.sim();
    sim.send("private", &udp(HOST, 40_000, 53).with_length(1473));
    let answer = sim.received("private").remove(0);
    let Kind::IcmpError { kind: 3, code: 4, quoted } = answer.headers.kind else { panic!("{:?}", answer.headers) };
    assert_eq!((quoted.src, quoted.src_port), (Ipv4Addr::new(10, 0, 1, 10).into(), 40_000));
}

#[test]
fn a_host_reaches_a_host_behind_the_same_router() {
    let mut sim = public().sim();
    assert!(answers(&mut sim, "client", HOST, 7));
    assert_eq!(sim.received("example.com")[0].headers.ttl, 254);
}

#[test]
fn igw_4_without_a_route_the_question_comes_in_and_the_answer_does_not_leave() {
    let mut public = public();
    let subnet = public.builder.subnet(public.vpc, "dark", "10.0.5.0/24");
    let all = public.builder.world.network_interface(public.web).unwrap().groups[0];
    let dark = public.builder.instance(subnet, "dark", "10.0.5.10", &[all], true);
    public.builder.public(dark, "203.0.113.55");
    let mut sim = public.sim();
    assert!(!answers(&mut sim, "client", Ipv4Addr::new(203, 0, 113, 55), 7));
    assert_eq!(sim.received("dark").len(), 1);
    assert_drops(&sim, &[(DropReason::NoRoute, 1)]);
}

#[test]
fn igw_6_an_appliance_forwards_in_the_name_of_whoever_has_a_public_address() {
    let mut public = public();
    let all = public.builder.world.network_interface(public.web).unwrap().groups[0];
    public.builder.instance(public.subnet, "appliance", "10.0.0.50", &[all], false);
    let mut sim = public.sim();
    sim.send("appliance", &ping(HOST, 7).from(WEB));
    assert_eq!(sim.received("example.com")[0].headers.flow.src, IpAddr::from(WEB_PUBLIC));
    sim.send("appliance", &ping(HOST, 8).from(Ipv4Addr::new(10, 0, 0, 11)));
    assert_drops(&sim, &[(DropReason::NoPublicAddress, 1)]);
}

#[test]
fn nacl_8_nacl_15_one_list_is_asked_each_way_about_private_addresses() {
    let mut public = public();
    let all = |egress, number, action, cidr| (egress, number, action, Traffic::All, cidr);
    let (allow, deny) = (RuleAction::Allow, RuleAction::Deny);
    let entries = [
        all(false, 90, deny, "192.0.2.0/24"),
        all(false, 100, allow, "0.0.0.0/0"),
        all(true, 90, deny, "203.0.113.0/24"),
        all(true, 100, allow, "0.0.0.0/0"),
    ];
    public.builder.acl(public.vpc, public.subnet, &entries);
    let mut sim = public.sim();
    // Nothing leaves from a public address, as far as a list can see.
    assert!(answers(&mut sim, "web", HOST, 7));
    assert!(!answers(&mut sim, "client", WEB_PUBLIC, 8));
    assert_drops(&sim, &[(DropReason::NetworkAcl, 1)]);
}

#[test]
fn nat_28_an_elastic_ip_of_the_same_vpc_is_reached_through_a_nat_gateway() {
    // `assumed`.
    let mut public = public();
    let allocation = public.builder.elastic_ip("203.0.113.31");
    public.private_nat_gateway(Connectivity::Public(vec![allocation]));
    let mut sim = public.sim();
    assert!(answers(&mut sim, "private", WEB_PUBLIC, 7));
    assert_eq!(sim.received("web")[0].headers.flow.src, IpAddr::from(Ipv4Addr::new(203, 0, 113, 31)));
    assert!(!answers(&mut sim, "private", Ipv4Addr::new(203, 0, 113, 31), 8), "its own one answers nobody");
}

/// An appliance in the way of what comes for `web`'s subnet.
fn ingress(to_appliance: bool) -> (Public, NetworkInterfaceId) {
    let mut public = public();
    let subnet = public.builder.subnet(public.vpc, "appliance", "10.0.9.0/24");
    let gateway = public.builder.world.internet_gateways().next().unwrap().id;
    let all = public.builder.world.network_interface(public.web).unwrap().groups[0];
    let appliance = public.builder.instance(subnet, "appliance", "10.0.9.10", &[all], false);
    let table = public.builder.route_table(public.vpc, subnet);
    public.builder.route(table, "0.0.0.0/0", RouteTarget::InternetGateway(gateway));
    let edge = public.builder.gateway_route_table(public.vpc, GatewayId::Internet(gateway));
    public.builder.route(edge, "10.0.0.0/24", RouteTarget::NetworkInterface(appliance));
    if to_appliance {
        let route_table = public.builder.world.subnet(public.subnet).unwrap().route_table.unwrap();
        let target = RouteTarget::NetworkInterface(appliance);
        let destination = "0.0.0.0/0".parse().unwrap();
        public.builder.apply(Op::ReplaceRoute { route_table, destination, target, origin: Origin::default() });
    }
    (public, appliance)
}

#[test]
fn r_31_r_32_r_36_the_gateways_table_hands_the_private_destination_to_the_appliance() {
    let (mut public, appliance) = ingress(true);
    public.builder.public(appliance, "203.0.113.90");
    let mut sim = public.sim();
    sim.send("client", &ping(WEB_PUBLIC, 7));
    let seen = sim.received("appliance").remove(0);
    assert_eq!(seen.headers.flow.dst, IpAddr::from(WEB));
    assert_eq!(seen.headers.flow.src, IpAddr::from(Ipv4Addr::new(192, 0, 2, 10)));
    assert!(sim.received("web").is_empty());
    assert_drops(&sim, &[]);
}

#[test]
fn r_35_the_appliance_needs_a_public_address() {
    let (public, _) = ingress(true);
    let mut sim = public.sim();
    sim.send("client", &ping(WEB_PUBLIC, 7));
    assert!(sim.received("appliance").is_empty());
    assert_drops(&sim, &[(DropReason::MiddleboxWithoutPublicAddress, 1)]);
}

#[test]
fn seed_17_a_classic_load_balancers_interface_is_taken_and_of_no_use() {
    let (mut public, _) = ingress(true);
    let b = &mut public.builder;
    let gateway = b.world.internet_gateways().next().unwrap();
    let (route_table, target) = (gateway.route_table.unwrap(), RouteTarget::NetworkInterface);
    let subnet = b.world.subnets().find(|subnet| subnet.id != public.subnet).unwrap().id;
    let balancer = b.load_balancer(subnet, "classic", "10.0.9.20", LoadBalancer::Classic);
    b.public(balancer, "203.0.113.91");
    let (destination, target, origin) = ("10.0.0.0/24".parse().unwrap(), target(balancer), Origin::default());
    b.apply(Op::ReplaceRoute { route_table, destination, target, origin });
    let mut sim = public.sim();
    sim.send("client", &ping(WEB_PUBLIC, 7));
    assert_drops(&sim, &[(DropReason::DestinationCheck, 1)]);
    // On AWS somebody would answer here.
    sim.send("client", &ping(Ipv4Addr::new(203, 0, 113, 91), 8));
    assert!(sim.received("client").is_empty());
}

#[test]
fn r_37_answers_past_the_appliance_are_refused_unless_the_switch_says_otherwise() {
    let (mut public, appliance) = ingress(false);
    public.builder.public(appliance, "203.0.113.90");
    let mut sim = public.sim();
    sim.send("web", &ping(HOST, 7));
    assert_drops(&sim, &[(DropReason::Redirected, 1)]);
    let gateway = public.builder.world.internet_gateways().next().unwrap().id;
    public.builder.apply(Op::ModifyAsymmetricReturn { gateway, passes: true });
    sim.publish(&public.builder.world);
    sim.send("web", &ping(HOST, 7));
    assert_eq!(sim.received("example.com").len(), 1);
}

#[test]
fn r_40a_only_what_is_for_somebody_is_led_elsewhere() {
    let (mut public, appliance) = ingress(true);
    public.builder.public(appliance, "203.0.113.90");
    public.builder.elastic_ip("203.0.113.99");
    let mut sim = public.sim();
    sim.send("client", &ping(Ipv4Addr::new(203, 0, 113, 99), 7));
    assert!(sim.received("appliance").is_empty());
    assert_drops(&sim, &[(DropReason::NoSuchHost, 1)]);
}
