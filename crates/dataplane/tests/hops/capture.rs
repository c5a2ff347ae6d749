//! What each point sees.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use minivpc_dataplane::{Armed, Bound, Captured, Component, DropReason, Headers, Kind, Point, Side, Sink, tcp_flags};
use minivpc_model::MacAddress;
use minivpc_packet::{Frame, Mac, VnetHeader, parse};
use minivpc_testkit::{Body, Packet, Seen, Sim, article, everything};

use crate::{DESTINATION, NAT, SOURCE, ping, tcp, udp};

/// A packet at a point.
#[derive(Debug, Clone)]
struct Copy {
    point: Point,
    bound: Option<Bound>,
    dropped: Option<(DropReason, Component)>,
    frame: Vec<u8>,
}

impl Copy {
    /// Its fields; its checksums are right.
    fn headers(&self) -> Headers {
        Seen::read(&VnetHeader::PLAIN, &self.frame).unwrap().headers
    }

    fn is_ip(&self) -> bool {
        matches!(parse(&VnetHeader::PLAIN, &self.frame), Ok(Frame::Ipv4(_)))
    }
}

#[derive(Debug, Default)]
struct Copies(Mutex<Vec<Copy>>);

impl Sink for Copies {
    fn take(&self, captured: &Captured<'_>) {
        let Captured { point, bound, dropped, frame } = *captured;
        self.0.lock().unwrap().push(Copy { point, bound, dropped, frame: frame.to_vec() });
    }
}

impl Copies {
    /// Publishes the same world with somebody who looks.
    fn at(sim: &mut Sim, points: impl IntoIterator<Item = Point>) -> Arc<Self> {
        let copies = Arc::new(Self::default());
        sim.snapshot.generation += 1;
        sim.snapshot.armed = Some(Armed::new(points, vec![Arc::clone(&copies) as Arc<dyn Sink>]));
        copies
    }

    fn take_all(&self) -> Vec<Copy> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// One line for each.
    fn lines(&self, sim: &Sim) -> Vec<String> {
        let line = |copy: Copy| {
            let bound = copy.bound.map_or_else(String::new, |bound| format!("{bound:?} "));
            let headers = copy.headers();
            format!("{} {bound}{headers} ttl {}", name(sim, copy.point), headers.ttl)
        };
        self.take_all().into_iter().map(line).collect()
    }
}

fn name(sim: &Sim, point: Point) -> String {
    match point {
        Point::Host(id) => sim.snapshot.hosts.iter().find(|host| host.id == id).unwrap().name.clone(),
        Point::Interface(id) => sim.snapshot.eni(sim.snapshot.eni_of(id).unwrap()).name.clone(),
        Point::NatGateway(_, side) => format!("nat/{side:?}"),
        Point::InternetGateway(_) => "igw".to_owned(),
        Point::VpnGateway(_) => "vgw".to_owned(),
        Point::Drops => "drops".to_owned(),
    }
}

fn interface(sim: &Sim, instance: &str) -> Point {
    Point::Interface(sim.snapshot.eni(sim.port(instance)).id)
}

fn nat(sim: &Sim, side: Side) -> Point {
    Point::NatGateway(sim.snapshot.nats[0].id, side)
}

/// All that there is.
fn everywhere(sim: &Sim) -> Vec<Point> {
    let enis = sim.snapshot.enis.iter().map(|eni| Point::Interface(eni.id));
    let nats = sim
        .snapshot
        .nats
        .iter()
        .flat_map(|nat| [Side::Inside, Side::Outside].into_iter().map(|side| Point::NatGateway(nat.id, side)));
    let igws = sim.snapshot.igws.iter().map(|igw| Point::InternetGateway(igw.id));
    let vgws = sim.snapshot.vgws.iter().map(|vgw| Point::VpnGateway(vgw.id));
    enis.chain(nats).chain(igws).chain(vgws).chain([Point::Drops]).collect()
}

