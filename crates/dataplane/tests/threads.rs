//! Four real workers at once: whatever they race for, no lease is held twice, no connection is counted twice, and what
//! a gateway has counted is what has passed it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use minivpc_dataplane::state::NatKey;
use minivpc_dataplane::{Cache, Engine, Kind, Now, Sent, Snapshot, compile, tcp_flags};
use minivpc_model::{Peer, Traffic};
use minivpc_packet::{Frame, VnetHeader, parse};
use minivpc_testkit::random::Random;
use minivpc_testkit::{Body, Packet, article};

const WORKERS: usize = 4;
const FRAMES: usize = 40_000;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 149);

fn snapshot() -> Snapshot {
    let mut article = article("10.0.0.0/16");
    let (vpc, near, far) = (article.vpc, article.source, article.destination);
    let b = &mut article.builder;
    let group = b.group(vpc, "all", &[(Traffic::All, Peer::Cidr("10.0.0.0/16".parse().unwrap()))]);
    for n in 0..WORKERS {
        b.instance(near, &format!("client-{n}"), &format!("10.0.0.{}", 20 + n), &[group], true);
        b.instance(far, &format!("server-{n}"), &format!("10.0.1.{}", 20 + n), &[group], true);
    }
    compile(&b.world, 1).unwrap()
}

/// What all workers share.
struct Lab {
    snapshot: Snapshot,
    engine: Engine,
    now: AtomicU64,
    /// Frames that have arrived at each port and may be answered.
    arrived: Vec<Mutex<VecDeque<Vec<u8>>>>,
    /// Packets that the gateway has passed on to servers, and to clients.
    outward: AtomicU64,
    inward: AtomicU64,
}

impl Lab {
    fn send(&self, cache: &mut Cache, port: u16, mut frame: Vec<u8>) {
        let (now, vnet) = (Now(self.now.load(Relaxed)), VnetHeader::PLAIN);
        let mut emit = |to: u16, vnet: &VnetHeader, frame: &[u8]| {
            let Ok(Frame::Ipv4(packet)) = parse(vnet, frame) else { panic!("a malformed frame") };
            let is_server = self.snapshot.eni(to).name.starts_with("server");
            let counter = if is_server { &self.outward } else { &self.inward };
            assert!(!is_server || packet.headers.flow.src == IpAddr::V4(GATEWAY));
            counter.fetch_add(1, Relaxed);
            let mut queue = self.arrived[usize::from(to)].lock().unwrap();
            if queue.len() < 64 {
                queue.push_back(frame.to_vec());
            }
        };
        self.engine.process(cache, &self.snapshot, now, &mut [Sent { port, vnet, frame: &mut frame }], &mut emit);
    }

    /// A worker's ports talk to each other's, often with the same few ports of their own, so that flows meet.
    fn work(&self, worker: usize) {
        let (mut random, mut cache) = (Random(worker as u64), Cache::new(256));
        let of_worker = |port: &u16| usize::from(*port) % WORKERS == worker;
        let ports: Vec<u16> = (0..self.snapshot.enis.len() as u16).filter(of_worker).collect();
        for _ in 0..FRAMES {
            let port = random.of(&ports);
            let eni = self.snapshot.eni(port);
            let IpAddr::V4(own) = eni.ip else { panic!("IPv6") };
            let router = self.snapshot.subnet(eni.subnet).router_mac.0;
            let answered = self.arrived[usize::from(port)].lock().unwrap().pop_front();
            let packet = match answered.as_deref().map(|frame| parse(&VnetHeader::PLAIN, frame)) {
                Some(Ok(Frame::Ipv4(arrived))) if !random.one_in(4) => answer(&mut random, &arrived.headers),
                _ if eni.name.starts_with("client") => Some(request(&mut random)),
                _ => None,
            };
            if let Some(packet) = packet {
                self.send(&mut cache, port, packet.frame(own, eni.mac.0, router));
            }
            cache.tidy(Now(self.now.load(Relaxed)).tick());
        }
    }
}

