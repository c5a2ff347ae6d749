//! What happens to a packet?
//!
//! [`compile`] turns a model into a [`Snapshot`]. [`Engine::process`] takes the frames that guests have sent and emits
//! what comes of them. There are three ways through it:
//!
//! ```text
//!   frame ─ parse ─┬─ ARP ──────────────────────────────────→ answer
//!                  └─ IPv4 ─ walk ─┬─ deliver ─ commit ─ edit → port
//!                                  ├─ answer ─ commit → ICMP error or reset, which walks on from where it was made
//!                                  └─ drop → counted with its reason, silent on the wire
//! ```
//!
//! The walk (`walk.rs`) is a pure function of snapshot, state, packet and time: it changes nothing and returns what it
//! wants changed, a [`Txn`]. That is committed **before** the frame is written, because a TAP write runs
//! the receiver's stack, and another worker may read the answer before the write returns. Whoever loses a race walks
//! again. [`Engine::trace`] is the same walk with a recorder that keeps everything, and a transaction thrown away.
//!
//! - `snapshot.rs`, `compile/`: the world as packets see it, immutable, one generation number.
//! - `hops/`: one file per AWS component; `walk.rs`: their order.
//! - `state/`: the truth about flows, shared by all workers, keyed by interface serials so that it outlives snapshots.
//! - `services/`: what a subnet offers by itself.
//! - `rules.rs`: which rules of a list speak of a packet.
//! - `capture.rs`: copies of packets, also of those inside, for whoever looks.
//! - `explain.rs`: what each hop has decided; `words.rs`: the same for people; `drop.rs`: reasons; `drop_log.rs`: what was
//!   dropped.
//!
//! This crate does no I/O, reads no clock and draws no randomness: time and the NAT key are arguments. It never sees
//! a file name.

mod cache;
mod capture;
mod compile;
mod drop;
mod drop_log;
mod explain;
mod hops;
mod rules;
pub mod services;
mod snapshot;
pub mod state;
mod trace;
mod walk;
mod words;

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use minivpc_packet::{
    Arp, Edit, FlowEdit, Frame, Mac, Malformed, Parsed, Segmentation, VnetHeader, fragments, parse, reply,
};

pub use cache::{CAPACITY, Cache, CacheMetrics};
pub use capture::{Armed, Bound, Captured, Point, Side, Sink};
pub use compile::{TooMany, compile};
pub use drop::DropReason;
pub use drop_log::{DropLog, Dropped, Subject};
pub use explain::{
    Check, Component, Full, HostAct, IgwAct, Mismatch, Miss, NatAct, Quiet, Recorded, Recorder, RouterAct, Ruling,
    Step, VgwAct,
};
pub use minivpc_packet::{Headers, Kind, tcp_flags};
pub use services::Service;
pub use snapshot::*;
pub use trace::{Journey, Probe};
pub use walk::{Answer, Verdict};
pub use words::Line;

use cache::{BATCH, Learned, Rests};
use hops::router;
use services::Said;
use state::{NatKey, State, Traffic, Txn, View};
use walk::{At, Walk};

/// A point in time: nanoseconds since the lab came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
pub struct Now(pub u64);

impl Now {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// Time that went by since `earlier`; none if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Now {
    /// The time that flows keep.
    #[must_use]
    pub fn tick(self) -> Tick {
        Tick(self.0.div_ceil(1_000_000_000) as u32)
    }
}

/// Seconds since the lab came up, rounded up: so a timer of T seconds that is set by a packet runs out after more than
/// T and at most T + 1 seconds, and a flow's time need only be written down once a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
pub struct Tick(pub u32);

impl Tick {
    /// Seconds that went by since `earlier`; none if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A frame that a guest has sent.
pub struct Sent<'a> {
    /// By which port.
    pub port: u16,
    /// The header before it.
    pub vnet: VnetHeader,
    /// From its Ethernet header on.
    pub frame: &'a mut [u8],
}

