//! The truth about flows: connections at interfaces (security groups), NAT sessions with their leases, and datagrams of
//! which fragments are on their way.
//!
//! Shared by all workers in sharded maps. A walk reads it through a [`View`]; what a walk wants to change is a
//! [`Txn`], committed before the packet leaves. No guard of one map is held while another is touched.

mod checkpoint;
mod connection;
mod datagram;
mod metrics;
mod nat;

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arrayvec::ArrayVec;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;
use minivpc_model::Serial;
use minivpc_packet::Headers;

pub use checkpoint::Checkpoint;
pub use connection::{Connection, ConnectionKey, Phase, Sight, Way};
pub use datagram::{Datagram, DatagramKey};
pub use metrics::{NatMetrics, Tracking, Traffic};
use nat::Seen;
pub use nat::{Destination, Endpoint, Lease, NatKey, PORTS, Session, SessionKey};

use crate::Now;
use crate::drop::DropReason;
use crate::explain::Step;
use crate::snapshot::{Direction, Snapshot};

/// Most connections, and most NAT sessions, of a lab.
const CAPACITY: u64 = 1 << 20;
/// Most connections of one interface (SG-20); AWS's limit depends on the instance type, and isn't published.
pub const CONNECTIONS_PER_INTERFACE: u64 = 1 << 18;
/// Most datagrams of which fragments are on their way.
const DATAGRAMS: u64 = 1 << 16;
/// So many that growing one of them is short.
const SHARDS: usize = 256;

/// All flow state of a lab.
pub struct State {
    connections: DashMap<ConnectionKey, Connection, RandomState>,
    sessions: DashMap<SessionKey, Session, RandomState>,
    leases: DashMap<Lease, Holder, RandomState>,
    /// Leases by where they go to.
    towards: DashMap<Destination, u32, RandomState>,
    last_session: AtomicU64,
    datagrams: DashMap<DatagramKey, Datagram, RandomState>,
    /// Counted beside the maps, whose own count visits every shard.
    connection_count: AtomicU64,
    session_count: AtomicU64,
    datagram_count: AtomicU64,
    metrics: DashMap<Serial, Arc<NatMetrics>, RandomState>,
    tracking: DashMap<Serial, Arc<Tracking>, RandomState>,
    /// Ways through the VPC that flows have in common.
    ways: DashMap<Arc<[Step]>, (), RandomState>,
}

/// Who holds a lease: a session by its key and its number, for another session may have had the key before.
type Holder = (SessionKey, u64);

/// A change of state that a walk asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A NAT session opens with this address and port, and takes the lease of it.
    OpenSession(SessionKey, Endpoint),
    /// A packet of a NAT session passed.
    SeeSession(SessionKey, Sight),
    /// A connection opens.
    OpenConnection(ConnectionKey, Direction),
    /// A packet of a connection passed.
    SeeConnection(ConnectionKey, Sight),
    /// The first fragment of a datagram passed.
    PinDatagram(DatagramKey, Datagram),
    /// The last one did.
    UnpinDatagram(DatagramKey),
}

/// What a walk wants to change, in the order in which it is done: leases may be lost to another worker, so sessions
/// come first.
pub type Txn = ArrayVec<Change, 8>;

impl Default for State {
    fn default() -> Self {
        Self {
            connections: DashMap::with_capacity_and_hasher_and_shard_amount(0, RandomState::default(), SHARDS),
            sessions: DashMap::with_capacity_and_hasher_and_shard_amount(0, RandomState::default(), SHARDS),
            leases: DashMap::with_capacity_and_hasher_and_shard_amount(0, RandomState::default(), SHARDS),
            datagrams: DashMap::with_hasher(RandomState::default()),
            towards: DashMap::with_hasher(RandomState::default()),
            last_session: AtomicU64::new(0),
            connection_count: AtomicU64::new(0),
            session_count: AtomicU64::new(0),
            datagram_count: AtomicU64::new(0),
            metrics: DashMap::with_hasher(RandomState::default()),
            tracking: DashMap::with_hasher(RandomState::default()),
            ways: DashMap::with_hasher(RandomState::default()),
        }
    }
}

