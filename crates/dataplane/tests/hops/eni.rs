use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use minivpc_dataplane::DropReason;
use minivpc_model::{Peer, PortRange, Traffic};
use minivpc_packet::VnetHeader;
use minivpc_testkit::{Article, Body, Packet, Sim, article, reassemble};

use crate::{DESTINATION, SOURCE, answers, assert_drops, ping, udp};

const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 12);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn with_neighbour() -> Article {
    let mut article = article("10.0.0.0/16");
    let all = [(Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()))];
    let group = article.builder.group(article.vpc, "all", &all);
    article.builder.instance(article.source, "neighbour", "10.0.0.12", &[group], false);
    article
}

fn sim() -> Sim {
    Sim::new(&with_neighbour().builder.world)
}

#[test]
fn r_6_the_network_answers_for_the_router_and_for_neighbours() {
    let mut sim = sim();
    let neighbour = sim.snapshot.eni(sim.port("neighbour")).mac.0;
    assert_eq!(sim.arp("source", NEIGHBOUR), Some(neighbour));
    assert_ne!(sim.arp("source", ROUTER).unwrap(), neighbour);
}

#[test]
fn r_14_mac_addresses_are_locally_administered_and_each_is_one_interfaces() {
    // `assumed`.
    let snapshot = sim().snapshot;
    let routers = snapshot.subnets.iter().map(|subnet| subnet.router_mac.0);
    let macs: Vec<_> = snapshot.enis.iter().map(|eni| eni.mac.0).chain(routers).collect();
    assert!(macs.iter().all(|mac| mac[0] & 3 == 2), "{macs:02x?}");
    assert_eq!(macs.iter().collect::<BTreeSet<_>>().len(), macs.len());
}

#[test]
fn r_8_nobody_answers_for_an_unused_or_a_foreign_address() {
    let mut sim = sim();
    assert_eq!(sim.arp("source", Ipv4Addr::new(10, 0, 0, 99)), None);
    assert_eq!(sim.arp("source", DESTINATION), None, "of another subnet");
    assert_drops(&sim, &[(DropReason::ArpUnanswered, 2)]);
}

#[test]
fn r_9_the_network_answers_for_awss_own_services() {
    let mut sim = sim();
    let router = sim.arp("source", ROUTER);
    for service in ["169.254.169.254", "169.254.169.253", "169.254.169.123", "169.254.170.2", "10.0.0.2"] {
        assert_eq!(sim.arp("source", service.parse().unwrap()), router, "{service}");
    }
    assert_eq!(sim.arp("destination", Ipv4Addr::new(10, 0, 1, 2)), None, "R-3: reserved, but no resolver");
    assert_eq!(sim.arp("source", Ipv4Addr::new(169, 254, 1, 1)), None);
}

#[test]
fn r_10_an_announcement_changes_nothing() {
    let mut sim = sim();
    let (thief, owner) = ("source", sim.arp("source", NEIGHBOUR));
    let mac = sim.snapshot.eni(sim.port(thief)).mac.0;
    assert_eq!(sim.arp_as(thief, mac, NEIGHBOUR, NEIGHBOUR), None);
    assert_eq!(sim.arp("source", NEIGHBOUR), owner);
    assert_drops(&sim, &[(DropReason::ArpAnnouncement, 1)]);
}

#[test]
fn r_11_a_foreign_mac_address_is_dropped_even_with_the_check_off() {
    let mut sim = sim();
    let router = sim.arp("neighbour", ROUTER).unwrap();
    let frame = ping(DESTINATION, 7).frame(NEIGHBOUR, [2, 9, 9, 9, 9, 9], router);
    sim.send_frame("neighbour", VnetHeader::PLAIN, frame);
    assert_drops(&sim, &[(DropReason::SourceMac, 1)]);
}

#[test]
fn r_11_sdc_1_sdc_8_a_foreign_source_address_needs_the_check_off() {
    let mut sim = sim();
    let foreign = Ipv4Addr::new(192, 0, 2, 7);
    sim.send("source", &ping(DESTINATION, 7).from(foreign));
    assert_drops(&sim, &[(DropReason::SourceCheck, 1)]);
    sim.send("neighbour", &ping(SOURCE, 7).from(DESTINATION));
    assert_eq!(sim.received("source").len(), 1, "off is off");
}

#[test]
fn sdc_3_with_the_check_off_groups_and_routes_still_decide() {
    // `assumed`. R-11 has a test for MAC addresses.
    let mut article = article("0.0.0.0/0");
    let b = &mut article.builder;
    let dns = b.group(article.vpc, "dns", &[]);
    b.egress(dns, &[(Traffic::Udp(PortRange { from: 53, to: 53 }), Peer::Cidr("0.0.0.0/0".parse().unwrap()))]);
    b.instance(article.nat, "forwarder", "10.0.2.13", &[dns], false);
    b.instance(article.nat, "neighbour", "10.0.2.14", &[], true);
    let mut sim = Sim::new(&b.world);
    let foreign = Ipv4Addr::new(192, 0, 2, 7);
    sim.send("forwarder", &ping(DESTINATION, 7).from(foreign));
    sim.send("forwarder", &udp(Ipv4Addr::new(198, 51, 100, 7), 40_000, 53).from(foreign));
    let forwarder = sim.snapshot.eni(sim.port("forwarder")).mac.0;
    sim.send_to_mac("neighbour", &ping(foreign, 7), forwarder);
    assert!(sim.received("forwarder").is_empty() && sim.received("destination").is_empty());
    assert_drops(&sim, &[(DropReason::NoRoute, 1), (DropReason::SecurityGroup, 2)]);
}

