use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering::Relaxed;

use minivpc_dataplane::{DropReason, Kind, tcp_flags};
use minivpc_model::{Connectivity, CreateNatGateway, MacAddress, Op, Peer, RouteTarget, Traffic};
use minivpc_testkit::{Body, Packet, Seen, Sim, article, reassemble};

use crate::{DESTINATION, NAT, SOURCE, answers, assert_drops, ones_sum, ping, recomputed, tcp, udp};

fn sim() -> Sim {
    Sim::new(&article("10.0.0.0/16").builder.world)
}

fn only(mut seen: Vec<Seen>) -> Seen {
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

#[test]
fn seed_1_nat_15_a_ttl_of_one_ends_at_the_gateway_which_says_so() {
    let mut sim = sim();
    sim.send("source", &udp(DESTINATION, 40_000, 33_434).ttl(1));
    let answer = only(sim.received("source"));
    assert_eq!(answer.src(), IpAddr::V4(NAT));
    let Kind::IcmpError { kind: 11, code: 0, quoted } = answer.headers.kind else { panic!("{}", answer.headers) };
    assert_eq!((quoted.src, quoted.src_port), (SOURCE.into(), 40_000), "the quote shows the packet as it was sent");
    assert_eq!(answer.headers.ttl, 255);
    assert!(sim.received("destination").is_empty());
}

#[test]
fn seed_1_seed_3_a_ttl_of_two_reaches_the_destination() {
    let mut sim = sim();
    sim.send("source", &udp(DESTINATION, 40_000, 33_437).ttl(2));
    let arrived = only(sim.received("destination"));
    assert_eq!(arrived.headers.ttl, 1);
    assert_eq!((arrived.src(), arrived.headers.flow.dst_port), (IpAddr::V4(NAT), 33_437));
    assert_eq!(arrived.payload().len(), 8 + 32);
}

#[test]
fn seed_4_nat_14_an_unreachable_is_translated_with_its_quote() {
    let mut sim = sim();
    sim.send("source", &udp(DESTINATION, 40_000, 33_437));
    let answer = only(sim.received("source"));
    assert_eq!(answer.src(), IpAddr::V4(DESTINATION), "the outer source stays");
    let Kind::IcmpError { kind: 3, code: 3, quoted } = answer.headers.kind else { panic!("{}", answer.headers) };
    assert_eq!((quoted.src, quoted.src_port), (SOURCE.into(), 40_000));
    assert_eq!((quoted.dst, quoted.dst_port), (DESTINATION.into(), 33_437));
    let quote = &answer.payload()[8..];
    assert_eq!(ones_sum(&quote[..20]), 0xffff, "the quoted header's checksum is right too");
}

/// The destination's unreachable about a packet, to the gateway.
fn unreachable(quoted: &[u8]) -> Packet {
    let bytes = recomputed(&[&[3, 3, 0, 0, 0, 0, 0, 0], quoted].concat());
    Packet::to(NAT, Body::Other { protocol: 1, bytes })
}

#[test]
fn nat_14_an_error_about_a_flow_that_never_was_is_dropped() {
    let mut sim = sim();
    sim.send("source", &udp(DESTINATION, 40_000, 53));
    let mut quoted = only(sim.received("destination")).frame[14..].to_vec();
    sim.received("source");
    sim.send("destination", &unreachable(&quoted));
    assert_eq!(sim.received("source").len(), 1);
    // The last byte of its source port, which the gateway gave.
    quoted[21] ^= 1;
    sim.send("destination", &unreachable(&quoted));
    assert!(sim.received("source").is_empty());
    assert_drops(&sim, &[(DropReason::NatNoSession, 1)]);
}

#[test]
fn seed_5_the_network_limits_no_errors() {
    // Whoever answers with fewer is the guest's kernel.
    let mut sim = sim();
    for port in 0..16 {
        sim.send("source", &udp(DESTINATION, 40_000 + port, 33_437));
        sim.send("source", &udp(DESTINATION, 50_000 + port, 33_434).ttl(1));
    }
    assert_eq!(sim.received("source").len(), 32);
}

#[test]
fn seed_6_nat_15_the_gateway_takes_one_off_the_ttl_each_way() {
    let mut sim = sim();
    sim.send("source", &ping(DESTINATION, 7));
    assert_eq!(only(sim.received("destination")).headers.ttl, 254);
    assert_eq!(only(sim.received("source")).headers.ttl, 254);
}

#[test]
fn nat_15_a_ttl_that_ends_on_the_way_back_is_told_to_the_far_end() {
    // `assumed`.
    let mut sim = sim();
    assert!(answers(&mut sim, "source", DESTINATION, 7));
    let id = only(sim.received("destination")).headers.flow.src_port;
    sim.send("destination", &Packet::to(NAT, Body::EchoReply { id }).ttl(1));
    let answer = only(sim.received("destination"));
    assert_eq!(answer.src(), IpAddr::V4(NAT));
    assert!(matches!(answer.headers.kind, Kind::IcmpError { kind: 11, code: 0, .. }));
    assert!(sim.received("source").is_empty());
}

#[test]
fn seed_7_nat_13_an_echo_id_is_rewritten_once_per_ping_and_the_sequence_kept() {
    let mut sim = sim();
    for seq in 1..=3 {
        sim.send("source", &Packet::to(DESTINATION, Body::Echo { id: 31, seq }));
    }
    let seen = sim.received("destination");
    let ids: BTreeSet<_> = seen.iter().map(|seen| seen.headers.flow.src_port).collect();
    assert_eq!(ids.len(), 1);
    assert!(ids.iter().all(|id| *id >= 1024));
    let seqs: Vec<_> = seen.iter().map(|seen| seen.payload()[7]).collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert!(sim.received("source").iter().all(|seen| seen.headers.flow.dst_port == 31));
}

#[test]
fn seed_8_the_destination_never_sees_the_source() {
    let mut sim = sim();
    assert!(answers(&mut sim, "source", DESTINATION, 7));
    let seen = sim.received("destination");
    assert!(seen.iter().all(|seen| seen.src() == IpAddr::V4(NAT)));
}

#[test]
fn seed_10_nat_21_nat_23_the_gateway_answers_nothing_that_is_for_itself() {
    let mut sim = sim();
    sim.send("source", &ping(NAT, 7));
    sim.send("source", &tcp(NAT, 40_000, 80, tcp_flags::SYN));
    sim.send("destination", &udp(NAT, 40_000, 53));
    assert!(sim.received("source").is_empty() && sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::NatNoSession, 3)]);
}

