//! Bytes to fields: every check that later code relies on is made here, once.

use std::net::Ipv4Addr;

use etherparse::{
    ArpPacketSlice, EtherType, Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, TcpHeaderSlice, UdpHeaderSlice,
};

use crate::checksum;
use crate::flow::{Flow, Fragment, Headers, Kind, Mac};
use crate::vnet::{Segmentation, VnetHeader};

/// Length of an Ethernet header, bytes.
pub const ETHERNET: usize = 14;

/// Offsets of the fields that edits touch.
pub(crate) const IPV4_CHECKSUM: usize = 10;
pub(crate) const TCP_CHECKSUM: usize = 16;
pub(crate) const UDP_CHECKSUM: usize = 6;
pub(crate) const ICMP_HEADER: usize = 8;

/// The check that a frame failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Malformed {
    /// Ends before its headers do.
    #[error("the frame is shorter than its headers")]
    Short,
    /// RFC 791: header shorter than 20 bytes, total length beyond the frame, another version, a fragment of a datagram
    /// that would be too long.
    #[error("the IPv4 header contradicts itself or the frame's length")]
    Ipv4Header,
    /// RFC 791: header checksum.
    #[error("the IPv4 header's checksum is wrong")]
    Ipv4Checksum,
    /// RFC 9293, RFC 768: data offset or length beyond the packet.
    #[error("the TCP or UDP header contradicts the packet's length")]
    L4Header,
    /// RFC 792: an error that doesn't quote enough of a packet.
    #[error("the ICMP error doesn't quote a packet")]
    Quote,
    /// A virtio-net header that asks for a checksum elsewhere than where the packet has one.
    #[error("the virtio-net header's checksum offsets don't fit the packet")]
    ChecksumOffset,
    /// A virtio-net header that asks for a segmentation that doesn't fit the packet.
    #[error("the virtio-net header's segmentation doesn't fit the packet")]
    Segmentation,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// An IPv4 packet.
    Ipv4(Parsed),
    /// An ARP packet for IPv4 over Ethernet.
    Arp(Arp),
    /// IPv6.
    Ipv6,
    /// Anything else, by its EtherType.
    Other(u16),
}

/// An IPv4 packet: what hops see, and where it stands in the frame. Offsets count from the Ethernet header on and are
/// inside the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// The fields.
    pub headers: Headers,
    /// Where the L4 header starts.
    pub l4: usize,
    /// Where the packet ends; the frame may be longer.
    pub end: usize,
    /// How many IP packets it is on the wire: more than one for a super-segment.
    pub wire_packets: u32,
    /// Bytes of those IP packets, headers included.
    pub wire_bytes: u32,
    /// Length of an ICMP error's quoted IP header; else 0.
    pub(crate) quoted_header: usize,
}

/// An ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// MAC address of the frame.
    pub src_mac: Mac,
    /// Asks; else it answers or announces.
    pub request: bool,
    /// Who asks.
    pub sender_mac: Mac,
    /// Address of who asks.
    pub sender: Ipv4Addr,
    /// Address that is asked for.
    pub target: Ipv4Addr,
}

/// Reads a frame.
///
/// # Errors
/// The check that it failed.
pub fn parse(vnet: &VnetHeader, frame: &[u8]) -> Result<Frame, Malformed> {
    let ethernet = Ethernet2HeaderSlice::from_slice(frame).map_err(|_| Malformed::Short)?;
    let (src_mac, dst_mac) = (ethernet.source(), ethernet.destination());
    match ethernet.ether_type() {
        EtherType::IPV4 => ipv4(vnet, frame, src_mac, dst_mac),
        EtherType::IPV6 => Ok(Frame::Ipv6),
        EtherType::ARP => arp(&frame[ETHERNET..], src_mac),
        other => Ok(Frame::Other(other.0)),
    }
}

