//! What a packet costs the engine alone: processor time of this thread, and allocations.
//!
//! `cargo bench -p minivpc-dataplane` prints a table. Each figure is the median of several runs; runs that are compared
//! take turns, for machines are shared and change their speed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;

use minivpc_dataplane::state::{NatKey, State};
use minivpc_dataplane::{CAPACITY, Cache, Engine, Now, Sent, Snapshot, Tick, compile};
use minivpc_model::{Op, Peer, PortRange, RecordType, RouteTarget, Traffic, VpcAttribute};
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

/// As many rules each way, in as many groups, as an interface may have, and as many routes as a table.
const MOST_RULES: u16 = 300;
const RULES_PER_GROUP: u16 = 60;
const MOST_ROUTES: u16 = 490;

/// The article's world with more instances at both ends, whose groups have `rules` rules each way of which only the last
/// ones match, and with `routes` more routes.
fn world(rules: u16, routes: u16) -> Article {
    let mut article = article("10.0.0.0/16");
    let (vpc, near, far) = (article.vpc, article.source, article.destination);
    let b = &mut article.builder;
    let block = |n: u16| format!("172.16.{}.{}/32", n / 256, n % 256);
    let rule = |n: u16| match n + 1 == rules {
        true => (Traffic::All, Peer::Cidr("10.0.0.0/16".parse().unwrap())),
        false => (Traffic::Udp(PortRange { from: n, to: n }), Peer::Cidr(block(n).parse().unwrap())),
    };
    let all: Vec<_> = (0..rules).map(rule).collect();
    let parts = all.chunks(usize::from(RULES_PER_GROUP)).enumerate();
    let groups = parts.map(|(n, rules)| {
        let group = b.group(vpc, &format!("group-{n}"), rules);
        b.egress(group, rules);
        group
    });
    let groups: Vec<_> = groups.collect();
    for n in 0..ENDS {
        b.instance(near, &format!("from-{n}"), &format!("10.0.0.{}", 20 + n), &groups, true);
        b.instance(far, &format!("to-{n}"), &format!("10.0.1.{}", 20 + n), &groups, true);
    }
    let igw = b.world.internet_gateways().next().unwrap().id;
    for subnet in [near, article.nat] {
        let table = b.world.route_table_of(b.world.subnet(subnet).unwrap()).unwrap().id;
        for n in 0..routes {
            b.route(table, &block(n), RouteTarget::InternetGateway(igw));
        }
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

    /// The frame of the flow with this number: one of many clients' ports to one of 32 services, each of which a gateway
    /// serves 55,000 times.
    fn frame(&self, n: usize) -> (u16, Vec<u8>) {
        let (src, dst) = (source(n), destination(n));
        let rest = n / usize::from(ENDS) / usize::from(ENDS);
        let body = Body::Udp { from: 1024 + (rest / 4) as u16, to: 7 + (rest % 4) as u16, length: 64 };
        let port = self.port(src);
        let eni = self.snapshot.eni(port);
        let router = self.snapshot.subnet(eni.subnet).router_mac.0;
        (port, Packet::to(dst, body).frame(src, eni.mac.0, router))
    }

    fn send(&mut self, port: u16, frame: &mut [u8]) -> Option<u16> {
        let (mut to, answer) = (None, &mut self.answer);
        let sent = &mut [Sent { port, vnet: VnetHeader::PLAIN, frame }];
        self.engine.process(&mut self.cache, &self.snapshot, self.now, sent, &mut |port, _, frame| {
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

/// Time of a packet of so many flows, in random order, nanoseconds.
fn hits(lab: &mut Lab, flows: usize, random: &mut Random) -> f64 {
    const ROUNDS: usize = 500;
    let mut spent = 0;
    for _ in 0..ROUNDS {
        // More than one batch, for asking for the time costs as much as some packets.
        let mut frames: Vec<_> = (0..4 * BATCH).map(|_| lab.frame(random.below(flows))).collect();
        let sent = frames.iter_mut().map(|(port, frame)| Sent { port: *port, vnet: VnetHeader::PLAIN, frame });
        let mut sent: Vec<_> = sent.collect();
        let begin = processor_time();
        for batch in sent.chunks_mut(BATCH) {
            lab.engine.process(&mut lab.cache, &lab.snapshot, lab.now, batch, &mut |_, _, frame| {
                black_box(frame);
            });
        }
        spent += processor_time() - begin;
    }
    spent as f64 / (ROUNDS * 4 * BATCH) as f64
}

/// Sends these flows' packets once, in batches: the processor time of each batch.
fn each_once(lab: &mut Lab, flows: std::ops::Range<usize>) -> Vec<u64> {
    let mut frames = flows.map(|n| lab.frame(n)).collect::<Vec<_>>();
    let mut frames = frames.chunks_mut(BATCH);
    turns(|_| {
        let Some(batch) = frames.next() else { return false };
        for (port, frame) in batch {
            lab.send(*port, frame);
        }
        true
    })
}

fn medians<const N: usize>(mut of: [impl FnMut() -> f64; N]) -> [f64; N] {
    let mut runs = vec![[0.0; N]; RUNS];
    for run in &mut runs {
        run.iter_mut().zip(&mut of).for_each(|(figure, measure)| *figure = measure());
    }
    std::array::from_fn(|n| median(runs.iter().map(|run| run[n]).collect()))
}

/// What a hit costs.
fn of_hits() {
    let multiply = || {
        let begin = processor_time();
        let mut x = black_box(3_u64);
        for _ in 0..1_000_000 {
            x = black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        (processor_time() - begin) as f64 / 1e6
    };
    row("(a multiplication, for comparison with other machines)", format!("{:.2} ns", medians([multiply])[0]));
    let mut lab = Lab::new(&world(1, 0));
    establish_all(&mut lab, 1);
    let (port, one) = lab.frame(0);
    let parse = || {
        let begin = processor_time();
        for _ in 0..100_000 {
            let _ = black_box(minivpc_packet::parse(&VnetHeader::PLAIN, black_box(&one)));
        }
        (processor_time() - begin) as f64 / 1e5
    };
    row("(of a hit: reading the frame)", format!("{:.1} ns", medians([parse])[0]));
    let labs = [(1, 0), (MOST_RULES, MOST_ROUTES)].map(|(rules, routes)| {
        let mut lab = Lab::new(&world(rules, routes));
        establish_all(&mut lab, 1);
        lab
    });
    let [hit, large] = medians(labs.map(|mut lab| {
        let mut random = Random(1);
        move || hits(&mut lab, 1, &mut random)
    }));
    row("hit: NAT, two groups, 64 bytes of UDP", format!("{hit:.1} ns"));
    row("hit: the same with 490 routes, and 300 rules each way at both ends", format!("{large:.1} ns"));
    let count = allocation_counter::measure(|| {
        let mut frame = [0; 106];
        for _ in 0..1000 {
            frame.copy_from_slice(&one);
            let sent = &mut [Sent { port, vnet: VnetHeader::PLAIN, frame: &mut frame }];
            lab.engine.process(&mut lab.cache, &lab.snapshot, lab.now, sent, &mut |_, _, _| ());
        }
    })
    .count_total;
    row("hit: allocations in 1,000 packets", format!("{count}"));
}

/// What a walk costs.
fn of_walks() {
    const FLOWS: usize = 1000;
    let worlds = [(10, 10), (MOST_RULES, MOST_ROUTES)].map(|(rules, routes)| world(rules, routes));
    let [few, many] = medians(worlds.map(|world| {
        move || {
            let mut lab = Lab::new(&world);
            // The first flow of all makes the tables.
            establish_all(&mut lab, 1);
            each_once(&mut lab, 1..FLOWS).iter().sum::<u64>() as f64 / FLOWS as f64
        }
    }));
    row("first packet: NAT, two groups; 10 routes, 10 rules each way", format!("{few:.0} ns"));
    row("first packet: the same with 490 routes, 300 rules each way", format!("{many:.0} ns"));
}

/// What a question by DNS costs with its answer. Each comes a millisecond after the one before, for that many an interface
/// may ask.
fn of_names() {
    const QUESTIONS: u64 = 20_000;
    let mut article = world(1, 0);
    let (b, vpc) = (&mut article.builder, article.vpc);
    b.apply(Op::ModifyVpcAttribute { vpc, attribute: VpcAttribute::DnsHostnames, value: true });
    let records: [(&str, RecordType, &[&str]); 2] = [
        ("app.corp.example", RecordType::A, &["10.0.1.10"]),
        ("www.corp.example", RecordType::Cname, &["app.corp.example"]),
    ];
    b.hosted_zone(&[vpc], "corp.example", &records);
    let questions = [
        ("an instance's name", "ip-10-0-1-55.ap-northeast-3.compute.internal"),
        ("a name in a private zone", "app.corp.example"),
        ("an alias there", "www.corp.example"),
        ("no name there", "nobody.corp.example"),
    ];
    let mut lab = Lab::new(&article);
    for (what, name) in questions {
        let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        let question: Vec<_> =
            [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0].into_iter().chain(labels).chain([0, 0, 1, 0, 1]).collect();
        let header = [40_000, 53, 8 + question.len() as u16, 0].map(u16::to_be_bytes).concat();
        let packet =
            Packet::to(Ipv4Addr::new(10, 0, 0, 2), Body::Other { protocol: 17, bytes: [header, question].concat() });
        let port = lab.port(source(0));
        let router = lab.snapshot.subnet(lab.snapshot.eni(port).subnet).router_mac.0;
        let frame = packet.frame(source(0), lab.snapshot.eni(port).mac.0, router);
        let asked = || {
            let begin = processor_time();
            for _ in 0..QUESTIONS {
                lab.now = Now(lab.now.0 + 1_000_000);
                assert_eq!(lab.send(port, &mut frame.clone()), Some(port), "it is answered");
            }
            (processor_time() - begin) as f64 / QUESTIONS as f64
        };
        row(&format!("a question by DNS and its answer: {what}"), format!("{:.0} ns", medians([asked])[0]));
    }
}

/// A million flows: how they come, what they cost, and how they go.
fn of_a_million() {
    const MILLION: usize = 1_000_000;
    let mut small = Lab::new(&world(1, 0));
    establish_all(&mut small, 1000);
    let mut lab = Lab::new(&world(1, 0));
    let mut batches = Vec::new();
    let first = allocation_counter::measure(|| batches = each_once(&mut lab, 0..MILLION));
    row("first packet: the average of 10^6", format!("{} ns", batches.iter().sum::<u64>() / MILLION as u64));
    of_turns("growing to 10^6 flows: turns of 64 packets", batches);
    let each = |bytes: i64| format!("{:.0} bytes", bytes as f64 / MILLION as f64);
    row("a flow of one packet: memory", each(first.bytes_current));
    let answered = allocation_counter::measure(|| establish_all(&mut lab, MILLION));
    row(
        "a flow with both directions in the cache: memory, all told",
        each(first.bytes_current + answered.bytes_current),
    );
    let [few, many] = medians([(&mut small, 1000), (&mut lab, MILLION)].map(|(lab, flows)| {
        let mut random = Random(1);
        move || hits(lab, flows, &mut random)
    }));
    row("hit among 10^3 flows, uniformly random", format!("{few:.1} ns"));
    row("hit among 10^6 flows, uniformly random", format!("{many:.1} ns"));
    let later = lab.now.tick().0 + 1000;
    let (cache, state) = (&mut lab.cache, lab.engine.state());
    let of_cache = turns(|_| !cache.tidy(Tick(later)) || cache.metrics().entries.load(Relaxed) > 0);
    of_turns("expiring them: turns of the cache", of_cache);
    let of_state = turns(|turn| {
        state.sweep_part(turn, Tick(later));
        turn + 1 < State::PARTS
    });
    of_turns("expiring them: turns of the state", of_state);
    assert!(state.is_empty());
}

fn establish_all(lab: &mut Lab, flows: usize) {
    for n in 0..flows {
        let (port, frame) = lab.frame(n);
        lab.establish(port, &frame);
    }
}

/// Processor time of each turn, nanoseconds; each says whether there is another one.
fn turns(mut turn: impl FnMut(usize) -> bool) -> Vec<u64> {
    let mut turns = Vec::new();
    for number in 0.. {
        let begin = processor_time();
        let goes_on = turn(number);
        turns.push(processor_time() - begin);
        if !goes_on {
            break;
        }
    }
    turns
}

/// How long turns take: the one in the middle, 99 of 100, 999 of 1000, and the longest. In parentheses the same of as many
/// that do nothing but wait for as long as the one in the middle took: on a shared machine a thread's processor time
/// has in it what others took.
fn of_turns(what: &str, mut turns: Vec<u64>) {
    turns.sort_unstable();
    let middle = turns[turns.len() / 2];
    let mut idle = self::turns(|turn| {
        let begin = processor_time();
        while processor_time() < begin + middle {}
        turn + 1 < turns.len()
    });
    idle.sort_unstable();
    let figure = |part: f64| {
        let of = |turns: &[u64]| turns[((turns.len() - 1) as f64 * part) as usize] as f64 / 1e3;
        format!("{:.0} ({:.0})", of(&turns), of(&idle))
    };
    row(what, format!("{} µs", [0.5, 0.99, 0.999, 1.0].map(figure).join(", ")));
}

/// Of an argument only the part that it names: `cargo bench -p minivpc-dataplane -- walks`.
fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let parts: [(&str, fn()); 4] =
        [("hits", of_hits), ("walks", of_walks), ("names", of_names), ("million", of_a_million)];
    for (name, part) in parts {
        if wanted.as_ref().is_none_or(|wanted| wanted == name) {
            part();
        }
    }
}