#[test]
fn sdc_4_a_proxy_needs_no_exception_from_the_check() {
    let mut article = article("10.0.0.0/16");
    let all = [(Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()))];
    let group = article.builder.group(article.vpc, "all", &all);
    article.builder.instance(article.nat, "proxy", "10.0.2.20", &[group], true);
    let mut sim = Sim::new(&article.builder.world);
    assert!(answers(&mut sim, "source", Ipv4Addr::new(10, 0, 2, 20), 7), "it ends what it is sent");
    assert!(answers(&mut sim, "proxy", DESTINATION, 7), "and sends as itself");
}

#[test]
fn r_7_only_unicast_ip_is_carried() {
    let mut sim = sim();
    let router = sim.arp("source", ROUTER).unwrap();
    sim.send_to_mac("source", &udp(Ipv4Addr::new(224, 0, 0, 1), 1, 2), router);
    sim.send_to_mac("source", &udp(Ipv4Addr::BROADCAST, 1, 2), [0xff; 6]);
    let mac = sim.snapshot.eni(sim.port("source")).mac.0;
    let frame = |ether_type: [u8; 2]| {
        let head = router.iter().chain(&mac).chain(&ether_type);
        head.copied().chain([0; 46]).collect::<Vec<u8>>()
    };
    sim.send_frame("source", VnetHeader::PLAIN, frame([0x88, 0xb5]));
    sim.send_frame("source", VnetHeader::PLAIN, frame([0x86, 0xdd]));
    assert_drops(&sim, &[(DropReason::NotUnicast, 2), (DropReason::NotIp, 1), (DropReason::Ipv6, 1)]);
}

#[test]
fn r_12_r_13_a_neighbours_mac_address_needs_no_route_and_the_routers_does() {
    let mut sim = sim();
    assert!(answers(&mut sim, "source", NEIGHBOUR, 7), "by the neighbour's MAC address");
    let router = sim.arp("source", ROUTER).unwrap();
    sim.received("neighbour");
    sim.send_to_mac("source", &ping(NEIGHBOUR, 8), router);
    assert_eq!(sim.received("neighbour").len(), 1, "hair-pin through the router");
    sim.send_to_mac("source", &ping(NEIGHBOUR, 9), [2, 9, 9, 9, 9, 9]);
    assert_drops(&sim, &[(DropReason::DestinationMac, 1)]);
}

#[test]
fn r_45_later_fragments_are_judged_as_the_first_one() {
    let mut article = with_neighbour();
    let client = article.builder.subnet(article.vpc, "client", "10.0.3.0/24");
    let ports = PortRange { from: 53, to: 53 };
    let dns = [(Traffic::Udp(ports), Peer::Cidr("0.0.0.0/0".parse().unwrap()))];
    let group = article.builder.group(article.vpc, "dns", &dns);
    article.builder.instance(client, "client", "10.0.3.4", &[group], true);
    let mut sim = Sim::new(&article.builder.world);
    let to = Ipv4Addr::new(10, 0, 3, 4);
    let datagram = |port| Packet::to(to, Body::Udp { from: 40_000, to: port, length: 4000 });
    sim.send_fragments("destination", &datagram(53), 1, 1500, &[0, 1, 2]);
    let seen = sim.received("client");
    assert_eq!(seen.len(), 3, "forwarded as they are");
    assert_eq!(reassemble(&seen).unwrap().len(), 4008);
    sim.send_fragments("destination", &datagram(54), 2, 1500, &[0, 1, 2]);
    assert!(sim.received("client").is_empty(), "later fragments have no port 54 in them");
    assert_drops(&sim, &[(DropReason::SecurityGroup, 1), (DropReason::Fragment, 2)]);
}

#[test]
fn r_45_a_fragment_without_its_first_one_is_dropped() {
    let mut sim = sim();
    let datagram = Packet::to(DESTINATION, Body::Udp { from: 40_000, to: 53, length: 4000 });
    sim.send_fragments("source", &datagram, 1, 1500, &[1, 2]);
    assert_drops(&sim, &[(DropReason::Fragment, 2)]);
    sim.send_fragments("source", &datagram, 1, 1500, &[0]);
    sim.wait(31);
    sim.send_fragments("source", &datagram, 1, 1500, &[1]);
    assert_drops(&sim, &[(DropReason::Fragment, 3)]);
}

#[test]
fn a_virtio_header_that_lies_is_malformed() {
    let mut sim = sim();
    let router = sim.arp("source", ROUTER).unwrap();
    let mac = sim.snapshot.eni(sim.port("source")).mac.0;
    let frame = udp(DESTINATION, 1, 2).frame(SOURCE, mac, router);
    // Flags, kind, and the words hdr_len, segment size, checksum start and offset.
    let lie = |flags: u8, kind: u8, segment_size: u16, start: u16, offset: u16| {
        let words = [0, segment_size, start, offset].map(u16::to_ne_bytes).concat();
        VnetHeader::read([&[flags, kind], words.as_slice()].concat().as_slice().try_into().unwrap()).unwrap()
    };
    let lies = [
        lie(1, 0, 0, 60, 6),
        lie(1, 0, 0, 34, 16),
        lie(0, 1, 8, 0, 0),
        lie(1, 1, 8, 34, 16),
        lie(0, 5, 8, 0, 0),
        lie(1, 5, 0, 34, 6),
    ];
    for vnet in lies {
        sim.send_frame("source", vnet, frame.clone());
    }
    for length in 0..frame.len() {
        sim.send_frame("source", VnetHeader::PLAIN, frame[..length].to_vec());
    }
    let malformed: u64 = sim.drops().iter().map(|(_, count)| count).sum();
    assert_eq!(malformed, lies.len() as u64 + frame.len() as u64, "each is counted, none is a panic");
    assert!(sim.drops().iter().all(|(reason, _)| matches!(reason, DropReason::Malformed(_))));
}