fn arp(bytes: &[u8], src_mac: Mac) -> Result<Frame, Malformed> {
    let packet = ArpPacketSlice::from_slice(bytes).map_err(|_| Malformed::Short)?.to_packet();
    let request = packet.operation == etherparse::ArpOperation::REQUEST;
    match packet.try_eth_ipv4() {
        Ok(arp) => Ok(Frame::Arp(Arp {
            src_mac,
            request,
            sender_mac: arp.sender_mac,
            sender: arp.sender_ipv4.into(),
            target: arp.target_ipv4.into(),
        })),
        Err(_) => Ok(Frame::Other(EtherType::ARP.0)),
    }
}

/// Makes its result in one piece, and where it is wanted: a packet's fields are written in small pieces, and a processor
/// that is to copy them at once in larger ones waits.
fn ipv4(vnet: &VnetHeader, frame: &[u8], src_mac: Mac, dst_mac: Mac) -> Result<Frame, Malformed> {
    let packet = &frame[ETHERNET..];
    let ip = Ipv4HeaderSlice::from_slice(packet).map_err(|_| Malformed::Ipv4Header)?;
    let header = ip.slice().len();
    let total = usize::from(ip.total_len());
    if total < header || total > packet.len() {
        return Err(Malformed::Ipv4Header);
    }
    if checksum::fold(checksum::add(0, ip.slice())) != 0xffff {
        return Err(Malformed::Ipv4Checksum);
    }
    let (l4, end) = (ETHERNET + header, ETHERNET + total);
    let payload = &frame[l4..end];
    let place = usize::from(ip.fragments_offset().value()) * 8;
    if place + payload.len() > usize::from(u16::MAX) {
        return Err(Malformed::Ipv4Header);
    }

    let fragment = ip.is_fragmenting_payload().then(|| Fragment {
        id: ip.identification(),
        first: place == 0,
        last: !ip.more_fragments(),
    });
    let (mut src_port, mut dst_port, mut quoted_header) = (0, 0, 0);
    let kind = match fragment {
        Some(Fragment { first: false, .. }) => Kind::Other,
        _ => match ip.protocol() {
            IpNumber::TCP => {
                let tcp = TcpHeaderSlice::from_slice(payload).map_err(|_| Malformed::L4Header)?;
                (src_port, dst_port) = (tcp.source_port(), tcp.destination_port());
                Kind::Tcp(tcp.slice()[13])
            }
            IpNumber::UDP => {
                let udp = UdpHeaderSlice::from_slice(payload).map_err(|_| Malformed::L4Header)?;
                let whole = vnet.segmentation == Segmentation::None && fragment.is_none();
                // RFC 768 allows for bytes behind the datagram; who leaves its sum to the link can't mean those.
                let shortest = if vnet.needs_csum { payload.len() } else { 8 };
                if whole && !(shortest..=payload.len()).contains(&usize::from(udp.length())) {
                    return Err(Malformed::L4Header);
                }
                (src_port, dst_port) = (udp.source_port(), udp.destination_port());
                Kind::Udp
            }
            IpNumber::ICMP => {
                let message = icmp(payload)?;
                (src_port, dst_port, quoted_header) = (message.src_port, message.dst_port, message.quoted_header);
                message.kind
            }
            _ => Kind::Other,
        },
    };
    check_offload(vnet, kind, l4, fragment.is_some())?;
    let segments = Segments::of(vnet, kind, payload, header);
    Ok(Frame::Ipv4(Parsed {
        headers: Headers {
            src_mac,
            dst_mac,
            ttl: ip.ttl(),
            flow: Flow {
                src: ip.source_addr().into(),
                dst: ip.destination_addr().into(),
                protocol: ip.protocol().0,
                src_port,
                dst_port,
            },
            kind,
            size: segments.size,
            dont_fragment: ip.dont_fragment(),
            fragment,
            mss_limit: None,
        },
        l4,
        end,
        wire_packets: segments.count,
        wire_bytes: total as u32 + (segments.count - 1) * segments.headers,
        quoted_header,
    }))
}

/// The packets that a super-segment will be cut into; an ordinary packet is one.
struct Segments {
    /// How many.
    count: u32,
    /// Bytes of IP and L4 header, which each has.
    headers: u32,
    /// Length of the largest as an IP packet, bytes.
    size: u16,
}

