//! Conversations of any bytes: whatever guests send, an engine emits only frames that it may emit.
//!
//! An input is a list of records, each a frame that one guest sends, so that what one leaves behind (a session, a
//! connection, half a datagram) meets the next:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | who sends it and how it is made: [`GUEST`], [`AS_IS_SENDER`], [`AS_IS_SUMS`], [`TURNED`], [`QUOTING`] |
//! | 1 | time that passes before: four seconds for each two; [`SWEPT`] |
//! | 3 | length of the frame, little-endian |
//! | 10 | virtio-net header |
//! | … | the frame |
//!
//! Damage that the first check finds teaches nothing about the later ones. So, unless a record asks for them as they
//! are, sums are put right and MAC addresses in: the sender's own, and for a destination of 0 the router's, of N that
//! of guest N − 1. Replies can't be written down, as a gateway's port is not known before; they are made of the frame
//! that arrived last.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use minivpc_dataplane::state::NatKey;
use minivpc_dataplane::{Cache, Engine, EniKind, Now, Port, Sent, Service, Snapshot, compile};
use minivpc_packet::{ETHERNET, Frame, Kind, Parsed, Segmentation, VnetHeader, parse};

use crate::frame::{is_summed, pseudo_header, sum};
use crate::worlds::everything;

/// Who sends, a number of [`everything`]'s guests and hosts.
pub const GUEST: u8 = 0x0f;
/// The sender's MAC address stays as it is.
pub const AS_IS_SENDER: u8 = 0x10;
/// Checksums stay as they are.
pub const AS_IS_SUMS: u8 = 0x20;
/// The frame is the last one that arrived, turned round by its receiver, the record's bytes XORed over it.
pub const TURNED: u8 = 0x40;
/// The last packet that arrived stands behind the record's bytes.
pub const QUOTING: u8 = 0x80;
/// State is swept before the frame.
pub const SWEPT: u8 = 1;

/// So few that some of a conversation have to go for others.
const FLOWS: usize = 16;
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Least payload of a piece of a packet that a gateway cuts: a tunnel's MTU without the longest IP header, in eights.
const LEAST_PIECE: usize = 1384;

/// A frame that one guest sends.
#[derive(Debug, Clone)]
pub struct Record {
    /// Who sends it and how it is made.
    pub by: u8,
    /// Time that passes before.
    pub pause: u8,
    /// Virtio-net header.
    pub vnet: [u8; VnetHeader::LEN],
    /// The frame, or what makes it.
    pub frame: Vec<u8>,
}

impl Record {
    /// All of an input.
    #[must_use]
    pub fn all(mut input: &[u8]) -> Vec<Self> {
        std::iter::from_fn(|| Self::read(&mut input)).collect()
    }

    /// Takes one off the input; none when too little is left.
    fn read(input: &mut &[u8]) -> Option<Self> {
        let ([by, pause, low, middle, high], rest) = input.split_first_chunk()?;
        let (vnet, rest) = rest.split_first_chunk()?;
        let length = (u32::from_le_bytes([*low, *middle, *high, 0]) as usize).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        *input = rest;
        Some(Self { by: *by, pause: *pause, vnet: *vnet, frame: frame.to_vec() })
    }

    /// Its bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let length = self.frame.len().to_le_bytes();
        [&[self.by, self.pause], &length[..3], &self.vnet, &self.frame].concat()
    }
}

/// Sends an input's frames through an engine.
///
/// # Panics
/// When the engine emits what it must not.
pub fn run(input: &[u8]) {
    static LAB: LazyLock<Snapshot> = LazyLock::new(|| compile(&everything(), 1).unwrap());
    let is_guest = |port: &u16| matches!(LAB.eni(*port).kind, EniKind::Guest { .. });
    let hosts = (0..LAB.hosts.len() as u16).map(|host| LAB.port_of_host(host));
    let guests = (0..LAB.enis.len() as u16).filter(is_guest).chain(hosts).collect();
    let engine = Engine::new(NatKey([7; 16]));
    let mut conversation =
        Conversation { lab: &LAB, engine, cache: Cache::new(FLOWS), guests, now: Now::seconds(1), last: None };
    Record::all(input).into_iter().for_each(|record| conversation.send(record));
}

type Emitted = (u16, VnetHeader, Vec<u8>);

struct Conversation<'a> {
    lab: &'a Snapshot,
    engine: Engine,
    cache: Cache,
    /// Ports of guests and hosts.
    guests: Vec<u16>,
    now: Now,
    /// The IPv4 frame that arrived last, and where.
    last: Option<(u16, Vec<u8>)>,
}

