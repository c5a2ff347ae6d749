//! Frames that the network itself sends.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacket, Icmpv4Type, IpNumber, Ipv4Header, PacketBuilder, icmpv4};

use crate::flow::{Kind, Mac, tcp_flags};
use crate::parse::{Arp, ETHERNET, ICMP_HEADER, Parsed};

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

/// Answers an echo request, as if its destination had (RFC 792, type 0). MAC addresses are left zero.
#[must_use]
pub fn echo(packet: &Parsed, frame: &[u8], ttl: u8) -> Vec<u8> {
    let flow = packet.headers.flow;
    let (IpAddr::V4(src), IpAddr::V4(dst), Kind::EchoRequest) = (flow.dst, flow.src, packet.headers.kind) else {
        return Vec::new();
    };
    let icmp = &frame[packet.l4..packet.end];
    let sequence = u16::from_be_bytes([icmp[6], icmp[7]]);
    let builder = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv4(src.octets(), dst.octets(), ttl);
    let builder = builder.icmpv4_echo_reply(flow.src_port, sequence);
    let mut answer = Vec::with_capacity(builder.size(icmp.len() - ICMP_HEADER));
    // Writing to memory can't fail.
    let _ = builder.write(&mut answer, &icmp[ICMP_HEADER..]);
    answer
}

/// A UDP datagram from an address and port to another. MAC addresses are left zero.
#[must_use]
pub fn datagram(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), ttl: u8, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv4(from.0.octets(), to.0.octets(), ttl);
    let builder = builder.udp(from.1, to.1);
    let mut answer = Vec::with_capacity(builder.size(payload.len()));
    // Writing to memory can't fail.
    let _ = builder.write(&mut answer, payload);
    answer
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

/// Tells the sender of `packet` that it is larger than `mtu` bytes at `from` (RFC 1191, type 3 code 4).
#[must_use]
pub fn fragmentation_needed(packet: &Parsed, frame: &[u8], from: Ipv4Addr, ttl: u8, mtu: u16) -> Vec<u8> {
    let kind = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
    icmp_error(Icmpv4Type::DestinationUnreachable(kind), packet, frame, from, ttl)
}

/// Ends the connection of a TCP segment for its sender, as if its destination had (RFC 9293 §3.10.7.1).
#[must_use]
pub fn reset(packet: &Parsed, frame: &[u8], ttl: u8) -> Vec<u8> {
    let flow = packet.headers.flow;
    let (IpAddr::V4(src), IpAddr::V4(dst), Kind::Tcp(flags)) = (flow.dst, flow.src, packet.headers.kind) else {
        return Vec::new();
    };
    let tcp = &frame[packet.l4..packet.end];
    let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    let (sequence, acknowledged) = (number(4), number(8));
    let builder = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv4(src.octets(), dst.octets(), ttl);
    let builder = if flags & tcp_flags::ACK != 0 {
        builder.tcp(flow.dst_port, flow.src_port, acknowledged, 0).rst()
    } else {
        let payload = tcp.len() - usize::from(tcp[12] >> 4) * 4;
        let next = sequence.wrapping_add(payload as u32);
        builder.tcp(flow.dst_port, flow.src_port, 0, 0).rst().ack(next)
    };
    let mut answer = Vec::with_capacity(builder.size(0));
    // Writing to memory can't fail.
    let _ = builder.write(&mut answer, &[]);
    answer
}

fn icmp_error(kind: Icmpv4Type, packet: &Parsed, frame: &[u8], from: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let quote = &frame[ETHERNET..packet.end];
    let quote = &quote[..quote.len().min(MOST_QUOTED)];
    let IpAddr::V4(to) = packet.headers.flow.src else { return Vec::new() };
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
