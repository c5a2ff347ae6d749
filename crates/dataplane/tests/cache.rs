//! The flow cache can't be seen: whatever guests send, whatever changes and however time goes by, an engine says, counts
//! and remembers the same without a cache, with one of a single entry, with one that is emptied at random, and with
//! four workers that each have their own and may be a generation behind.
//!
//! A conversation is held with an engine that has no cache, and written down. Its inputs then go to other engines.
//! A failure prints the seed: `MINIVPC_SEED=N cargo test -p minivpc-dataplane --test cache` repeats it, and
//! `MINIVPC_WORLDS=N` holds more conversations.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering::Relaxed;

use ipnet::{IpNet, Ipv4Net};
use minivpc_dataplane::state::NatKey;
use minivpc_dataplane::{Cache, Dropped, Engine, EniKind, Kind, Now, Sent, Snapshot, Subject, compile, tcp_flags};
use minivpc_model::{Op, Peer, RuleAction, SecurityGroupId, Serial, SubnetId, Traffic, VpcId, World};
use minivpc_packet::{Frame, Mac, VnetHeader, parse};
use minivpc_testkit::oracle::NextHop;
use minivpc_testkit::random::{self, Random, body};
use minivpc_testkit::{Body, Builder, Packet, Seen, cut, everything};

/// Conversations, and inputs of each.
const WORLDS: u64 = 60;
const INPUTS: usize = 300;
const WORKERS: usize = 4;
/// Packets that may be said again; so few that conversations go on.
const MOST_SAID: usize = 12;

/// All that an engine consumes.
#[derive(Debug, Clone)]
enum Input {
    /// A guest sends a frame, and its worker forwards by this generation.
    Frame { from: Serial, generation: usize, vnet: VnetHeader, frame: Vec<u8> },
    /// Nanoseconds go by.
    Wait(u64),
    /// What has ended is forgotten.
    Sweep,
}

type Emitted = (Serial, VnetHeader, Vec<u8>);

/// What can be seen of an engine but for what it emits.
#[derive(Debug, PartialEq)]
struct Visible {
    connections: BTreeSet<String>,
    sessions: BTreeSet<String>,
    drops: BTreeSet<String>,
    counters: Vec<String>,
}

struct Lab<'a> {
    engine: Engine,
    snapshots: &'a [Snapshot],
    caches: Vec<Cache>,
    now: Now,
}

impl<'a> Lab<'a> {
    /// One worker for each of the caches.
    fn new(snapshots: &'a [Snapshot], caches: Vec<Cache>) -> Self {
        Self { engine: Engine::new(NatKey([7; 16])), snapshots, caches, now: Now::seconds(1) }
    }

    fn step(&mut self, input: &Input) -> Vec<Emitted> {
        match input {
            Input::Wait(nanoseconds) => self.now = Now(self.now.0 + nanoseconds),
            Input::Sweep => self.engine.state().sweep(self.now.tick()),
            Input::Frame { generation, .. } => return self.send(*generation, &[input]),
        }
        Vec::new()
    }

    /// One worker sends all of these frames at once.
    fn send(&mut self, generation: usize, inputs: &[&Input]) -> Vec<Emitted> {
        let snapshot = &self.snapshots[generation];
        let frame = |input: &&Input| match input {
            Input::Frame { from, vnet, frame, .. } => Some((snapshot.port_of(*from)?, *vnet, frame.clone())),
            _ => None,
        };
        let mut frames: Vec<_> = inputs.iter().filter_map(frame).collect();
        let Some((port, ..)) = frames.first() else { return Vec::new() };
        let worker = snapshot.serial(*port).0 as usize % self.caches.len();
        let sent = frames.iter_mut().map(|(port, vnet, frame)| Sent { port: *port, vnet: *vnet, frame });
        let mut emitted = Vec::new();
        let mut emit = |to: u16, vnet: &VnetHeader, frame: &[u8]| {
            emitted.push((snapshot.serial(to), *vnet, frame.to_vec()));
        };
        let mut sent: Vec<_> = sent.collect();
        self.engine.process(&mut self.caches[worker], snapshot, self.now, &mut sent, &mut emit);
        emitted
    }

