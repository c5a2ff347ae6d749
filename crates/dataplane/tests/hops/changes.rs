//! The world changes under flows.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;

use minivpc_dataplane::tcp_flags::{ACK, RST, SYN};
use minivpc_dataplane::{DropReason, Kind};
use minivpc_model::*;
use minivpc_testkit::{Article, Packet, Sim, article};

use crate::{DESTINATION, NAT, SOURCE, answers, assert_drops, ping, tcp, udp};

/// The article with flows: a ping and a TCP connection through the gateway.
fn running() -> (Article, Sim) {
    let article = article("10.0.0.0/16");
    let mut sim = Sim::new(&article.builder.world);
    sim.open("destination", 80);
    assert!(answers(&mut sim, "source", DESTINATION, 7));
    sim.send("source", &tcp(DESTINATION, 40_000, 80, SYN));
    sim.send("source", &tcp(DESTINATION, 40_000, 80, ACK));
    sim.received("destination");
    sim.received("source");
    (article, sim)
}

fn only<T: Copy>(mut all: impl Iterator<Item = T>) -> T {
    let one = all.next().unwrap();
    assert!(all.next().is_none());
    one
}

#[test]
fn r_23_nat_32_a_deleted_gateway_leaves_a_blackhole_that_nothing_falls_through() {
    let (mut article, mut sim) = running();
    let gateway = only(article.builder.world.nat_gateways().map(|nat| nat.id));
    article.builder.apply(Op::DeleteNatGateway(gateway));
    sim.publish(&article.builder.world);
    assert!(!answers(&mut sim, "source", DESTINATION, 7), "10.0.0.0/16 would be local");
    sim.send("source", &tcp(DESTINATION, 40_000, 80, ACK));
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::Blackhole, 2)]);
}

#[test]
fn nat_32_a_deleted_gateway_gives_its_elastic_ip_back() {
    let mut article = article("10.0.0.0/16");
    let b = &mut article.builder;
    let address = b.elastic_ip("203.0.113.9");
    let public = b.nat_gateway_of_kind(article.nat, "public", "10.0.2.150", Connectivity::Public(vec![address]));
    assert!(b.world.address(address).unwrap().association.is_some());
    b.apply(Op::DeleteNatGateway(public));
    assert_eq!(b.world.address(address).unwrap().association, None);
    assert_eq!(b.world.nat_gateway(public).unwrap().state, NatGatewayState::Deleted);
}

#[test]
fn nat_33_a_gateway_is_available_at_once_and_deleted_once() {
    let (mut article, _) = running();
    let gateway = only(article.builder.world.nat_gateways().map(|nat| (nat.id, nat.state)));
    assert_eq!(gateway.1, NatGatewayState::Available);
    article.builder.apply(Op::DeleteNatGateway(gateway.0));
    let twice = article.builder.world.apply(Op::DeleteNatGateway(gateway.0)).unwrap_err();
    assert_eq!(twice.code, ErrorCode::NatGatewayNotFound);
}

#[test]
fn r_23_a_route_to_a_stopped_or_terminated_instance_is_a_blackhole() {
    for op in [Op::StopInstance as fn(InstanceId) -> Op, Op::TerminateInstance] {
        let mut article = article("10.0.0.0/16");
        let b = &mut article.builder;
        let middle = b.subnet(article.vpc, "middle", "10.0.5.0/24");
        let client = b.subnet(article.vpc, "client", "10.0.6.0/24");
        let appliance = b.instance(middle, "appliance", "10.0.5.4", &[], false);
        b.instance(client, "client", "10.0.6.4", &[], true);
        let table = b.route_table(article.vpc, client);
        b.route(table, "10.0.1.0/24", RouteTarget::NetworkInterface(appliance));
        let mut sim = Sim::new(&b.world);
        let instance = b.world.network_interface(appliance).unwrap().instance().unwrap();
        b.apply(op(instance));
        sim.publish(&b.world);
        sim.send("client", &ping(DESTINATION, 7));
        assert_drops(&sim, &[(DropReason::Blackhole, 1)]);
    }
}