fn sim() -> Sim {
    Sim::new(&article("10.0.0.0/16").builder.world)
}

#[test]
fn a_ping_through_the_gateway_is_seen_translated_on_one_side_and_not_on_the_other() {
    let mut sim = sim();
    let all = everywhere(&sim);
    let copies = Copies::at(&mut sim, all);
    sim.send("source", &ping(DESTINATION, 31));
    // The question for the router's MAC address and its answer.
    copies.0.lock().unwrap().retain(Copy::is_ip);
    let id = sim.received("destination")[0].headers.flow.src_port;
    assert_eq!(
        copies.lines(&sim),
        [
            "source/eth0 Out icmp echo-request 10.0.0.11 → 10.0.1.55 id 31 ttl 255".to_owned(),
            "nat/Inside In icmp echo-request 10.0.0.11 → 10.0.1.55 id 31 ttl 255".to_owned(),
            format!("nat/Outside Out icmp echo-request 10.0.2.149 → 10.0.1.55 id {id} ttl 254"),
            format!("destination/eth0 In icmp echo-request 10.0.2.149 → 10.0.1.55 id {id} ttl 254"),
            format!("destination/eth0 Out icmp echo-reply 10.0.1.55 → 10.0.2.149 id {id} ttl 255"),
            format!("nat/Outside In icmp echo-reply 10.0.1.55 → 10.0.2.149 id {id} ttl 255"),
            "nat/Inside Out icmp echo-reply 10.0.1.55 → 10.0.0.11 id 31 ttl 254".to_owned(),
            "source/eth0 In icmp echo-reply 10.0.1.55 → 10.0.0.11 id 31 ttl 254".to_owned(),
        ]
    );
}

#[test]
fn only_points_where_somebody_looks_are_seen() {
    let mut sim = sim();
    let outside = nat(&sim, Side::Outside);
    let copies = Copies::at(&mut sim, [outside]);
    sim.send("source", &ping(DESTINATION, 31));
    let seen = copies.take_all();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|copy| copy.point == outside));
    sim.snapshot.armed = None;
    sim.send("source", &ping(DESTINATION, 31));
    assert!(copies.take_all().is_empty());
}

#[test]
fn mac_addresses_inside_are_those_of_the_gateways_link() {
    let mut sim = sim();
    let sides = [nat(&sim, Side::Inside), nat(&sim, Side::Outside)];
    let copies = Copies::at(&mut sim, sides);
    let gateway = sim.snapshot.eni(sim.snapshot.nats[0].eni);
    let (mac, router) = (gateway.mac.0, sim.snapshot.subnet(gateway.subnet).router_mac.0);
    sim.send("source", &ping(DESTINATION, 31));
    // Told that there is no such connection, too.
    sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::ACK));
    let links: Vec<(Mac, Mac)> = copies.take_all().iter().map(Copy::headers).map(|h| (h.src_mac, h.dst_mac)).collect();
    let (to, from) = ((router, mac), (mac, router));
    assert_eq!(links, [to, from, to, from, to, from]);
}

#[test]
fn what_a_gateway_answers_goes_to_the_side_of_who_is_answered() {
    let mut sim = sim();
    sim.send("source", &udp(DESTINATION, 40_000, 53));
    let port = sim.received("destination")[0].headers.flow.src_port;
    let points = [nat(&sim, Side::Inside), nat(&sim, Side::Outside), interface(&sim, "source")];
    let copies = Copies::at(&mut sim, points);
    sim.send_to_mac("source", &udp(DESTINATION, 40_000, 53).ttl(1), router_of(&sim, "source"));
    assert_eq!(
        copies.lines(&sim),
        [
            "source/eth0 Out udp 10.0.0.11:40000 → 10.0.1.55:53 ttl 1",
            "nat/Inside In udp 10.0.0.11:40000 → 10.0.1.55:53 ttl 1",
            "nat/Inside Out icmp type 11 code 0 10.0.2.149 → 10.0.0.11 ttl 255",
            "source/eth0 In icmp type 11 code 0 10.0.2.149 → 10.0.0.11 ttl 255",
        ]
    );
    sim.send("destination", &udp(NAT, 53, port).ttl(1));
    assert_eq!(
        copies.lines(&sim),
        [
            format!("nat/Outside In udp 10.0.1.55:53 → 10.0.2.149:{port} ttl 1"),
            "nat/Outside Out icmp type 11 code 0 10.0.2.149 → 10.0.1.55 ttl 255".to_owned(),
        ]
    );
}