    fn visible(&self) -> Visible {
        let (state, now) = (self.engine.state(), self.now.tick());
        let connection = |c: std::sync::Arc<minivpc_dataplane::state::Connection>| {
            let way = c.way().map(|way| (way.generation, way.steps.clone()));
            format!("{:?} {:?} {:?} {:?} {:?} {way:?}", c.key, c.direction, c.opened, c.phase(), c.last_seen())
        };
        let session = |s: std::sync::Arc<minivpc_dataplane::state::Session>| {
            format!("{:?} {:?} {} {}", s.key, s.endpoint, s.is_established(), s.lives(now))
        };
        let enis = self.snapshots.iter().flat_map(|snapshot| &snapshot.enis);
        let counters = enis.map(|eni| {
            let (tracking, metrics) = (state.tracking(eni.serial), state.metrics(eni.serial));
            format!("{} {} {metrics:?}", eni.name, tracking.connections.load(Relaxed))
        });
        Visible {
            connections: state.connections(now).into_iter().map(connection).collect(),
            sessions: state.sessions(now).into_iter().map(session).collect(),
            drops: self.drops().iter().map(|dropped| format!("{dropped:?}")).collect(),
            counters: counters.collect(),
        }
    }

    fn drops(&self) -> Vec<Dropped> {
        self.engine.drops().list()
    }

    fn hits(&self) -> u64 {
        self.caches.iter().map(|cache| cache.metrics().hits.load(Relaxed)).sum()
    }
}

/// Sessions hold each lease once, and there is none that no session holds.
fn check_leases(lab: &Lab<'_>) {
    let state = lab.engine.state();
    assert_eq!(state.counts().leases, state.counts().sessions, "a lease for each session");
    let leases: Vec<_> = state.sessions(lab.now.tick()).iter().map(|session| session.lease()).collect();
    let different: std::collections::HashSet<_> = leases.iter().collect();
    assert_eq!(different.len(), leases.len(), "no lease twice");
}

/// Somebody who talks through an engine without a cache.
struct Talk<'a> {
    random: Random,
    lab: Lab<'a>,
    worlds: &'a [World],
    /// The generation of each worker.
    workers: [usize; WORKERS],
    latest: usize,
    /// What was sent before, and could be sent again or answered.
    said: Vec<(Serial, Mac, Packet)>,
    log: Vec<(Input, Vec<Emitted>)>,
}