#[test]
fn a_stopped_instance_keeps_its_address_and_receives_nothing() {
    let (mut article, mut sim) = running();
    let id = article.builder.world.find_instance("destination").unwrap();
    article.builder.apply(Op::StopInstance(id));
    sim.publish(&article.builder.world);
    assert!(!answers(&mut sim, "source", DESTINATION, 7));
    assert_drops(&sim, &[(DropReason::NotInService, 1)]);
    article.builder.apply(Op::StartInstance { instance: id, launch_time: String::new() });
    sim.publish(&article.builder.world);
    assert!(answers(&mut sim, "source", DESTINATION, 8));
}

#[test]
fn r_25_the_local_route_may_lead_to_a_gateway_and_back() {
    let (mut article, mut sim) = running();
    let world = &article.builder.world;
    let gateway = only(world.nat_gateways().map(|nat| nat.id));
    let table = world.subnet(article.destination).unwrap().route_table.unwrap();
    let igw = only(world.internet_gateways().map(|igw| igw.id));
    let local = |target| Op::ReplaceRoute {
        route_table: table,
        destination: "10.0.0.0/16".parse().unwrap(),
        target,
        origin: Origin::default(),
    };
    article.builder.apply(local(RouteTarget::NatGateway(gateway)));
    sim.publish(&article.builder.world);
    sim.send("destination", &ping(SOURCE, 9));
    assert_eq!(only(sim.received("source").iter().map(|seen| seen.src())), NAT);
    let refused = article.builder.world.apply(local(RouteTarget::InternetGateway(igw))).unwrap_err();
    assert!(refused.message.starts_with("Route target is not supported"), "{refused}");
    let delete = Op::DeleteRoute { route_table: table, destination: "10.0.0.0/16".parse().unwrap() };
    assert!(article.builder.world.apply(delete).unwrap_err().message.starts_with("cannot remove local route"));
    article.builder.apply(local(RouteTarget::Local));
    sim.publish(&article.builder.world);
    sim.send("destination", &ping(SOURCE, 10));
    assert_eq!(only(sim.received("source").iter().map(|seen| seen.src())), DESTINATION);
}

#[test]
fn nacl_16_an_entry_hits_established_flows_at_once() {
    let (mut article, mut sim) = running();
    let deny = [(false, 1, RuleAction::Deny, Traffic::Tcp(PortRange::ALL), "0.0.0.0/0")];
    article.builder.acl(article.vpc, article.destination, &deny);
    sim.publish(&article.builder.world);
    sim.send("source", &tcp(DESTINATION, 40_000, 80, ACK));
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::NetworkAcl, 1)]);
}

#[test]
fn sg_23_tracked_flows_survive_another_set_of_groups() {
    let (mut article, mut sim) = running();
    let nobody = article.builder.group(article.vpc, "nobody", &[]);
    let network_interface = sim.snapshot.eni(sim.port("destination")).id;
    article.builder.apply(Op::ModifyNetworkInterfaceGroups { network_interface, groups: vec![nobody] });
    sim.publish(&article.builder.world);
    sim.send("source", &tcp(DESTINATION, 40_000, 80, ACK));
    assert_eq!(sim.received("destination").len(), 1, "tracked");
    sim.send("source", &tcp(DESTINATION, 40_001, 80, SYN));
    assert!(sim.received("destination").is_empty(), "new");
}

#[test]
fn a_nat_session_keeps_its_port_when_the_world_changes() {
    let (mut article, mut sim) = running();
    let port = |sim: &mut Sim| {
        sim.send("source", &tcp(DESTINATION, 40_000, 80, ACK));
        only(sim.received("destination").iter().map(|seen| seen.headers.flow.src_port))
    };
    let before = port(&mut sim);
    article.builder.subnet(article.vpc, "another", "10.0.9.0/24");
    article.builder.instance(article.source, "another", "10.0.0.99", &[], true);
    sim.publish(&article.builder.world);
    assert_eq!(port(&mut sim), before);
}