impl Segments {
    fn of(vnet: &VnetHeader, kind: Kind, payload: &[u8], ip_header: usize) -> Self {
        let l4_header = match kind {
            Kind::Tcp(_) => usize::from(payload[12] >> 4) * 4,
            _ => 8,
        };
        let (headers, data) = (ip_header + l4_header, payload.len().saturating_sub(l4_header));
        let segment = match vnet.segmentation {
            Segmentation::None => 0,
            Segmentation::TcpV4 | Segmentation::Udp => usize::from(vnet.segment_size),
        };
        let (count, largest) = match segment {
            0 => (1, ip_header + payload.len()),
            segment => (data.div_ceil(segment).max(1), headers + data.min(segment)),
        };
        let size = u16::try_from(largest).unwrap_or(u16::MAX);
        Self { count: count as u32, headers: headers as u32, size }
    }
}

/// What an ICMP message says.
struct Message {
    kind: Kind,
    /// The id of an echo request, and of a reply.
    src_port: u16,
    dst_port: u16,
    quoted_header: usize,
}

fn icmp(payload: &[u8]) -> Result<Message, Malformed> {
    let [kind, code, _, _, id_high, id_low, _, _] = *payload.first_chunk::<ICMP_HEADER>().ok_or(Malformed::L4Header)?;
    let id = u16::from_be_bytes([id_high, id_low]);
    let (kind, src_port, dst_port, quoted_header) = match kind {
        8 => (Kind::EchoRequest, id, 0, 0),
        0 => (Kind::EchoReply, 0, id, 0),
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
        3 | 4 | 5 | 11 | 12 => {
            let (quoted, header) = quote(&payload[ICMP_HEADER..])?;
            (Kind::IcmpError { kind, code, quoted }, 0, 0, header)
        }
        _ => (Kind::Icmp { kind, code }, 0, 0, 0),
    };
    Ok(Message { kind, src_port, dst_port, quoted_header })
}

/// The flow of a quoted packet and the length of its IP header. RFC 792 promises eight bytes behind that header.
fn quote(bytes: &[u8]) -> Result<(Flow, usize), Malformed> {
    let ip = Ipv4HeaderSlice::from_slice(bytes).map_err(|_| Malformed::Quote)?;
    let header = ip.slice().len();
    let [a, b, c, d, e, f, _, _] = *bytes[header..].first_chunk::<8>().ok_or(Malformed::Quote)?;
    let (src_port, dst_port) = match (ip.protocol(), a) {
        (IpNumber::TCP | IpNumber::UDP, _) => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        (IpNumber::ICMP, 8) => (u16::from_be_bytes([e, f]), 0),
        (IpNumber::ICMP, 0) => (0, u16::from_be_bytes([e, f])),
        _ => (0, 0),
    };
    let (src, dst) = (ip.source_addr().into(), ip.destination_addr().into());
    Ok((Flow { src, dst, protocol: ip.protocol().0, src_port, dst_port }, header))
}

/// A guest's virtio-net header is not to be trusted: what it asks for must be what the packet is.
fn check_offload(vnet: &VnetHeader, kind: Kind, l4: usize, is_fragment: bool) -> Result<(), Malformed> {
    // Whoever cuts a datagram into fragments has summed it before.
    if is_fragment && (vnet.needs_csum || vnet.segmentation != Segmentation::None) {
        return Err(Malformed::ChecksumOffset);
    }
    let checksum = match kind {
        Kind::Tcp(_) => Some(TCP_CHECKSUM),
        Kind::Udp => Some(UDP_CHECKSUM),
        _ => None,
    };
    if vnet.needs_csum && (usize::from(vnet.csum_start) != l4 || checksum != Some(usize::from(vnet.csum_offset))) {
        return Err(Malformed::ChecksumOffset);
    }
    let fits = match vnet.segmentation {
        Segmentation::None => true,
        Segmentation::TcpV4 => matches!(kind, Kind::Tcp(_)) && vnet.needs_csum && vnet.segment_size > 0,
        Segmentation::Udp => kind == Kind::Udp && vnet.needs_csum && vnet.segment_size > 0,
    };
    if fits { Ok(()) } else { Err(Malformed::Segmentation) }
}