impl Conversation<'_> {
    fn send(&mut self, record: Record) {
        self.now = Now(self.now.0 + Now::seconds(u64::from(record.pause >> 1) * 4).0 + 1);
        if record.pause & SWEPT != 0 {
            self.engine.state().sweep(self.now.tick());
        }
        let (port, mut frame) = self.make(&record);
        self.mend_link(port, record.by & AS_IS_SENDER != 0, &mut frame);
        if record.by & AS_IS_SUMS == 0 {
            mend_sums(&mut frame);
        }
        let vnet = match VnetHeader::read(&record.vnet) {
            Ok(vnet) => vnet,
            Err(check) => return self.engine.malformed(self.lab, self.now, port, check, &mut frame),
        };
        let sent = (port, vnet, frame.clone());
        let mut emitted = Vec::new();
        let frames = &mut [Sent { port, vnet, frame: &mut frame }];
        self.engine.process(&mut self.cache, self.lab, self.now, frames, &mut |to, vnet, frame| {
            emitted.push((to, *vnet, frame.to_vec()));
        });
        self.check(&sent, &emitted);
        if let Some((to, vnet, frame)) = emitted.pop()
            && matches!(parse(&vnet, &frame), Ok(Frame::Ipv4(_)))
        {
            self.last = Some((to, frame));
        }
    }

    /// The port that sends a record's frame, and the frame.
    fn make(&self, record: &Record) -> (u16, Vec<u8>) {
        let port = self.guests[usize::from(record.by & GUEST) % self.guests.len()];
        match &self.last {
            Some((receiver, last)) if record.by & TURNED != 0 => (*receiver, turned(last, &record.frame)),
            Some((_, last)) if record.by & QUOTING != 0 => (port, [&record.frame, &last[ETHERNET..]].concat()),
            _ => (port, record.frame.clone()),
        }
    }

    fn mend_link(&self, port: u16, as_is_sender: bool, frame: &mut [u8]) {
        if frame.len() < ETHERNET {
            return;
        }
        if let [0, 0, 0, 0, 0, number] = frame[..6] {
            let guest = self.guests.get(usize::from(number).wrapping_sub(1));
            frame[..6].copy_from_slice(&guest.map_or(self.lab.macs(port).1, |guest| self.lab.macs(*guest).0).0);
        }
        if as_is_sender {
            return;
        }
        let mac = self.lab.macs(port).0.0;
        frame[6..12].copy_from_slice(&mac);
        if frame[12..14] == [8, 6] && frame.len() >= 28 {
            frame[22..28].copy_from_slice(&mac);
        }
    }

    /// The VPC of what is at a port; hosts are with the only one that has gateways on its edge.
    fn network(&self, port: u16) -> u16 {
        match self.lab.port(port) {
            Port::Eni(eni) => self.lab.subnet(self.lab.eni(eni).subnet).vpc,
            Port::Host(_) | Port::Services => self.lab.igws[0].vpc,
        }
    }

    /// IGW-2, IGW-15: on the internet a VPC's private addresses are never seen, and none of the internet's packets gets
    /// in under one. VPN-1: a site and its VPC know each other by the addresses that each has, and nobody else knows
    /// of it.
    fn check_border(&self, from: u16, to: u16, vnet: &VnetHeader, frame: &[u8]) {
        #[derive(PartialEq, Eq)]
        enum Side {
            Vpc,
            Internet,
            Site,
            Services,
        }
        let side = |port| match self.lab.port(port) {
            Port::Eni(_) => Side::Vpc,
            Port::Host(host) if self.lab.host(host).site.is_some() => Side::Site,
            Port::Host(_) => Side::Internet,
            Port::Services => Side::Services,
        };
        let Ok(Frame::Ipv4(packet)) = parse(vnet, frame) else { return };
        let IpAddr::V4(src) = packet.headers.flow.src else { return };
        match (side(from), side(to)) {
            (a, b) if a == b => return,
            // Of no VPC, and of all.
            (Side::Vpc, Side::Services) | (Side::Services, Side::Vpc) => return,
            (Side::Vpc, Side::Site) => {
                let known = self.lab.owner(self.network(from), src.into()).is_some();
                assert!(known, "{} is nobody's of the VPC (VPN-1)", packet.headers);
            }
            (Side::Site, Side::Vpc) => {
                let spoofed = self.lab.owner(self.network(to), src.into()).is_some();
                assert!(!spoofed, "{} enters in the VPC's own name", packet.headers);
            }
            (Side::Internet, Side::Site) | (Side::Site, Side::Internet) | (Side::Services, _) | (_, Side::Services) => {
                panic!("{} has no way", packet.headers)
            }
            _ => assert!(!src.is_private(), "{} crosses the internet gateway", packet.headers),
        }
        let is_its = self.lab.has(to, packet.headers.flow.dst) || self.lab.name(to) == "appliance/eth0";
        assert!(is_its, "{} enters by what no route leads to (R-36)", packet.headers);
    }

    fn check(&self, sent: &Emitted, emitted: &[Emitted]) {
        let (port, vnet, frame) = sent;
        let services = self.lab.port_of_services();
        for (to, vnet, frame) in emitted {
            let somebody = self.guests.contains(to) || *to == services;
            assert!(somebody, "a frame for {}, where no guest is", self.lab.name(*to));
            let of_all = [to, port].contains(&&services);
            assert!(of_all || self.network(*to) == self.network(*port), "no VPC sends to another");
            assert_eq!(frame[..6], self.lab.macs(*to).0.0, "the MAC address is the receiver's");
            check_offload(vnet, frame);
            self.check_border(*port, *to, vnet, frame);
        }
        let honest = *port == services || frame.get(6..12) == Some(&self.lab.macs(*port).0.0[..]);
        assert!(honest || emitted.is_empty(), "nobody sends by another's MAC address (R-11)");
        match parse(vnet, frame) {
            Ok(Frame::Ipv4(packet)) => check_packets(*port, vnet, &packet, frame, emitted),
            Ok(Frame::Arp(question)) => {
                let answers: Vec<_> = emitted.iter().map(|(to, vnet, frame)| (*to, parse(vnet, frame))).collect();
                match answers[..] {
                    [] => {}
                    [(to, Ok(Frame::Arp(answer)))] => {
                        assert_eq!(to, *port, "R-6: an ARP question reaches nobody but the network");
                        assert_eq!((answer.request, answer.sender), (false, question.target));
                    }
                    _ => panic!("to ARP: {answers:?}"),
                }
            }
            _ => assert!(emitted.is_empty(), "nothing else is carried (R-7)"),
        }
    }
}