#[test]
fn seed_12_nat_2_a_public_gateway_is_the_same_inside_the_vpc() {
    let mut article = article("10.0.0.0/16");
    let b = &mut article.builder;
    let address = b.elastic_ip("203.0.113.9");
    let public = b.nat_gateway_of_kind(article.nat, "public", "10.0.2.150", Connectivity::Public(vec![address]));
    let client = b.subnet(article.vpc, "client", "10.0.3.0/24");
    let table = b.route_table(article.vpc, client);
    b.route(table, "10.0.1.0/24", RouteTarget::NatGateway(public));
    b.instance(client, "client", "10.0.3.9", &[], true);
    let mut sim = Sim::new(&b.world);
    assert!(answers(&mut sim, "client", DESTINATION, 7));
    let arrived = only(sim.received("destination"));
    assert_eq!(arrived.src(), IpAddr::V4(Ipv4Addr::new(10, 0, 2, 150)), "the Elastic IP is the IGW's");
}

#[test]
fn seed_12a_a_request_by_the_local_route_is_lost_when_its_reply_meets_the_gateway() {
    let mut sim = sim();
    sim.send("destination", &ping(SOURCE, 7));
    assert_eq!(sim.received("source").len(), 1);
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::NatNoSession, 1)]);
}

#[test]
fn nat_8_only_tcp_udp_and_icmp_are_translated() {
    let mut sim = sim();
    sim.send("source", &Packet::to(DESTINATION, Body::Other { protocol: 47, bytes: vec![0; 8] }));
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::NatProtocol, 1)]);
}

