//! Flows that a worker has forwarded and whose next packets need no walk: compiled edits, never the truth.
//!
//! Each direction of a flow is an entry of its own, made by its own packet's walk. An entry holds as long as what that
//! walk has read: the snapshot, by its generation, and what it found in the flow state, each record in its phase or
//! none where there was none. Whether those still hold is asked once a second and after each change of the state that
//! could matter, by [`State::version`]; asking also writes down that the flow is in use. So a cache may vanish at any
//! instant and nobody can tell.
//!
//! What only a walk can judge takes the walk although its flow is known (`Name::of`, `Entry::admits`): packets that
//! begin or end something, fragments, options, ICMP errors, a TTL that would run out, a size that would not fit.
//!
//! The index is a fixed array, of which the kernel gives only the pages that are used; entries are in chunks. So the
//! cache grows and shrinks by one entry at a time, and nothing is ever moved but an entry into a gap.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arrayvec::ArrayVec;
use foldhash::quality::RandomState;
use minivpc_model::Serial;
use minivpc_packet::{ETHERNET, Flow, FlowEdit, Frame, Kind, Mac, Parsed, parse, tcp_flags};

use crate::state::{Change, Connection, ConnectionKey, Phase, Session, State, Txn, Way};
use crate::{Sent, Tick};

/// Most entries of a worker: as many as both directions of all sessions that a lab may have.
pub const CAPACITY: usize = (1 << 21) - 1;
/// Places in a bucket of the index, which is a line of the processor's cache.
const PLACES: usize = 16;
const CHUNK: usize = 256;
/// Bits of a place that number an entry, from 1; the others tell entries of a bucket apart.
const NUMBER: u32 = 0x001f_ffff;
/// A place without an entry.
const FREE: u32 = 0;
/// Most frames that [`Cache::look_ahead`] takes at once.
pub(crate) const BATCH: usize = 64;
/// With as many entries what packets need of them is no longer at hand in the processor's own caches.
const FAR: usize = 4096;
/// Seconds after which an unused entry goes.
const IDLE: u32 = 10;
/// Most records that a cached flow may rest on: two connections and two NAT gateways.
const MOST_RESTS: usize = 4;

/// A worker's flows. Each worker has its own.
pub struct Cache {
    /// Buckets of [`PLACES`], one after the other.
    index: Vec<u32>,
    chunks: Vec<Vec<Entry>>,
    len: usize,
    capacity: usize,
    hasher: RandomState,
    /// Which entry [`Cache::tidy`] looks at next.
    hand: usize,
    metrics: Arc<CacheMetrics>,
}

/// What a worker's cache counts.
#[derive(Debug, Default)]
pub struct CacheMetrics {
    /// Entries now.
    pub entries: AtomicU64,
    /// Packets that were forwarded by an entry.
    pub hits: AtomicU64,
    /// Packets that had to walk.
    pub misses: AtomicU64,
    /// Entries that had to go for others.
    pub evictions: AtomicU64,
}

impl CacheMetrics {
    /// Only the cache's worker writes, so nobody else's count gets lost.
    fn add(counter: &AtomicU64) {
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }
}

/// A flow as it comes from a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    name: Name<'a>,
    hash: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name<'a> {
    flow: &'a Flow,
    port: u16,
    /// Echo replies have the flow that a request with its id in the other place would have.
    is_echo_reply: bool,
}

impl<'a> Name<'a> {
    /// That of a packet whose flow may have an entry.
    fn of(port: u16, packet: &'a Parsed) -> Option<Self> {
        const ENDS: u8 = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST;
        let headers = &packet.headers;
        let is_echo_reply = match headers.kind {
            Kind::Tcp(flags) if flags & ENDS != 0 => return None,
            Kind::Tcp(_) | Kind::Udp | Kind::EchoRequest | Kind::Other => false,
            Kind::EchoReply => true,
            Kind::IcmpError { .. } | Kind::Icmp { .. } => return None,
        };
        let has_options = packet.l4 != ETHERNET + 20;
        let may = headers.fragment.is_none() && !has_options;
        may.then_some(Self { flow: &headers.flow, port, is_echo_reply })
    }