impl Talk<'_> {
    fn go_on(&mut self) {
        match self.random.below(40) {
            0 if self.latest + 1 < self.worlds.len() => self.latest += 1,
            // A worker takes up what was published when its next turn begins.
            1..3 => self.workers[self.random.below(WORKERS)] = self.latest,
            3..5 => {
                let seconds = self.random.of(&[0, 1, 1, 1, 5, 11, 29, 31, 59, 61, 170, 181, 340, 351, 600]);
                let part = self.random.below(1_000_000_000) as u64;
                self.input(Input::Wait(seconds * 1_000_000_000 + part));
            }
            5 => {
                self.input(Input::Sweep);
                check_leases(&self.lab);
            }
            6..12 => self.begin(),
            _ if self.said.is_empty() => self.begin(),
            _ => self.again(),
        }
    }

    /// True if it gets through.
    fn input(&mut self, input: Input) -> bool {
        let before = self.random.one_in(20).then(|| (self.lab.visible(), self.lab.drops()));
        let emitted = self.lab.step(&input);
        for (to, vnet, frame) in &emitted {
            // Also verifies its checksums.
            let Some(seen) = Seen::read(vnet, frame) else { continue };
            self.answer(*to, &seen);
        }
        if let (Some((before, drops)), Input::Frame { .. }) = (before, &input) {
            let after = self.lab.visible();
            let dropped = self.lab.drops().into_iter().filter(|dropped| !drops.contains(dropped));
            // A packet that the network answers isn't dropped, but its answer may be.
            let is_answer = |dropped: Dropped| match dropped.subject {
                Subject::Packet(packet) => match packet.kind {
                    Kind::IcmpError { .. } | Kind::EchoReply => true,
                    Kind::Tcp(flags) => flags & tcp_flags::RST != 0,
                    _ => false,
                },
                _ => false,
            };
            if after.drops != before.drops && !dropped.into_iter().any(is_answer) {
                let flows = |visible: &Visible| (visible.connections.clone(), visible.sessions.clone());
                assert_eq!(flows(&after), flows(&before), "a drop leaves the state as it was");
            }
        }
        let passes = !emitted.is_empty();
        self.log.push((input, emitted));
        passes
    }

    fn begin(&mut self) {
        let world = &self.worlds[self.latest];
        let far = random::far(world);
        let (sender, next, sent) = random::packet(&mut self.random, world, &far);
        let snapshot = &self.lab.snapshots[self.latest];
        let sender = sender.serial(world);
        let Some(port) = snapshot.port_of(sender) else { return };
        let mac = match next {
            NextHop::Router => snapshot.macs(port).1.0,
            NextHop::Neighbour(eni) => world.network_interface(eni).unwrap().mac.0,
        };
        let mut packet = Packet { src: Some(sent.src), dst: sent.dst, ttl: sent.ttl, body: body(sent.what) };
        if let Body::Echo { id, .. } = &mut packet.body
            && self.random.one_in(2)
        {
            *id = 0;
        }
        self.say(sender, mac, packet);
    }

    /// More of a flow: mostly the same again, sometimes what ends it or fits it badly.
    fn again(&mut self) {
        let (sender, mac, mut packet) = self.said[self.random.below(self.said.len())].clone();
        if self.random.one_in(8) {
            packet.ttl = self.random.of(&random::TTLS);
        }
        match &mut packet.body {
            Body::Tcp { flags, .. } => {
                use tcp_flags::{ACK, FIN, RST, SYN};
                *flags = self.random.of(&[ACK, ACK, ACK, ACK, ACK, ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST]);
            }
            Body::Udp { length, .. } => *length = self.random.of(&[8, 8, 8, 8, 33, 8480, 9000]),
            _ => {}
        }
        for _ in 0..1 + self.random.below(6) {
            self.say(sender, mac, packet.clone());
        }
    }

    /// What a guest could say to what has arrived.
    fn answer(&mut self, by: Serial, arrived: &Seen) {
        let flow = arrived.headers.flow;
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (flow.dst, flow.src) else { return };
        let body = match arrived.headers.kind {
            Kind::EchoRequest => Body::EchoReply { id: flow.src_port },
            Kind::Udp if self.random.one_in(6) => {
                let quoted = arrived.frame[14..].to_vec();
                Body::Error { kind: 3, code: 3, quoted }
            }
            Kind::Udp => Body::Udp { from: flow.dst_port, to: flow.src_port, length: 8 },
            Kind::Tcp(flags) if flags & tcp_flags::RST == 0 => {
                let flags = if flags == tcp_flags::SYN { flags | tcp_flags::ACK } else { tcp_flags::ACK };
                Body::Tcp { from: flow.dst_port, to: flow.src_port, flags }
            }
            _ => return,
        };
        let packet = Packet { src: Some(src), dst, ttl: 255, body };
        self.keep((by, arrived.headers.src_mac, packet));
    }

    fn say(&mut self, sender: Serial, to: Mac, packet: Packet) {
        let snapshot = &self.lab.snapshots[self.latest];
        let Some(port) = snapshot.port_of(sender) else { return };
        let generation = self.workers[sender.0 as usize % WORKERS];
        let mac = if self.random.one_in(50) { [2; 6] } else { snapshot.macs(port).0.0 };
        let mut frame = packet.frame(packet.src.unwrap(), mac, to);
        let mut vnet = VnetHeader::PLAIN;
        if let Ok(Frame::Ipv4(parsed)) = parse(&vnet, &frame)
            && parsed.headers.size < 1500
            && self.random.one_in(4)
            && let Some(offset) = [(6, 16), (17, 6)].iter().find(|(p, _)| *p == parsed.headers.flow.protocol)
        {
            // Its checksum is left to the link.
            (vnet.needs_csum, vnet.csum_start, vnet.csum_offset) = (true, parsed.l4 as u16, offset.1);
        }
        let pieces = if self.random.one_in(30) && vnet == VnetHeader::PLAIN && frame.len() > 60 {
            cut(&frame, 48)
        } else {
            if self.random.one_in(60) {
                frame[20] ^= 1;
            }
            vec![frame]
        };
        let mut passes = false;
        for frame in pieces {
            passes |= self.input(Input::Frame { from: sender, generation, vnet, frame });
        }
        // What gets through is worth saying again.
        if passes || self.random.one_in(8) {
            self.keep((sender, to, packet));
        }
    }

    fn keep(&mut self, said: (Serial, Mac, Packet)) {
        if self.said.len() == MOST_SAID {
            let old = self.random.below(self.said.len());
            self.said.swap_remove(old);
        }
        self.said.push(said);
    }
}

/// The inputs of a log once more, to another engine.
fn replay(log: &[(Input, Vec<Emitted>)], wanted: &Visible, mut lab: Lab<'_>, mut flushes: Option<Random>) -> u64 {
    for (number, (input, emitted)) in log.iter().enumerate() {
        if let Some(random) = &mut flushes
            && random.one_in(8)
        {
            let cache = random.below(lab.caches.len());
            lab.caches[cache].clear();
        }
        for cache in &mut lab.caches {
            cache.tidy(lab.now.tick());
        }
        assert_eq!(lab.step(input), *emitted, "input {number}: {input:?}");
    }
    assert_eq!(lab.visible(), *wanted);
    check_leases(&lab);
    lab.hits()
}