#[test]
fn seed_3_nat_9_nat_11_ports_look_random() {
    let mut sim = sim();
    let ports: Vec<u16> = (0..500)
        .map(|n| {
            sim.send("source", &udp(DESTINATION, 40_000 + n, 33_437));
            only(sim.received("destination")).headers.flow.src_port
        })
        .collect();
    assert!(ports.iter().all(|port| *port >= 1024));
    assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 500, "distinct towards one destination");
    let outside = ports.iter().filter(|port| !(32_768..=60_999).contains(*port)).count();
    assert!(outside >= 125, "not the client's ephemeral range: {outside} outside");
    assert!(!ports.windows(3).any(|w| w[0] + 1 == w[1] && w[1] + 1 == w[2]), "no sequence");
    assert!(!ports.iter().zip(40_000..).any(|(port, sent)| *port == sent), "not preserved");
}

#[test]
fn nat_9_the_same_key_gives_the_same_ports_and_another_key_others() {
    let port = |key| {
        let mut sim = Sim::with_key(&article("10.0.0.0/16").builder.world, key);
        sim.send("source", &udp(DESTINATION, 40_000, 33_437));
        only(sim.received("destination")).headers.flow.src_port
    };
    assert_eq!(port([1; 16]), port([1; 16]));
    assert_ne!(port([1; 16]), port([2; 16]));
}

#[test]
fn nat_11_two_clients_with_one_port_have_two_ports_outside() {
    let mut article = article("10.0.0.0/16");
    article.builder.instance(article.source, "other", "10.0.0.12", &[], true);
    let mut sim = Sim::new(&article.builder.world);
    sim.open("destination", 80);
    for client in ["source", "other"] {
        sim.send(client, &tcp(DESTINATION, 40_000, 80, tcp_flags::SYN));
        let answer = only(sim.received(client));
        assert_eq!(answer.headers.kind, Kind::Tcp(tcp_flags::SYN | tcp_flags::ACK));
        assert_eq!(answer.headers.flow.dst_port, 40_000);
    }
    let outside: HashSet<_> = sim.received("destination").iter().map(|seen| seen.headers.flow.src_port).collect();
    assert_eq!(outside.len(), 2);
}

#[test]
fn nat_13_pings_of_two_clients_with_one_id_have_two_ids_outside() {
    // `assumed`.
    let mut article = article("10.0.0.0/16");
    article.builder.instance(article.source, "other", "10.0.0.12", &[], true);
    let mut sim = Sim::new(&article.builder.world);
    assert!(answers(&mut sim, "source", DESTINATION, 7) && answers(&mut sim, "other", DESTINATION, 7));
    let outside: HashSet<_> = sim.received("destination").iter().map(|seen| seen.headers.flow.src_port).collect();
    assert_eq!(outside.len(), 2);
}

#[test]
fn nat_10_nat_12_a_full_gateway_drops_new_flows_to_that_destination_only() {
    let mut article = article("10.0.0.0/16");
    let mut clients = Vec::new();
    for n in 1..=2_u8 {
        let name = format!("client-{n}");
        article.builder.instance(article.source, &name, &format!("10.0.0.{}", 20 + n), &[], true);
        clients.push(name);
    }
    article.builder.instance(article.destination, "neighbour", "10.0.1.56", &[], true);
    let mut sim = Sim::new(&article.builder.world);
    let mut ports: HashMap<u16, u32> = HashMap::new();
    for n in 0..70_000_u32 {
        let from = &clients[(n / 60_000) as usize];
        sim.send(from, &udp(DESTINATION, (n % 60_000) as u16 + 1, 53));
        for seen in sim.received("destination") {
            *ports.entry(seen.headers.flow.src_port).or_default() += 1;
        }
        sim.received(from);
    }
    assert!(ports.values().all(|count| *count == 1), "no lease twice");
    assert_eq!(ports.len(), 55_000, "NAT-10");
    let drops = sim.drops();
    let full = drops.iter().find(|(reason, _)| *reason == DropReason::NatPortAllocation).unwrap().1;
    assert_eq!(ports.len() as u64 + full, 70_000, "each packet got a port or was counted");
    assert!(answers(&mut sim, "client-1", DESTINATION, 1), "another kind of destination isn't hurt");
    sim.send("client-1", &udp(Ipv4Addr::new(10, 0, 1, 56), 1, 53));
    assert!(sim.received("neighbour").is_empty(), "its default group lets nobody in");
    let after = sim.drops();
    let full_after = after.iter().find(|(reason, _)| *reason == DropReason::NatPortAllocation).unwrap().1;
    assert_eq!(full, full_after, "another address isn't hurt");
    let gateway = sim.snapshot.eni(sim.snapshot.nat(0).eni).serial;
    assert_eq!(sim.engine.state().metrics(gateway).port_allocation_errors.load(Relaxed), full);
    sim.wait(351);
    sim.received("destination");
    sim.send("client-1", &udp(DESTINATION, 1, 53));
    assert_eq!(sim.received("destination").len(), 1, "and when they have gone, there is room again");
}

