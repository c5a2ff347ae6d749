//! Frames to send, and frames as they arrive.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{IpNumber, Ipv4Header, PacketBuilder, SlicedPacket};
use minivpc_packet::{Flow, Frame, Headers, Kind, Mac, Parsed, Segmentation, VnetHeader, fragments, parse};

/// An IPv4 packet to send.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Source address; the sender's own if none is given.
    pub src: Option<Ipv4Addr>,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// TTL.
    pub ttl: u8,
    /// What is in it.
    pub body: Body,
}

/// What is in a packet.
#[derive(Debug, Clone)]
pub enum Body {
    /// An echo request.
    Echo {
        /// Its id.
        id: u16,
        /// Its sequence number.
        seq: u16,
    },
    /// An echo reply that nobody may have asked for.
    EchoReply {
        /// Its id.
        id: u16,
    },
    /// UDP with so many bytes of payload.
    Udp {
        /// Source port.
        from: u16,
        /// Destination port.
        to: u16,
        /// Payload length, bytes.
        length: usize,
    },
    /// TCP without payload.
    Tcp {
        /// Source port.
        from: u16,
        /// Destination port.
        to: u16,
        /// [`minivpc_packet::tcp_flags`].
        flags: u8,
    },
    /// An ICMP error.
    Error {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// The IP packet that it is about.
        quoted: Vec<u8>,
    },
    /// Another protocol, with some bytes behind its header.
    Other {
        /// IP protocol number.
        protocol: u8,
        /// What follows the IP header.
        bytes: Vec<u8>,
    },
}

impl Packet {
    /// To `dst` with a guest's usual TTL.
    #[must_use]
    pub fn to(dst: Ipv4Addr, body: Body) -> Self {
        Self { src: None, dst, ttl: 255, body }
    }

    /// The same with another TTL.
    #[must_use]
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// The same UDP with so many bytes of payload.
    ///
    /// # Panics
    /// If it isn't UDP.
    #[must_use]
    pub fn with_length(self, length: usize) -> Self {
        let Body::Udp { from, to, .. } = self.body else { panic!("not UDP") };
        Self { body: Body::Udp { from, to, length }, ..self }
    }

    /// The same with a source address that may not be the sender's.
    #[must_use]
    pub fn from(self, src: Ipv4Addr) -> Self {
        Self { src: Some(src), ..self }
    }

    /// The frame.
    #[must_use]
    pub fn frame(&self, src: Ipv4Addr, src_mac: Mac, dst_mac: Mac) -> Vec<u8> {
        let src = self.src.unwrap_or(src);
        let ip = PacketBuilder::ethernet2(src_mac, dst_mac).ipv4(src.octets(), self.dst.octets(), self.ttl);
        let mut frame = Vec::new();
        match self.body {
            Body::Echo { id, seq } => ip.icmpv4_echo_request(id, seq).write(&mut frame, &[7; 56]),
            Body::EchoReply { id } => ip.icmpv4_echo_reply(id, 1).write(&mut frame, &[7; 56]),
            Body::Udp { from, to, length } => ip.udp(from, to).write(&mut frame, &vec![7; length]),
            Body::Tcp { from, to, flags } => {
                let has = |bit| flags & bit != 0;
                let mut tcp = ip.tcp(from, to, 1000, 1024);
                tcp = if has(minivpc_packet::tcp_flags::SYN) { tcp.syn() } else { tcp };
                tcp = if has(minivpc_packet::tcp_flags::FIN) { tcp.fin() } else { tcp };
                tcp = if has(minivpc_packet::tcp_flags::RST) { tcp.rst() } else { tcp };
                tcp = if has(minivpc_packet::tcp_flags::ACK) { tcp.ack(1) } else { tcp };
                tcp.write(&mut frame, &[])
            }
            Body::Error { kind, code, ref quoted } => {
                let mut bytes = [&[kind, code, 0, 0, 0, 0, 0, 0], quoted.as_slice()].concat();
                let checksum = !sum(&bytes);
                bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
                let body = Body::Other { protocol: 1, bytes };
                return Self { body, ..*self }.frame(src, src_mac, dst_mac);
            }
            Body::Other { protocol, ref bytes } => {
                let length = u16::try_from(bytes.len()).unwrap();
                let header = Ipv4Header::new(length, self.ttl, IpNumber(protocol), src.octets(), self.dst.octets());
                let mut header = header.unwrap();
                header.header_checksum = header.calc_header_checksum();
                let mut packet = header.to_bytes().to_vec();
                packet.extend(bytes);
                frame.extend(dst_mac.iter().chain(&src_mac).chain(&[8, 0]));
                frame.extend(packet);
                Ok(())
            }
        }
        .unwrap();
        frame
    }
}