    fn hash(&self, hasher: &RandomState) -> u64 {
        let mut hasher = hasher.build_hasher();
        let Flow { src, dst, protocol, src_port, dst_port } = *self.flow;
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                hasher.write_u64(u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits()));
            }
            (src, dst) => {
                let wide = |address| match address {
                    IpAddr::V4(v4) => u128::from(v4.to_bits()),
                    IpAddr::V6(v6) => v6.to_bits(),
                };
                hasher.write_u128(wide(src));
                hasher.write_u128(wide(dst));
            }
        }
        let ports = u64::from(src_port) << 48 | u64::from(dst_port) << 32;
        hasher
            .write_u64(ports | u64::from(protocol) << 24 | u64::from(self.is_echo_reply) << 16 | u64::from(self.port));
        hasher.finish()
    }
}

/// Something that a walk has read in the flow state, as it was.
#[derive(Debug, Clone)]
enum Rest {
    Connection(Arc<Connection>, Phase),
    Session(Arc<Session>, u8),
    /// No connection of the packet's flow at this interface (SG-13).
    Untracked(Serial),
}

impl Rest {
    /// Something of what [`Rests::hold`] looks at.
    fn touch(&self) -> u64 {
        match self {
            Self::Connection(connection, _) => connection.last_seen().0.into(),
            Self::Session(session, _) => session.last_seen().0.into(),
            Self::Untracked(_) => 0,
        }
    }
}

/// What a walk has read, if it is all that it has read and packets like its own leave it as it is.
pub struct Rests(ArrayVec<Rest, MOST_RESTS>);

impl Rests {
    /// What the walk read that has committed `txn`.
    pub fn of(txn: &Txn) -> Option<Self> {
        let rest = |change: &Change| match change {
            Change::SeeConnection(connection, sight) => {
                Some(Rest::Connection(Arc::clone(connection), connection.steady(*sight)?))
            }
            Change::SeeSession(session, sight) => Some(Rest::Session(Arc::clone(session), session.steady(*sight)?)),
            Change::LeaveUntracked(key, _) => Some(Rest::Untracked(key.eni)),
            // There was none, and now there is one: the next packet reads something else.
            Change::OpenSession(..) | Change::OpenConnection(..) => None,
            Change::PinDatagram(_) | Change::UnpinDatagram(_) => None,
        };
        let mut rests = ArrayVec::new();
        for change in txn {
            rests.try_push(rest(change)?).ok()?;
        }
        Some(Self(rests))
    }

    /// Do all hold? Then all are in use, and seen. If one doesn't, the packet walks, and may be dropped: nothing of it is
    /// seen.
    fn hold(&self, state: &State, flow: Flow, now: Tick) -> bool {
        let holds = |rest: &Rest| match rest {
            Rest::Connection(connection, phase) => connection.is_still(*phase, now),
            Rest::Session(session, phase) => session.is_still(*phase, now),
            Rest::Untracked(eni) => !state.is_tracked(&ConnectionKey::new(*eni, flow), now),
        };
        // Another worker may end one in between; that is no other than if it had done so just after.
        let is_seen = |rest: &Rest| match rest {
            Rest::Connection(connection, phase) => connection.see_again(*phase, now),
            Rest::Session(session, phase) => session.see_again(*phase, now),
            Rest::Untracked(_) => true,
        };
        self.0.iter().all(holds) && self.0.iter().all(is_seen)
    }
}

/// What a walk has learned of a flow: how its next packets are forwarded.
pub struct Learned {
    /// What changes in them.
    pub edit: FlowEdit,
    /// Largest IP packet that the path carries, bytes; none if it is that of the interfaces.
    pub mtu: Option<u16>,
    /// The port that they go to.
    pub to: u16,
    /// The snapshot that says so.
    pub generation: u64,
    /// What it rests on.
    pub rests: Rests,
    /// Version of the state, and time, at which all of that held.
    pub held: (u64, Tick),
    /// Where they are counted.
    pub way: Arc<Way>,
}

/// A flow, and what is known of it.
struct Entry {
    flow: Flow,
    port: u16,
    is_echo_reply: bool,
    /// MAC addresses with which its packets come: source, destination.
    macs: (Mac, Mac),
    learned: Learned,
}