#[test]
fn nat_5_each_address_of_a_gateway_has_its_own_ports() {
    let mut article = article("10.0.0.0/16");
    let gateway = article.builder.world.nat_gateways().next().unwrap().clone();
    article.builder.apply(Op::DeleteNatGateway(gateway.id));
    article.builder.apply(Op::CreateNatGateway(CreateNatGateway {
        id: gateway.id,
        subnet: gateway.subnet,
        connectivity: Connectivity::Private,
        private_ip: Some(NAT),
        secondary_private_ips: vec![Ipv4Addr::new(10, 0, 2, 150)],
        network_interface: gateway.network_interface,
        mac: MacAddress::from_seed(77),
        create_time: gateway.create_time,
        tags: gateway.tags,
        origin: gateway.origin,
    }));
    let mut sim = Sim::new(&article.builder.world);
    sim.silence();
    let mut used: HashMap<IpAddr, HashSet<u16>> = HashMap::new();
    for n in 1..=60_000_u16 {
        sim.send("source", &udp(DESTINATION, n, 53));
        let seen = only(sim.received("destination"));
        used.entry(seen.src()).or_default().insert(seen.headers.flow.src_port);
    }
    let counts: Vec<_> = used.values().map(HashSet::len).collect();
    assert_eq!(counts.iter().sum::<usize>(), 60_000, "NAT-10: more than one address has");
    assert!(counts.len() == 2 && counts.iter().all(|count| *count > 20_000), "{counts:?}");
    // A reply to an address is for the session that uses it.
    sim.received("source");
    let port = *used[&IpAddr::V4(NAT)].iter().next().unwrap();
    sim.send("destination", &udp(NAT, 53, port));
    let reply = only(sim.received("source"));
    assert_eq!((reply.headers.flow.src, reply.headers.flow.src_port), (DESTINATION.into(), 53));
}

#[test]
fn nat_18_nat_19_a_session_is_forgotten_after_350_seconds() {
    // `assumed` for UDP and ICMP.
    let mut sim = sim();
    assert!(answers(&mut sim, "source", DESTINATION, 7));
    let first = only(sim.received("destination")).headers.flow.src_port;
    sim.wait(350);
    sim.send("destination", &Packet::to(NAT, Body::EchoReply { id: first }));
    assert_eq!(sim.received("source").len(), 1);
    sim.wait(351);
    sim.send("destination", &Packet::to(NAT, Body::EchoReply { id: first }));
    assert!(sim.received("source").is_empty());
    assert_drops(&sim, &[(DropReason::NatNoSession, 1)]);
}

#[test]
fn nat_21_a_packet_of_a_session_that_is_over_leaves_the_connection_behind_it_as_it_was() {
    // Also where a worker's cache still knows the flow.
    let mut sim = sim();
    let first = {
        sim.open("destination", 80);
        sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::SYN));
        only(sim.received("destination")).headers.flow.src_port
    };
    for _ in 0..3 {
        sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::ACK));
        sim.send("destination", &tcp(NAT, 80, first, tcp_flags::ACK));
    }
    let destination = sim.snapshot.eni(sim.port("destination")).serial;
    let last_seen = |sim: &Sim| {
        let all = sim.engine.state().connections(sim.now.tick());
        all.iter().find(|connection| connection.key.eni == destination).unwrap().last_seen()
    };
    let before = last_seen(&sim);
    sim.wait(351);
    sim.send("destination", &tcp(NAT, 80, first, tcp_flags::ACK));
    assert_drops(&sim, &[(DropReason::NatNoSession, 1)]);
    assert_eq!(last_seen(&sim), before);
}