/// The frames of a packet cut for a link of `mtu` bytes, in order.
#[must_use]
pub fn cut(frame: &[u8], mtu: u16) -> Vec<Vec<u8>> {
    let Ok(Frame::Ipv4(parsed)) = parse(&VnetHeader::PLAIN, frame) else { panic!("not IPv4") };
    let mut pieces = Vec::new();
    fragments(&parsed, frame, mtu, |piece| pieces.push(piece.to_vec()));
    pieces
}

/// Puts a datagram together again; none if a piece is missing.
#[must_use]
pub fn reassemble(pieces: &[Seen]) -> Option<Vec<u8>> {
    let mut pools = etherparse::defrag::IpDefragPool::<(), ()>::new();
    pieces.iter().find_map(|piece| {
        let sliced = SlicedPacket::from_ethernet(&piece.frame).ok()?;
        pools.process_sliced_packet(&sliced, (), ()).ok()?.map(|whole| whole.payload)
    })
}

/// A packet that arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its fields.
    pub headers: Headers,
    /// The frame.
    pub frame: Vec<u8>,
    /// Its virtio-net header.
    pub vnet: VnetHeader,
}

impl Seen {
    /// Reads a frame that the engine emitted. None if it isn't IPv4.
    ///
    /// # Panics
    /// When it is malformed, or a checksum in it is wrong: no engine may emit such a frame.
    #[must_use]
    pub fn read(vnet: &VnetHeader, frame: &[u8]) -> Option<Self> {
        match parse(vnet, frame).unwrap_or_else(|error| panic!("emitted a malformed frame: {error}: {frame:02x?}")) {
            Frame::Ipv4(parsed) => {
                check(vnet, &parsed, frame);
                Some(Self { headers: parsed.headers, frame: frame.to_vec(), vnet: *vnet })
            }
            _ => None,
        }
    }

    /// Source address.
    #[must_use]
    pub fn src(&self) -> IpAddr {
        self.headers.flow.src
    }

    /// What stands behind the IPv4 header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let Frame::Ipv4(parsed) = parse(&self.vnet, &self.frame).unwrap() else { unreachable!() };
        &self.frame[parsed.l4..parsed.end]
    }
}

/// The L4 checksum of a whole frame; `parse` has checked the IP header's.
fn check(vnet: &VnetHeader, parsed: &Parsed, frame: &[u8]) {
    let whole = vnet.segmentation == Segmentation::None;
    assert!(!(whole && vnet.needs_csum), "a frame that isn't a super-segment leaves with a complete checksum");
    // Only the whole datagram of a fragment can be verified.
    let verified = parsed.headers.fragment.is_some() || is_summed(vnet, &parsed.headers, &frame[parsed.l4..parsed.end]);
    assert!(verified, "checksum of {}", parsed.headers);
}

/// Is the checksum of this L4 packet right? Where it is left to the link, that of the pseudo header.
pub(crate) fn is_summed(vnet: &VnetHeader, headers: &Headers, l4: &[u8]) -> bool {
    let (at, l4) = match headers.kind {
        Kind::Other => return true,
        Kind::Tcp(_) => (16, l4),
        Kind::Udp if vnet.needs_csum => (6, l4),
        Kind::Udp if l4[6..8] == [0, 0] => return true,
        Kind::Udp => (6, &l4[..usize::from(u16::from_be_bytes([l4[4], l4[5]]))]),
        _ => return sum(l4) == 0xffff,
    };
    let pseudo = pseudo_header(&headers.flow, l4.len());
    match vnet.needs_csum {
        true => l4[at..at + 2] == sum(&pseudo).to_be_bytes(),
        false => sum(&[&pseudo, l4].concat()) == 0xffff,
    }
}

pub(crate) fn pseudo_header(flow: &Flow, length: usize) -> Vec<u8> {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (flow.src, flow.dst) else { panic!("IPv6") };
    [&src.octets()[..], &dst.octets(), &[0, flow.protocol], &(length as u16).to_be_bytes()].concat()
}

/// One's-complement sum (RFC 1071), written here so that the engine's own isn't its own witness.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum = words.fold(0_u64, |sum, word| sum + u64::from(word));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