fn router_of(sim: &Sim, instance: &str) -> Mac {
    sim.snapshot.subnet(sim.snapshot.eni(sim.port(instance)).subnet).router_mac.0
}

#[test]
fn a_reset_in_somebody_elses_name_is_seen_where_the_gateway_says_it() {
    let mut sim = sim();
    let inside = nat(&sim, Side::Inside);
    let copies = Copies::at(&mut sim, [inside]);
    sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::ACK));
    assert_eq!(
        copies.lines(&sim),
        [
            "nat/Inside In tcp 10.0.0.11:40000 → 10.0.1.55:80 [.] ttl 255",
            "nat/Inside Out tcp 10.0.1.55:80 → 10.0.0.11:40000 [R] ttl 255",
        ]
    );
}

#[test]
fn an_interface_sees_what_the_network_itself_says() {
    let mut sim = sim();
    let source = interface(&sim, "source");
    let copies = Copies::at(&mut sim, [source]);
    let router = Ipv4Addr::new(10, 0, 0, 1);
    sim.arp("source", router).unwrap();
    let arp: Vec<_> = copies.take_all().iter().map(|copy| (copy.bound, copy.frame[21])).collect();
    assert_eq!(arp, [(Some(Bound::Out), 1), (Some(Bound::In), 2)], "who-has, is-at");
    sim.send_to_mac("source", &ping(router, 31), router_of(&sim, "source"));
    assert_eq!(
        copies.lines(&sim),
        [
            "source/eth0 Out icmp echo-request 10.0.0.11 → 10.0.0.1 id 31 ttl 255",
            "source/eth0 In icmp echo-reply 10.0.0.1 → 10.0.0.11 id 31 ttl 255",
        ]
    );
}

#[test]
fn an_internet_gateway_sees_what_comes_to_it() {
    let mut sim = sim();
    let igw = Point::InternetGateway(sim.snapshot.igws[0].id);
    let copies = Copies::at(&mut sim, [igw]);
    sim.send("source", &ping(Ipv4Addr::new(192, 0, 2, 1), 31));
    assert_eq!(copies.lines(&sim), ["igw In icmp echo-request 10.0.0.11 → 192.0.2.1 id 31 ttl 255"]);
}

#[test]
fn a_drop_shows_the_packet_as_it_came_to_the_hop_that_dropped_it() {
    let mut sim = Sim::new(&article("10.0.0.0/24").builder.world);
    let copies = Copies::at(&mut sim, [Point::Drops]);
    sim.send("source", &ping(DESTINATION, 31));
    let [copy] = copies.take_all().try_into().unwrap();
    let destination = sim.snapshot.eni(sim.port("destination")).id;
    assert_eq!(copy.dropped, Some((DropReason::SecurityGroup, Component::SecurityGroups(destination))));
    let headers = copy.headers();
    assert_eq!((headers.flow.src, headers.ttl), (NAT.into(), 254), "the group sees the gateway");
    let gateway = sim.snapshot.eni(sim.snapshot.nats[0].eni);
    assert_eq!(MacAddress(headers.src_mac), gateway.mac, "the last link is the gateway's");
    sim.send("source", &ping(NAT, 31));
    let [copy] = copies.take_all().try_into().unwrap();
    let component = Component::NatGateway(sim.snapshot.nats[0].id);
    assert_eq!(copy.dropped, Some((DropReason::NatNoSession, component)));
    assert_eq!(MacAddress(copy.headers().dst_mac), sim.snapshot.eni(sim.snapshot.nats[0].eni).mac);
}