#[test]
fn nat_35_each_packet_is_counted_where_it_passed() {
    let mut sim = sim();
    sim.send("source", &ping(DESTINATION, 7));
    sim.send("source", &ping(NAT, 7));
    sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::SYN));
    let gateway = sim.snapshot.nat(0).eni;
    let metrics = sim.engine.state().metrics(sim.snapshot.eni(gateway).serial);
    for there in [&metrics.in_from_source, &metrics.out_to_destination] {
        assert_eq!((there.packets.load(Relaxed), there.bytes.load(Relaxed)), (2, 84 + 40));
    }
    for back in [&metrics.in_from_destination, &metrics.out_to_source] {
        assert_eq!((back.packets.load(Relaxed), back.bytes.load(Relaxed)), (2, 84 + 40));
    }
    assert_eq!(metrics.packets_dropped.load(Relaxed), 1);
    assert_eq!(metrics.connection_attempts.load(Relaxed), 1);
    assert_eq!(metrics.connections_established.load(Relaxed), 0, "a reset is no answer");
}

#[test]
fn nat_21_a_reply_from_a_stranger_is_dropped() {
    let mut article = article("10.0.0.0/16");
    article.builder.instance(article.destination, "stranger", "10.0.1.66", &[], true);
    let mut sim = Sim::new(&article.builder.world);
    assert!(answers(&mut sim, "source", DESTINATION, 7));
    let id = only(sim.received("destination")).headers.flow.src_port;
    sim.send("stranger", &Packet::to(NAT, Body::EchoReply { id }));
    assert!(sim.received("source").is_empty());
    assert_drops(&sim, &[(DropReason::NatNoSession, 1)]);
}

#[test]
fn nat_21_a_client_has_no_echo_replies_to_send_whatever_it_has_asked_for() {
    let mut sim = sim();
    // A request of id 0 and a reply of id 0 look alike but for their type.
    assert!(answers(&mut sim, "source", DESTINATION, 0));
    sim.received("destination");
    sim.send("source", &Packet::to(DESTINATION, Body::EchoReply { id: 0 }));
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::NatNoSession, 1)]);
}

#[test]
fn nat_18_data_after_350_idle_seconds_is_answered_with_a_reset() {
    let mut sim = sim();
    sim.open("destination", 80);
    sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::SYN));
    sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::ACK));
    sim.received("source");
    let port = sim.received("destination")[0].headers.flow.src_port;
    for _ in 0..3 {
        sim.wait(349);
        sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::ACK));
        let kept = only(sim.received("destination")).headers.flow.src_port;
        assert_eq!(kept, port, "a packet each 349 s keeps the port");
    }
    let gateway = sim.snapshot.nat(0).eni;
    let gateway = sim.snapshot.eni(gateway).serial;
    assert_eq!(sim.engine.state().metrics(gateway).idle_timeouts.load(Relaxed), 0);
    sim.wait(351);
    let metrics = sim.engine.state().metrics(gateway);
    assert_eq!(metrics.idle_timeouts.load(Relaxed), 1, "IdleTimeoutCount");
    assert_eq!(metrics.connection_attempts.load(Relaxed), 1);
    assert_eq!(metrics.connections_established.load(Relaxed), 1);
    sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::ACK));
    assert!(sim.received("destination").is_empty());
    let reset = only(sim.received("source"));
    assert_eq!(reset.headers.kind, Kind::Tcp(tcp_flags::RST), "never FIN");
    assert_eq!((reset.src(), reset.headers.flow.src_port), (IpAddr::V4(DESTINATION), 80), "as from the far end");
    assert_eq!(reset.payload()[4..8], 1_u32.to_be_bytes(), "with the sequence number that is waited for");
    assert!(sim.drops().is_empty());
}

