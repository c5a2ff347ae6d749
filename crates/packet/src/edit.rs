//! The only place where a packet's bytes change.

use std::net::{IpAddr, Ipv4Addr};

use crate::checksum::{self, Delta};
use crate::flow::{Flow, Headers, Kind, tcp_flags};
use crate::parse::{ETHERNET, ICMP_HEADER, IPV4_CHECKSUM, Parsed, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::vnet::{Segmentation, VnetHeader};

/// How a packet leaves, as against how it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    before: Headers,
    after: Headers,
}

const TTL: usize = ETHERNET + 8;
const SOURCE: usize = ETHERNET + 12;
const DESTINATION: usize = ETHERNET + 16;

impl Edit {
    /// The edit that makes `after` of `before`. The kind of packet stays; of an ICMP error the quoted flow may change.
    #[must_use]
    pub fn between(before: &Headers, after: &Headers) -> Self {
        Self { before: *before, after: *after }
    }

    /// Changes a frame that was read as `packet`. Its checksums stay as right or wrong as they were. A frame that
    /// isn't a super-segment leaves with a complete L4 checksum, so that captures and ICMP quotes show a right one.
    pub fn apply(&self, packet: &Parsed, vnet: &mut VnetHeader, frame: &mut [u8]) {
        frame[..6].copy_from_slice(&self.after.dst_mac);
        frame[6..12].copy_from_slice(&self.after.src_mac);
        // What a guest says beyond that means nothing, and Linux refuses some of it.
        if !vnet.needs_csum {
            *vnet = VnetHeader::PLAIN;
        }
        let frame = &mut frame[..packet.end];
        let addresses = edit_ip(frame, ETHERNET, &self.before.flow, &self.after.flow);
        self.edit_ttl(frame);
        if !self.before.has_l4() {
            return;
        }
        match self.before.kind {
            Kind::Tcp(_) | Kind::Udp => self.edit_ports(packet, vnet, frame, addresses),
            Kind::EchoRequest => edit_echo(frame, packet.l4, self.before.flow.src_port, self.after.flow.src_port),
            Kind::EchoReply => edit_echo(frame, packet.l4, self.before.flow.dst_port, self.after.flow.dst_port),
            Kind::IcmpError { quoted, .. } => {
                if let Kind::IcmpError { quoted: after, .. } = self.after.kind
                    && after != quoted
                {
                    edit_quote(packet, frame, &quoted, &after);
                }
            }
            Kind::Icmp { .. } | Kind::Other => {}
        }
    }

    fn edit_ttl(&self, frame: &mut [u8]) {
        let protocol = self.before.flow.protocol;
        let word = |ttl| u16::from_be_bytes([ttl, protocol]);
        frame[TTL] = self.after.ttl;
        Delta::default().word(word(self.before.ttl), word(self.after.ttl)).correct(frame, ETHERNET + IPV4_CHECKSUM);
    }

    fn edit_ports(&self, packet: &Parsed, vnet: &mut VnetHeader, frame: &mut [u8], addresses: Delta) {
        let (before, after) = (&self.before.flow, &self.after.flow);
        frame[packet.l4..packet.l4 + 2].copy_from_slice(&after.src_port.to_be_bytes());
        frame[packet.l4 + 2..packet.l4 + 4].copy_from_slice(&after.dst_port.to_be_bytes());
        let udp = self.before.kind == Kind::Udp;
        let mut addresses = addresses;
        if let (Kind::Tcp(flags), Some(limit)) = (self.before.kind, self.after.mss_limit)
            && flags & tcp_flags::SYN != 0
        {
            addresses = clamp_mss(&mut frame[packet.l4..], limit, addresses);
        }
        let at = packet.l4 + if udp { UDP_CHECKSUM } else { TCP_CHECKSUM };
        if vnet.needs_csum {
            let (IpAddr::V4(src), IpAddr::V4(dst)) = (after.src, after.dst) else { return };
            complete(vnet, frame, packet.l4, at, src, dst, before.protocol);
        } else if !(udp && frame[at..at + 2] == [0, 0]) {
            addresses.word(before.src_port, after.src_port).word(before.dst_port, after.dst_port).correct(frame, at);
            // RFC 768: a zero would say that there is no checksum.
            if udp && frame[at..at + 2] == [0, 0] {
                frame[at..at + 2].fill(0xff);
            }
        }
    }
}

