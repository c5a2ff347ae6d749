//! What each hop does to a packet, by the ids of AWS's behaviours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod changes;
mod eni;
mod nat_gateway;
mod network_acl;
mod router;
mod security_group;
mod trace;

use std::net::Ipv4Addr;

use minivpc_dataplane::DropReason;
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