/// What Linux refuses of a TAP's writer.
fn check_offload(vnet: &VnetHeader, frame: &[u8]) {
    let [_, _, low, high, ..] = vnet.write();
    assert!(usize::from(u16::from_ne_bytes([low, high])) <= frame.len(), "headers longer than the frame: {vnet:?}");
    let checksum = usize::from(vnet.csum_start) + usize::from(vnet.csum_offset) + 2;
    assert!(!vnet.needs_csum || checksum <= frame.len(), "a checksum behind the frame: {vnet:?}");
    assert!(vnet.segmentation == Segmentation::None || vnet.segment_size > 0, "segments of no bytes: {vnet:?}");
}

/// What comes of an IPv4 packet is the packet, perhaps in pieces, or an answer to it.
fn check_packets(port: u16, vnet: &VnetHeader, sent: &Parsed, frame: &[u8], emitted: &[Emitted]) {
    let pieces: Vec<(u16, &VnetHeader, Parsed, &[u8])> = emitted
        .iter()
        .map(|(to, vnet, frame)| match parse(vnet, frame) {
            Ok(Frame::Ipv4(packet)) => (*to, vnet, packet, &frame[..packet.end]),
            other => panic!("{other:?} came of {}", sent.headers),
        })
        .collect();
    let Some(&(to, first_vnet, first, _)) = pieces.first() else { return };
    let most = 1 + usize::from(sent.headers.size) / LEAST_PIECE;
    assert!(pieces.len() <= most, "{} pieces of {}", pieces.len(), sent.headers);
    assert!(pieces.iter().all(|(other, ..)| *other == to), "pieces of one packet part");
    let l4: Vec<u8> = pieces.iter().flat_map(|(_, _, piece, frame)| &frame[piece.l4..]).copied().collect();

    // A service of the subnet's answers a datagram with one, perhaps to an address that its client hasn't yet.
    let by_a_service = to == port
        && (0..=4).any(|subnet| Service::of(&sent.headers, Ipv4Addr::new(10, 0, subnet, 1), RESOLVER).is_some());
    let IpAddr::V4(target) = first.headers.flow.dst else { panic!("IPv6") };
    let somebody = !target.is_multicast() && !target.is_broadcast() && target.octets()[0] != 0;
    assert!(somebody || by_a_service, "{} is for one host (R-7, RFC 1122 §3.2.2)", first.headers);
    if by_a_service || is_answer(sent.headers.kind, first.headers.kind) {
        assert!(pieces.len() == 1 && is_summed(first_vnet, &first.headers, &l4), "{}", first.headers);
        if let Kind::IcmpError { quoted, .. } = first.headers.kind {
            assert!(first.headers.size <= 576, "RFC 1812 §4.3.2.3");
            let own = to != port || quoted == sent.headers.flow;
            assert!(own, "{} is told of {quoted:?}", sent.headers);
        }
        return;
    }
    assert_eq!(first.headers.flow.protocol, sent.headers.flow.protocol);
    let came = &frame[sent.l4..sent.end];
    let mut place = place_of(frame);
    for (number, (_, vnet, piece, frame)) in pieces.iter().enumerate() {
        let headers = &piece.headers;
        assert!(headers.ttl <= sent.headers.ttl, "a TTL grew: {} from {}", headers.ttl, sent.headers.ttl);
        assert!(pieces.len() == 1 || **vnet == VnetHeader::PLAIN);
        let last = number + 1 == pieces.len();
        let (offset, more) = place_of(frame);
        assert_eq!((offset, more), (place.0, place.1 || !last), "a piece says where it belongs");
        place.0 += piece.end - piece.l4;
    }
    let kept = match sent.headers.kind {
        Kind::Tcp(_) => usize::from(came[12] >> 4) * 4,
        Kind::Udp | Kind::EchoRequest | Kind::EchoReply => 8,
        Kind::IcmpError { .. } => came.len(),
        Kind::Icmp { .. } | Kind::Other => 0,
    };
    assert!(l4.len() == came.len() && l4[kept..] == came[kept..], "the payload of {} stays", sent.headers);
    // What came damaged leaves damaged. Of a fragment nobody can tell.
    if sent.headers.fragment.is_none() {
        let was = vnet.needs_csum || is_summed(vnet, &sent.headers, came);
        assert_eq!(is_summed(first_vnet, &first.headers, &l4), was, "checksum of {}", sent.headers);
    }
}