/// The same with one worker that takes all frames at once which nothing else comes between.
fn replay_in_batches(log: &[(Input, Vec<Emitted>)], wanted: &Visible, mut lab: Lab<'_>) -> u64 {
    let generation_of = |input: &Input| match input {
        Input::Frame { generation, .. } => Some(*generation),
        _ => None,
    };
    let go_together = |(one, _): &(Input, _), (other, _): &(Input, _)| {
        generation_of(one).is_some_and(|generation| generation_of(other) == Some(generation))
    };
    for run in log.chunk_by(go_together) {
        let inputs: Vec<_> = run.iter().map(|(input, _)| input).collect();
        let emitted = match generation_of(inputs[0]) {
            Some(generation) => lab.send(generation, &inputs),
            None => lab.step(inputs[0]),
        };
        let one_by_one: Vec<_> = run.iter().flat_map(|(_, emitted)| emitted.clone()).collect();
        assert_eq!(emitted, one_by_one);
    }
    assert_eq!(lab.visible(), *wanted);
    lab.hits()
}

/// Frames, and how many of them were hits in each of the ways.
#[derive(Debug, Default)]
struct Met {
    frames: u64,
    emitted: u64,
    single: u64,
    flushed: u64,
    normal: u64,
    batches: u64,
    workers: u64,
}

fn hold(seed: u64, met: &mut Met) {
    let mut random = Random(seed);
    let mut worlds = vec![if random.one_in(2) { everything() } else { random::world(&mut random) }];
    for _ in 0..4 {
        worlds.push(random::changed(&mut random, worlds.last().unwrap()));
    }
    let snapshots: Vec<_> = worlds.iter().zip(1..).map(|(world, number)| compile(world, number).unwrap()).collect();
    assert!(snapshots[0].enis.iter().any(|eni| matches!(eni.kind, EniKind::Guest { .. })));
    let off = || vec![Cache::new(0)];
    let mut talk = Talk {
        random,
        lab: Lab::new(&snapshots, off()),
        worlds: &worlds,
        workers: [0; WORKERS],
        latest: 0,
        said: Vec::new(),
        log: Vec::new(),
    };
    while talk.log.len() < INPUTS {
        talk.go_on();
    }
    let (log, wanted) = (&talk.log, talk.lab.visible());
    let frames = log.iter().filter(|(input, _)| matches!(input, Input::Frame { .. }));
    met.frames += frames.count() as u64;
    met.emitted += log.iter().map(|(_, emitted)| emitted.len() as u64).sum::<u64>();
    let with = |caches| Lab::new(&snapshots, caches);
    assert_eq!(replay(log, &wanted, with(off()), None), 0, "a log replays to the same bytes");
    met.single += replay(log, &wanted, with(vec![Cache::new(1)]), None);
    met.flushed += replay(log, &wanted, with(vec![Cache::new(8)]), Some(Random(seed)));
    met.normal += replay(log, &wanted, with(vec![Cache::new(1 << 12)]), None);
    met.batches += replay_in_batches(log, &wanted, with(vec![Cache::new(1 << 12)]));
    met.workers += replay(log, &wanted, with((0..WORKERS).map(|_| Cache::new(1 << 12)).collect()), None);
}

#[test]
fn nobody_can_tell_that_there_is_a_cache() {
    let mut met = Met::default();
    let worlds = random::each_seed(WORLDS, |seed| hold(seed, &mut met));
    println!("{met:#?}");
    if worlds >= WORLDS {
        assert!(met.emitted * 4 > met.frames, "most frames are dropped");
        for hits in [met.single, met.flushed, met.normal, met.batches, met.workers] {
            assert!(hits * 50 > met.frames, "hardly any frame is forwarded by the cache");
        }
    }
}

/// The frames of a conversation with the cache and without it: what is emitted and what can be seen.
fn compare(worlds: &[World], inputs: &[(usize, &str, Packet)]) -> u64 {
    let snapshots: Vec<_> = worlds.iter().zip(1..).map(|(world, number)| compile(world, number).unwrap()).collect();
    let eni = |name: &str| snapshots[0].enis.iter().find(|eni| eni.name == format!("{name}/eth0")).unwrap();
    let frame = |(generation, from, packet): &(usize, &str, Packet)| {
        let eni = eni(from);
        let router = snapshots[0].subnet(eni.subnet).router_mac.0;
        let IpAddr::V4(own) = eni.ip else { panic!("IPv6") };
        let frame = packet.frame(own, eni.mac.0, router);
        Input::Frame { from: eni.serial, generation: *generation, vnet: VnetHeader::PLAIN, frame }
    };
    let mut off = Lab::new(&snapshots, vec![Cache::new(0)]);
    let inputs = inputs.iter().map(frame);
    let log: Vec<_> = inputs.map(|input| (input.clone(), off.step(&input))).collect();
    replay(&log, &off.visible(), Lab::new(&snapshots, vec![Cache::new(1 << 12)]), None)
}

