//! An edited frame is the frame that its sender would have built with the new fields.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Type, PacketBuilder, icmpv4};
use minivpc_packet::{Edit, Flow, Frame, Headers, Kind, Parsed, Segmentation, VnetHeader, parse};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Fields {
    src_mac: [u8; 6],
    dst_mac: [u8; 6],
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ttl: u8,
    from: u16,
    to: u16,
}

fn fields() -> impl Strategy<Value = Fields> {
    let macs = (any::<[u8; 6]>(), any::<[u8; 6]>());
    (macs, any::<[u8; 4]>(), any::<[u8; 4]>(), 1..=255_u8, 1..=u16::MAX, 1..=u16::MAX).prop_map(
        |((src_mac, dst_mac), src, dst, ttl, from, to)| Fields {
            src_mac,
            dst_mac,
            src: src.into(),
            dst: dst.into(),
            ttl,
            from,
            to,
        },
    )
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Tcp,
    Udp,
    EchoRequest,
    EchoReply,
    Unreachable,
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        Just(What::Tcp),
        Just(What::Udp),
        Just(What::EchoRequest),
        Just(What::EchoReply),
        Just(What::Unreachable)
    ]
}

/// The frame that a sender builds with these fields. An unreachable quotes a UDP packet from its receiver.
fn build(what: What, fields: &Fields, payload: &[u8]) -> Vec<u8> {
    let Fields { src_mac, dst_mac, src, dst, ttl, from, to } = *fields;
    let ip = PacketBuilder::ethernet2(src_mac, dst_mac).ipv4(src.octets(), dst.octets(), ttl);
    let mut frame = Vec::new();
    match what {
        What::Tcp => ip.tcp(from, to, 1, 2).syn().write(&mut frame, payload),
        What::Udp => ip.udp(from, to).write(&mut frame, payload),
        What::EchoRequest => ip.icmpv4_echo_request(from, 9).write(&mut frame, payload),
        What::EchoReply => ip.icmpv4_echo_reply(to, 9).write(&mut frame, payload),
        What::Unreachable => {
            let mut quote = Vec::new();
            let inner = PacketBuilder::ipv4(dst.octets(), src.octets(), 3).udp(to, from);
            inner.write(&mut quote, payload).unwrap();
            let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
            ip.icmpv4(kind).write(&mut frame, &quote)
        }
    }
    .unwrap();
    frame
}

fn read(vnet: &VnetHeader, frame: &[u8]) -> Parsed {
    match parse(vnet, frame).unwrap() {
        Frame::Ipv4(parsed) => parsed,
        other => panic!("{other:?}"),
    }
}

fn edit(frame: &mut [u8], vnet: &mut VnetHeader, to: &Headers) {
    let parsed = read(vnet, frame);
    Edit::between(&parsed.headers, to).apply(&parsed, vnet, frame);
}

