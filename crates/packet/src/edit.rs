//! The only place where a packet's bytes change.

use std::net::IpAddr;

use crate::checksum::{self, Delta};
use crate::flow::{Flow, Headers, Kind, Mac, tcp_flags};
use crate::parse::{ETHERNET, ICMP_HEADER, IPV4_CHECKSUM, Parsed, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::vnet::{Segmentation, VnetHeader};

/// What all packets of one flow have in common that leave as they came but for this: compiled once, it needs nothing but
/// the packet to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowEdit {
    dst_mac: Mac,
    src_mac: Mac,
    flow: Flow,
    /// So much the TTL falls.
    ttl: u8,
    /// What the addresses do to the IP header's checksum.
    ip: Delta,
    /// What the flow does to the L4 checksum, if that is complete.
    l4: Delta,
}

/// How one packet leaves, as against how it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    flow: FlowEdit,
    mss_limit: Option<u16>,
    /// The quoted flow of an ICMP error, as it came and as it leaves.
    quoted: Option<(Flow, Flow)>,
}

const TTL: usize = ETHERNET + 8;

impl FlowEdit {
    /// The edit that makes packets like `after` of packets like `before`. The kind of packet stays.
    #[must_use]
    pub fn between(before: &Headers, after: &Headers) -> Self {
        let ttl = before.ttl.wrapping_sub(after.ttl);
        let (ip, l4) = deltas(&before.flow, &after.flow);
        Self { dst_mac: after.dst_mac, src_mac: after.src_mac, flow: after.flow, ttl, ip, l4 }
    }

    /// So much the TTL falls.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.ttl
    }

    /// Changes a frame that was read as `packet`. Its checksums stay as right or wrong as they were. A frame that
    /// isn't a super-segment leaves with a complete L4 checksum, so that captures and ICMP quotes show a right one.
    pub fn apply(&self, packet: &Parsed, vnet: &mut VnetHeader, frame: &mut [u8]) {
        frame[..6].copy_from_slice(&self.dst_mac);
        frame[6..12].copy_from_slice(&self.src_mac);
        // What a guest says beyond that means nothing, and Linux refuses some of it.
        if !vnet.needs_csum {
            *vnet = VnetHeader::PLAIN;
        }
        let frame = &mut frame[..packet.end];
        let (was, ttl) = (frame[TTL], frame[TTL].wrapping_sub(self.ttl));
        frame[TTL] = ttl;
        edit_addresses(frame, ETHERNET, &self.flow);
        self.ip.word(u16::from(was) << 8, u16::from(ttl) << 8).correct(frame, ETHERNET + IPV4_CHECKSUM);
        if !packet.headers.has_l4() {
            return;
        }
        let l4 = packet.l4;
        match packet.headers.kind {
            Kind::Tcp(_) => {
                edit_ports(frame, l4, &self.flow);
                if vnet.needs_csum {
                    complete(vnet, frame, l4, l4 + TCP_CHECKSUM, &self.flow);
                } else {
                    self.l4.correct(frame, l4 + TCP_CHECKSUM);
                }
            }
            Kind::Udp => {
                edit_ports(frame, l4, &self.flow);
                if vnet.needs_csum {
                    complete(vnet, frame, l4, l4 + UDP_CHECKSUM, &self.flow);
                } else {
                    correct_udp(frame, l4 + UDP_CHECKSUM, self.l4);
                }
            }
            Kind::EchoRequest => edit_echo(frame, l4, self.flow.src_port, self.l4),
            Kind::EchoReply => edit_echo(frame, l4, self.flow.dst_port, self.l4),
            Kind::IcmpError { .. } | Kind::Icmp { .. } | Kind::Other => {}
        }
    }
}

impl Edit {
    /// The edit that makes `after` of `before`. The kind of packet stays; of an ICMP error the quoted flow may change.
    #[must_use]
    pub fn between(before: &Headers, after: &Headers) -> Self {
        let quoted = match (before.kind, after.kind) {
            (Kind::IcmpError { quoted: before, .. }, Kind::IcmpError { quoted: after, .. }) if before != after => {
                Some((before, after))
            }
            _ => None,
        };
        Self { flow: FlowEdit::between(before, after), mss_limit: after.mss_limit, quoted }
    }

    /// As [`FlowEdit::apply`].
    pub fn apply(&self, packet: &Parsed, vnet: &mut VnetHeader, frame: &mut [u8]) {
        if let (Kind::Tcp(flags), Some(limit)) = (packet.headers.kind, self.mss_limit)
            && flags & tcp_flags::SYN != 0
            && packet.headers.has_l4()
        {
            let tcp = &mut frame[packet.l4..packet.end];
            let delta = clamp_mss(tcp, limit);
            if !vnet.needs_csum {
                delta.correct(tcp, TCP_CHECKSUM);
            }
        }
        if let Some((before, after)) = &self.quoted {
            edit_quote(packet, &mut frame[..packet.end], before, after);
        }
        self.flow.apply(packet, vnet, frame);
    }
}

