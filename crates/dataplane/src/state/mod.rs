//! The truth about flows: connections at interfaces (security groups), NAT sessions with their leases, and datagrams of
//! which fragments are on their way.
//!
//! Shared by all workers in sharded tables. A walk reads it through a [`View`]; what a walk wants to change is a
//! [`Txn`], committed before the packet leaves. No lock of one table is held while another is touched.
//!
//! Connections and sessions are shared records: whoever holds one sees it end. A record that leaves its table is ended
//! first, so that a worker's cache, which is never the truth, can tell.

mod checkpoint;
mod connection;
mod datagram;
mod life;
mod metrics;
mod nat;
mod table;
mod way;

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use arrayvec::ArrayVec;
use dashmap::DashMap;
use foldhash::fast::RandomState;
use minivpc_model::Serial;
use minivpc_packet::Headers;

pub use checkpoint::Checkpoint;
pub use connection::{Connection, ConnectionKey, Phase, Sight};
pub use datagram::{Datagram, DatagramKey};
pub use metrics::{NatMetrics, Tracking, Traffic};
use nat::Seen;
pub use nat::{Destination, Endpoint, Lease, NatKey, PORTS, Session, SessionKey};
use table::{Put, SHARDS, Table};
pub use way::Way;
use way::{Name, Ways};

use crate::Tick;
use crate::drop::DropReason;
use crate::explain::Step;
use crate::snapshot::{Direction, Snapshot};

/// Most NAT sessions of a lab.
pub const SESSIONS: u64 = 1 << 20;
/// Most connections of a lab: one at each end of as many sessions.
pub const CONNECTIONS: u64 = 1 << 21;
/// Most connections of one interface (SG-20); AWS's limit depends on the instance type, and isn't published.
pub const CONNECTIONS_PER_INTERFACE: u64 = 1 << 18;
/// Most datagrams of which fragments are on their way.
pub const DATAGRAMS: u64 = 1 << 16;

/// All flow state of a lab.
pub struct State {
    connections: Table<ConnectionKey, Connection>,
    sessions: Table<SessionKey, Session>,
    /// The same sessions by their leases.
    leases: Table<Lease, Session>,
    towards: Table<Destination, Towards>,
    datagrams: Table<DatagramKey, Datagram>,
    ways: Ways,
    metrics: DashMap<Serial, Arc<NatMetrics>, RandomState>,
    tracking: DashMap<Serial, Arc<Tracking>, RandomState>,
    /// Counts up after each change that more than the next packet of the same flow can tell: a record that opens, or is in
    /// another phase.
    version: AtomicU64,
}

/// Leases by where they go to.
struct Towards {
    to: Destination,
    leases: AtomicU32,
}

/// How many records a state has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The tables' names.
pub struct Counts {
    pub connections: u64,
    pub sessions: u64,
    pub leases: u64,
    pub datagrams: u64,
}

/// A change of state that a walk asks for.
#[derive(Debug, Clone)]
pub enum Change {
    /// A NAT session opens with this address and port, and takes the lease of it.
    OpenSession(SessionKey, Endpoint),
    /// A packet of a NAT session passed.
    SeeSession(Arc<Session>, Sight),
    /// A connection opens.
    OpenConnection(ConnectionKey, Direction),
    /// A packet of a connection passed.
    SeeConnection(Arc<Connection>, Sight),
    /// None opens where one could: the packet passed because there is none (SG-13).
    LeaveUntracked(ConnectionKey, Direction),
    /// The first fragment of a datagram passed.
    PinDatagram(Datagram),
    /// The last one did.
    UnpinDatagram(DatagramKey),
}

/// What a walk wants to change, in the order in which it is done: leases may be lost to another worker, so sessions
/// come first.
pub type Txn = ArrayVec<Change, 8>;