proptest! {
    #[test]
    fn an_edit_gives_the_frame_that_a_sender_would_have_built(
        what in what(), before in fields(), after in fields(), payload in proptest::collection::vec(any::<u8>(), 8..100),
    ) {
        let mut frame = build(what, &before, &payload);
        let wanted = build(what, &after, &payload);
        let original = frame.clone();
        let to = read(&VnetHeader::PLAIN, &wanted).headers;
        let from = read(&VnetHeader::PLAIN, &frame).headers;
        edit(&mut frame, &mut VnetHeader::PLAIN.clone(), &to);
        prop_assert_eq!(&frame, &wanted);
        edit(&mut frame, &mut VnetHeader::PLAIN.clone(), &from);
        prop_assert_eq!(&frame, &original, "and back");
    }

    #[test]
    fn a_checksum_that_was_left_to_the_link_leaves_complete(
        udp in any::<bool>(), before in fields(), after in fields(), payload in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let (what, offset) = if udp { (What::Udp, 6) } else { (What::Tcp, 16) };
        let mut frame = build(what, &before, &payload);
        // What stands there is anything: the engine doesn't trust a guest's partial sum.
        frame[34 + offset..34 + offset + 2].copy_from_slice(&[0xab, 0xcd]);
        let mut vnet = needs_checksum(0, 0, offset);
        let wanted = build(what, &after, &payload);
        edit(&mut frame, &mut vnet, &read(&VnetHeader::PLAIN, &wanted).headers);
        // 0 and 0xffff are the same sum; of TCP both are right.
        if wanted[34 + offset..34 + offset + 2] == [0, 0] {
            frame[34 + offset..34 + offset + 2].fill(0);
        }
        prop_assert_eq!(frame, wanted);
        prop_assert_eq!(vnet, VnetHeader::PLAIN);
    }

    #[test]
    fn a_super_segment_leaves_whole_with_the_sum_of_its_pseudo_header(
        before in fields(), after in fields(), payload in proptest::collection::vec(any::<u8>(), 3000..9000),
    ) {
        let mut frame = build(What::Tcp, &before, &payload);
        let mut vnet = needs_checksum(1, 1460, 16);
        let came = vnet;
        let wanted = build(What::Tcp, &after, &payload);
        edit(&mut frame, &mut vnet, &read(&VnetHeader::PLAIN, &wanted).headers);
        prop_assert_eq!(vnet, came);
        let said = u16::from_be_bytes([frame[50], frame[51]]);
        let length = (frame.len() - 34) as u64;
        let words = after.src.octets().into_iter().chain(after.dst.octets()).collect::<Vec<_>>();
        let sum: u64 = words.chunks(2).map(|w| u64::from(w[0]) << 8 | u64::from(w[1])).sum::<u64>() + 6 + length;
        // Folding may carry once more.
        let sum = (sum & 0xffff) + (sum >> 16);
        prop_assert_eq!(u64::from(said), (sum & 0xffff) + (sum >> 16));
        frame[50..52].copy_from_slice(&wanted[50..52]);
        prop_assert_eq!(frame, wanted, "and nothing else differs");
    }

    #[test]
    fn any_bytes_are_read_or_refused(header in any::<[u8; 10]>(), frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(vnet) = VnetHeader::read(&header) {
            let _ = parse(&vnet, &frame);
        }
    }

    #[test]
    fn a_damaged_frame_is_read_or_refused_and_edits_stay_inside_it(
        what in what(), fields in fields(), at in 0..80_usize, byte in any::<u8>(), cut in 0..60_usize,
    ) {
        let mut frame = build(what, &fields, &[7; 30]);
        let at = at % frame.len();
        frame[at] = byte;
        frame.truncate(frame.len() - cut.min(frame.len()));
        if let Ok(Frame::Ipv4(parsed)) = parse(&VnetHeader::PLAIN, &frame) {
            let headers = parsed.headers;
            let other = Flow { src_port: 1, dst_port: 2, ..headers.flow.reversed() };
            let kind = match headers.kind {
                Kind::IcmpError { kind, code, quoted } => Kind::IcmpError { kind, code, quoted: quoted.reversed() },
                kind => kind,
            };
            let to = Headers { flow: other, kind, ttl: 1, ..headers };
            Edit::between(&headers, &to).apply(&parsed, &mut VnetHeader::PLAIN.clone(), &mut frame);
        }
    }
}

/// A virtio-net header with NEEDS_CSUM, for an IPv4 packet without options.
fn needs_checksum(kind: u8, segment_size: u16, offset: usize) -> VnetHeader {
    let words = [54, segment_size, 34, offset as u16].map(u16::to_ne_bytes).concat();
    let bytes: [u8; 10] = [&[1, kind], words.as_slice()].concat().try_into().unwrap();
    let vnet = VnetHeader::read(&bytes).unwrap();
    assert_eq!(vnet.write(), bytes, "headers go through unchanged");
    vnet
}

#[test]
fn a_udp_packet_without_a_checksum_stays_without() {
    let fields = Fields {
        src_mac: [2; 6],
        dst_mac: [6; 6],
        src: Ipv4Addr::new(10, 0, 0, 11),
        dst: Ipv4Addr::new(10, 0, 1, 55),
        ttl: 64,
        from: 1,
        to: 2,
    };
    let mut frame = build(What::Udp, &fields, b"hello");
    frame[40..42].fill(0);
    let wanted = Fields { src: Ipv4Addr::new(10, 0, 2, 149), from: 31_391, ..fields };
    let to = read(&VnetHeader::PLAIN, &build(What::Udp, &wanted, b"hello")).headers;
    edit(&mut frame, &mut VnetHeader::PLAIN.clone(), &to);
    assert_eq!(frame[40..42], [0, 0], "RFC 768: zero says that there is none");
}

#[test]
fn an_unknown_segmentation_is_refused() {
    let vnet = |kind| VnetHeader::read(&[0, kind, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(vnet(4).is_err(), "TCP over IPv6 isn't carried");
    assert_eq!(vnet(0x81).unwrap().segmentation, Segmentation::TcpV4, "with ECN");
}