impl Entry {
    fn name(&self) -> Name<'_> {
        Name { flow: &self.flow, port: self.port, is_echo_reply: self.is_echo_reply }
    }

    /// Something of each of its lines.
    fn touch(&self) -> u64 {
        let learned = &self.learned;
        let words = [self.flow.dst_port, learned.edit.ttl().into(), learned.to, self.macs.0[0].into()];
        words.map(u64::from).iter().sum::<u64>().wrapping_add(learned.held.0)
    }

    fn admits(&self, packet: &Parsed, generation: u64) -> bool {
        let (headers, learned) = (&packet.headers, &self.learned);
        learned.generation == generation
            && (headers.src_mac, headers.dst_mac) == self.macs
            && headers.ttl > learned.edit.ttl()
            && learned.mtu.is_none_or(|mtu| headers.size <= mtu)
    }
}

impl Cache {
    /// An empty cache for at most so many flows; for none, it is off.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(CAPACITY);
        let buckets = (capacity * 2 / PLACES).next_power_of_two();
        Self {
            index: vec![FREE; buckets * PLACES],
            chunks: Vec::new(),
            len: 0,
            capacity,
            hasher: RandomState::default(),
            hand: 0,
            metrics: Arc::default(),
        }
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<CacheMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Forgets all flows.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.index.fill(FREE);
        self.len = 0;
        self.metrics.entries.store(0, Relaxed);
    }

    /// The key of a packet whose flow may have an entry.
    pub(crate) fn key<'a>(&self, port: u16, packet: &'a Parsed) -> Option<Key<'a>> {
        Name::of(port, packet).map(|name| Key { name, hash: name.hash(&self.hasher) })
    }

    /// Touches what [`Cache::find`] will want for these frames, one kind for all of them after the other, as a processor
    /// fetches from memory many things at once that don't depend on each other. They are read once more for that: what
    /// was read, kept for all of them, costs as much, and does so also where nothing is far.
    pub(crate) fn look_ahead(&self, state: &State, now: Tick, batch: &[Sent<'_>]) {
        if self.len < FAR || batch.len() < 2 {
            return;
        }
        let hash = |sent: &Sent<'_>| match parse(&sent.vnet, sent.frame) {
            Ok(Frame::Ipv4(packet)) => self.key(sent.port, &packet).map(|key| key.hash),
            _ => None,
        };
        let hashes: ArrayVec<u64, BATCH> = batch.iter().filter_map(hash).collect();
        let hashes = || hashes.iter().copied();
        let mut touched: u64 = hashes().map(|hash| u64::from(self.index[self.bucket(hash) * PLACES])).sum();
        // Of two that may be it, any.
        let number = |hash| self.candidates(hash).next();
        let numbers: ArrayVec<usize, BATCH> = hashes().filter_map(number).collect();
        let entries = || numbers.iter().map(|number| self.entry(*number));
        for entry in entries() {
            touched = touched.wrapping_add(entry.touch());
        }
        let held = (state.version(), now);
        let unsure = entries().filter(|entry| entry.learned.held != held);
        for rest in unsure.flat_map(|entry| &entry.learned.rests.0) {
            touched = touched.wrapping_add(rest.touch());
        }
        // Nobody wants the sum, but for it nothing can be left out.
        std::hint::black_box(touched);
    }

    /// How a packet may be forwarded without a walk, now.
    pub(crate) fn find(
        &mut self,
        state: &State,
        generation: u64,
        now: Tick,
        key: &Key<'_>,
        packet: &Parsed,
    ) -> Option<&Learned> {
        let Key { name, hash } = key;
        let found = self.number(name, *hash).filter(|number| {
            let entry = &mut self.chunks[number / CHUNK][number % CHUNK];
            // Before the records: what changes while they are read is asked again.
            let held = (state.version(), now);
            let admits = entry.admits(packet, generation);
            let holds = admits && (entry.learned.held == held || entry.learned.rests.hold(state, *name.flow, now));
            if holds {
                entry.learned.held = held;
            }
            holds
        });
        CacheMetrics::add(if found.is_some() { &self.metrics.hits } else { &self.metrics.misses });
        found.map(|number| &self.entry(number).learned)
    }

    /// Keeps what was learned, in the place of what was known of the flow, or of another flow if there is no more room.
    pub(crate) fn insert(&mut self, key: &Key<'_>, macs: (Mac, Mac), learned: Learned) {
        if self.capacity == 0 {
            return;
        }
        let Key { name, hash } = *key;
        let Name { flow, port, is_echo_reply } = name;
        let entry = Entry { flow: *flow, port, is_echo_reply, macs, learned };
        if let Some(number) = self.number(&name, hash) {
            self.chunks[number / CHUNK][number % CHUNK] = entry;
            return;
        }
        if self.len == self.capacity {
            self.evict(hash as usize % self.len);
        }
        let bucket = self.bucket(hash);
        if !self.places(bucket).contains(&FREE) {
            let taken = self.places(bucket)[(hash >> 32) as usize % PLACES];
            self.evict(number_in(taken));
        }
        let number = self.len;
        if number / CHUNK == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[number / CHUNK].push(entry);
        self.len += 1;
        self.point(bucket, FREE, place(hash, number));
        self.metrics.entries.store(self.len as u64, Relaxed);
    }

    /// Takes unused entries out of the next few, and says whether it has come to the last one.
    pub fn tidy(&mut self, now: Tick) -> bool {
        for _ in 0..CHUNK {
            if self.hand >= self.len {
                self.hand = 0;
                return true;
            }
            let (_, used) = self.entry(self.hand).learned.held;
            if now.since(used) > IDLE {
                self.remove(self.hand);
            } else {
                self.hand += 1;
            }
        }
        false
    }

    fn entry(&self, number: usize) -> &Entry {
        &self.chunks[number / CHUNK][number % CHUNK]
    }

    fn bucket(&self, hash: u64) -> usize {
        // Buckets are a power of two.
        hash as usize & (self.index.len() / PLACES - 1)
    }

    fn places(&self, bucket: usize) -> &[u32] {
        &self.index[bucket * PLACES..][..PLACES]
    }

    /// The numbers of those entries that may be the one with this hash.
    fn candidates(&self, hash: u64) -> impl Iterator<Item = usize> {
        let tag = tag(hash);
        let places = self.places(self.bucket(hash)).iter();
        places.filter(move |place| **place & !NUMBER == tag && **place != FREE).map(|place| number_in(*place))
    }

    /// The number of a flow's entry.
    fn number(&self, name: &Name<'_>, hash: u64) -> Option<usize> {
        self.candidates(hash).find(|number| self.entry(*number).name() == *name)
    }

    /// Changes a place of a bucket from one value to another.
    fn point(&mut self, bucket: usize, from: u32, to: u32) {
        if let Some(place) = self.index[bucket * PLACES..][..PLACES].iter_mut().find(|place| **place == from) {
            *place = to;
        }
    }

    fn evict(&mut self, number: usize) {
        self.remove(number);
        CacheMetrics::add(&self.metrics.evictions);
    }

    /// Takes an entry out; the last one gets its number.
    fn remove(&mut self, number: usize) {
        let last = self.len - 1;
        let [hash, last_hash] = [number, last].map(|number| self.entry(number).name().hash(&self.hasher));
        self.point(self.bucket(hash), place(hash, number), FREE);
        let Some(entry) = self.chunks[last / CHUNK].pop() else { return };
        if number != last {
            self.point(self.bucket(last_hash), place(last_hash, last), place(last_hash, number));
            self.chunks[number / CHUNK][number % CHUNK] = entry;
        }
        if last.is_multiple_of(CHUNK) {
            self.chunks.pop();
        }
        self.len = last;
        self.metrics.entries.store(last as u64, Relaxed);
    }
}