#[test]
fn what_is_asked_too_often_is_seen_as_a_drop() {
    let mut sim = sim();
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    (0..1024).for_each(|_| sim.send("source", &tcp(metadata, 40_000, 80, tcp_flags::SYN)));
    let copies = Copies::at(&mut sim, [Point::Drops]);
    sim.send("source", &tcp(metadata, 40_000, 80, tcp_flags::SYN));
    sim.send("source", &udp(Ipv4Addr::new(169, 254, 169, 123), 40_000, 123));
    let seen: Vec<_> =
        copies.take_all().iter().map(|copy| (copy.dropped.unwrap().0, copy.headers().flow.dst_port)).collect();
    assert_eq!(seen, [(DropReason::ServiceAllowance, 80), (DropReason::ServiceAllowance, 123)]);
}

#[test]
fn frames_that_are_no_packets_are_seen_at_their_sender_and_where_they_are_dropped() {
    let mut sim = sim();
    let source = interface(&sim, "source");
    let copies = Copies::at(&mut sim, [source, Point::Drops]);
    assert!(sim.arp("source", Ipv4Addr::new(10, 0, 0, 99)).is_none());
    let mac = sim.snapshot.eni(sim.port("source")).mac.0;
    let mut broken = ping(DESTINATION, 31).frame(SOURCE, mac, router_of(&sim, "source"));
    broken[24] ^= 1;
    let of_type = |kind: [u8; 2]| [&[0x33; 6], &mac[..], &kind, &[0; 40]].concat();
    let frames = [of_type([0x86, 0xdd]), of_type([0x88, 0xcc]), broken, vec![1, 2, 3]];
    for frame in &frames {
        sim.send_frame("source", VnetHeader::PLAIN, frame.clone());
    }
    let malformed = minivpc_packet::Malformed::Short;
    sim.engine.malformed(&sim.snapshot, sim.now, sim.port("source"), malformed, &mut [4, 5]);
    let seen = copies.take_all();
    let (sent, dropped): (Vec<_>, Vec<_>) = seen.iter().partition(|copy| copy.point == source);
    let frames_of = |copies: &[&Copy]| copies.iter().map(|copy| copy.frame.clone()).collect::<Vec<_>>();
    assert_eq!(frames_of(&sent)[1..5], frames);
    assert_eq!(frames_of(&sent), frames_of(&dropped));
    let reasons: Vec<_> = dropped.iter().map(|copy| copy.dropped.unwrap().0.code()).collect();
    let malformed = "MINIVPC_MALFORMED";
    let expected = ["MINIVPC_ARP_UNANSWERED", "MINIVPC_IPV6", "MINIVPC_NOT_IP", malformed, malformed, malformed];
    assert_eq!(reasons, expected);
}

#[test]
fn an_interface_gets_fragments_and_sees_them() {
    let mut sim = sim();
    let points = [nat(&sim, Side::Outside), interface(&sim, "destination")];
    let copies = Copies::at(&mut sim, points);
    let large = Packet::to(DESTINATION, Body::Udp { from: 40_000, to: 53, length: 8900 });
    let mac = sim.snapshot.eni(sim.port("source")).mac.0;
    let mut frame = large.frame(SOURCE, mac, router_of(&sim, "source"));
    // Without the DF bit; the header's sum is corrected by as much.
    frame[20] = 0;
    frame[24] += 0x40;
    sim.send_frame("source", VnetHeader::PLAIN, frame);
    let sizes: Vec<_> = copies.take_all().iter().map(|copy| (copy.point, copy.headers().size)).collect();
    let (gateway, guest) = (points[0], points[1]);
    assert_eq!(sizes, [(gateway, 8928), (guest, 8500), (guest, 448)], "whole at the gateway, which cuts it");
}