impl State {
    /// Does all of `txn`, or nothing and is false: another worker took the lease or opened the session, so walk again.
    #[must_use]
    pub fn commit(&self, txn: &Txn, now: Now) -> bool {
        for (done, change) in txn.iter().enumerate() {
            let Change::OpenSession(key, endpoint) = change else { continue };
            if !self.open_session(*key, *endpoint, now) {
                txn[..done].iter().for_each(|change| self.undo(change));
                return false;
            }
        }
        for change in txn {
            match change {
                Change::UnpinDatagram(key) => {
                    if self.datagrams.remove(key).is_some() {
                        self.datagram_count.fetch_sub(1, Relaxed);
                    }
                }
                Change::OpenSession(key, _) if key.flow.protocol == 6 => {
                    self.metrics(key.nat).connection_attempts.fetch_add(1, Relaxed);
                }
                Change::OpenSession(..) => {}
                Change::SeeSession(key, sight) => {
                    let seen = self.sessions.get_mut(key).and_then(|mut session| session.see(*sight));
                    let count = |counter: fn(&NatMetrics) -> &AtomicU64| {
                        counter(&self.metrics(key.nat)).fetch_add(1, Relaxed);
                    };
                    match seen {
                        Some(Seen::Attempt) => count(|metrics| &metrics.connection_attempts),
                        Some(Seen::Established) => count(|metrics| &metrics.connections_established),
                        None => {}
                    }
                }
                Change::OpenConnection(key, direction) => self.open_connection(*key, *direction, now),
                Change::SeeConnection(key, sight) => {
                    if let Some(mut connection) = self.connections.get_mut(key) {
                        connection.see(*sight);
                    }
                }
                Change::PinDatagram(key, datagram) => {
                    if self.datagrams.insert(*key, *datagram).is_none() {
                        self.datagram_count.fetch_add(1, Relaxed);
                    }
                }
            }
        }
        true
    }

    /// The session comes before its lease, so a lease whose session isn't there is one that has ended.
    fn open_session(&self, key: SessionKey, endpoint: Endpoint, now: Now) -> bool {
        let session = Session::open(self.last_session.fetch_add(1, Relaxed), endpoint, now);
        let ended = match self.sessions.entry(key) {
            Entry::Occupied(other) if other.get().lives(now) => return false,
            Entry::Occupied(mut dead) => Some(dead.insert(session)),
            Entry::Vacant(free) => {
                free.insert(session);
                self.session_count.fetch_add(1, Relaxed);
                None
            }
        };
        if let Some(ended) = ended {
            self.end(&key, &ended);
        }
        let taken = self.take_lease(Lease::of(&key, endpoint), (key, session.number), now);
        if !taken {
            self.undo(&Change::OpenSession(key, endpoint));
        }
        taken
    }

    fn take_lease(&self, lease: Lease, holder: Holder, now: Now) -> bool {
        let other = match self.leases.entry(lease) {
            Entry::Vacant(free) => {
                drop(free.insert(holder));
                *self.towards.entry(lease.to).or_default() += 1;
                return true;
            }
            Entry::Occupied(taken) => *taken.get(),
        };
        // Its session may have expired and not been swept yet.
        let (key, number) = other;
        if self.sessions.get(&key).is_some_and(|session| session.number == number && session.lives(now)) {
            return false;
        }
        match self.leases.entry(lease) {
            Entry::Occupied(mut taken) if *taken.get() == other => {
                taken.insert(holder);
                true
            }
            // Somebody was faster.
            Entry::Occupied(_) | Entry::Vacant(_) => false,
        }
    }