/// TTL of packets that the network itself sends.
const NETWORK_TTL: u8 = 255;
/// Bytes.
const UDP_HEADER: usize = 8;
/// Walks per packet before losing races ends in a drop.
const WALKS: usize = 3;

/// What a walk has come to, committed.
struct Walked<R> {
    verdict: Verdict,
    after: Headers,
    recorder: R,
    txn: Txn,
    /// Largest IP packet that the path carries.
    mtu: Option<u16>,
    /// That of the state that the walk has read, or an earlier one.
    version: u64,
}

/// Forwards the packets of one lab. Shared by all workers.
pub struct Engine {
    state: State,
    drops: DropLog,
    key: NatKey,
    /// When the lab came up, since Unix's epoch.
    began: Duration,
}

impl Engine {
    /// An engine without flows, of a lab that came up in 1970. The same key gives the same NAT ports.
    #[must_use]
    pub fn new(key: NatKey) -> Self {
        Self { state: State::default(), drops: DropLog::default(), key, began: Duration::ZERO }
    }

    /// The same of a lab that came up so long after Unix's epoch.
    #[must_use]
    pub fn began(self, began: Duration) -> Self {
        Self { began, ..self }
    }

    /// Flow state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What was dropped.
    #[must_use]
    pub fn drops(&self) -> &DropLog {
        &self.drops
    }