#[test]
fn sg_24_each_interface_tracks_for_itself() {
    let mut article = article("10.0.0.0/16");
    let b = &mut article.builder;
    let groups = vec![b.group(article.vpc, "both", &[(Traffic::All, Peer::Cidr("10.0.0.0/16".parse().unwrap()))])];
    let nothing_out = groups[0];
    b.egress(nothing_out, &[]);
    let interface = |device_index: u8| NewInterface {
        id: NetworkInterfaceId::from_seed(1000 + u64::from(device_index)),
        subnet: article.source,
        private_ip: Some(Ipv4Addr::new(10, 0, 0, 60 + device_index)),
        secondary_private_ips: Vec::new(),
        mac: MacAddress::from_seed(1000 + u64::from(device_index)),
        groups: groups.clone(),
        source_dest_check: false,
        tags: Tags::default(),
        origin: Origin::default(),
    };
    b.apply(Op::RunInstance(RunInstance {
        id: InstanceId::from_seed(1000),
        interfaces: [0, 1].map(|index| (index, interface(index))).into(),
        associate_public_ip: false,
        image: Image::AmazonLinux2,
        metadata_options: Image::AmazonLinux2.metadata_options(),
        user_data: None,
        launch_time: String::new(),
        tags: Tags::named("both"),
        origin: Origin::default(),
    }));
    let mut sim = Sim::new(&b.world);
    sim.silence();
    let (first, second) = (Ipv4Addr::new(10, 0, 0, 60), Ipv4Addr::new(10, 0, 0, 61));
    sim.send("source", &ping(first, 7));
    sim.send("source", &ping(second, 7));
    // The answer for the second leaves by the first, as a host without policy routing would do it.
    let reply = Packet::to(SOURCE, minivpc_testkit::Body::EchoReply { id: 7 });
    sim.send("both", &reply.clone().from(first));
    assert_eq!(sim.received("source").len(), 1);
    sim.send("both", &reply.from(second));
    assert!(sim.received("source").is_empty());
    assert_drops(&sim, &[(DropReason::SecurityGroup, 1)]);
}

#[test]
fn the_next_engine_knows_the_flows_of_the_last_checkpoint_and_no_younger_ones() {
    let (article, mut sim) = running();
    let checkpoint = sim.engine.state().checkpoint(sim.now.tick());
    let port = |sim: &mut Sim| {
        sim.send("source", &tcp(DESTINATION, 40_000, 80, ACK));
        only(sim.received("destination").iter().map(|seen| seen.headers.flow.src_port))
    };
    let before = port(&mut sim);
    sim.send("source", &tcp(DESTINATION, 40_001, 80, SYN));
    sim.send("source", &tcp(DESTINATION, 40_001, 80, ACK));
    sim.received("destination");
    let attempts = |sim: &Sim| {
        let nat = sim.snapshot.eni(sim.snapshot.nat(0).eni).serial;
        sim.engine.state().metrics(nat).connection_attempts.load(Relaxed)
    };

    let mut next = Sim::new(&article.builder.world);
    next.now = sim.now;
    next.engine.state().restore(checkpoint);
    assert_eq!(attempts(&next), 1, "metrics go on from the checkpoint");
    assert_eq!(port(&mut next), before, "the session keeps its port");
    next.send("source", &tcp(DESTINATION, 40_001, 80, ACK));
    assert!(next.received("destination").is_empty());
    let reset = only(next.received("source").iter().map(|seen| seen.headers.kind));
    assert!(matches!(reset, Kind::Tcp(flags) if flags & RST != 0), "NAT-18: a younger one is unknown");
    // A port that a session of the checkpoint holds isn't given to another one.
    for n in 0..2000 {
        next.send("source", &tcp(DESTINATION, 41_000 + n, 80, SYN));
    }
    let ports: Vec<_> = next.received("destination").iter().map(|seen| seen.headers.flow.src_port).collect();
    assert!(!ports.contains(&before));
}

