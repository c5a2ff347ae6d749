//! Frames that the network itself sends.

use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacket, Icmpv4Type, IpNumber, Ipv4Header, PacketBuilder, icmpv4};

use crate::flow::Mac;
use crate::parse::{Arp, ETHERNET, Parsed};

/// Answers an ARP request: `target` is at `mac`.
#[must_use]
pub fn arp(request: &Arp, mac: Mac) -> Vec<u8> {
    let packet = ArpPacket::from(ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: mac,
        sender_ipv4: request.target.octets(),
        target_mac: request.sender_mac,
        target_ipv4: request.sender.octets(),
    });
    let builder = PacketBuilder::ethernet2(mac, request.src_mac).arp(packet);
    let mut frame = Vec::with_capacity(builder.size());
    // Writing to memory can't fail.
    let _ = builder.write(&mut frame);
    frame
}

/// At most so much of a packet is quoted that the answer stays within 576 bytes (RFC 1812 §4.3.2.3).
const MOST_QUOTED: usize = 576 - 20 - 8;

/// Tells the sender of `packet` that its TTL ran out at `from` (RFC 792, type 11 code 0). MAC addresses are left zero:
/// they are those of the link that the answer leaves by.
#[must_use]
pub fn time_exceeded(packet: &Parsed, frame: &[u8], from: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let kind = Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit);
    icmp_error(kind, packet, frame, from, ttl)
}

fn icmp_error(kind: Icmpv4Type, packet: &Parsed, frame: &[u8], from: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let quote = &frame[ETHERNET..packet.end];
    let quote = &quote[..quote.len().min(MOST_QUOTED)];
    let std::net::IpAddr::V4(to) = packet.headers.flow.src else { return Vec::new() };
    let Ok(mut header) = Ipv4Header::new(0, ttl, IpNumber::ICMP, from.octets(), to.octets()) else { return Vec::new() };
    header.dont_fragment = false;
    let builder = PacketBuilder::ethernet2([0; 6], [0; 6])
        .ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        .icmpv4(kind);
    let mut answer = Vec::with_capacity(builder.size(quote.len()));
    // Writing to memory can't fail, and the quote is short.
    let _ = builder.write(&mut answer, quote);
    answer
}