impl Default for State {
    fn default() -> Self {
        Self {
            connections: Table::new(|connection: &Connection| connection.key),
            sessions: Table::new(|session: &Session| session.key),
            leases: Table::new(Session::lease),
            towards: Table::new(|towards: &Towards| towards.to),
            datagrams: Table::new(|datagram: &Datagram| datagram.key),
            ways: Ways::default(),
            metrics: DashMap::with_hasher(RandomState::default()),
            tracking: DashMap::with_hasher(RandomState::default()),
            version: AtomicU64::new(0),
        }
    }
}

impl State {
    /// Does all of `txn`, or nothing and is false: another worker took the lease or opened the session, so walk again.
    #[must_use]
    pub fn commit(&self, txn: &Txn, now: Tick) -> bool {
        let mut opened = ArrayVec::<Arc<Session>, 8>::new();
        for change in txn {
            let Change::OpenSession(key, endpoint) = change else { continue };
            match self.open_session(*key, *endpoint, now) {
                Some(session) => opened.push(session),
                None => {
                    for session in opened {
                        session.end(now, |_| true);
                        self.forget_session(&session);
                    }
                    return false;
                }
            }
        }
        // A session that opens may have ended another one.
        let mut turned = !opened.is_empty();
        for change in txn {
            match change {
                Change::OpenSession(key, _) if key.flow.protocol == 6 => {
                    self.counters(key.nat).connection_attempts.fetch_add(1, Relaxed);
                }
                Change::OpenSession(..) | Change::LeaveUntracked(..) => {}
                Change::SeeSession(session, sight) => {
                    let (turns, seen) = session.see(*sight);
                    turned |= turns;
                    let counters = || self.counters(session.key.nat);
                    match seen {
                        Some(Seen::Attempt) => _ = counters().connection_attempts.fetch_add(1, Relaxed),
                        Some(Seen::Established) => _ = counters().connections_established.fetch_add(1, Relaxed),
                        None => {}
                    }
                }
                Change::OpenConnection(key, direction) => turned |= self.open_connection(*key, *direction, now),
                Change::SeeConnection(connection, sight) => turned |= connection.see(*sight),
                Change::PinDatagram(datagram) => {
                    self.datagrams.put(&Arc::new(datagram.clone()), |_| true);
                }
                Change::UnpinDatagram(key) => {
                    if let Some(datagram) = self.datagrams.get(key) {
                        self.datagrams.take(&datagram);
                    }
                }
            }
        }
        if turned {
            self.version.fetch_add(1, Release);
        }
        true
    }

    /// The lease comes before its session, so whoever finds a session may use its lease.
    fn open_session(&self, key: SessionKey, endpoint: Endpoint, now: Tick) -> Option<Arc<Session>> {
        if let Ok(Some(unanswered)) = room(&self.sessions, SESSIONS, &key, Session::is_unanswered)
            && unanswered.end_unanswered(now)
        {
            self.forget_session(&unanswered);
        }
        let session = Arc::new(Session::open(key, endpoint, now));
        match self.leases.put(&session, |other| other.end(now, |_| false)) {
            Put::New => self.count_towards(session.lease().to),
            // Its session has expired, and the sweep will find it.
            Put::Replaced(_) => {}
            Put::Refused => return None,
        }
        match self.sessions.put(&session, |other| other.end(now, |_| false)) {
            Put::New => {}
            Put::Replaced(other) => self.end_session(&other),
            Put::Refused => {
                self.give_back(&session);
                return None;
            }
        }
        Some(session)
    }

    fn count_towards(&self, to: Destination) {
        let one = || Arc::new(Towards { to, leases: AtomicU32::new(0) });
        let counted = self.towards.get(&to).or_else(|| {
            self.towards.put(&one(), |_| false);
            self.towards.get(&to)
        });
        // A sweep takes only what nobody has in his hands.
        if let Some(counted) = counted {
            counted.leases.fetch_add(1, Relaxed);
        }
    }

    fn give_back(&self, session: &Arc<Session>) {
        if self.leases.take(session)
            && let Some(counted) = self.towards.get(&session.lease().to)
        {
            counted.leases.fetch_sub(1, Relaxed);
        }
    }