/// Lowers the MSS option of a SYN, never raises it (NAT-17).
fn clamp_mss(tcp: &mut [u8], limit: u16) -> Delta {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const MSS: u8 = 2;
    let end = (usize::from(tcp[12] >> 4) * 4).min(tcp.len());
    let mut at = 20;
    while at < end {
        match (tcp[at], tcp.get(at + 1)) {
            (NOTHING, _) => at += 1,
            (MSS, Some(4)) if at + 4 <= end => {
                let mss = u16::from_be_bytes([tcp[at + 2], tcp[at + 3]]);
                if mss <= limit {
                    break;
                }
                tcp[at + 2..at + 4].copy_from_slice(&limit.to_be_bytes());
                // A word on an odd place counts with its bytes swapped.
                let word = |value: u16| if at % 2 == 0 { value } else { value.swap_bytes() };
                return Delta::default().word(word(mss), word(limit));
            }
            (END, _) | (_, None | Some(0 | 1)) => break,
            (_, Some(length)) => at += usize::from(*length),
        }
    }
    Delta::default()
}

/// Sums a frame whose sender left that to the link; of a super-segment only the pseudo header, as its receiver expects.
fn complete(vnet: &mut VnetHeader, frame: &mut [u8], l4: usize, at: usize, flow: &Flow) {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (flow.src, flow.dst) else { return };
    let pseudo = checksum::fold(checksum::pseudo_header(src, dst, flow.protocol, frame.len() - l4));
    frame[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    if vnet.segmentation == Segmentation::None {
        let sum = !checksum::fold(checksum::add(0, &frame[l4..]));
        let sum = if sum == 0 { 0xffff } else { sum };
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        *vnet = VnetHeader::PLAIN;
    } else {
        let header = if flow.protocol == 6 { usize::from(frame[l4 + 12] >> 4) * 4 } else { 8 };
        vnet.header_length = (l4 + header) as u16;
    }
}

/// What a change of flow does to the checksum of the IP header, and to that of the L4 header. ICMP has no pseudo header.
fn deltas(before: &Flow, after: &Flow) -> (Delta, Delta) {
    let addresses = Delta::default().address(before.src, after.src).address(before.dst, after.dst);
    let pseudo_header = if before.protocol == 1 { Delta::default() } else { addresses };
    let l4 = pseudo_header.word(before.src_port, after.src_port).word(before.dst_port, after.dst_port);
    (addresses.folded(), l4.folded())
}

/// Writes the addresses of the IP header at `at`.
fn edit_addresses(frame: &mut [u8], at: usize, flow: &Flow) {
    let addresses = &mut frame[at + 12..at + 20];
    if let (IpAddr::V4(src), IpAddr::V4(dst)) = (flow.src, flow.dst) {
        addresses[..4].copy_from_slice(&src.octets());
        addresses[4..].copy_from_slice(&dst.octets());
    }
}

fn edit_ports(frame: &mut [u8], l4: usize, flow: &Flow) {
    let ports = &mut frame[l4..l4 + 4];
    ports[..2].copy_from_slice(&flow.src_port.to_be_bytes());
    ports[2..].copy_from_slice(&flow.dst_port.to_be_bytes());
}

fn correct_udp(frame: &mut [u8], at: usize, delta: Delta) {
    // RFC 768: a zero says that there is no checksum.
    if frame[at..at + 2] != [0, 0] {
        delta.correct(frame, at);
        if frame[at..at + 2] == [0, 0] {
            frame[at..at + 2].fill(0xff);
        }
    }
}

fn edit_echo(frame: &mut [u8], l4: usize, id: u16, delta: Delta) {
    if delta == Delta::default() {
        return;
    }
    frame[l4 + 4..l4 + 6].copy_from_slice(&id.to_be_bytes());
    delta.correct(frame, l4 + 2);
    // A reply may be zeros and nothing else. Their checksum is 0xffff, which a correction can't tell from 0.
    if frame[l4..].iter().all(|byte| *byte == 0) {
        frame[l4 + 2..l4 + 4].fill(0xff);
    }
}

/// NAT-14: the quoted packet is translated too, and the ICMP checksum, which covers it, corrected by what changed.
fn edit_quote(packet: &Parsed, frame: &mut [u8], before: &Flow, after: &Flow) {
    let ip = packet.l4 + ICMP_HEADER;
    let l4 = ip + packet.quoted_header;
    let was = checksum::fold(checksum::add(0, &frame[ip..]));
    let (ip_delta, l4_delta) = deltas(before, after);
    edit_addresses(frame, ip, after);
    ip_delta.correct(frame, ip + IPV4_CHECKSUM);
    match before.protocol {
        1 if frame[l4] == 8 => edit_echo(frame, l4, after.src_port, l4_delta),
        1 if frame[l4] == 0 => edit_echo(frame, l4, after.dst_port, l4_delta),
        6 => {
            edit_ports(frame, l4, after);
            // Only eight bytes of it are promised.
            if l4 + TCP_CHECKSUM + 2 <= frame.len() {
                l4_delta.correct(frame, l4 + TCP_CHECKSUM);
            }
        }
        17 => {
            edit_ports(frame, l4, after);
            correct_udp(frame, l4 + UDP_CHECKSUM, l4_delta);
        }
        _ => {}
    }
    // Of the message, so that one that came damaged stays damaged.
    let now = checksum::fold(checksum::add(0, &frame[packet.l4 + ICMP_HEADER..]));
    Delta::default().word(was, now).correct(frame, packet.l4 + 2);
}