/// Two instances in two subnets, `a` and `b`, whose group lets everything in; and the group.
fn pair() -> (Builder, VpcId, SubnetId, SecurityGroupId) {
    let mut b = Builder::default();
    let vpc = b.vpc("main", "10.0.0.0/16");
    let (near, far) = (b.subnet(vpc, "near", "10.0.0.0/24"), b.subnet(vpc, "far", "10.0.1.0/24"));
    let group = b.group(vpc, "open", &[EVERYTHING]);
    b.instance(near, "a", "10.0.0.10", &[group], true);
    b.instance(far, "b", "10.0.1.10", &[group], true);
    (b, vpc, far, group)
}

const EVERYBODY: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
const EVERYTHING: (Traffic, Peer) = (Traffic::All, Peer::Cidr(IpNet::V4(EVERYBODY)));
const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);

#[test]
fn sg_13_an_untracked_flow_rests_on_there_being_no_connection() {
    let (mut b, _, _, group) = pair();
    let open = b.world.clone();
    let (traffic, peer) = EVERYTHING;
    b.apply(Op::RevokeSecurityGroupIngress { group, traffic, peer });
    b.ingress(group, (Traffic::All, Peer::Cidr("10.0.0.0/16".parse().unwrap())));
    let there = (0, "a", Packet::to(B, Body::Udp { from: 5000, to: 7, length: 8 }));
    let back = Packet::to(A, Body::Udp { from: 7, to: 5000, length: 8 });
    // Somebody's worker is a generation ahead, where the answer is of a tracked connection: then so is the flow.
    let ahead = (1, "b", back);
    let hits = compare(&[open, b.world], &[there.clone(), there.clone(), ahead, there.clone(), there]);
    assert!(hits > 0);
}

#[test]
fn a_request_and_a_reply_with_id_0_are_two_flows() {
    let (mut b, vpc, far, _) = pair();
    let icmp = |kind| Traffic::Icmp { kind: Some(kind), code: None };
    let (allow, deny) = (RuleAction::Allow, RuleAction::Deny);
    let everybody = "0.0.0.0/0";
    b.acl(
        vpc,
        far,
        &[
            (false, 90, deny, icmp(0), everybody),
            (false, 100, allow, Traffic::All, everybody),
            (true, 100, allow, Traffic::All, everybody),
        ],
    );
    let request = (0, "a", Packet::to(B, Body::Echo { id: 0, seq: 1 }));
    let answered = (0, "b", Packet::to(A, Body::EchoReply { id: 0 }));
    let reply = (0, "a", Packet::to(B, Body::EchoReply { id: 0 }));
    let inputs = [request.clone(), answered, request.clone(), request.clone(), request, reply];
    assert!(compare(&[b.world], &inputs) > 0);
}

#[test]
fn a_batch_of_many_flows_is_forwarded_as_each_packet_alone() {
    const FLOWS: u16 = 6000;
    let (b, ..) = pair();
    let snapshots = [compile(&b.world, 1).unwrap()];
    let eni = |name: &str| snapshots[0].enis.iter().find(|eni| eni.name == format!("{name}/eth0")).unwrap();
    let (from, router) = (eni("a"), snapshots[0].subnet(eni("a").subnet).router_mac.0);
    let packet = |flow: u16| {
        let frame = Packet::to(B, Body::Udp { from: 1024 + flow, to: 7, length: 8 }).frame(A, from.mac.0, router);
        Input::Frame { from: from.serial, generation: 0, vnet: VnetHeader::PLAIN, frame }
    };
    let inputs: Vec<_> = (0..FLOWS).chain(0..FLOWS).chain((0..FLOWS).rev()).map(packet).collect();
    let mut off = Lab::new(&snapshots, vec![Cache::new(0)]);
    let log: Vec<_> = inputs.into_iter().map(|input| (input.clone(), off.step(&input))).collect();
    let hits = replay_in_batches(&log, &off.visible(), Lab::new(&snapshots, vec![Cache::new(2 * usize::from(FLOWS))]));
    assert_eq!(hits, 2 * u64::from(FLOWS), "all but the first packet of each flow");
}
