//! Conversations to start from, each named after what is odd in it. Sums and MAC addresses are put in when they are
//! sent, so offsets are all that damage needs.

use std::net::Ipv4Addr;

use minivpc_dataplane::tcp_flags::{ACK, FIN, RST, SYN};
use minivpc_testkit::fuzz::{AS_IS_SENDER, AS_IS_SUMS, QUOTING, Record, SWEPT, TURNED};
use minivpc_testkit::{Body, Packet};

/// Guests of `minivpc_testkit::everything`, and where they are.
const CLIENT: u8 = 0;
const NEIGHBOUR: u8 = 1;
const SERVER: u8 = 2;
const APPLIANCE: u8 = 3;
const DEEP: u8 = 4;
const TWIN: u8 = 5;
const EXAMPLE: u8 = 6;
const STRANGER: u8 = 7;
const PC: u8 = 8;
const ADDRESSES: [[u8; 4]; 9] = [
    [10, 0, 0, 10],
    [10, 0, 0, 11],
    [10, 0, 1, 10],
    [10, 0, 2, 10],
    [10, 0, 3, 10],
    [10, 0, 0, 10],
    [93, 184, 216, 34],
    [192, 0, 2, 66],
    [192, 168, 0, 9],
];
/// Elastic IP addresses of the client, of `deep`, and of the public gateway.
const CLIENT_OUTSIDE: [u8; 4] = [203, 0, 113, 10];
const DEEP_OUTSIDE: [u8; 4] = [203, 0, 113, 12];
const GATEWAY_OUTSIDE: [u8; 4] = [203, 0, 113, 31];
const FIRST_GATEWAY: [u8; 4] = [10, 0, 2, 200];
const LAST_GATEWAY: [u8; 4] = [10, 0, 4, 200];
const ROUTER: [u8; 4] = [10, 0, 0, 1];

/// Where things stand in a frame.
const ETHER_TYPE: usize = 12;
const VERSION: usize = 14;
const LENGTH: usize = 16;
const PLACE: usize = 20;
const TTL: usize = 22;
const SUM: usize = 24;
const SOURCE: usize = 26;
const L4: usize = 34;

const ECHO: Body = Body::Echo { id: 7, seq: 1 };
const PLAIN: [u8; 10] = [0; 10];
const DONT_FRAGMENT: u16 = 0x4000;
const MORE: u16 = 0x2000;

fn udp(length: usize) -> Body {
    Body::Udp { from: 40_000, to: 33_434, length }
}

fn tcp(flags: u8) -> Body {
    Body::Tcp { from: 40_000, to: 80, flags }
}

fn icmp(kind: u8, code: u8, rest: &[u8]) -> Body {
    Body::Other { protocol: 1, bytes: [&[kind, code, 0, 0, 0, 0, 0, 0], rest].concat() }
}

/// The frame that a guest sends to its router.
fn frame(guest: u8, to: [u8; 4], body: Body) -> Vec<u8> {
    Packet::to(to.into(), body).frame(Ipv4Addr::from(ADDRESSES[usize::from(guest)]), [0; 6], [0; 6])
}

fn sent(guest: u8, frame: Vec<u8>) -> Record {
    Record { by: guest, pause: 0, vnet: PLAIN, frame }
}

fn to(guest: u8, to: [u8; 4], body: Body) -> Record {
    sent(guest, frame(guest, to, body))
}

/// What the client sends to the server, by the first gateway.
fn out(body: Body) -> Record {
    to(CLIENT, ADDRESSES[2], body)
}

/// The last receiver's answer, with these bytes XORed over it.
fn answer(at: usize, change: &[u8]) -> Record {
    Record { by: TURNED, ..sent(0, [&vec![0; at], change].concat()) }
}

/// An error about the last packet, of which it quotes so many bytes.
fn error(guest: u8, to: [u8; 4], kind: u8, code: u8, quoted: usize) -> Record {
    let frame = frame(guest, to, icmp(kind, code, &[]));
    Record { by: guest | QUOTING, ..sent(guest, frame) }.with(LENGTH, &(28 + quoted as u16).to_be_bytes())
}

fn vnet(flags: u8, kind: u8, [header, segment, start, offset]: [u16; 4]) -> [u8; 10] {
    let words = [header, segment, start, offset].map(u16::to_ne_bytes).concat();
    [&[flags, kind], words.as_slice()].concat().try_into().unwrap()
}

const TCP_SUM: [u16; 2] = [34, 16];
const UDP_SUM: [u16; 2] = [34, 6];

trait Odd: Sized {
    fn with(self, at: usize, bytes: &[u8]) -> Self;
    fn with_vnet(self, vnet: [u8; 10]) -> Self;
    fn with_payload(self, length: usize) -> Self;
    fn with_options(self, options: &[u8]) -> Self;
    fn piece(self, id: u16, place: u16) -> Self;
    fn cut(self, length: usize) -> Self;
    fn after(self, seconds: u8) -> Self;
    fn raw(self, flags: u8) -> Self;
}