    fn give_back(&self, lease: Lease, session: u64) {
        if self.leases.remove_if(&lease, |_, holder| holder.1 == session).is_some()
            && let Entry::Occupied(mut count) = self.towards.entry(lease.to)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn undo(&self, change: &Change) {
        if let Change::OpenSession(key, endpoint) = change
            && let Some((_, session)) = self.sessions.remove(key)
        {
            self.session_count.fetch_sub(1, Relaxed);
            self.give_back(Lease::of(key, *endpoint), session.number);
        }
    }

    /// A session that isn't in the table any more gives its lease back.
    fn end(&self, key: &SessionKey, session: &Session) {
        self.give_back(Lease::of(key, session.endpoint), session.number);
        if !session.is_finished() {
            self.metrics(key.nat).idle_timeouts.fetch_add(1, Relaxed);
        }
    }

    /// A connection that another worker opened meanwhile is the same connection.
    fn open_connection(&self, key: ConnectionKey, direction: Direction, now: Now) {
        let connection = Connection::open(direction, now);
        match self.connections.entry(key) {
            Entry::Occupied(mut other) => {
                if !other.get().lives(&key, now) || other.get().phase == Phase::Closing {
                    other.insert(connection);
                }
                return;
            }
            Entry::Vacant(free) => drop(free.insert(connection)),
        }
        self.connection_count.fetch_add(1, Relaxed);
        self.tracking(key.eni).connections.fetch_add(1, Relaxed);
    }

    /// What an interface tracks.
    #[must_use]
    pub fn tracking(&self, eni: Serial) -> Arc<Tracking> {
        let known = self.tracking.get(&eni).map(|tracking| Arc::clone(&tracking));
        known.unwrap_or_else(|| Arc::clone(&self.tracking.entry(eni).or_default()))
    }

    /// Keeps which way the packets go that the interface `sender` sends on the connection of `sent`.
    pub(crate) fn remember_way(&self, snapshot: &Snapshot, sender: u16, sent: &Headers, steps: &[Step]) {
        let (key, generation) = (ConnectionKey::new(snapshot.eni(sender).serial, sent.flow), snapshot.generation);
        let is_known = |way: &Way| way.generation == generation && way.is_that_of(steps);
        let known = |c: &Connection| c.way.as_ref().is_some_and(is_known);
        if self.connections.get(&key).is_none_or(|connection| known(&connection)) {
            return;
        }
        let shared = self.ways.get(steps).map(|way| Arc::clone(way.key()));
        let steps = shared.unwrap_or_else(|| {
            let steps: Arc<[Step]> = steps.into();
            self.ways.insert(Arc::clone(&steps), ());
            steps
        });
        if let Some(mut connection) = self.connections.get_mut(&key) {
            connection.way = Some(Way { steps, generation, ttl: sent.ttl, reversed: sent.flow != key.flow });
        }
    }

    /// What a NAT gateway has counted.
    #[must_use]
    pub fn metrics(&self, nat: Serial) -> Arc<NatMetrics> {
        let known = self.metrics.get(&nat).map(|metrics| Arc::clone(&metrics));
        known.unwrap_or_else(|| Arc::clone(&self.metrics.entry(nat).or_default()))
    }

    /// All live connections.
    pub fn connections(&self, now: Now) -> Vec<(ConnectionKey, Connection)> {
        let all = self.connections.iter().filter(|entry| entry.lives(entry.key(), now));
        all.map(|entry| (*entry.key(), entry.value().clone())).collect()
    }

    /// All live NAT sessions.
    pub fn sessions(&self, now: Now) -> Vec<(SessionKey, Session)> {
        let all = self.sessions.iter().filter(|entry| entry.lives(now));
        all.map(|entry| (*entry.key(), *entry.value())).collect()
    }

    /// Forgets everything, as if nothing had ever been sent.
    pub fn clear(&self) {
        self.forget_connections(|_, _| true);
        for (key, session) in take_out(&self.sessions, &self.session_count, |_, _| true) {
            self.give_back(Lease::of(&key, session.endpoint), session.number);
        }
        take_out(&self.datagrams, &self.datagram_count, |_, _| true);
        self.metrics.clear();
    }

    /// Forgets what has ended. Locks one shard at a time; call it about once a second, off the packet path.
    pub fn sweep(&self, now: Now) {
        self.forget_connections(|key, connection| !connection.lives(key, now));
        for (key, session) in take_out(&self.sessions, &self.session_count, |_, session| !session.lives(now)) {
            self.end(&key, &session);
        }
        take_out(&self.datagrams, &self.datagram_count, |_, datagram| !datagram.lives(now));
        self.ways.retain(|way, ()| Arc::strong_count(way) > 1);
    }

    fn forget_connections(&self, goes: impl Fn(&ConnectionKey, &Connection) -> bool) {
        for (key, _) in take_out(&self.connections, &self.connection_count, goes) {
            self.tracking(key.eni).connections.fetch_sub(1, Relaxed);
        }
    }
}

/// What goes from a table, already counted off. Nobody holds a guard while he looks at it.
fn take_out<K: Copy + Eq + Hash, V: Clone>(
    table: &DashMap<K, V, RandomState>,
    count: &AtomicU64,
    goes: impl Fn(&K, &V) -> bool,
) -> Vec<(K, V)> {
    let mut gone = Vec::new();
    table.retain(|key, value| {
        let goes = goes(key, value);
        if goes {
            gone.push((*key, value.clone()));
            // One by one: packets may come in meanwhile.
            count.fetch_sub(1, Relaxed);
        }
        !goes
    });
    gone
}

/// The truth as one walk sees it, with changes on top that aren't committed: a trace's reply sees what its request
/// would have opened.
#[derive(Clone, Copy)]
pub struct View<'a> {
    state: &'a State,
    pending: &'a [Change],
    now: Now,
}