/// What of a hash stands beside an entry's number; its lowest bits are the bucket's.
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 & !NUMBER
}

/// What stands in a place for the entry with this hash and number.
fn place(hash: u64, number: usize) -> u32 {
    tag(hash) | (number as u32 + 1)
}

fn number_in(place: u32) -> usize {
    (place & NUMBER) as usize - 1
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Whatever the hasher's seed is: labs would differ in how many flows they can have.
    #[test]
    fn flows_that_differ_in_a_port_only_lie_in_all_buckets() {
        const BUCKETS: usize = 1024;
        for number in 0..500 {
            let hasher = RandomState::default();
            let mut buckets = [0; BUCKETS];
            for src_port in 1024..1024 + 4 * BUCKETS as u16 {
                let [src, dst] = [1, 2].map(|last| Ipv4Addr::new(10, 0, 0, last).into());
                let flow = Flow { src, dst, protocol: 17, src_port, dst_port: 7 };
                let name = Name { flow: &flow, port: 0, is_echo_reply: false };
                buckets[name.hash(&hasher) as usize % BUCKETS] += 1;
            }
            let full = buckets.iter().filter(|count| **count > PLACES).count();
            assert!(full <= 3, "{full} of {BUCKETS} have too many, at hasher {number}");
        }
    }
}