/// Did the network itself say it? It answers an echo with a reply, a packet with an error, and a segment with a reset;
/// it never answers in kind.
fn is_answer(sent: Kind, seen: Kind) -> bool {
    match (sent, seen) {
        (Kind::IcmpError { .. }, _) => false,
        (Kind::EchoRequest, Kind::EchoReply) | (_, Kind::IcmpError { .. }) => true,
        (Kind::Tcp(sent), Kind::Tcp(seen)) => sent != seen,
        _ => false,
    }
}

/// Where a fragment belongs in its datagram, and whether more come.
fn place_of(frame: &[u8]) -> (usize, bool) {
    let field = u16::from_be_bytes([frame[20], frame[21]]);
    (usize::from(field & 0x1fff) * 8, field & 0x2000 != 0)
}

/// An answer of whom the frame reached: addresses and ports change places, an echo request becomes the reply.
fn turned(last: &[u8], change: &[u8]) -> Vec<u8> {
    let mut frame = last.to_vec();
    let mut exchange = |a: usize, b: usize, length: usize| {
        for n in 0..length {
            frame.swap(a + n, b + n);
        }
    };
    exchange(0, 6, 6);
    exchange(26, 30, 4);
    let l4 = ETHERNET + usize::from(last[ETHERNET] & 15) * 4;
    match (last[23], last.get(l4..l4 + 4)) {
        (6 | 17, Some(_)) => exchange(l4, l4 + 2, 2),
        (1, Some([8, ..])) => frame[l4] = 0,
        _ => {}
    }
    frame.iter_mut().zip(change).for_each(|(byte, change)| *byte ^= change);
    frame
}

/// Puts right sums into an IPv4 frame as far as its lengths allow.
fn mend_sums(frame: &mut [u8]) {
    if frame.len() < ETHERNET + 20 || frame[12..14] != [8, 0] {
        return;
    }
    let header = usize::from(frame[ETHERNET] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let Some(packet) = frame.get_mut(ETHERNET..ETHERNET + total).filter(|_| (20..=total).contains(&header)) else {
        return;
    };
    packet[10..12].fill(0);
    let checksum = !sum(&packet[..header]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    let Ok(Frame::Ipv4(parsed)) = parse(&VnetHeader::PLAIN, frame) else { return };
    let headers = parsed.headers;
    let l4 = &mut frame[parsed.l4..parsed.end];
    let (at, length) = match headers.kind {
        _ if headers.fragment.is_some() => return,
        Kind::Other => return,
        Kind::Udp if l4[6..8] == [0, 0] => return,
        Kind::Udp => (6, usize::from(u16::from_be_bytes([l4[4], l4[5]]))),
        Kind::Tcp(_) => (16, l4.len()),
        _ => (2, l4.len()),
    };
    let pseudo = if at == 2 { Vec::new() } else { pseudo_header(&headers.flow, length) };
    l4[at..at + 2].fill(0);
    let checksum = !sum(&[&pseudo, &l4[..length]].concat());
    l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}