impl Odd for Record {
    fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.frame[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn with_vnet(self, vnet: [u8; 10]) -> Self {
        Self { vnet, ..self }
    }

    /// More bytes behind the packet, and its length says so.
    fn with_payload(mut self, length: usize) -> Self {
        self.frame.resize(self.frame.len() + length, 7);
        let total = (self.frame.len() - VERSION) as u16;
        self.with(LENGTH, &total.to_be_bytes())
    }

    fn with_options(mut self, options: &[u8]) -> Self {
        self.frame.splice(L4..L4, options.iter().copied());
        self.frame[VERSION] += options.len() as u8 / 4;
        self.with_payload(0)
    }

    /// A fragment; `place` is the field of flags and offset.
    fn piece(self, id: u16, place: u16) -> Self {
        self.with(PLACE - 2, &id.to_be_bytes()).with(PLACE, &place.to_be_bytes())
    }

    fn cut(mut self, length: usize) -> Self {
        self.frame.truncate(length);
        self
    }

    /// Four seconds at least.
    fn after(self, seconds: u8) -> Self {
        Self { pause: seconds / 4 * 2, ..self }
    }

    fn raw(self, flags: u8) -> Self {
        Self { by: self.by | flags, ..self }
    }
}

/// A later fragment of so many bytes: what follows an IPv4 header.
fn rest(protocol: u8, length: usize) -> Body {
    Body::Other { protocol, bytes: vec![7; length] }
}

fn arp(guest: u8, operation: u8, sender: [u8; 4], target: [u8; 4]) -> Record {
    let head = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
    sent(guest, [&head[..], &[0; 6], &sender, &[0; 6], &target].concat())
}

fn syn_with_options(options: &[u8]) -> Record {
    let mut record = out(tcp(SYN));
    record.frame.extend(options);
    record.frame[L4 + 12] = (5 + options.len() as u8 / 4) << 4;
    record.with_payload(0)
}

/// All, by name.
pub fn all() -> Vec<(&'static str, Vec<Record>)> {
    [ordinary(), internet(), site(), services(), offloads(), pieces(), ip(), l4(), errors(), link()].concat()
}

type Seeds = Vec<(&'static str, Vec<Record>)>;

fn ordinary() -> Seeds {
    let [client, neighbour, server, appliance, deep, ..] = ADDRESSES;
    vec![
        ("echo-through-a-gateway", vec![out(ECHO), answer(0, &[])]),
        ("echo-through-two-gateways", vec![to(CLIENT, deep, ECHO), answer(0, &[])]),
        ("echo-to-the-router", vec![to(CLIENT, ROUTER, ECHO), to(DEEP, ROUTER, ECHO)]),
        ("echo-to-a-neighbour", vec![to(CLIENT, neighbour, ECHO).with(5, &[NEIGHBOUR + 1]), answer(0, &[])]),
        (
            "echo-reply-of-zeros",
            vec![out(icmp(8, 0, &[0; 32])), answer(0, &[]), to(SERVER, client, icmp(0, 0, &[0; 32]))],
        ),
        ("echo-reply-of-id-0", vec![out(Body::Echo { id: 0, seq: 0 }), answer(0, &[]), out(Body::EchoReply { id: 0 })]),
        ("echo-reply-unasked", vec![out(Body::EchoReply { id: 7 }), to(SERVER, FIRST_GATEWAY, ECHO)]),
        ("hairpin", vec![to(CLIENT, neighbour, ECHO), to(CLIENT, client, ECHO)]),
        ("udp-conversation", vec![out(udp(32)), answer(0, &[]), out(udp(0)), answer(0, &[])]),
        (
            "tcp-conversation",
            vec![
                out(tcp(SYN)),
                answer(L4 + 13, &[ACK]),
                out(tcp(ACK)).with_payload(100),
                answer(L4 + 13, &[FIN]),
                out(tcp(FIN | ACK)),
                out(tcp(SYN)),
                answer(L4 + 13, &[SYN | RST | ACK]),
                out(tcp(ACK)),
            ],
        ),
        ("tcp-refused", vec![out(tcp(SYN)), answer(L4 + 13, &[SYN | RST | ACK]), out(tcp(SYN))]),
        (
            "tcp-without-a-session",
            vec![out(tcp(ACK)).with_payload(10), out(tcp(RST)), out(tcp(SYN | ACK)), out(tcp(0))],
        ),
        ("tcp-all-flags", vec![out(tcp(SYN)).with(L4 + 13, &[0xff]), out(tcp(SYN)), answer(L4 + 13, &[0xff])]),
        (
            "idle-too-long",
            vec![out(tcp(SYN)), answer(L4 + 13, &[ACK]), out(tcp(ACK)).after(252), out(udp(1)).after(252)],
        ),
        (
            "idle-and-swept",
            vec![out(udp(1)), Record { pause: 180 | SWEPT, ..out(udp(1)) }, Record { pause: SWEPT, ..answer(0, &[]) }],
        ),
        (
            "forwarded-by-the-appliance",
            vec![
                to(SERVER, client, ECHO),
                to(APPLIANCE, client, ECHO).with(SOURCE, &server),
                answer(0, &[]),
                to(APPLIANCE, server, udp(9)).with(SOURCE, &client),
            ],
        ),
        ("traceroute", (0..4).map(|ttl| to(CLIENT, deep, udp(32)).with(TTL, &[ttl])).collect()),
        ("traceroute-back", vec![to(CLIENT, deep, udp(32)), answer(TTL, &[252 ^ 1]), answer(TTL, &[252 ^ 2])]),
        ("other-protocols", [2, 47, 50, 51, 132, 255].map(|protocol| out(rest(protocol, 40))).to_vec()),
        ("other-icmp", [10, 13, 15, 17, 255].map(|kind| out(icmp(kind, 0, &[0; 12]))).to_vec()),
        ("services", vec![to(CLIENT, [169, 254, 169, 254], tcp(SYN)), to(CLIENT, [169, 254, 169, 253], udp(30))]),
        ("the-internet", vec![to(CLIENT, [192, 0, 2, 1], ECHO), to(DEEP, [192, 0, 2, 1], ECHO), answer(0, &[])]),
        ("another-vpc", vec![to(TWIN, server, ECHO), to(TWIN, client, ECHO), to(TWIN, appliance, ECHO)]),
    ]
}

fn services() -> Seeds {
    let question = [&[4 << 3 | 3][..], &[0; 47]].concat();
    let asked = |payload: &[u8]| {
        let header = [40_000, 123, 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
        to(CLIENT, [169, 254, 169, 123], Body::Other { protocol: 17, bytes: [header.as_slice(), payload].concat() })
    };
    let named = |address, name: &[u8]| {
        let question = [b"\0\x07\x01\0\0\x01\0\0\0\0\0\0", name, b"\0\x01"].concat();
        let header = [40_000, 53, 8 + question.len() as u16, 0].map(u16::to_be_bytes).concat();
        to(CLIENT, address, Body::Other { protocol: 17, bytes: [header, question].concat() })
    };
    vec![
        ("time-is-asked", vec![asked(&question), asked(&question).with(TTL, &[1])]),
        ("time-is-asked-nonsense", vec![asked(&[]), asked(&question[..20]), asked(&[0x24; 48]), asked(&[7; 1400])]),
        ("resolver-is-asked", {
            let asked = |address| named(address, b"\x07example\0\0\x01");
            vec![
                asked([10, 0, 0, 2]),
                asked([169, 254, 169, 253]),
                // A name that points at itself, and more questions than there are.
                asked([10, 0, 0, 2]).with(L4 + 20, &[0xc0, 12]),
                asked([10, 0, 0, 2]).with(L4 + 12, &[0xff, 0xff]),
            ]
        }),
        ("resolver-knows-a-zone", {
            let names: [&[u8]; 5] = [
                b"\x03app\x04corp\x07example\0\0\x01",
                b"\x03www\x04corp\x07example\0\0\x01",
                b"\x05round\x04corp\x07example\0\0\x1c",
                b"\x01x\x03dev\x04corp\x07example\0\0\x10",
                b"\x03dev\x04corp\x07example\0\0\xff",
            ];
            names.map(|name| named([10, 0, 0, 2], name)).into()
        }),
        ("time-is-asked-in-pieces", vec![asked(&question).piece(7, MORE), asked(&question).piece(7, 4)]),
    ]
}

fn site() -> Seeds {
    let [client, pc] = [CLIENT, PC].map(|guest| ADDRESSES[usize::from(guest)]);
    let out = |body| to(CLIENT, pc, body);
    vec![
        ("site-is-asked", vec![out(ECHO), answer(0, &[]), to(PC, client, ECHO), answer(0, &[])]),
        ("site-opens", vec![to(PC, client, tcp(SYN)), answer(L4 + 13, &[SYN | ACK]), to(PC, client, tcp(ACK))]),
        ("site-by-the-appliance", vec![to(PC, ADDRESSES[usize::from(DEEP)], ECHO), answer(0, &[])]),
        ("site-in-another-name", vec![to(PC, client, ECHO).with(SOURCE, &[10, 0, 1, 10])]),
        (
            "site-has-no-such-host",
            vec![to(CLIENT, [192, 168, 0, 77], ECHO), to(PC, ADDRESSES[usize::from(EXAMPLE)], ECHO)],
        ),
        ("site-at-its-last-hop", vec![out(ECHO).with(TTL, &[1]), to(PC, client, ECHO).with(TTL, &[1])]),
        ("site-says-of-a-datagram", vec![out(udp(20)), error(PC, client, 3, 3, 28)]),
        (
            "site-gets-a-large-packet",
            vec![out(udp(4000)), out(udp(4000)).with(PLACE, &[0, 0]), to(PC, client, udp(1419))],
        ),
    ]
}

/// By the internet gateway.
fn internet() -> Seeds {
    let (example, stranger) = (ADDRESSES[usize::from(EXAMPLE)], ADDRESSES[usize::from(STRANGER)]);
    let out = |body| to(CLIENT, example, body);
    let opened = || vec![out(tcp(SYN)), answer(L4 + 13, &[SYN | ACK])];
    vec![
        ("host-answers", vec![out(ECHO), answer(0, &[]), out(udp(20)), answer(0, &[])]),
        ("host-connects", vec![to(STRANGER, CLIENT_OUTSIDE, tcp(SYN)), answer(L4 + 13, &[ACK])]),
        ("host-is-connected", opened()),
        ("host-resets", [opened(), vec![to(EXAMPLE, CLIENT_OUTSIDE, tcp(RST))]].concat()),
        ("host-to-a-host", vec![to(EXAMPLE, stranger, ECHO), answer(0, &[]), to(TWIN, stranger, ECHO)]),
        ("host-by-a-public-gateway", vec![to(SERVER, example, udp(20)), answer(0, &[]), answer(0, &[])]),
        ("host-to-a-public-gateway", vec![to(EXAMPLE, GATEWAY_OUTSIDE, ECHO), to(EXAMPLE, GATEWAY_OUTSIDE, tcp(SYN))]),
        (
            "host-by-the-appliance",
            vec![
                to(STRANGER, DEEP_OUTSIDE, ECHO),
                sent(APPLIANCE, frame(DEEP, stranger, ECHO)),
                to(DEEP, stranger, ECHO),
            ],
        ),
        ("host-spoofs", vec![sent(STRANGER, frame(CLIENT, CLIENT_OUTSIDE, ECHO))]),
        ("host-spoofs-a-public-address", vec![to(STRANGER, CLIENT_OUTSIDE, ECHO).with(SOURCE, &DEEP_OUTSIDE)]),
        ("host-spoofs-a-host", vec![to(STRANGER, CLIENT_OUTSIDE, ECHO).with(SOURCE, &example), answer(0, &[])]),
        ("host-to-a-private-address", vec![to(STRANGER, [10, 0, 0, 10], ECHO), to(CLIENT, [10, 200, 0, 1], ECHO)]),
        ("host-at-its-last-hop", vec![out(ECHO).with(TTL, &[1]), to(EXAMPLE, CLIENT_OUTSIDE, ECHO).with(TTL, &[1])]),
        ("host-says-of-a-datagram", vec![out(udp(20)), error(EXAMPLE, CLIENT_OUTSIDE, 3, 3, 28)]),
        ("client-says-of-a-hosts", vec![to(EXAMPLE, CLIENT_OUTSIDE, udp(20)), error(CLIENT, example, 3, 3, 28)]),
        ("host-gets-a-large-packet", vec![out(udp(4000)), out(udp(4000)).with(PLACE, &[0, 0])]),
        ("host-gets-a-super-segment", {
            let segments = vnet(1, 1, [54, 1448, TCP_SUM[0], TCP_SUM[1]]);
            [opened(), vec![out(tcp(ACK)).with_payload(5000).with_vnet(segments)]].concat()
        }),
        ("hairpin-by-public-addresses", vec![to(CLIENT, DEEP_OUTSIDE, ECHO), to(CLIENT, CLIENT_OUTSIDE, ECHO)]),
        ("arp-of-a-host", vec![arp(EXAMPLE, 1, example, stranger), arp(EXAMPLE, 1, example, example)]),
    ]
}

fn offloads() -> Seeds {
    let deep = ADDRESSES[4];
    let [start, offset] = TCP_SUM;
    let segments = vnet(1, 1, [54, 1448, start, offset]);
    let large = |flags| out(tcp(flags)).with_payload(5000);
    let opened = || vec![out(tcp(SYN)), answer(L4 + 13, &[ACK])];
    let then = |record: Record| [opened(), vec![record]].concat();
    vec![
        ("tcp-super-segment", then(large(ACK).with_vnet(segments))),
        ("tcp-super-segment-with-ecn", then(large(ACK).with_vnet(vnet(1, 0x81, [54, 1448, start, offset])))),
        ("tcp-super-segment-at-its-last-hop", then(large(ACK).with_vnet(segments).with(TTL, &[1]))),
        ("tcp-super-segment-without-a-session", vec![large(ACK).with_vnet(segments)]),
        ("tcp-super-segment-of-64-kib", then(out(tcp(ACK)).with_payload(65_535 - 40).with_vnet(segments))),
        (
            "tcp-super-segment-of-large-segments",
            then(out(tcp(ACK)).with_payload(20_000).with_vnet(vnet(1, 1, [54, 9000, start, offset]))),
        ),
        ("tcp-super-segment-that-opens", vec![large(SYN).with_vnet(segments)]),
        ("tcp-super-segment-without-payload", then(out(tcp(ACK)).with_vnet(segments))),
        ("udp-super-segment", vec![out(udp(5000)).with_vnet(vnet(1, 5, [42, 1472, UDP_SUM[0], UDP_SUM[1]]))]),
        (
            "partial-checksums",
            vec![
                out(tcp(SYN)).with_vnet(vnet(1, 0, [0, 0, start, offset])),
                out(udp(33)).with_vnet(vnet(1, 0, [0, 0, UDP_SUM[0], UDP_SUM[1]])),
                to(CLIENT, deep, udp(33)).with_vnet(vnet(1, 0, [0, 0, UDP_SUM[0], UDP_SUM[1]])),
            ],
        ),
        (
            "partial-checksum-at-its-last-hop",
            vec![out(udp(33)).with(TTL, &[1]).with_vnet(vnet(1, 0, [0, 0, UDP_SUM[0], UDP_SUM[1]]))],
        ),
        (
            "partial-checksum-of-a-shorter-datagram",
            vec![out(udp(33)).with_payload(8).with_vnet(vnet(1, 0, [0, 0, UDP_SUM[0], UDP_SUM[1]]))],
        ),
        ("partial-checksum-behind-the-frame", vec![out(udp(9)).with_vnet(vnet(1, 0, [0, 0, 60_000, 6]))]),
        ("partial-checksum-of-an-echo", vec![out(ECHO).with_vnet(vnet(1, 0, [0, 0, 34, 2]))]),
        (
            "partial-checksum-elsewhere",
            vec![
                out(tcp(SYN)).with_vnet(vnet(1, 0, [0, 0, 14, 10])),
                out(tcp(SYN)).with_vnet(vnet(1, 0, [0, 0, start, 6])),
                out(tcp(SYN)).with_vnet(vnet(1, 0, [0, 0, 65_535, 65_535])),
            ],
        ),
        ("segments-of-no-bytes", then(large(ACK).with_vnet(vnet(1, 1, [54, 0, start, offset])))),
        ("segments-of-one-byte", then(large(ACK).with_vnet(vnet(1, 1, [54, 1, start, offset])))),
        ("segments-of-most-bytes", then(large(ACK).with_vnet(vnet(1, 1, [54, 65_535, start, offset])))),
        ("segments-of-another-protocol", vec![out(udp(3000)).with_vnet(segments), out(ECHO).with_vnet(segments)]),
        ("segments-without-a-partial-checksum", then(large(ACK).with_vnet(vnet(0, 1, [54, 1448, 0, 0])))),
        (
            "segments-of-unknown-kind",
            [2, 3, 4, 6, 0x7f].map(|kind| large(ACK).with_vnet(vnet(1, kind, [54, 1448, start, offset]))).to_vec(),
        ),
        (
            "a-huge-header-length",
            [
                then(large(ACK).with_vnet(vnet(1, 1, [65_535, 1448, start, offset]))),
                vec![out(udp(9)).with_vnet(vnet(0, 0, [65_535, 1448, 65_535, 65_535]))],
            ]
            .concat(),
        ),
    ]
}

fn pieces() -> Seeds {
    let first = |length: usize| out(udp(length)).piece(1, MORE);
    let later = |place: u16, length| out(rest(17, length)).piece(1, place);
    let tcp_first = out(tcp(ACK)).with_payload(4);
    vec![
        ("fragments-in-order", vec![first(1472), later(185 | MORE, 1480), later(370, 100)]),
        ("fragments-in-reverse", vec![later(370, 100), later(185 | MORE, 1480), first(1472)]),
        ("fragments-twice", vec![first(1472), first(1472), later(185, 100), later(185, 100)]),
        ("fragments-that-overlap", vec![first(64), later(3 | MORE, 16), later(5, 8)]),
        ("fragments-that-rewrite-the-first", vec![first(64), later(1, 64)]),
        (
            "fragments-of-two-datagrams",
            vec![first(64), out(udp(64)).piece(2, MORE), later(9, 8), out(rest(17, 8)).piece(2, 9)],
        ),
        ("a-fragment-alone", vec![later(185, 100), out(rest(1, 8)).piece(3, 9), out(rest(6, 8)).piece(3, 9)]),
        ("fragments-too-far-apart", vec![first(64), later(9, 8).after(40)]),
        ("a-fragment-beyond-the-longest-packet", vec![first(64), later(0x1fff | MORE, 100), later(0x1fff, 9000)]),
        ("a-fragment-of-no-bytes", vec![first(64), later(9, 0)]),
        ("fragments-of-odd-length", vec![out(udp(61)).piece(1, MORE), later(9 | MORE, 3), later(10, 1)]),
        ("fragments-of-tcp", vec![tcp_first.clone().piece(1, MORE), out(rest(6, 100)).piece(1, 3)]),
        ("fragments-inside-the-tcp-header", vec![out(rest(6, 8)).piece(1, MORE), out(rest(6, 32)).piece(1, 1)]),
        ("fragments-of-an-echo", vec![out(ECHO).piece(1, MORE), out(rest(1, 8)).piece(1, 8)]),
        ("fragments-of-an-error", vec![out(icmp(3, 3, &[0x45; 64])).piece(1, MORE), out(rest(1, 8)).piece(1, 9)]),
        ("fragments-to-the-router", vec![to(CLIENT, ROUTER, ECHO).piece(1, MORE)]),
        (
            "fragments-past-the-appliance",
            vec![
                to(APPLIANCE, ADDRESSES[0], udp(64)).with(SOURCE, &ADDRESSES[2]).piece(1, MORE),
                to(APPLIANCE, ADDRESSES[0], rest(17, 8)).with(SOURCE, &ADDRESSES[2]).piece(1, 9),
            ],
        ),
        ("fragments-at-their-last-hop", vec![first(64).with(TTL, &[1]), first(64), later(9, 8).with(TTL, &[1])]),
        ("fragments-with-partial-checksums", vec![first(64).with_vnet(vnet(1, 0, [0, 0, UDP_SUM[0], UDP_SUM[1]]))]),
        ("too-large-to-pass", vec![out(udp(9000)).piece(1, DONT_FRAGMENT), out(ECHO).with_payload(9000)]),
        ("cut-in-two", vec![out(udp(8972)).piece(1, 0)]),
        ("cut-in-eight", vec![out(udp(65_507)).piece(1, 0)]),
        ("cut-with-options", vec![out(udp(65_000)).piece(1, 0).with_options(&[1; 40])]),
        ("cut-by-the-second-gateway", vec![to(CLIENT, ADDRESSES[4], udp(9000)).piece(1, 0)]),
        ("cut-fragments", vec![first(8992), later(1125 | MORE, 8800), later(2225, 8800)]),
        (
            "cut-with-a-partial-checksum",
            vec![out(udp(9000)).piece(1, 0).with_vnet(vnet(1, 0, [0, 0, UDP_SUM[0], UDP_SUM[1]]))],
        ),
    ]
}

fn ip() -> Seeds {
    let server = ADDRESSES[2];
    let martians = [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 5], [255, 255, 255, 255], [240, 0, 0, 1], LAST_GATEWAY];
    let from = |source: &[u8; 4], body: Body| to(APPLIANCE, ADDRESSES[4], body).with(SOURCE, source);
    vec![
        ("options", vec![out(ECHO).with_options(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1]), answer(0, &[])]),
        (
            "options-of-no-length",
            vec![out(udp(9)).with_options(&[7, 0, 0, 0]), out(udp(9)).with_options(&[131, 255, 0, 0])],
        ),
        ("options-at-their-last-hop", vec![out(udp(9)).with_options(&[68, 40, 5, 0]).with(TTL, &[1])]),
        ("a-header-of-16-bytes", vec![out(udp(9)).with(VERSION, &[0x44])]),
        ("a-header-longer-than-the-packet", vec![out(rest(47, 8)).with(VERSION, &[0x4f])]),
        ("another-version", vec![out(udp(9)).with(VERSION, &[0x65])]),
        ("a-length-of-nothing", vec![out(udp(9)).with(LENGTH, &[0, 0]), out(udp(9)).with(LENGTH, &[0, 19])]),
        ("a-length-beyond-the-frame", vec![out(udp(9)).with(LENGTH, &[0xff, 0xff])]),
        ("a-length-short-of-the-frame", vec![out(ECHO).with(LENGTH, &[0, 40]), answer(0, &[])]),
        (
            "padding",
            vec![{
                let mut short = out(udp(1));
                short.frame.resize(60, 0);
                short
            }],
        ),
        ("a-wrong-checksum", vec![out(udp(9)).with(SUM, &[1, 2]).raw(AS_IS_SUMS)]),
        ("source-is-destination", vec![to(CLIENT, ADDRESSES[0], tcp(SYN)), from(&ADDRESSES[4], tcp(SYN))]),
        (
            "from-a-gateway",
            vec![from(&FIRST_GATEWAY, udp(9)), to(APPLIANCE, FIRST_GATEWAY, udp(9)).with(SOURCE, &LAST_GATEWAY)],
        ),
        ("from-the-router", vec![to(APPLIANCE, server, udp(9)).with(SOURCE, &ROUTER)]),
        ("from-nobody", martians.iter().map(|source| from(source, udp(9))).collect()),
        ("from-nobody-at-its-last-hop", martians.iter().map(|source| from(source, udp(9)).with(TTL, &[1])).collect()),
        ("from-nobody-without-a-session", martians.iter().map(|source| from(source, tcp(ACK))).collect()),
        (
            "to-nobody",
            [[224, 0, 0, 5], [255; 4], [0; 4], [127, 0, 0, 1], [240, 0, 0, 1], [10, 0, 1, 255]]
                .map(|target| to(CLIENT, target, udp(9)))
                .to_vec(),
        ),
        (
            "to-the-gateways",
            vec![to(CLIENT, FIRST_GATEWAY, ECHO), to(DEEP, LAST_GATEWAY, tcp(SYN)), to(APPLIANCE, FIRST_GATEWAY, ECHO)],
        ),
        ("spoofed", vec![out(udp(9)).with(SOURCE, &[10, 0, 0, 99])]),
        ("ttl-of-0", vec![out(udp(9)).with(TTL, &[0]), to(CLIENT, ADDRESSES[1], ECHO).with(TTL, &[0])]),
        (
            "dhcp",
            vec![
                to(CLIENT, [255; 4], Body::Udp { from: 68, to: 67, length: 300 })
                    .with(SOURCE, &[0; 4])
                    .with(0, &[0xff; 6]),
            ],
        ),
    ]
}

fn l4() -> Seeds {
    vec![
        ("tcp-header-of-16-bytes", vec![out(tcp(SYN)).with(L4 + 12, &[0x40]), out(tcp(SYN)).with(L4 + 12, &[0])]),
        ("tcp-header-longer-than-the-packet", vec![out(tcp(SYN)).with(L4 + 12, &[0xf0])]),
        ("mss", vec![syn_with_options(&[2, 4, 0x23, 0]), syn_with_options(&[2, 4, 0, 0]), answer(L4 + 13, &[ACK])]),
        ("mss-at-an-odd-place", vec![syn_with_options(&[1, 2, 4, 0x23, 0x29, 0, 0, 0])]),
        (
            "mss-of-wrong-length",
            vec![
                syn_with_options(&[2, 3, 0x23, 0]),
                syn_with_options(&[2, 0, 0, 0]),
                syn_with_options(&[2, 1, 0xff, 0xff]),
            ],
        ),
        (
            "mss-behind-the-header",
            vec![syn_with_options(&[1, 1, 2, 4]), syn_with_options(&[1, 1, 1, 2]), syn_with_options(&[3, 255, 2, 4])],
        ),
        ("mss-twice", vec![syn_with_options(&[2, 4, 0xff, 0xff, 2, 4, 0xff, 0xff])]),
        ("mss-behind-the-end", vec![syn_with_options(&[0, 2, 4, 0xff, 0xff, 0, 0, 0])]),
        (
            "mss-with-a-partial-checksum",
            vec![syn_with_options(&[1, 2, 4, 0x23, 0x29, 0, 0, 0]).with_vnet(vnet(
                1,
                0,
                [0, 0, TCP_SUM[0], TCP_SUM[1]],
            ))],
        ),
        ("udp-of-no-length", vec![out(udp(9)).with(L4 + 4, &[0, 0]), out(udp(9)).with(L4 + 4, &[0, 7])]),
        ("udp-beyond-the-packet", vec![out(udp(9)).with(L4 + 4, &[0xff, 0xff])]),
        ("udp-short-of-the-packet", vec![out(udp(9)).with(L4 + 4, &[0, 9]), answer(0, &[])]),
        ("udp-without-a-checksum", vec![out(udp(9)).with(L4 + 6, &[0, 0]).raw(AS_IS_SUMS)]),
        ("ports-of-0", vec![out(Body::Udp { from: 0, to: 0, length: 9 }), answer(0, &[])]),
        (
            "wrong-l4-checksums",
            [tcp(SYN), udp(9), ECHO]
                .map(|body| {
                    let mut record = out(body);
                    *record.frame.last_mut().unwrap() ^= 0x55;
                    record.raw(AS_IS_SUMS)
                })
                .to_vec(),
        ),
        ("headers-cut-short", [0, 13, 14, 20, 33, 34, 36, 41].map(|length| out(udp(9)).cut(length)).to_vec()),
        (
            "l4-cut-short",
            [0, 4, 7, 8, 12, 19]
                .into_iter()
                .flat_map(|length| [1, 6, 17].map(|protocol| out(rest(protocol, length))))
                .collect(),
        ),
    ]
}

fn errors() -> Seeds {
    let [client, _, _, _, deep, ..] = ADDRESSES;
    let about = |quoted: usize| vec![out(udp(32)), error(SERVER, FIRST_GATEWAY, 3, 3, quoted)];
    let inner = |source: &[u8; 4]| out(udp(9)).with(SOURCE, source).frame[VERSION..].to_vec();
    vec![
        ("error", about(60)),
        ("error-with-the-shortest-quote", about(28)),
        ("error-with-a-short-quote", [0, 1, 19, 20, 27, 29].into_iter().flat_map(about).collect()),
        ("error-through-two-gateways", vec![to(CLIENT, deep, udp(32)), error(DEEP, LAST_GATEWAY, 11, 0, 60)]),
        ("error-about-an-echo", vec![out(ECHO), error(SERVER, FIRST_GATEWAY, 3, 1, 84)]),
        ("error-about-a-segment", vec![out(tcp(SYN)), error(SERVER, FIRST_GATEWAY, 3, 4, 40), answer(0, &[])]),
        ("error-about-a-reply", vec![out(udp(32)), answer(0, &[]), error(CLIENT, ADDRESSES[2], 3, 3, 60)]),
        (
            "error-of-a-third",
            vec![out(udp(32)), error(DEEP, FIRST_GATEWAY, 11, 0, 60), error(NEIGHBOUR, client, 3, 3, 60)],
        ),
        (
            "error-about-nothing",
            vec![
                to(SERVER, FIRST_GATEWAY, icmp(3, 3, &inner(&FIRST_GATEWAY))),
                to(SERVER, FIRST_GATEWAY, icmp(3, 3, &inner(&client))),
            ],
        ),
        (
            "error-about-an-error",
            vec![out(udp(32)), error(SERVER, FIRST_GATEWAY, 3, 3, 60), error(CLIENT, ADDRESSES[2], 3, 3, 60)],
        ),
        ("error-at-its-last-hop", vec![out(udp(32)), error(SERVER, FIRST_GATEWAY, 3, 3, 60).with(TTL, &[1])]),
        (
            "error-of-every-kind",
            [4, 5, 11, 12]
                .into_iter()
                .flat_map(|kind| [out(udp(32)), error(SERVER, FIRST_GATEWAY, kind, 0, 60)])
                .collect(),
        ),
        (
            "error-about-a-fragment",
            vec![
                out(udp(64)).piece(1, MORE),
                error(SERVER, FIRST_GATEWAY, 11, 1, 60),
                out(udp(64)).piece(1, MORE),
                out(rest(17, 40)).piece(1, 9),
                error(SERVER, FIRST_GATEWAY, 11, 1, 60),
            ],
        ),
        (
            "error-about-options",
            vec![out(udp(32)).with_options(&[7, 7, 4, 0, 0, 0, 0, 0]), error(SERVER, FIRST_GATEWAY, 12, 0, 68)],
        ),
        (
            "error-about-a-datagram-without-a-checksum",
            vec![out(udp(9)).with(L4 + 6, &[0, 0]), error(SERVER, FIRST_GATEWAY, 3, 3, 37)],
        ),
        (
            "error-about-garbage",
            vec![
                out(icmp(3, 3, &[0; 28])),
                out(icmp(3, 3, &[0x4f; 30])),
                out(icmp(3, 3, &[0xff; 60])),
                out(icmp(3, 3, &[])),
            ],
        ),
        (
            "error-with-a-wrong-checksum",
            vec![out(udp(32)), error(SERVER, FIRST_GATEWAY, 3, 3, 60).with(L4 + 2, &[1, 1]).raw(AS_IS_SUMS)],
        ),
    ]
}

fn link() -> Seeds {
    let [client, neighbour, server, ..] = ADDRESSES;
    let tagged = |tag: &[u8]| {
        let mut record = out(udp(9));
        record.frame.splice(ETHER_TYPE..ETHER_TYPE, tag.iter().copied());
        record
    };
    let typed = |high, low| out(udp(9)).with(ETHER_TYPE, &[high, low]);
    vec![
        ("vlan", vec![tagged(&[0x81, 0, 0, 5]), tagged(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 5])]),
        ("ipv6", vec![typed(0x86, 0xdd), typed(0x86, 0xdd).cut(14), typed(0x86, 0xdd).with(VERSION, &[0x60])]),
        ("other-ether-types", vec![typed(0, 46), typed(0x88, 0xcc), typed(8, 0).with(ETHER_TYPE, &[8, 0x35])]),
        ("to-everybody", vec![out(udp(9)).with(0, &[0xff; 6]), out(udp(9)).with(0, &[1, 0, 0x5e, 0, 0, 5])]),
        ("to-an-unknown-mac-address", vec![out(udp(9)).with(0, &[6, 1, 2, 3, 4, 5])]),
        (
            "to-the-wrong-neighbour",
            vec![to(CLIENT, server, udp(9)).with(5, &[NEIGHBOUR + 1]), out(udp(9)).with(5, &[SERVER + 1])],
        ),
        ("from-another-mac-address", vec![out(udp(9)).with(6, &[6, 1, 2, 3, 4, 5]).raw(AS_IS_SENDER)]),
        (
            "arp",
            vec![arp(CLIENT, 1, client, ROUTER), arp(CLIENT, 1, client, neighbour), arp(CLIENT, 1, client, server)],
        ),
        (
            "arp-announcement",
            vec![arp(CLIENT, 1, client, client), arp(CLIENT, 2, client, client), arp(CLIENT, 1, neighbour, neighbour)],
        ),
        ("arp-probe", vec![arp(CLIENT, 1, [0; 4], neighbour), arp(CLIENT, 1, [0; 4], client)]),
        ("arp-reply", vec![arp(CLIENT, 2, neighbour, ROUTER), arp(CLIENT, 2, ROUTER, neighbour)]),
        ("arp-of-another", vec![arp(CLIENT, 1, client, ROUTER).raw(AS_IS_SENDER), arp(CLIENT, 1, neighbour, ROUTER)]),
        (
            "arp-of-other-sizes",
            vec![
                arp(CLIENT, 1, client, ROUTER).with(18, &[0, 4]),
                arp(CLIENT, 1, client, ROUTER).with(18, &[255, 255]),
                arp(CLIENT, 1, client, ROUTER).with(16, &[0x86, 0xdd]),
                arp(CLIENT, 3, client, ROUTER),
            ],
        ),
        ("arp-cut-short", [14, 21, 22, 28, 41].map(|length| arp(CLIENT, 1, client, ROUTER).cut(length)).to_vec()),
        (
            "arp-with-padding",
            vec![{
                let mut padded = arp(CLIENT, 1, client, ROUTER);
                padded.frame.resize(60, 0);
                padded
            }],
        ),
    ]
}