impl<'a> View<'a> {
    /// The truth at `now`, with `pending` on top.
    #[must_use]
    pub fn new(state: &'a State, pending: &'a [Change], now: Now) -> Self {
        Self { state, pending, now }
    }

    /// Is there room for what a walk wants to open? It asks where it wants it, so that the hop which is refused is the
    /// one that drops the packet.
    pub(crate) fn room_for(&self, change: &Change) -> Result<(), DropReason> {
        let is_full = |count: &AtomicU64, limit: u64| count.load(Relaxed) >= limit;
        let state = self.state;
        match change {
            Change::OpenSession(..) if is_full(&state.session_count, CAPACITY) => Err(DropReason::TableFull),
            Change::OpenConnection(..) if is_full(&state.connection_count, CAPACITY) => Err(DropReason::TableFull),
            Change::PinDatagram(..) if is_full(&state.datagram_count, DATAGRAMS) => Err(DropReason::TableFull),
            Change::OpenConnection(key, _)
                if is_full(&state.tracking(key.eni).connections, CONNECTIONS_PER_INTERFACE) =>
            {
                Err(DropReason::ConnectionsExhausted)
            }
            _ => Ok(()),
        }
    }

    /// Who opened the connection, and how far it is, if it lives.
    pub(crate) fn connection(&self, key: &ConnectionKey) -> Option<(Direction, Phase)> {
        let pending = self.pending.iter().find_map(|change| match change {
            Change::OpenConnection(other, direction) if other == key => Some((*direction, Phase::Opening)),
            _ => None,
        });
        let live =
            || self.state.connections.get(key).filter(|c| c.lives(key, self.now)).map(|c| (c.direction, c.phase));
        pending.or_else(live)
    }

    /// The gateway's end of the session, if it lives.
    pub(crate) fn session(&self, key: &SessionKey) -> Option<Endpoint> {
        let pending = self.pending.iter().find_map(|change| match change {
            Change::OpenSession(other, endpoint) if other == key => Some(*endpoint),
            _ => None,
        });
        pending.or_else(|| self.state.sessions.get(key).filter(|s| s.lives(self.now)).map(|s| s.endpoint))
    }

    /// The datagram, if its first fragment has passed.
    pub(crate) fn datagram(&self, key: &DatagramKey) -> Option<Datagram> {
        self.state.datagrams.get(key).map(|datagram| *datagram).filter(|datagram| datagram.lives(self.now))
    }

    /// How many sessions go there.
    pub(crate) fn sessions_towards(&self, destination: &Destination) -> u32 {
        self.state.towards.get(destination).map_or(0, |count| *count)
    }

    /// The session that holds the lease.
    pub(crate) fn lease(&self, lease: &Lease) -> Option<SessionKey> {
        let pending = self.pending.iter().find_map(|change| match change {
            Change::OpenSession(key, endpoint) if Lease::of(key, *endpoint) == *lease => Some(*key),
            _ => None,
        });
        // The guard must be gone before the other map is read.
        let holder = || self.state.leases.get(lease).map(|holder| holder.0);
        let endpoint = Endpoint { address: lease.to.from, port: lease.port };
        pending.or_else(|| holder().filter(|key| self.session(key) == Some(endpoint)))
    }
}
