//! The interpreter of filters wants the frames that tcpdump wants.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use minivpc_host::capture::filter::{FilterError, compile};
use minivpc_host::capture::pcapng::{self, Flow};
use minivpc_testkit::{Body, Packet, cut};

const FILTERS: &[&str] = &[
    "icmp",
    "icmp or port 80",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "icmp[icmptype] = icmp-timxceed",
    "host 10.0.0.1 and not udp",
    "src net 10.0.0.0/24 and dst portrange 50-90",
    "ether src 02:00:00:00:00:01",
    "arp or ip6",
    "len > 500",
    "greater 100 and less 800",
    "ip[8] < 5",
    "ip[6:2] & 0x1fff != 0",
    "udp[4:2] - 8 >= 40",
    "ip[2:2] * 2 / 3 = 56",
    "(ip[0] << 3) & 0xff >> 1 = ip[8] ^ 20 | 4",
    "proto 47",
    "ether[12:2] = 0x800 and ether[len - 1] = 7",
    "udp[((udp[4] & 0xf0) >> 2) + 9:1] = 7",
    "ip broadcast or ether multicast",
    "vlan 7 and icmp",
    "port 53 or (tcp and not (dst port 443 or src host 10.0.0.2))",
];

/// Packets of many kinds, fragments, frames that are cut off, and bytes at random.
fn frames() -> Vec<Vec<u8>> {
    let to = Ipv4Addr::new(10, 0, 0, 1);
    let (mac, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let tcp = |from, port, flags| Body::Tcp { from, to: port, flags };
    let udp = |port, length| Body::Udp { from: 4000, to: port, length };
    let quoted = Packet::to(to, udp(33_434, 8)).frame(Ipv4Addr::new(10, 0, 0, 2), mac, other)[14..].to_vec();
    let bodies = [
        Body::Echo { id: 7, seq: 1 },
        Body::EchoReply { id: 7 },
        Body::Error { kind: 11, code: 0, quoted },
        Body::Other { protocol: 47, bytes: vec![7; 20] },
        tcp(1000, 80, 2),
        tcp(80, 1000, 18),
        tcp(443, 60, 1),
        tcp(1000, 443, 16),
        udp(53, 30),
        udp(80, 1000),
    ];
    let mut frames = Vec::new();
    for (body, ttl) in bodies.iter().zip([1, 2, 3, 4, 5, 60, 64, 127, 254, 255]) {
        for src in [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 1, 3)] {
            let packet = Packet::to(to, body.clone()).ttl(ttl);
            frames.push(packet.frame(src, mac, other));
            frames.push(packet.frame(src, other, [0xff; 6]));
        }
    }
    let whole = frames[36].clone();
    frames.extend(cut(&whole, 300));
    for length in 0..whole.len().min(60) {
        frames.push(whole[..length].to_vec());
    }
    // In VLAN 7.
    frames.push([&whole[..12], &[0x81, 0, 0, 7], &frames[0][12..]].concat());
    // A small generator: the same bytes each time.
    let mut state = 1_u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    for types in [[8, 0], [8, 6], [0x86, 0xdd], [0x81, 0], [0x88, 0xcc]] {
        for _ in 0..40 {
            let mut frame: Vec<u8> = (0..usize::from(random()) + 20).map(|_| random()).collect();
            frame[12..14].copy_from_slice(&types);
            frame[14] = 0x45;
            frames.push(frame);
        }
    }
    frames
}

/// The frames of a file that tcpdump takes.
fn wanted_by_tcpdump(file: &[u8], filter: &str) -> Vec<Vec<u8>> {
    let mut command = Command::new("tcpdump");
    command.args(["-r", "-", "-w", "-", filter]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut tcpdump = command.spawn().unwrap();
    let mut input = tcpdump.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(file).unwrap());
        tcpdump.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{filter}");
    // A header of 24 bytes, then records of 16 bytes, the third word of which is the frame's length, and the frame.
    let mut rest = &output.stdout[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_ne_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

#[test]
fn filters_want_what_tcpdump_wants() {
    let frames = frames();
    let mut file = pcapng::header("test", [("a", "")]);
    for frame in &frames {
        pcapng::packet(&mut file, 0, Flow::Unknown, frame, None);
    }
    assert_eq!(wanted_by_tcpdump(&file, ""), frames, "tcpdump reads the file");
    for filter in FILTERS {
        let program = compile(filter).unwrap();
        let wanted: Vec<_> = frames.iter().filter(|frame| program.wants(frame)).cloned().collect();
        assert!((1..frames.len()).contains(&wanted.len()), "{filter} wants {} frames", wanted.len());
        assert_eq!(wanted, wanted_by_tcpdump(&file, filter), "{filter}");
    }
}

#[test]
fn what_tcpdump_refuses_is_refused_in_its_words() {
    let Err(FilterError::Refused(words)) = compile("port eighty") else { panic!() };
    assert!(words.contains("'port eighty'") || words.contains("eighty"), "{words}");
    assert!(matches!(compile("-w x"), Err(FilterError::Refused(_))), "no option of tcpdump's");
}
