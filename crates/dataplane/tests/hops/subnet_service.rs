//! What each subnet offers by itself, whatever its guests' groups and its list say.

use std::net::{IpAddr, Ipv4Addr};

use dhcproto::v4::{self, DhcpOption, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use minivpc_dataplane::{DropReason, Kind, Subject, tcp_flags};
use minivpc_model::{
    DhcpConfiguration, DhcpOptions, DhcpOptionsId, DomainNameServer, Op, Origin, Peer, Tags, Traffic, VpcAttribute,
};
use minivpc_testkit::{Body, Builder, Packet, Seen, Sim};

use super::assert_drops;

const TIME: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 123);
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Two instances whose group lets nothing out and nothing in, in a subnet whose list denies everything.
pub fn closed() -> Sim {
    let mut b = Builder::default();
    let vpc = b.vpc("vpc", "10.0.0.0/16");
    let subnet = b.subnet(vpc, "subnet", "10.0.0.0/24");
    let group = b.group(vpc, "closed", &[]);
    b.egress(group, &[]);
    b.acl(vpc, subnet, &[]);
    for (name, address) in [("one", "10.0.0.10"), ("two", "10.0.0.11")] {
        b.instance(subnet, name, address, &[group], true);
    }
    let mut sim = Sim::new(&b.world);
    sim.silence();
    sim
}

/// A datagram without a checksum, which IPv4 allows.
pub fn datagram(dst: Ipv4Addr, port: u16, payload: &[u8]) -> Packet {
    let length = 8 + payload.len() as u16;
    let header = [40_000, port, length, 0].map(u16::to_be_bytes).concat();
    Packet::to(dst, Body::Other { protocol: 17, bytes: [header.as_slice(), payload].concat() })
}

/// What a client of NTP asks.
fn question() -> [u8; 48] {
    let mut question = [0; 48];
    question[0] = 4 << 3 | 3;
    question[40..].copy_from_slice(b"whenisit");
    question
}

pub fn payload(seen: &Seen) -> &[u8] {
    &seen.payload()[8..]
}

#[test]
fn ntp_1_sg_25_nacl_9_the_time_is_told_whatever_groups_and_lists_say() {
    let mut sim = closed();
    sim.send("one", &datagram(TIME, 123, &question()));
    let told = sim.received("one").remove(0);
    assert_eq!((told.src(), told.headers.flow.src_port), (IpAddr::from(TIME), 123));
    let answer = payload(&told);
    assert_eq!((answer[1], &answer[24..32]), (3, &b"whenisit"[..]), "stratum 3, and the client's own time");
    assert_drops(&sim, &[]);
    // Nothing else gets anywhere, also not to that address.
    sim.send("one", &datagram(TIME, 124, &question()));
    sim.send("one", &super::ping(TIME, 1));
    sim.send("one", &super::ping(Ipv4Addr::new(10, 0, 0, 11), 1));
    assert!(sim.received("one").is_empty() && sim.received("two").is_empty());
    assert_drops(&sim, &[(DropReason::SecurityGroup, 3)]);
}

fn syn(dst: Ipv4Addr, port: u16) -> Packet {
    super::tcp(dst, 50_000, port, tcp_flags::SYN)
}

const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const RESOLVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(169, 254, 169, 253), Ipv4Addr::new(10, 0, 0, 2)];

#[test]
fn sg_25_dns_1_imds_1_by_tcp_servers_answer_each_of_two_guests_with_one_address() {
    let mut b = Builder::default();
    for name in ["one", "two"] {
        let vpc = b.vpc(name, "10.0.0.0/16");
        let subnet = b.subnet(vpc, name, "10.0.0.0/24");
        let group = b.group(vpc, "closed", &[]);
        b.egress(group, &[]);
        b.acl(vpc, subnet, &[]);
        b.instance(subnet, name, "10.0.0.10", &[group], true);
    }
    let mut sim = Sim::new(&b.world);
    let mut called = Vec::new();
    for name in ["one", "two"] {
        for (service, port) in [(METADATA, 80), (RESOLVERS[0], 53), (RESOLVERS[1], 53)] {
            sim.send(name, &syn(service, port));
            let [asked, answered] = ["services", name].map(|at| sim.received(at).remove(0));
            assert_eq!((answered.src(), answered.headers.flow.src_port), (service.into(), port));
            assert_eq!(answered.headers.ttl, 64, "a service's TTL is what the service says (IMDS-3)");
            assert_eq!(asked.src(), IpAddr::from([10, 0, 0, 10]), "the client stays who it is");
            called.push((name, asked.headers.flow.dst));
        }
    }
    assert_drops(&sim, &[]);
    let by = |name: &str| called.iter().filter(|(by, _)| *by == name).map(|(_, address)| *address).collect::<Vec<_>>();
    assert!(by("one").iter().all(|address| !by("two").contains(address)), "{called:?}");
    // Nobody who traces it sees these addresses.
    let (there, back) = sim.trace("one", METADATA, Kind::Tcp(tcp_flags::SYN), (50_000, 80));
    let flows = (there.sent.flow, back.map(|back| (back.sent.flow, back.last.flow)).unwrap());
    assert_eq!(flows.1, (flows.0.reversed(), flows.0.reversed()));
    // Other ports of theirs are nobody's, and filtered as all else.
    sim.send("one", &syn(METADATA, 81));
    sim.send("one", &syn(TIME, 123));
    assert!(sim.received("services").is_empty());
    assert_drops(&sim, &[(DropReason::SecurityGroup, 2)]);
}

