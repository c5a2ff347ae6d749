//! What of the flows outlives an engine: written down about once a second, read back by the next one.
//!
//! Flows that are younger than the last checkpoint are unknown afterwards: TCP of theirs is in mid-stream (SG-22), and
//! gets a reset from a NAT gateway (NAT-18).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use minivpc_model::Serial;
use serde::{Deserialize, Serialize};

use super::{Connection, ConnectionKey, Endpoint, NatMetrics, Phase, Session, SessionKey, State, Tracking};
use crate::Tick;
use crate::snapshot::Direction;

/// All live flows, and what was counted of them. Fragments on their way aren't worth it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    connections: Vec<(ConnectionKey, Direction, Tick, (Phase, Tick))>,
    sessions: Vec<(SessionKey, Endpoint, (u8, Tick))>,
    metrics: Vec<(Serial, NatMetrics)>,
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
    pub fn checkpoint(&self, now: Tick) -> Checkpoint {
        let connection = |c: Arc<Connection>| (c.key, c.direction, c.opened, (c.phase(), c.last_seen()));
        let session = |s: Arc<Session>| (s.key, s.endpoint, s.life());
        let gateways: Vec<Serial> = self.metrics.iter().map(|entry| *entry.key()).collect();
        Checkpoint {
            connections: self.connections(now).into_iter().map(connection).collect(),
            sessions: self.sessions(now).into_iter().map(session).collect(),
            metrics: gateways.into_iter().map(|nat| (nat, self.metrics(nat))).collect(),
            tracking: self.tracking.iter().map(|entry| (*entry.key(), Arc::clone(entry.value()))).collect(),
        }
    }

    /// Takes up the flows of an engine that has ended. For a state without flows.
    pub fn restore(&self, checkpoint: Checkpoint) {
        let Checkpoint { connections, sessions, metrics, tracking } = checkpoint;
        for (nat, counted) in metrics {
            self.metrics.insert(nat, Arc::new(counted));
        }
        for (eni, counted) in tracking {
            counted.connections.store(0, Relaxed);
            self.tracking.insert(eni, counted);
        }
        for (key, direction, opened, life) in connections {
            self.connections.put(&Arc::new(Connection::resume(key, direction, opened, life)), |_| false);
            self.tracking(key.eni).connections.fetch_add(1, Relaxed);
        }
        for (key, endpoint, life) in sessions {
            let session = Arc::new(Session::resume(key, endpoint, life));
            self.leases.put(&session, |_| false);
            self.sessions.put(&session, |_| false);
            self.count_towards(session.lease().to);
        }
    }

    /// Are there neither flows nor fragments that could end?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.len() + self.sessions.len() + self.datagrams.len() == 0
    }
}