#[test]
fn nat_18_a_connection_that_both_sides_have_closed_is_not_idle() {
    let mut sim = sim();
    sim.open("destination", 80);
    let gateway = sim.snapshot.eni(sim.snapshot.nat(0).eni).serial;
    let metrics = |sim: &Sim| sim.engine.state().metrics(gateway);
    for connections in 1..=2 {
        sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::SYN));
        sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::ACK));
        let port = sim.received("destination")[0].headers.flow.src_port;
        assert_eq!(metrics(&sim).connections_established.load(Relaxed), connections, "also with the same ports again");
        // Open, it stays for more than a minute.
        sim.wait(61);
        sim.send("destination", &tcp(NAT, 80, port, tcp_flags::FIN | tcp_flags::ACK));
        sim.send("source", &tcp(DESTINATION, 40_000, 80, tcp_flags::FIN | tcp_flags::ACK));
        sim.send("destination", &tcp(NAT, 80, port, tcp_flags::ACK));
        assert_eq!(sim.received("source").len(), 3, "SYN-ACK, FIN and the last ACK");
        sim.received("destination");
    }
    assert_eq!(metrics(&sim).connection_attempts.load(Relaxed), 2);
    sim.wait(61);
    assert!(
        sim.engine.state().sessions(sim.now.tick()).is_empty(),
        "`assumed`: a minute after the last packet it is gone"
    );
    sim.wait(351);
    assert_eq!(metrics(&sim).idle_timeouts.load(Relaxed), 0, "IdleTimeoutCount counts what wasn't closed");
}

#[test]
fn nat_18_what_comes_from_outside_or_opens_nothing_gets_no_reset() {
    let mut sim = sim();
    for flags in [tcp_flags::RST, tcp_flags::SYN | tcp_flags::ACK] {
        sim.send("source", &tcp(DESTINATION, 40_000, 80, flags));
    }
    sim.send("destination", &tcp(NAT, 80, 40_000, tcp_flags::ACK));
    assert!(sim.received("source").is_empty() && sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::NatNoSession, 3)]);
}

#[test]
fn nat_16_fragments_of_udp_are_translated_and_others_dropped() {
    let mut sim = sim();
    let datagram = Packet::to(DESTINATION, Body::Udp { from: 40_000, to: 9000, length: 4000 });
    sim.send_fragments("source", &datagram, 1, 1500, &[0, 1, 2]);
    let seen = sim.received("destination");
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|piece| piece.src() == IpAddr::V4(NAT) && piece.headers.ttl == 254));
    let whole = reassemble(&seen).unwrap();
    let ip = etherparse::Ipv4Header::new(0, 0, etherparse::IpNumber::UDP, NAT.octets(), DESTINATION.octets()).unwrap();
    let (udp, data) = etherparse::UdpHeader::from_slice(&whole).unwrap();
    assert_eq!(udp.checksum, udp.calc_checksum_ipv4(&ip, data).unwrap(), "the whole datagram's checksum is right");

    let echo = Packet::to(DESTINATION, Body::Echo { id: 7, seq: 1 });
    sim.send_fragments("source", &echo, 2, 60, &[0, 1]);
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::NatFragment, 1), (DropReason::Fragment, 1)]);
}

/// A SYN, or the answer to one, that offers this MSS behind other options.
fn offering(mss: u16, padding: &[u8], [from, to]: [(Ipv4Addr, u16); 2], is_answer: bool) -> Packet {
    let mut options = [padding, &[2, 4], &mss.to_be_bytes()].concat();
    options.resize(options.len().next_multiple_of(4), 1);
    let mut tcp = etherparse::TcpHeader::new(from.1, to.1, 1000, 1024);
    (tcp.syn, tcp.ack) = (true, is_answer);
    tcp.set_options_raw(&options).unwrap();
    let ip = etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, from.0.octets(), to.0.octets());
    tcp.checksum = tcp.calc_checksum_ipv4(&ip.unwrap(), &[]).unwrap();
    Packet::to(to.0, Body::Other { protocol: 6, bytes: tcp.to_bytes().to_vec() })
}

fn offered(seen: &Seen, padding: &[u8]) -> u16 {
    let option = &seen.payload()[20 + padding.len()..][..4];
    assert_eq!(option[..2], [2, 4]);
    u16::from_be_bytes([option[2], option[3]])
}

