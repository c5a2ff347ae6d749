//! What each subnet offers by itself, whatever its guests' groups and its list say.

use std::net::{IpAddr, Ipv4Addr};

use minivpc_dataplane::DropReason;
use minivpc_testkit::{Body, Builder, Packet, Seen, Sim};

use super::assert_drops;

const TIME: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 123);

/// Two instances whose group lets nothing out and nothing in, in a subnet whose list denies everything.
fn closed() -> Sim {
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
fn datagram(dst: Ipv4Addr, port: u16, payload: &[u8]) -> Packet {
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

fn payload(seen: &Seen) -> &[u8] {
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