    /// A session that has ended gives its lease back.
    fn forget_session(&self, session: &Arc<Session>) {
        self.sessions.take(session);
        self.give_back(session);
    }

    /// The same for one that isn't in the table any more, because nobody used it any more.
    fn end_session(&self, session: &Arc<Session>) {
        self.give_back(session);
        if !session.is_finished() {
            self.counters(session.key.nat).idle_timeouts.fetch_add(1, Relaxed);
        }
    }

    /// A connection that another worker opened meanwhile is the same connection. True if there is a new one.
    fn open_connection(&self, key: ConnectionKey, direction: Direction, now: Tick) -> bool {
        if let Ok(Some(unanswered)) = room(&self.connections, CONNECTIONS, &key, Connection::is_unanswered)
            && unanswered.end_unanswered(now)
            && self.connections.take(&unanswered)
        {
            self.tracking(unanswered.key.eni).connections.fetch_sub(1, Relaxed);
        }
        let connection = Arc::new(Connection::open(key, direction, now));
        match self.connections.put(&connection, |other| other.end(now, |phase| phase == Phase::Closing)) {
            Put::New => {
                self.tracking(key.eni).connections.fetch_add(1, Relaxed);
                true
            }
            Put::Replaced(_) => true,
            Put::Refused => false,
        }
    }

    /// Unless this has changed, no record has opened or changed its phase.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    pub(crate) fn is_tracked(&self, key: &ConnectionKey, now: Tick) -> bool {
        self.connections.get(key).is_some_and(|connection| connection.lives(now))
    }

    /// What an interface tracks.
    #[must_use]
    pub fn tracking(&self, eni: Serial) -> Arc<Tracking> {
        let known = self.tracking.get(&eni).map(|tracking| Arc::clone(&tracking));
        known.unwrap_or_else(|| Arc::clone(&self.tracking.entry(eni).or_default()))
    }

    /// The way of a packet that was sent at the port `sender`, kept with its connection if it has one.
    pub(crate) fn way(&self, snapshot: &Snapshot, sender: u16, sent: &Headers, steps: &[Step]) -> Arc<Way> {
        let key = ConnectionKey::new(snapshot.serial(sender), sent.flow);
        let connection = self.connections.get(&key);
        let known = connection.as_ref().and_then(|connection| connection.way());
        if let Some(way) = known.filter(|way| way.generation == snapshot.generation && way.is_that_of(steps)) {
            return way;
        }
        let name = Name { generation: snapshot.generation, ttl: sent.ttl, reversed: sent.flow != key.flow, steps };
        let way = self.ways.of(&name, || {
            let gateway = |step: &Step| match *step {
                Step::Nat { nat, act } => Some((self.counters(snapshot.eni(snapshot.nat(nat).eni).serial), act)),
                _ => None,
            };
            steps.iter().filter_map(gateway).collect()
        });
        if let Some(connection) = connection {
            connection.take_way(Arc::clone(&way));
        }
        way
    }

    /// Where what a NAT gateway counts is added to.
    pub(crate) fn counters(&self, nat: Serial) -> Arc<NatMetrics> {
        let known = self.metrics.get(&nat).map(|metrics| Arc::clone(&metrics));
        known.unwrap_or_else(|| Arc::clone(&self.metrics.entry(nat).or_default()))
    }

    /// What a NAT gateway has counted.
    #[must_use]
    pub fn metrics(&self, nat: Serial) -> NatMetrics {
        self.ways.counted(&self.counters(nat))
    }

    /// All live connections.
    pub fn connections(&self, now: Tick) -> Vec<Arc<Connection>> {
        self.connections.list().into_iter().filter(|connection| connection.lives(now)).collect()
    }

    /// All live NAT sessions.
    pub fn sessions(&self, now: Tick) -> Vec<Arc<Session>> {
        self.sessions.list().into_iter().filter(|session| session.lives(now)).collect()
    }

    /// How many records there are, also of flows that have ended and weren't swept yet.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.len(),
            sessions: self.sessions.len(),
            leases: self.leases.len(),
            datagrams: self.datagrams.len(),
        }
    }

    /// Forgets everything, as if nothing had ever been sent.
    pub fn clear(&self, now: Tick) {
        for shard in 0..SHARDS {
            self.forget_connections(shard, |connection| connection.end(now, |_| true));
            for session in self.sessions.sweep(shard, |session| session.end(now, |_| true)) {
                self.give_back(&session);
            }
            self.datagrams.sweep(shard, |_| true);
        }
        self.version.fetch_add(1, Release);
        self.ways.clear();
        self.metrics.clear();
    }

    /// Parts that are swept one after the other.
    pub const PARTS: usize = SHARDS;

    /// Forgets what has ended. Call it about once a second, off the packet path.
    pub fn sweep(&self, now: Tick) {
        for part in 0..Self::PARTS {
            self.sweep_part(part, now);
        }
        self.ways.sweep();
    }

    /// The same for one of [`State::PARTS`], which is short.
    pub fn sweep_part(&self, part: usize, now: Tick) {
        self.forget_connections(part, |connection| connection.end(now, |_| false));
        for session in self.sessions.sweep(part, |session| session.end(now, |_| false)) {
            self.end_session(&session);
        }
        self.datagrams.sweep(part, |datagram| !datagram.lives(now));
        self.towards.sweep(part, |towards| Arc::strong_count(towards) == 1 && towards.leases.load(Relaxed) == 0);
    }

    fn forget_connections(&self, shard: usize, goes: impl Fn(&Arc<Connection>) -> bool) {
        for connection in self.connections.sweep(shard, goes) {
            self.tracking(connection.key.eni).connections.fetch_sub(1, Relaxed);
        }
    }
}