#[test]
fn nat_17_a_syn_and_its_answer_leave_with_an_mss_of_8460_at_most() {
    // Also on an odd place, where its bytes count the other way round in the checksum.
    for padding in [&[][..], &[1], &[1, 1, 1], &[4, 2]] {
        for (sent, arrives) in [(8961, 8460), (8460, 8460), (1460, 1460)] {
            let mut sim = sim();
            sim.open("destination", 80);
            let (client, server) = ((SOURCE, 40_000), (DESTINATION, 80));
            sim.send("source", &offering(sent, padding, [client, server], false));
            let syn = only(sim.received("destination"));
            assert_eq!(offered(&syn, padding), arrives, "behind {padding:?}");
            sim.received("source");
            let nat = (NAT, syn.headers.flow.src_port);
            sim.send("destination", &offering(sent, padding, [server, nat], true));
            assert_eq!(offered(&only(sim.received("source")), padding), arrives, "the answer, behind {padding:?}");
        }
    }
}

#[test]
fn r_41_a_packet_above_8500_bytes_is_too_large_for_a_gateway() {
    let mut sim = sim();
    let udp = |length| Packet::to(DESTINATION, Body::Udp { from: 40_000, to: 9000, length });
    sim.send("source", &udp(8472));
    assert_eq!(sim.received("destination").len(), 1, "8500 fits");
    sim.received("source");
    sim.send("source", &udp(8473));
    let answer = only(sim.received("source"));
    assert_eq!(answer.src(), IpAddr::V4(NAT), "`assumed`: the gateway itself says so");
    assert!(matches!(answer.headers.kind, Kind::IcmpError { kind: 3, code: 4, .. }));
    assert_eq!(answer.payload()[6..8], 8500_u16.to_be_bytes());
    assert!(sim.received("destination").is_empty());

    // Without the DF bit it is cut; the last of these is larger than one fragment carries.
    sim.send_fragments("source", &udp(8800), 1, 9001, &[0]);
    let seen = sim.received("destination");
    assert_eq!(seen.len(), 2);
    assert_eq!(reassemble(&seen).unwrap().len(), 8808);
    let echo = Packet::to(DESTINATION, Body::Other { protocol: 1, bytes: large_echo() });
    sim.send_fragments("source", &echo, 2, 9001, &[0]);
    assert!(sim.received("destination").is_empty(), "NAT-16: and then ICMP isn't carried");
    assert_drops(&sim, &[(DropReason::NatFragment, 1)]);
}

/// An echo request of 8,600 bytes.
fn large_echo() -> Vec<u8> {
    let mut bytes = vec![8, 0, 0, 0, 0, 7, 0, 1];
    bytes.resize(8600, 0);
    recomputed(&bytes)
}

#[test]
fn nat_22_what_comes_with_the_gateways_own_address_is_dropped() {
    let mut article = article("10.0.0.0/16");
    article.builder.instance(article.source, "forger", "10.0.0.12", &[], false);
    let mut sim = Sim::new(&article.builder.world);
    sim.send("forger", &ping(DESTINATION, 7).from(NAT));
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::RouteLoop, 1)]);
}

#[test]
fn nat_25_nat_26_what_a_gateway_sends_is_routed_by_its_own_subnets_table() {
    for (routed, there, back) in [("10.0.1.0/24", 0, 0), ("10.0.0.0/24", 1, 0), ("10.0.2.0/24", 1, 1)] {
        let mut article = article("10.0.0.0/16");
        let b = &mut article.builder;
        let middle = b.subnet(article.vpc, "middle", "10.0.5.0/24");
        let open = b.group(article.vpc, "open", &[(Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()))]);
        let appliance = b.instance(middle, "appliance", "10.0.5.4", &[open], false);
        let table = b.world.subnet(article.nat).unwrap().route_table.unwrap();
        b.route(table, routed, RouteTarget::NetworkInterface(appliance));
        let mut sim = Sim::new(&b.world);
        sim.send("source", &ping(DESTINATION, 7));
        assert_eq!((sim.received("destination").len(), sim.received("source").len()), (there, back), "{routed}");
        assert_eq!(sim.received("appliance").len(), 1 - back, "{routed}");
        assert_drops(&sim, &[]);
    }
}