#[test]
fn sg_18_nat_18_a_packet_each_20_seconds_keeps_a_flow_for_ever() {
    let mut sim = Sim::new(&article("10.0.0.0/16").builder.world);
    sim.open("destination", 7);
    sim.open("destination", 80);
    sim.send("source", &tcp(DESTINATION, 40_000, 80, SYN));
    let opened = |sim: &Sim| -> Vec<_> {
        let connections = sim.engine.state().connections(sim.now.tick());
        let mut all: Vec<_> = connections.iter().map(|connection| (connection.key, connection.opened)).collect();
        all.sort_by_key(|(key, _)| (key.eni, key.flow));
        all
    };
    sim.send("source", &udp(DESTINATION, 40_000, 7));
    sim.send("source", &udp(DESTINATION, 40_001, 9));
    let ports = |sim: &mut Sim| sim.received("destination").iter().map(|seen| seen.headers.flow.src_port).collect();
    let (connections, first): (_, Vec<u16>) = (opened(&sim), ports(&mut sim));
    for _ in 0..30 {
        sim.wait(20);
        sim.send("source", &tcp(DESTINATION, 40_000, 80, ACK));
        sim.send("source", &udp(DESTINATION, 40_000, 7));
        // Nobody answers this one but for a message that its port is closed.
        sim.send("source", &udp(DESTINATION, 40_001, 9));
        let kept: Vec<u16> = ports(&mut sim);
        assert_eq!(kept, first, "each keeps its port");
    }
    assert_eq!(opened(&sim), connections, "and its connections are those of the beginning");
    assert!(sim.cache.metrics().hits.load(Relaxed) > 60, "which the flow cache has kept too");
}

#[test]
fn fo_2_a_moved_interface_keeps_its_connections_and_a_free_one_is_a_blackhole() {
    let mut article = article("10.0.0.0/16");
    let b = &mut article.builder;
    let all = b.group(article.vpc, "all", &[(Traffic::All, Peer::Cidr("10.0.0.0/16".parse().unwrap()))]);
    for (name, ip) in [("one", "10.0.1.61"), ("two", "10.0.1.62")] {
        b.instance(article.destination, name, ip, &[all], true);
    }
    let moving = b.network_interface(article.destination, "moving", "10.0.1.60");
    b.apply(Op::ModifyNetworkInterfaceGroups { network_interface: moving, groups: vec![all] });
    let table = b.world.subnet(article.source).unwrap().route_table.unwrap();
    b.route(table, "192.0.2.0/24", RouteTarget::NetworkInterface(moving));
    let address = Ipv4Addr::new(10, 0, 1, 60);
    let beyond = ping(Ipv4Addr::new(192, 0, 2, 1), 9);
    let mut sim = Sim::new(&b.world);
    sim.send("source", &ping(address, 1));
    sim.send("source", &beyond);
    assert_drops(&sim, &[(DropReason::Blackhole, 1), (DropReason::NotInService, 1)]);
    let of = |b: &minivpc_testkit::Builder, name: &str| b.world.find_instance(name).unwrap();
    for (number, name) in [(1, "one"), (2, "two")] {
        if number > 1 {
            b.apply(Op::DetachNetworkInterface(moving));
        }
        let attach = Op::AttachNetworkInterface { network_interface: moving, instance: of(b, name), device_index: 1 };
        b.apply(attach);
        sim.publish(&b.world);
        // The same connection, which only the first of them was allowed to open.
        sim.send("source", &ping(address, 7));
        assert_eq!(sim.received(&format!("{name}/eth1")).len(), 1, "{name}");
        let (traffic, peer) = (Traffic::All, Peer::Cidr("10.0.0.0/16".parse().unwrap()));
        let _ = b.world.apply(Op::RevokeSecurityGroupIngress { group: all, traffic, peer });
    }
    sim.send("source", &ping(address, 8));
    sim.send("source", &beyond);
    let expected = [
        (DropReason::Blackhole, 1),
        (DropReason::SecurityGroup, 1),
        (DropReason::DestinationCheck, 1),
        (DropReason::NotInService, 1),
    ];
    let mut drops = sim.drops();
    drops.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(drops, expected);
}
