//! What a packet costs the engine alone: processor time of this thread, and allocations.
//!
//! `cargo bench -p minivpc-dataplane` prints a table. Each figure is the median of several runs; runs that are compared
//! take turns, for machines are shared and change their speed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::net::Ipv4Addr;

use minivpc_dataplane::state::NatKey;
use minivpc_dataplane::{CAPACITY, Cache, Engine, Now, Snapshot, compile};
use minivpc_model::{Peer, PortRange, RouteTarget, Traffic};
use minivpc_packet::VnetHeader;
use minivpc_testkit::random::Random;
use minivpc_testkit::{Article, Body, Packet, article};

const RUNS: usize = 9;
const BATCH: usize = 64;
/// Instances at each end, for no interface tracks a million connections.
const ENDS: u8 = 8;

/// Processor time of this thread, nanoseconds.
fn processor_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn row(what: &str, figure: String) {
    println!("{what:<66} {figure:>16}");
}

fn source(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 20 + (n % usize::from(ENDS)) as u8)
}

fn destination(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, 20 + (n / usize::from(ENDS) % usize::from(ENDS)) as u8)
}

/// The article's world with more instances at both ends, whose groups have `rules` rules of which the last ones match,
/// and with `routes` more routes.
fn world(rules: u16, routes: u16) -> Article {
    let mut article = article("10.0.0.0/16");
    let (vpc, near, far) = (article.vpc, article.source, article.destination);
    let b = &mut article.builder;
    let blocks = |n: u16| Peer::Cidr(format!("172.16.{}.{}/32", n / 256, n % 256).parse().unwrap());
    let port = |n: u16| Traffic::Udp(PortRange { from: n, to: n });
    let mut admitted: Vec<_> = (1..rules).map(|n| (port(n), blocks(n))).collect();
    admitted.push((Traffic::All, Peer::Cidr("10.0.0.0/16".parse().unwrap())));
    let group = b.group(vpc, "many", &admitted);
    b.egress(group, &admitted);
    for n in 0..ENDS {
        b.instance(near, &format!("from-{n}"), &format!("10.0.0.{}", 20 + n), &[group], true);
        b.instance(far, &format!("to-{n}"), &format!("10.0.1.{}", 20 + n), &[group], true);
    }
    let igw = b.world.internet_gateways().next().unwrap().id;
    let table = b.world.route_table_of(b.world.subnet(near).unwrap()).unwrap().id;
    for n in 0..routes {
        b.route(table, &format!("172.16.{}.{}/32", n / 256, n % 256), RouteTarget::InternetGateway(igw));
    }
    article
}

struct Lab {
    engine: Engine,
    cache: Cache,
    snapshot: Snapshot,
    now: Now,
    answer: Vec<u8>,
}

impl Lab {
    fn new(article: &Article) -> Self {
        let snapshot = compile(&article.builder.world, 1).unwrap();
        let (engine, cache) = (Engine::new(NatKey([7; 16])), Cache::new(CAPACITY));
        Self { engine, cache, snapshot, now: Now::seconds(1), answer: Vec::new() }
    }

    fn port(&self, ip: Ipv4Addr) -> u16 {
        self.snapshot.enis.iter().position(|eni| eni.ip == ip).unwrap() as u16
    }

    /// The frame of the flow with this number: one of many clients' ports to one of many services.
    fn frame(&self, n: usize) -> (u16, Vec<u8>) {
        let (src, dst) = (source(n), destination(n));
        let rest = n / usize::from(ENDS) / usize::from(ENDS);
        let body = Body::Udp { from: 1024 + (rest % 60_000) as u16, to: 7, length: 64 };
        let port = self.port(src);
        let eni = self.snapshot.eni(port);
        let router = self.snapshot.subnet(eni.subnet).router_mac.0;
        (port, Packet::to(dst, body).frame(src, eni.mac.0, router))
    }

    fn send(&mut self, port: u16, frame: &mut [u8]) -> Option<u16> {
        let (mut to, answer) = (None, &mut self.answer);
        let (cache, mut vnet) = (&mut self.cache, VnetHeader::PLAIN);
        self.engine.process(cache, &self.snapshot, self.now, port, &mut vnet, frame, &mut |port, _, frame| {
            to = Some(port);
            answer.clear();
            answer.extend_from_slice(frame);
        });
        to
    }

    /// Two requests and an answer: from then on both directions of a flow are in the cache.
    fn establish(&mut self, port: u16, frame: &[u8]) -> (u16, Vec<u8>) {
        let mut back = (0, Vec::new());
        for _ in 0..3 {
            let to = self.send(port, &mut frame.to_vec()).expect("it gets through");
            back = (to, turned(&self.answer));
            self.send(to, &mut back.1.clone()).expect("so does the answer");
        }
        back
    }
}

/// A UDP frame's answer. The sums of a packet don't change by turning it round.
fn turned(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let (macs, rest) = frame.split_at_mut(12);
    macs.rotate_left(6);
    rest[14..22].rotate_left(4);
    rest[22..26].rotate_left(2);
    frame
}

/// Time of one packet of these flows, in random order, nanoseconds.
fn hits(lab: &mut Lab, flows: &[(u16, Vec<u8>)], random: &mut Random) -> f64 {
    const ROUNDS: usize = 500;
    // Asking for the time costs as much as some packets.
    let mut batches: Vec<(u16, Vec<u8>)> = vec![flows[0].clone(); 4 * BATCH];
    let mut spent = 0;
    for _ in 0..ROUNDS {
        for slot in &mut batches {
            let (port, frame) = &flows[random.below(flows.len())];
            slot.0 = *port;
            slot.1.copy_from_slice(frame);
        }
        let begin = processor_time();
        for batch in batches.chunks_mut(BATCH) {
            for (port, frame) in batch {
                let (cache, mut vnet) = (&mut lab.cache, VnetHeader::PLAIN);
                lab.engine.process(cache, &lab.snapshot, lab.now, *port, &mut vnet, frame, &mut |_, _, frame| {
                    black_box(frame);
                });
            }
        }
        spent += processor_time() - begin;
    }
    spent as f64 / (ROUNDS * batches.len()) as f64
}

fn main() {
    let mut lab = Lab::new(&world(1, 0));
    let one: Vec<_> = [lab.frame(0)].into();
    lab.establish(one[0].0, &one[0].1.clone());
    let mut random = Random(1);
    let parse = || {
        let begin = processor_time();
        for _ in 0..100_000 {
            let _ = black_box(minivpc_packet::parse(&VnetHeader::PLAIN, black_box(&one[0].1)));
        }
        (processor_time() - begin) as f64 / 1e5
    };
    let multiply = || {
        let begin = processor_time();
        let mut x = black_box(3_u64);
        for _ in 0..1_000_000 {
            x = black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        (processor_time() - begin) as f64 / 1e6
    };
    row("(a multiplication)", format!("{:.2} ns", median((0..RUNS).map(|_| multiply()).collect())));
    row("(reading a frame alone)", format!("{:.1} ns", median((0..RUNS).map(|_| parse()).collect())));
    let hit = median((0..RUNS).map(|_| hits(&mut lab, &one, &mut random)).collect());
    row("hit: NAT, two groups; 64 bytes of UDP", format!("{hit:.1} ns"));
}