#[test]
fn sdc_6_imds_6_through_a_neighbour_that_forwards_his_services_are_asked() {
    let mut b = Builder::default();
    let vpc = b.vpc("vpc", "10.0.0.0/16");
    let subnet = b.subnet(vpc, "subnet", "10.0.0.0/24");
    let group = b.group(vpc, "open", &[(Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()))]);
    b.instance(subnet, "client", "10.0.0.10", &[group], true);
    b.instance(subnet, "appliance", "10.0.0.11", &[group], false);
    let mut sim = Sim::new(&b.world);
    let appliance = sim.snapshot.macs(sim.port("appliance")).0.0;
    sim.send_to_mac("client", &syn(METADATA, 80), appliance);
    assert_eq!(sim.received("appliance").remove(0).headers.flow.dst, IpAddr::from(METADATA));
    let client = Ipv4Addr::new(10, 0, 0, 10);
    sim.send("appliance", &syn(METADATA, 80).from(client));
    let called = sim.received("services").remove(0).headers.flow.dst;
    let answer = sim.received("appliance").remove(0).headers.flow;
    assert_eq!((answer.src, answer.dst), (METADATA.into(), client.into()), "it comes back to the appliance");
    sim.send("appliance", &syn(METADATA, 80));
    assert_eq!(sim.received("services").remove(0).headers.flow.dst, called, "as whose service it is asked");
}

#[test]
fn dns_2_dns_5_what_is_asked_by_tcp_counts_and_the_resolver_may_be_off() {
    let mut b = Builder::default();
    let vpc = b.vpc("vpc", "10.0.0.0/16");
    let subnet = b.subnet(vpc, "subnet", "10.0.0.0/24");
    let group = b.group(vpc, "closed", &[]);
    b.instance(subnet, "one", "10.0.0.10", &[group], true);
    let mut sim = Sim::new(&b.world);
    (0..1100).for_each(|_| sim.send("one", &syn(METADATA, 80)));
    assert_eq!((sim.received("services").len(), sim.received("one").len()), (1024, 1024));
    assert_drops(&sim, &[(DropReason::ServiceAllowance, 76)]);
    let asked = sim.drops_in_full().iter().map(|dropped| dropped.subject).collect::<Vec<_>>();
    let whom = |subject: &Subject| matches!(subject, Subject::Packet(packet) if packet.flow.dst == METADATA);
    assert!(asked.iter().all(whom), "the address by which servers are called is nobody's to see: {asked:?}");
    b.apply(Op::ModifyVpcAttribute { vpc, attribute: VpcAttribute::DnsSupport, value: false });
    sim.publish(&b.world);
    sim.wait(1);
    RESOLVERS.into_iter().for_each(|resolver| sim.send("one", &syn(resolver, 53)));
    assert!(sim.received("services").is_empty());
    assert_drops(&sim, &[(DropReason::ServiceAllowance, 76), (DropReason::NoDnsSupport, 2)]);
}

#[test]
fn what_a_service_does_not_understand_it_does_not_answer() {
    let mut sim = closed();
    for nonsense in [&b""[..], &[4 << 3 | 4; 48], &[0xff; 1400]] {
        sim.send("one", &datagram(TIME, 123, nonsense));
    }
    assert!(sim.received("one").is_empty());
    assert_drops(&sim, &[(DropReason::ServiceNonsense, 3)]);
}

#[test]
fn dns_2_an_interface_asks_services_1024_times_a_second_and_others_notice_nothing() {
    let mut sim = closed();
    for _ in 0..1100 {
        sim.send("one", &datagram(TIME, 123, &question()));
    }
    sim.send("two", &datagram(TIME, 123, &question()));
    assert_eq!((sim.received("one").len(), sim.received("two").len()), (1024, 1));
    assert_drops(&sim, &[(DropReason::ServiceAllowance, 76)]);
    sim.wait(1);
    sim.send("one", &datagram(TIME, 123, &question()));
    assert_eq!(sim.received("one").len(), 1, "another second");
}