/// Is there room for a record of this key? If the table is full, for an unanswered one that goes: a flood gives way.
fn room<K: Hash + Eq, T>(
    table: &Table<K, T>,
    capacity: u64,
    key: &K,
    unanswered: impl Fn(&T) -> bool,
) -> Result<Option<Arc<T>>, DropReason> {
    if table.len() < capacity {
        return Ok(None);
    }
    table.any_beside(key, unanswered).map(Some).ok_or(DropReason::TableFull)
}

/// The truth as one walk sees it, with changes on top that aren't committed: a trace's reply sees what its request
/// would have opened.
#[derive(Clone, Copy)]
pub struct View<'a> {
    state: &'a State,
    pending: &'a [Change],
    now: Tick,
}

impl<'a> View<'a> {
    /// The truth at `now`, with `pending` on top.
    #[must_use]
    pub fn new(state: &'a State, pending: &'a [Change], now: Tick) -> Self {
        Self { state, pending, now }
    }

    /// Is there room for what a walk wants to open? It asks where it wants it, so that the hop which is refused is the
    /// one that drops the packet.
    pub(crate) fn room_for(&self, change: &Change) -> Result<(), DropReason> {
        let state = self.state;
        match change {
            Change::OpenSession(key, _) => room(&state.sessions, SESSIONS, key, Session::is_unanswered).map(drop),
            Change::OpenConnection(key, _)
                if state.tracking(key.eni).connections.load(Relaxed) >= CONNECTIONS_PER_INTERFACE =>
            {
                Err(DropReason::ConnectionsExhausted)
            }
            Change::OpenConnection(key, _) => {
                room(&state.connections, CONNECTIONS, key, Connection::is_unanswered).map(drop)
            }
            Change::PinDatagram(datagram) => room(&state.datagrams, DATAGRAMS, &datagram.key, |_| false).map(drop),
            _ => Ok(()),
        }
    }

    /// The connection, if it lives.
    pub(crate) fn connection(&self, key: &ConnectionKey) -> Option<Arc<Connection>> {
        let pending = self.pending.iter().find_map(|change| match change {
            Change::OpenConnection(other, direction) if other == key => {
                Some(Arc::new(Connection::open(*key, *direction, self.now)))
            }
            _ => None,
        });
        pending.or_else(|| self.state.connections.get(key).filter(|connection| connection.lives(self.now)))
    }

