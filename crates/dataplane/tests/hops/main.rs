//! What each hop does to a packet, by the ids of AWS's behaviours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod capture;
mod changes;
mod eni;
mod internet_gateway;
mod nat_gateway;
mod network_acl;
mod resolver;
mod router;
mod security_group;
mod subnet_service;
mod trace;
mod vpn_gateway;

use std::net::Ipv4Addr;

use minivpc_dataplane::{DropReason, tcp_flags};
use minivpc_model::{PortRange, Traffic};
use minivpc_testkit::{Body, Packet, Sim};

const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 55);
const NAT: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 149);

fn ping(to: Ipv4Addr, id: u16) -> Packet {
    Packet::to(to, Body::Echo { id, seq: 1 })
}

fn udp(to: Ipv4Addr, from: u16, port: u16) -> Packet {
    Packet::to(to, Body::Udp { from, to: port, length: 32 })
}

fn tcp(to: Ipv4Addr, from: u16, port: u16, flags: u8) -> Packet {
    Packet::to(to, Body::Tcp { from, to: port, flags })
}

/// An ICMP message with its checksum written anew. The sum stands here so that the crate's own isn't its own witness.
fn recomputed(icmp: &[u8]) -> Vec<u8> {
    let mut bytes = icmp.to_vec();
    bytes[2..4].fill(0);
    let sum = !(ones_sum(&bytes) as u16);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn ones_sum(bytes: &[u8]) -> u32 {
    let sum: u32 = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0))).sum();
    (sum & 0xffff) + (sum >> 16)
}

/// What rules can say of packets, packets to somebody, and whether the one is said of the other.
fn said_of_packets(to: Ipv4Addr) -> Vec<(Traffic, Packet, bool)> {
    let other = |protocol| Packet::to(to, Body::Other { protocol, bytes: vec![0; 8] });
    let syn = |port| tcp(to, 40_000, port, tcp_flags::SYN);
    let web = Traffic::Tcp(PortRange { from: 80, to: 82 });
    let icmp = |kind, code| Traffic::Icmp { kind: Some(kind), code };
    let echo_reply = Packet::to(to, Body::EchoReply { id: 7 });
    vec![
        (Traffic::All, other(47), true),
        (Traffic::Protocol(47), other(47), true),
        (Traffic::Protocol(47), other(50), false),
        (web, syn(79), false),
        (web, syn(80), true),
        (web, syn(82), true),
        (web, syn(83), false),
        (web, udp(to, 40_000, 80), false),
        (Traffic::Udp(PortRange { from: 53, to: 53 }), udp(to, 40_000, 53), true),
        (icmp(8, None), ping(to, 7), true),
        (icmp(8, Some(0)), ping(to, 7), true),
        (icmp(8, Some(1)), ping(to, 7), false),
        (icmp(8, None), echo_reply, false),
    ]
}

/// Does a ping with this id come back?
fn answers(sim: &mut Sim, from: &str, to: Ipv4Addr, id: u16) -> bool {
    sim.received(from);
    sim.send(from, &ping(to, id));
    sim.received(from).iter().any(|seen| seen.headers.kind == minivpc_dataplane::Kind::EchoReply)
}

/// The only drops so far.
fn assert_drops(sim: &Sim, expected: &[(DropReason, u64)]) {
    assert_eq!(sim.drops(), expected);
}