    /// Takes frames that guests have sent, in order, and emits what comes of each: nothing, or one frame for a port, or
    /// its fragments. Frames are edited in place. `cache` is the calling worker's; a port's frames all come from one
    /// worker, in order. Returns how many of them the cache didn't know.
    pub fn process(
        &self,
        cache: &mut Cache,
        snapshot: &Snapshot,
        now: Now,
        sent: &mut [Sent<'_>],
        emit: &mut impl FnMut(u16, &VnetHeader, &[u8]),
    ) -> usize {
        let mut unknown = 0;
        let emit = &mut |to: u16, vnet: &VnetHeader, frame: &[u8]| {
            if let Some(armed) = &snapshot.armed {
                armed.delivered(snapshot, to, frame);
            }
            emit(to, vnet, frame);
        };
        for batch in sent.chunks_mut(BATCH) {
            cache.look_ahead(&self.state, now.tick(), batch);
            for sent in batch {
                unknown += usize::from(!self.frame(cache, snapshot, now, sent, emit));
            }
        }
        unknown
    }

    /// True if the cache knew it.
    fn frame(
        &self,
        cache: &mut Cache,
        snapshot: &Snapshot,
        now: Now,
        sent: &mut Sent<'_>,
        emit: &mut impl FnMut(u16, &VnetHeader, &[u8]),
    ) -> bool {
        let read = parse(&sent.vnet, sent.frame);
        if let Some(armed) = &snapshot.armed {
            armed.sent(snapshot, sent, &read);
        }
        let (reason, subject) = match &read {
            Ok(Frame::Ipv4(packet)) => {
                let key = cache.key(sent.port, packet);
                let known = key.and_then(|key| cache.find(&self.state, snapshot.generation, now.tick(), &key, packet));
                if let Some(known) = known {
                    known.way.count(packet.wire_packets, packet.wire_bytes);
                    known.edit.apply(packet, &mut sent.vnet, sent.frame);
                    emit(known.to, &sent.vnet, sent.frame);
                    return true;
                }
                let learned = self.forward(snapshot, now, begin(snapshot, sent.port), packet, sent, emit);
                // While somebody looks, each packet walks: he sees it at points of which the cache knows nothing.
                if let (Some(key), Some(learned), None) = (key, learned, &snapshot.armed) {
                    cache.insert(&key, (packet.headers.src_mac, packet.headers.dst_mac), learned);
                }
                return false;
            }
            Ok(Frame::Arp(request)) => match answer_arp(snapshot, sent.port, request) {
                Ok(mac) => {
                    emit(sent.port, &VnetHeader::PLAIN, &reply::arp(request, mac));
                    return false;
                }
                Err(reason) => (reason, Subject::Arp(request.target)),
            },
            Ok(Frame::Ipv6) => (DropReason::Ipv6, Subject::Frame),
            Ok(Frame::Other(ether_type)) => (DropReason::NotIp, Subject::EtherType(*ether_type)),
            Err(check) => (DropReason::Malformed(*check), Subject::Frame),
        };
        self.drop_frame(snapshot, now, sent, (reason, Component::at(snapshot, sent.port)), subject);
        false
    }

    /// Counts a frame that `port` sent behind a virtio-net header that can't be read.
    pub fn malformed(&self, snapshot: &Snapshot, now: Now, port: u16, check: Malformed, frame: &mut [u8]) {
        let sent = Sent { port, vnet: VnetHeader::PLAIN, frame };
        if let Some(armed) = &snapshot.armed {
            armed.sent(snapshot, &sent, &Err(check));
        }
        let by = Component::at(snapshot, port);
        self.drop_frame(snapshot, now, &sent, (DropReason::Malformed(check), by), Subject::Frame);
    }

    /// Counts and shows a frame that is dropped as it is.
    fn drop_frame(
        &self,
        snapshot: &Snapshot,
        now: Now,
        sent: &Sent<'_>,
        (reason, by): (DropReason, Component),
        subject: Subject,
    ) {
        self.drops.count(reason, by, subject, Component::at(snapshot, sent.port), now);
        if let Some(armed) = &snapshot.armed {
            armed.dropped(reason, by, sent.frame);
        }
    }

    /// Walks a packet from `at`. What it learns forwards those that come like it, if they may have an entry.
    fn forward(
        &self,
        snapshot: &Snapshot,
        now: Now,
        at: At,
        packet: &Parsed,
        sent: &mut Sent<'_>,
        emit: &mut impl FnMut(u16, &VnetHeader, &[u8]),
    ) -> Option<Learned> {
        let port = sent.port;
        let Walked { verdict, after, recorder: steps, txn, mtu, version } = match &snapshot.armed {
            None => self.walk_and_commit(snapshot, now, at, packet.headers, Quiet::default),
            Some(armed) => self.walk_watched((snapshot, armed, now), at, packet, sent),
        };
        self.count(snapshot, packet, &steps.0, verdict);
        if let Verdict::Deliver { port: to, .. } = verdict
            && snapshot.port(to) == Port::Services
            && let Err(reason) = self.allowance(snapshot, now, port, packet)
        {
            // Before it has the address by which its sender calls the servers, which is nobody's to see.
            let by = steps.dropper(snapshot, port);
            self.drop_frame(snapshot, now, sent, (reason, by), Subject::Packet(packet.headers));
            return None;
        }
        match verdict {
            Verdict::Deliver { port: to, cut } => {
                let by_a_guest = matches!(at, At::Sent { .. } | At::HostSent { .. });
                let way = by_a_guest.then(|| self.state.way(snapshot, port, &packet.headers, &steps.0));
                Edit::between(&packet.headers, &after).apply(packet, &mut sent.vnet, sent.frame);
                match cut {
                    None => emit(to, &sent.vnet, sent.frame),
                    // Segments that are each too large: no stack sends them without the DF bit.
                    Some(_) if sent.vnet.segmentation != Segmentation::None => {
                        let too_large = (DropReason::TooLarge, Component::at(snapshot, to));
                        self.drop_frame(snapshot, now, sent, too_large, Subject::Packet(after));
                    }
                    Some(mtu) => fragments(packet, sent.frame, mtu, |frame| emit(to, &VnetHeader::PLAIN, frame)),
                }
                // What is sent to a service is counted, each packet.
                if cut.is_some() || snapshot.port(to) == Port::Services {
                    return None;
                }
                Some(Learned {
                    edit: FlowEdit::between(&packet.headers, &after),
                    mtu,
                    to,
                    generation: snapshot.generation,
                    rests: Rests::of(&txn)?,
                    held: (version, now.tick()),
                    way: way?,
                })
            }
            Verdict::Answer { answer, from } => {
                let by = steps.0.last().copied();
                self.answer(snapshot, now, (packet, sent), &after, (answer, from, by), emit);
                None
            }
            Verdict::Drop(reason) => {
                let sender = Component::at(snapshot, port);
                self.drops.count(reason, steps.dropper(snapshot, port), Subject::Packet(after), sender, now);
                None
            }
        }
    }

    fn walk_and_commit<R: Recorder>(
        &self,
        snapshot: &Snapshot,
        now: Now,
        at: At,
        packet: Headers,
        recorder: impl Fn() -> R,
    ) -> Walked<R> {
        for _ in 0..WALKS {
            let version = self.state.version();
            let mut recorder = recorder();
            let view = View::new(&self.state, &[], now.tick());
            let mut walk = Walk::new(snapshot, view, &self.key, now.tick(), packet, &mut recorder);
            let verdict = walk.run(at);
            let (after, txn, mtu) = (walk.packet, walk.txn, walk.meta.mtu);
            if self.state.commit(&txn, now.tick()) {
                return Walked { verdict, after, recorder, txn, mtu, version };
            }
        }
        let verdict = Verdict::Drop(DropReason::Contended);
        Walked { verdict, after: packet, recorder: recorder(), txn: Txn::new(), mtu: None, version: 0 }
    }

    /// The NAT gateways on a packet's way count it, and the interface whose groups had no room to track it.
    fn count(&self, snapshot: &Snapshot, packet: &Parsed, steps: &[Step], verdict: Verdict) {
        let (packets, bytes) = (packet.wire_packets, packet.wire_bytes);
        if verdict == Verdict::Drop(DropReason::ConnectionsExhausted) {
            // Also where a NAT gateway wants what they need not have tracked (SG-15).
            let groups = steps.iter().rev().find_map(|step| match step {
                Step::SecurityGroup { eni, .. } => Some(*eni),
                _ => None,
            });
            if let Some(eni) = groups {
                self.state.tracking(snapshot.eni(eni).serial).refused.fetch_add(packets.into(), Relaxed);
            }
        }
        let traffic = Traffic::of(packets, bytes);
        for step in steps {
            let Step::Nat { nat, act } = *step else { continue };
            let counters = self.state.counters(snapshot.eni(snapshot.nat(nat).eni).serial);
            counters.add(act, &traffic);
            if act == NatAct::Dropped && verdict == Verdict::Drop(DropReason::NatPortAllocation) {
                counters.port_allocation_errors.fetch_add(packets.into(), Relaxed);
            }
        }
    }

    /// What the network says to a sender walks from where it is said on, as any packet does.
    fn answer(
        &self,
        snapshot: &Snapshot,
        now: Now,
        (packet, sent): (&Parsed, &mut Sent<'_>),
        arrived: &Headers,
        (answer, from, by): (Answer, At, Option<Step>),
        emit: &mut impl FnMut(u16, &VnetHeader, &[u8]),
    ) {
        // A quote shows the packet as it came to whom quotes it.
        Edit::between(&packet.headers, arrived).apply(packet, &mut sent.vnet, sent.frame);
        let (port, frame) = (sent.port, &*sent.frame);
        let Ok(Frame::Ipv4(packet)) = parse(&sent.vnet, frame) else { return };
        let mut reply = match answer {
            Answer::TimeExceeded { from: IpAddr::V4(from) } => reply::time_exceeded(&packet, frame, from, NETWORK_TTL),
            Answer::FragmentationNeeded { from: IpAddr::V4(from), mtu } => {
                reply::fragmentation_needed(&packet, frame, from, NETWORK_TTL, mtu)
            }
            Answer::Reset => reply::reset(&packet, frame, NETWORK_TTL),
            Answer::Echo => reply::echo(&packet, frame, NETWORK_TTL),
            Answer::Service(service) => match self.ask(snapshot, now, port, service, (&packet, frame)) {
                Ok(Some(said)) => reply::datagram(said.from, said.to, NETWORK_TTL, &said.payload),
                Ok(None) => return,
                Err(reason) => {
                    let by = by.map_or_else(|| Component::at(snapshot, port), |step| step.component(snapshot));
                    return self.drop_frame(snapshot, now, sent, (reason, by), Subject::Packet(packet.headers));
                }
            },
            Answer::TimeExceeded { .. } | Answer::FragmentationNeeded { .. } => return,
        };
        if let Some(armed) = &snapshot.armed {
            armed.said(snapshot, by, arrived, &mut reply);
        }
        if let Ok(Frame::Ipv4(packet)) = parse(&VnetHeader::PLAIN, &reply) {
            let mut sent = Sent { port, vnet: VnetHeader::PLAIN, frame: &mut reply };
            self.forward(snapshot, now, from, &packet, &mut sent, emit);
        }
    }
}

impl Engine {
    /// Counts a packet from a port to the services of its subnet (DNS-2).
    fn allowance(&self, snapshot: &Snapshot, now: Now, port: u16, packet: &Parsed) -> Result<(), DropReason> {
        let asks = self.state.tracking(snapshot.serial(port)).asks(now.tick(), packet.wire_packets);
        asks.then_some(()).ok_or(DropReason::ServiceAllowance)
    }

    /// What a service of its subnet answers whom is at a port.
    fn ask(
        &self,
        snapshot: &Snapshot,
        now: Now,
        port: u16,
        service: Service,
        (packet, frame): (&Parsed, &[u8]),
    ) -> Result<Option<Said>, DropReason> {
        self.allowance(snapshot, now, port, packet)?;
        let (question, time) = (&frame[packet.l4 + UDP_HEADER..packet.end], self.began + Duration::from_nanos(now.0));
        service.answer(snapshot, port, &packet.headers, question, time)
    }
}

/// Where the walk of what is sent at a port begins.
fn begin(snapshot: &Snapshot, port: u16) -> At {
    match snapshot.port(port) {
        Port::Eni(eni) => At::Sent { eni },
        Port::Host(host) => At::HostSent { host },
        Port::Services => At::ServiceSays,
    }
}

/// The network answers ARP itself, for what it knows (R-6, R-8, R-9). Questions never reach a neighbour.
fn answer_arp(snapshot: &Snapshot, port: u16, request: &Arp) -> Result<Mac, DropReason> {
    let (own, router) = snapshot.macs(port);
    if request.src_mac != own.0 || request.sender_mac != own.0 {
        return Err(DropReason::SourceMac);
    }
    if !request.request || request.sender == request.target {
        return Err(DropReason::ArpAnnouncement);
    }
    let asker = match snapshot.port(port) {
        Port::Eni(eni) => snapshot.eni(eni),
        // A host has nobody but its router on its link, and so have the services.
        Port::Host(host) if snapshot.host(host).ip == IpAddr::V4(request.target) => {
            return Err(DropReason::ArpUnanswered);
        }
        Port::Host(_) | Port::Services => return Ok(router.0),
    };
    let subnet = snapshot.subnet(asker.subnet);
    if request.target == subnet.router {
        return Ok(router.0);
    }
    // R-9: guests have routes on the link for them.
    if router::is_link_local_service(request.target.into())
        || (request.target == subnet.resolver && subnet.cidr.contains(&subnet.resolver))
    {
        return Ok(router.0);
    }
    let holder = snapshot.owner(subnet.vpc, request.target.into()).map(|index| (index, snapshot.eni(index)));
    match holder {
        Some((index, holder)) if holder.subnet == asker.subnet && index != port => Ok(holder.mac.0),
        _ => Err(DropReason::ArpUnanswered),
    }
}