fn request(random: &mut Random) -> Packet {
    let server = Ipv4Addr::new(10, 0, 1, 20 + random.below(WORKERS) as u8);
    let from = 5000 + random.below(200) as u16;
    let body = match random.below(4) {
        0 => Body::Echo { id: from, seq: 1 },
        1 => Body::Tcp { from, to: 80, flags: random.of(&[tcp_flags::SYN, tcp_flags::ACK, tcp_flags::RST]) },
        _ => Body::Udp { from, to: 53, length: 8 },
    };
    Packet::to(server, body)
}

fn answer(random: &mut Random, arrived: &minivpc_dataplane::Headers) -> Option<Packet> {
    let flow = arrived.flow;
    let IpAddr::V4(dst) = flow.src else { return None };
    let body = match arrived.kind {
        Kind::EchoRequest => Body::EchoReply { id: flow.src_port },
        Kind::Udp => Body::Udp { from: flow.dst_port, to: flow.src_port, length: 8 },
        Kind::Tcp(flags) if flags & tcp_flags::RST == 0 => {
            let flags = random.of(&[tcp_flags::SYN | tcp_flags::ACK, tcp_flags::ACK, tcp_flags::FIN | tcp_flags::ACK]);
            Body::Tcp { from: flow.dst_port, to: flow.src_port, flags }
        }
        _ => return None,
    };
    Some(Packet::to(dst, body))
}

#[test]
fn workers_that_race_share_nothing_twice() {
    let snapshot = snapshot();
    let lab = Lab {
        arrived: snapshot.enis.iter().map(|_| Mutex::default()).collect(),
        snapshot,
        engine: Engine::new(NatKey([7; 16])),
        now: AtomicU64::new(Now::seconds(1).0),
        outward: AtomicU64::new(0),
        inward: AtomicU64::new(0),
    };
    let state = lab.engine.state();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Time flies, so that flows expire under the workers.
        let sweeper = scope.spawn(|| {
            while !done.load(Relaxed) {
                let now = lab.now.fetch_add(Now::seconds(7).0, Relaxed);
                state.sweep(Now(now).tick());
            }
        });
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn({
                    let lab = &lab;
                    move || lab.work(worker)
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Relaxed);
        sweeper.join().unwrap();
    });
    let now = Now(lab.now.load(Relaxed)).tick();
    state.sweep(now);
    let counts = state.counts();
    assert_eq!(counts.leases, counts.sessions, "a lease for each session");
    let sessions = state.sessions(now);
    assert_eq!(sessions.len() as u64, counts.sessions);
    let leases: HashSet<_> = sessions.iter().map(|session| session.lease()).collect();
    assert_eq!(leases.len(), sessions.len(), "no lease twice");
    let connections = state.connections(now);
    let keys: HashSet<_> = connections.iter().map(|connection| connection.key).collect();
    assert_eq!(keys.len(), connections.len(), "no connection twice");
    let mut tracked = HashMap::new();
    connections.iter().for_each(|connection| *tracked.entry(connection.key.eni).or_default() += 1);
    for eni in &lab.snapshot.enis {
        let counted = state.tracking(eni.serial).connections.load(Relaxed);
        assert_eq!(counted, tracked.get(&eni.serial).copied().unwrap_or(0), "connections of {}", eni.name);
    }
    let gateway = lab.snapshot.eni(lab.snapshot.nat(0).eni).serial;
    let metrics = state.metrics(gateway);
    // What the gateway says itself, resets, isn't carried by it.
    assert_eq!(metrics.out_to_destination.packets.load(Relaxed), lab.outward.load(Relaxed));
    assert!(metrics.out_to_source.packets.load(Relaxed) <= lab.inward.load(Relaxed));
    assert!(lab.outward.load(Relaxed) > FRAMES as u64, "most requests get through");
}