    /// The session, if it lives.
    pub(crate) fn session(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.pending(|other, _| other == key)
            .or_else(|| self.state.sessions.get(key).filter(|session| session.lives(self.now)))
    }

    fn pending(&self, is_it: impl Fn(&SessionKey, &Endpoint) -> bool) -> Option<Arc<Session>> {
        self.pending.iter().find_map(|change| match change {
            Change::OpenSession(key, endpoint) if is_it(key, endpoint) => {
                Some(Arc::new(Session::open(*key, *endpoint, self.now)))
            }
            _ => None,
        })
    }

    /// The datagram, if its first fragment has passed.
    pub(crate) fn datagram(&self, key: &DatagramKey) -> Option<Arc<Datagram>> {
        self.state.datagrams.get(key).filter(|datagram| datagram.lives(self.now))
    }

    /// How many sessions go there.
    pub(crate) fn sessions_towards(&self, destination: &Destination) -> u32 {
        self.state.towards.get(destination).map_or(0, |towards| towards.leases.load(Relaxed))
    }

    /// The session that holds the lease.
    pub(crate) fn lease(&self, lease: &Lease) -> Option<Arc<Session>> {
        self.pending(|key, endpoint| Lease::of(key, *endpoint) == *lease)
            .or_else(|| self.state.leases.get(lease).filter(|session| session.lives(self.now)))
    }
}

#[cfg(test)]
mod tests {
    use minivpc_packet::{Flow, tcp_flags};

    use super::*;

    fn flow(src_port: u16) -> Flow {
        let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        Flow { src, dst, protocol: 6, src_port, dst_port: 80 }
    }

    /// Keys of which the records stand in one shard.
    fn neighbours<K: Copy + Hash + Eq, T>(table: &Table<K, T>, key: impl Fn(u16) -> K) -> [K; 2] {
        let first = key(0);
        let beside = (1..).map(key).find(|other| table.is_beside(&first, other));
        [first, beside.unwrap()]
    }

    #[test]
    fn of_a_full_table_an_unanswered_connection_goes_for_a_new_one_and_an_answered_stays() {
        let (state, now) = (State::default(), Tick(1));
        let [old, new] = neighbours(&state.connections, |port| ConnectionKey::new(Serial(1), flow(port)));
        let asked = || room(&state.connections, 1, &new, Connection::is_unanswered);
        assert!(matches!(asked(), Ok(None)));
        assert!(state.open_connection(old, Direction::Egress, now));
        let unanswered = asked().unwrap().unwrap();
        assert_eq!(unanswered.key, old);
        // Answered between the question and the end: it isn't taken.
        let answer = Sight { at: now, from_opener: false, tcp_flags: tcp_flags::SYN | tcp_flags::ACK };
        assert!(unanswered.see(answer) && !unanswered.end_unanswered(now));
        assert_eq!(asked().unwrap_err(), DropReason::TableFull);
        assert!(unanswered.lives(now));
    }

    #[test]
    fn of_a_full_table_an_unanswered_session_goes_for_a_new_one_and_an_answered_stays() {
        let (state, now) = (State::default(), Tick(1));
        let [old, new] = neighbours(&state.sessions, |port| SessionKey { nat: Serial(1), flow: flow(port) });
        let asked = || room(&state.sessions, 1, &new, Session::is_unanswered);
        let endpoint = Endpoint { address: [10, 0, 0, 3].into(), port: 5000 };
        let session = state.open_session(old, endpoint, now).unwrap();
        assert!(Arc::ptr_eq(&asked().unwrap().unwrap(), &session));
        let answer = Sight { at: now, from_opener: false, tcp_flags: tcp_flags::SYN | tcp_flags::ACK };
        assert!(session.see(answer).0 && !session.end_unanswered(now));
        assert_eq!(asked().unwrap_err(), DropReason::TableFull);
        assert!(session.lives(now));
    }
}