#[test]
fn ntp_1_time_goes_on_evenly() {
    let mut sim = closed();
    let mut told = || {
        sim.send("one", &datagram(TIME, 123, &question()));
        let seconds = payload(&sim.received("one")[0])[40..44].try_into().unwrap();
        sim.wait(100);
        u32::from_be_bytes(seconds)
    };
    let (first, second) = (told(), told());
    assert_eq!(second - first, 100);
}

const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// What a client at `one` sends by DHCP, and the packet that it is in.
fn to_dhcp(sim: &Sim, kind: MessageType, has: Ipv4Addr, options: &[DhcpOption], to: Ipv4Addr) -> Packet {
    let mac = sim.snapshot.eni(sim.port("one")).mac.0;
    let mut message = v4::Message::new_with_id(99, has, NOBODY, NOBODY, NOBODY, &mac);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    options.iter().for_each(|option| _ = message.opts_mut().insert(option.clone()));
    let payload = message.to_vec().unwrap();
    let header = [68, 67, 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
    let body = Body::Other { protocol: 17, bytes: [header, payload].concat() };
    Packet::to(to, body).from(has)
}

/// Who is answered where, and what.
fn offered(sim: &mut Sim, packet: &Packet) -> Option<(Ipv4Addr, v4::Message)> {
    sim.received("one");
    let (_, router) = sim.snapshot.macs(sim.port("one"));
    sim.send_to_mac("one", packet, if packet.dst.is_broadcast() { [0xff; 6] } else { router.0 });
    let seen = sim.received("one").pop()?;
    assert_eq!((seen.src(), seen.headers.flow.src_port, seen.headers.flow.dst_port), (ROUTER.into(), 67, 68));
    let IpAddr::V4(to) = seen.headers.flow.dst else { panic!() };
    Some((to, v4::Message::decode(&mut Decoder::new(payload(&seen))).unwrap()))
}

#[test]
fn dhcp_2_dhcp_3_dhcp_4_dhcp_6_a_client_gets_the_address_that_its_interface_has() {
    let mut sim = closed();
    let discover = to_dhcp(&sim, MessageType::Discover, NOBODY, &[], Ipv4Addr::BROADCAST);
    let (to, offer) = offered(&mut sim, &discover).unwrap();
    assert_eq!((to, offer.yiaddr(), offer.xid()), (ONE, ONE, 99));
    let option = |code| offer.opts().get(code).cloned().unwrap();
    assert_eq!(option(OptionCode::MessageType), DhcpOption::MessageType(MessageType::Offer));
    assert_eq!(option(OptionCode::SubnetMask), DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
    let broadcast = Ipv4Addr::new(10, 0, 0, 255);
    assert_eq!(option(OptionCode::BroadcastAddr), DhcpOption::BroadcastAddr(broadcast));
    assert_eq!(option(OptionCode::Router), DhcpOption::Router(vec![ROUTER]));
    assert_eq!(option(OptionCode::DomainNameServer), DhcpOption::DomainNameServer(vec![RESOLVER]));
    assert_eq!(option(OptionCode::DomainName), DhcpOption::DomainName("ap-northeast-3.compute.internal".to_owned()));
    assert_eq!(option(OptionCode::Hostname), DhcpOption::Hostname("ip-10-0-0-10".to_owned()));
    assert_eq!(option(OptionCode::InterfaceMtu), DhcpOption::InterfaceMtu(9001));
    assert_eq!(option(OptionCode::AddressLeaseTime), DhcpOption::AddressLeaseTime(3600));
    let chosen = [DhcpOption::RequestedIpAddress(ONE), DhcpOption::ServerIdentifier(ROUTER)];
    let request = to_dhcp(&sim, MessageType::Request, NOBODY, &chosen, Ipv4Addr::BROADCAST);
    let (_, ack) = offered(&mut sim, &request).unwrap();
    assert_eq!((ack.opts().msg_type(), ack.yiaddr()), (Some(MessageType::Ack), ONE));
    // Renewed half-time for a virtual day.
    for _ in 0..48 {
        sim.wait(1800);
        let renew = to_dhcp(&sim, MessageType::Request, ONE, &[], ROUTER);
        let (to, ack) = offered(&mut sim, &renew).unwrap();
        assert_eq!((to, ack.opts().msg_type(), ack.yiaddr()), (ONE, Some(MessageType::Ack), ONE));
    }
    assert_drops(&sim, &[]);
}

#[test]
fn dhcp_1_dhcp_2_a_set_of_options_says_other_things_to_who_asks_again() {
    let mut b = Builder::default();
    let vpc = b.vpc("vpc", "10.0.0.0/16");
    let subnet = b.subnet(vpc, "subnet", "10.0.0.0/24");
    b.instance(subnet, "one", "10.0.0.10", &[], true);
    let address = |last| Ipv4Addr::new(10, 0, 0, last);
    let configuration = DhcpConfiguration {
        domain_name_servers: vec![DomainNameServer::Address(address(53)), DomainNameServer::AmazonProvided],
        domain_name: Some("corp.example eu.corp.example".to_owned()),
        ntp_servers: vec![TIME],
        netbios_name_servers: vec![address(42)],
        netbios_node_type: Some(2),
    };
    let (tags, origin, id) = (Tags::default(), Origin::default(), DhcpOptionsId::from_seed(1));
    let few = DhcpConfiguration { ntp_servers: vec![TIME], ..DhcpConfiguration::default() };
    for (n, configuration) in (1..).zip([configuration, few]) {
        let (id, tags) = (DhcpOptionsId::from_seed(n), tags.clone());
        b.apply(Op::CreateDhcpOptions(DhcpOptions { id, configuration, tags, origin }));
    }
    let mut sim = Sim::new(&b.world);
    sim.silence();
    let mut hears = |b: &Builder| {
        sim.publish(&b.world);
        sim.wait(1800);
        let renewal = to_dhcp(&sim, MessageType::Request, ONE, &[], ROUTER);
        let (_, ack) = offered(&mut sim, &renewal).unwrap();
        assert_eq!(ack.yiaddr(), ONE);
        OPTIONS.map(|code| ack.opts().get(code).cloned())
    };
    const OPTIONS: [OptionCode; 5] = [
        OptionCode::DomainNameServer,
        OptionCode::DomainName,
        OptionCode::NtpServers,
        OptionCode::NetBiosNameServers,
        OptionCode::NetBiosNodeType,
    ];
    let domain = |name: &str| Some(DhcpOption::DomainName(name.to_owned()));
    let own = Some(DhcpOption::DomainNameServer(vec![RESOLVER]));
    let time = Some(DhcpOption::NtpServers(vec![TIME]));
    assert_eq!(hears(&b), [own, domain("ap-northeast-3.compute.internal"), None, None, None]);
    b.apply(Op::AssociateDhcpOptions { vpc, set: Some(id) });
    let servers = Some(DhcpOption::DomainNameServer(vec![address(53), RESOLVER]));
    let names = Some(DhcpOption::NetBiosNameServers(vec![address(42)]));
    let kind = Some(DhcpOption::NetBiosNodeType(v4::NodeType::P));
    assert_eq!(hears(&b), [servers, domain("corp.example eu.corp.example"), time.clone(), names, kind]);
    b.apply(Op::AssociateDhcpOptions { vpc, set: Some(DhcpOptionsId::from_seed(2)) });
    assert_eq!(hears(&b), [None, None, time, None, None], "what a set doesn't say isn't told");
}

#[test]
fn dhcp_5_another_address_is_refused_and_another_server_left_alone() {
    let mut sim = closed();
    let other = [DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 0, 0, 99))];
    let request = to_dhcp(&sim, MessageType::Request, NOBODY, &other, Ipv4Addr::BROADCAST);
    let (to, nak) = offered(&mut sim, &request).unwrap();
    assert_eq!((to, nak.opts().msg_type(), nak.yiaddr()), (Ipv4Addr::BROADCAST, Some(MessageType::Nak), NOBODY));
    let elsewhere = [DhcpOption::RequestedIpAddress(ONE), DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 0, 9))];
    let request = to_dhcp(&sim, MessageType::Request, NOBODY, &elsewhere, Ipv4Addr::BROADCAST);
    assert!(offered(&mut sim, &request).is_none());
    let release = to_dhcp(&sim, MessageType::Release, ONE, &[], ROUTER);
    assert!(offered(&mut sim, &release).is_none());
    assert_drops(&sim, &[]);
    let inform = to_dhcp(&sim, MessageType::Inform, ONE, &[], ROUTER);
    let (_, ack) = offered(&mut sim, &inform).unwrap();
    assert!(ack.yiaddr().is_unspecified() && !ack.opts().contains(OptionCode::AddressLeaseTime));
}

#[test]
fn nobody_asks_by_dhcp_for_another() {
    let mut sim = closed();
    let question = to_dhcp(&sim, MessageType::Discover, NOBODY, &[], Ipv4Addr::BROADCAST);
    // The message names the other's MAC address, or comes in no shape at all.
    sim.send_to_mac("two", &question, [0xff; 6]);
    let header = [68, 67, 8 + 3, 0].map(u16::to_be_bytes).concat();
    let body = Body::Other { protocol: 17, bytes: [header.as_slice(), &[1, 1, 6]].concat() };
    sim.send_to_mac("two", &Packet::to(Ipv4Addr::BROADCAST, body).from(NOBODY), [0xff; 6]);
    assert!(sim.received("one").is_empty() && sim.received("two").is_empty());
    assert_drops(&sim, &[(DropReason::ServiceNonsense, 2)]);
}