/// Lowers the MSS option of a SYN, never raises it (NAT-17).
fn clamp_mss(tcp: &mut [u8], limit: u16, delta: Delta) -> Delta {
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
                    return delta;
                }
                tcp[at + 2..at + 4].copy_from_slice(&limit.to_be_bytes());
                // A word on an odd place counts with its bytes swapped.
                let word = |value: u16| if at % 2 == 0 { value } else { value.swap_bytes() };
                return delta.word(word(mss), word(limit));
            }
            (END, _) | (_, None | Some(0 | 1)) => return delta,
            (_, Some(length)) => at += usize::from(*length),
        }
    }
    delta
}

/// Sums a frame whose sender left that to the link; of a super-segment only the pseudo header, as its receiver expects.
fn complete(vnet: &mut VnetHeader, frame: &mut [u8], l4: usize, at: usize, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) {
    let pseudo = checksum::fold(checksum::pseudo_header(src, dst, protocol, frame.len() - l4));
    frame[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    if vnet.segmentation == Segmentation::None {
        let sum = !checksum::fold(checksum::add(0, &frame[l4..]));
        let sum = if sum == 0 { 0xffff } else { sum };
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        *vnet = VnetHeader::PLAIN;
    } else {
        let header = if protocol == 6 { usize::from(frame[l4 + 12] >> 4) * 4 } else { 8 };
        vnet.header_length = (l4 + header) as u16;
    }
}

/// Changes the addresses of the IP header at `at`; what that means for an L4 checksum.
fn edit_ip(frame: &mut [u8], at: usize, before: &Flow, after: &Flow) -> Delta {
    let (source, destination) = (at + SOURCE - ETHERNET, at + DESTINATION - ETHERNET);
    if let IpAddr::V4(src) = after.src {
        frame[source..source + 4].copy_from_slice(&src.octets());
    }
    if let IpAddr::V4(dst) = after.dst {
        frame[destination..destination + 4].copy_from_slice(&dst.octets());
    }
    let delta = Delta::default().address(before.src, after.src).address(before.dst, after.dst);
    delta.correct(frame, at + IPV4_CHECKSUM);
    delta
}

fn edit_echo(frame: &mut [u8], l4: usize, before: u16, after: u16) {
    if before == after {
        return;
    }
    frame[l4 + 4..l4 + 6].copy_from_slice(&after.to_be_bytes());
    Delta::default().word(before, after).correct(frame, l4 + 2);
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
    let addresses = edit_ip(frame, ip, before, after);
    let delta = addresses.word(before.src_port, after.src_port).word(before.dst_port, after.dst_port);
    let checksum = match before.protocol {
        1 => {
            let id = if frame[l4] == 8 { after.src_port } else { after.dst_port };
            if matches!(frame[l4], 0 | 8) {
                let old = u16::from_be_bytes([frame[l4 + 4], frame[l4 + 5]]);
                edit_echo(frame, l4, old, id);
            }
            None
        }
        6 | 17 => {
            frame[l4..l4 + 2].copy_from_slice(&after.src_port.to_be_bytes());
            frame[l4 + 2..l4 + 4].copy_from_slice(&after.dst_port.to_be_bytes());
            Some(l4 + if before.protocol == 6 { TCP_CHECKSUM } else { UDP_CHECKSUM })
        }
        _ => None,
    };
    if let Some(at) = checksum
        && at + 2 <= frame.len()
        && !(before.protocol == 17 && frame[at..at + 2] == [0, 0])
    {
        delta.correct(frame, at);
        // RFC 768.
        if before.protocol == 17 && frame[at..at + 2] == [0, 0] {
            frame[at..at + 2].fill(0xff);
        }
    }
    // Of the message, so that one that came damaged stays damaged.
    let now = checksum::fold(checksum::add(0, &frame[packet.l4 + ICMP_HEADER..]));
    Delta::default().word(was, now).correct(frame, packet.l4 + 2);
}