#[test]
fn a_sum_that_the_sender_leaves_to_the_link_is_complete_in_the_copy() {
    let mut sim = sim();
    let points = [interface(&sim, "source"), nat(&sim, Side::Outside)];
    let copies = Copies::at(&mut sim, points);
    sim.silence();
    let mac = sim.snapshot.eni(sim.port("source")).mac.0;
    let mut frame = udp(DESTINATION, 40_000, 53).frame(SOURCE, mac, router_of(&sim, "source"));
    frame[40..42].copy_from_slice(&[0x12, 0x34]);
    let words = [0, 0, 34, 6].map(u16::to_ne_bytes).concat();
    let vnet = VnetHeader::read([&[1, 0], words.as_slice()].concat().as_slice().try_into().unwrap()).unwrap();
    sim.send_frame("source", vnet, frame);
    assert_eq!(copies.lines(&sim).len(), 2, "each with right sums");
}

#[test]
fn a_point_that_is_gone_sees_nothing() {
    let mut other = article("10.0.0.0/16");
    let subnet = other.builder.subnet(other.vpc, "other", "10.0.9.0/24");
    let gone = other.builder.nat_gateway(subnet, "gone", "10.0.9.9");
    let mut sim = sim();
    let copies = Copies::at(&mut sim, [Point::NatGateway(gone, Side::Inside)]);
    sim.send("source", &ping(DESTINATION, 31));
    assert!(copies.take_all().is_empty());
}

#[test]
fn nobody_can_tell_that_somebody_looks() {
    let mut quiet = Sim::new(&everything());
    let mut watched = Sim::new(&everything());
    let all = everywhere(&watched);
    let copies = Copies::at(&mut watched, all);
    let names = ["client", "neighbour", "server", "appliance", "deep", "twin"];
    for (number, from) in names.iter().enumerate() {
        for to in [[10, 0, 0, 10], [10, 0, 1, 10], [10, 0, 2, 10], [10, 0, 3, 10], [10, 0, 2, 200], [192, 0, 2, 1]] {
            for ttl in [1, 2, 255] {
                let port = 40_000 + number as u16;
                let to = Ipv4Addr::from(to);
                let packets = [ping(to, port), udp(to, port, 53), tcp(to, port, 80, tcp_flags::SYN)];
                for packet in packets.map(|packet| packet.ttl(ttl)) {
                    quiet.send(from, &packet);
                    watched.send(from, &packet);
                }
            }
        }
    }
    assert_eq!(quiet.drops_in_full().len(), watched.drops_in_full().len());
    assert_eq!(quiet.drops(), watched.drops());
    for name in names {
        let frames = |sim: &mut Sim| sim.received(name).into_iter().map(|seen| seen.frame).collect::<Vec<_>>();
        assert_eq!(frames(&mut quiet), frames(&mut watched), "{name}");
    }
    let copies = copies.take_all();
    let dropped = copies.iter().filter(|copy| copy.point == Point::Drops).count() as u64;
    assert_eq!(dropped, quiet.drops().iter().map(|(_, count)| count).sum::<u64>());
    for copy in copies.iter().filter(|copy| copy.is_ip()) {
        assert_ne!(copy.headers().kind, Kind::Other);
    }
}

#[test]
fn an_inner_point_sees_each_packet_of_a_flow_that_the_cache_knows() {
    let mut sim = sim();
    let hits = |sim: &Sim| sim.cache.metrics().hits.load(Relaxed);
    for _ in 0..4 {
        sim.send("source", &ping(DESTINATION, 31));
    }
    let before = hits(&sim);
    assert!(before > 0);
    let points = [nat(&sim, Side::Inside), nat(&sim, Side::Outside)];
    let copies = Copies::at(&mut sim, points);
    for number in 0..4 {
        sim.send("source", &ping(DESTINATION, 31));
        assert_eq!(copies.take_all().len(), 4, "ping {number}: in and out, there and back");
    }
    assert_eq!(hits(&sim), before);
}