#[test]
fn nat_27_the_far_ends_table_needs_no_route_for_the_way_back() {
    let mut article = article("10.0.0.0/16");
    let b = &mut article.builder;
    let subnet = b.subnet(article.vpc, "server", "10.0.3.0/24");
    let open = b.group(article.vpc, "open", &[(Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()))]);
    b.instance(subnet, "server", "10.0.3.4", &[open], true);
    let table = b.world.subnet(article.source).unwrap().route_table.unwrap();
    let nat = b.world.find_nat_gateway(None, "osaka-NAT").unwrap();
    b.route(table, "10.0.3.0/24", RouteTarget::NatGateway(nat));
    let local = b.world.route_table_of(b.world.subnet(subnet).unwrap()).unwrap();
    assert_eq!(local.routes.len(), 1, "it knows the VPC only");
    let mut sim = Sim::new(&b.world);
    sim.send("source", &ping(Ipv4Addr::new(10, 0, 3, 4), 7));
    assert_eq!(only(sim.received("source")).headers.ttl, 254, "back through the gateway");
}

#[test]
fn nacl_11_nat_24_a_gateway_in_its_own_clients_subnet_drops_the_loop() {
    let mut article = article("10.0.0.0/16");
    let b = &mut article.builder;
    let subnet = b.subnet(article.vpc, "loop", "10.0.4.0/24");
    let nat = b.nat_gateway(subnet, "loop-nat", "10.0.4.9");
    let table = b.route_table(article.vpc, subnet);
    b.route(table, "10.0.1.0/24", RouteTarget::NatGateway(nat));
    b.instance(subnet, "client", "10.0.4.10", &[], true);
    // Between the two no list is asked, or this one would deny it.
    b.acl(article.vpc, subnet, &[]);
    let mut sim = Sim::new(&b.world);
    sim.send("client", &ping(DESTINATION, 7));
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::RouteLoop, 1)]);
}

#[test]
fn nat_31_a_reference_to_the_clients_group_does_not_match_behind_the_gateway() {
    let mut article = article("192.168.0.0/16");
    let b = &mut article.builder;
    let clients = b.group(article.vpc, "clients", &[]);
    let servers = b.group(article.vpc, "servers", &[(Traffic::All, Peer::SecurityGroup(clients))]);
    b.instance(article.source, "client", "10.0.0.30", &[clients], true);
    b.instance(article.destination, "server", "10.0.1.30", &[servers], true);
    let mut sim = Sim::new(&b.world);
    assert!(!answers(&mut sim, "client", Ipv4Addr::new(10, 0, 1, 30), 7));
    assert_drops(&sim, &[(DropReason::SecurityGroup, 1)]);
}

#[test]
fn nat_31_nor_does_a_reference_to_the_far_ends_group_on_the_way_back() {
    let mut article = article("0.0.0.0/0");
    let b = &mut article.builder;
    let servers = b.group(article.vpc, "servers", &[(Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()))]);
    let clients = b.group(article.vpc, "clients", &[(Traffic::All, Peer::SecurityGroup(servers))]);
    b.instance(article.destination, "server", "10.0.1.30", &[servers], true);
    b.instance(article.source, "client", "10.0.0.30", &[clients], true);
    let mut sim = Sim::new(&b.world);
    assert!(answers(&mut sim, "client", Ipv4Addr::new(10, 0, 1, 30), 7));
    let id = only(sim.received("server")).headers.flow.src_port;
    // The client's interface has forgotten the ping, the gateway not yet: now the rules are asked.
    sim.wait(60);
    sim.send("server", &Packet::to(NAT, Body::EchoReply { id }));
    assert!(sim.received("client").is_empty(), "its source is a member's address, but it came by the gateway");
    assert_drops(&sim, &[(DropReason::SecurityGroup, 1)]);
}

#[test]
fn rfc_1122_an_icmp_error_with_no_ttl_left_is_not_answered() {
    let mut sim = sim();
    sim.send("source", &udp(DESTINATION, 40_000, 33_437));
    assert_eq!(only(sim.received("source")).src(), IpAddr::V4(DESTINATION));
    let received = only(sim.received("destination"));
    // The destination's own unreachable again, with a TTL that ends at the gateway.
    sim.send("destination", &unreachable(&received.frame[14..]).ttl(1));
    assert!(sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::TtlExpired, 1)]);
}
