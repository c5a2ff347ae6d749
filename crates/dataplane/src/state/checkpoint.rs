//! What of the flows outlives an engine: written down about once a second, read back by the next one.
//!
//! Flows that are younger than the last checkpoint are unknown afterwards: TCP of theirs is in mid-stream (SG-22), and
//! gets a reset from a NAT gateway (NAT-18).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use minivpc_model::Serial;
use serde::{Deserialize, Serialize};

use super::{Connection, ConnectionKey, Lease, NatMetrics, Session, SessionKey, State, Tracking};
use crate::Now;

/// All live flows, and what was counted of them. Fragments on their way aren't worth it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    connections: Vec<(ConnectionKey, Connection)>,
    sessions: Vec<(SessionKey, Session)>,
    last_session: u64,
    metrics: Vec<(Serial, Arc<NatMetrics>)>,
    tracking: Vec<(Serial, Arc<Tracking>)>,
}

impl Checkpoint {
    /// How many connections and sessions are in it.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.connections.len() + self.sessions.len()
    }
}

impl State {
    /// The flows as they are now.
    #[must_use]
    pub fn checkpoint(&self, now: Now) -> Checkpoint {
        Checkpoint {
            connections: self.connections(now),
            sessions: self.sessions(now),
            last_session: self.last_session.load(Relaxed),
            metrics: self.metrics.iter().map(|entry| (*entry.key(), Arc::clone(entry.value()))).collect(),
            tracking: self.tracking.iter().map(|entry| (*entry.key(), Arc::clone(entry.value()))).collect(),
        }
    }

    /// Takes up the flows of an engine that has ended. For a state without flows.
    pub fn restore(&self, checkpoint: Checkpoint) {
        let Checkpoint { connections, sessions, last_session, metrics, tracking } = checkpoint;
        self.last_session.store(last_session, Relaxed);
        for (nat, counted) in metrics {
            self.metrics.insert(nat, counted);
        }
        for (eni, counted) in tracking {
            counted.connections.store(0, Relaxed);
            self.tracking.insert(eni, counted);
        }
        for (key, connection) in connections {
            self.connections.insert(key, connection);
            self.connection_count.fetch_add(1, Relaxed);
            self.tracking(key.eni).connections.fetch_add(1, Relaxed);
        }
        for (key, session) in sessions {
            self.sessions.insert(key, session);
            self.session_count.fetch_add(1, Relaxed);
            let lease = Lease::of(&key, session.endpoint);
            self.leases.insert(lease, (key, session.number));
            *self.towards.entry(lease.to).or_default() += 1;
        }
    }

    /// Are there neither flows nor fragments that could end?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [&self.connection_count, &self.session_count, &self.datagram_count].iter().all(|count| count.load(Relaxed) == 0)
    }
}
