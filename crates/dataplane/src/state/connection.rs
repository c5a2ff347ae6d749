//! Connections of security groups: one per interface and flow, found from both directions.

use std::sync::Arc;

use minivpc_model::Serial;
use minivpc_packet::{Flow, Headers, Kind, tcp_flags};
use serde::{Deserialize, Serialize};

use crate::Now;
use crate::explain::{Ruling, Step};
use crate::snapshot::Direction;

/// Names a connection: the same for both directions of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConnectionKey {
    /// The interface.
    pub eni: Serial,
    /// The flow, canonical.
    pub flow: Flow,
}

impl ConnectionKey {
    /// The connection of `flow`'s packets at an interface.
    #[must_use]
    pub fn new(eni: Serial, flow: Flow) -> Self {
        Self { eni, flow: flow.canonical() }
    }
}

/// How far a connection is; idle time depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Only its opener has spoken.
    Opening,
    /// It was answered.
    Answered,
    /// More than one request and answer; TCP: established.
    Stream,
    /// TCP: a FIN was seen.
    Closing,
    /// TCP: a RST was seen.
    Closed,
}

/// What one packet tells of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// When it passed.
    pub now: Now,
    /// Sent by the side that opened.
    pub from_opener: bool,
    /// Its TCP flags, else 0.
    pub tcp_flags: u8,
}

impl Sight {
    /// What `packet` tells.
    #[must_use]
    pub fn of(packet: &Headers, now: Now, from_opener: bool) -> Self {
        let tcp_flags = match packet.kind {
            Kind::Tcp(flags) => flags,
            _ => 0,
        };
        Self { now, from_opener, tcp_flags }
    }
}

/// A tracked connection at one interface (SG-12).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Connection {
    /// Whether the interface sent or received the first packet.
    pub direction: Direction,
    /// How far it is.
    pub phase: Phase,
    /// When it was opened.
    pub opened: Now,
    /// When its last packet passed.
    pub last_seen: Now,
    /// The way of the packets that this interface sends on it.
    #[serde(skip)]
    pub way: Option<Way>,
}

/// The way of the packets of one direction through the VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The hops, as its first packet met them. Ways that connections have in common are kept once.
    pub steps: Arc<[Step]>,
    /// The snapshot that the steps speak of, by its number.
    pub generation: u64,
    /// TTL with which that packet was sent.
    pub ttl: u8,
    /// The direction: that of the connection key's flow, or the other.
    pub reversed: bool,
}

impl Way {
    /// Do packets that met `steps` take this way? That later packets are tracked where the first was judged by a
    /// rule is no other way.
    #[must_use]
    pub fn is_that_of(&self, steps: &[Step]) -> bool {
        let same = |(first, later): (&Step, &Step)| match (first, later) {
            (
                Step::SecurityGroup { eni, direction, .. },
                Step::SecurityGroup { eni: other, direction: other_direction, ruling: Ruling::Tracked(_) },
            ) => eni == other && direction == other_direction,
            _ => first == later,
        };
        self.steps.len() == steps.len() && self.steps.iter().zip(steps).all(same)
    }
}

impl Connection {
    /// A connection whose first packet passes the interface now.
    #[must_use]
    pub fn open(direction: Direction, now: Now) -> Self {
        Self { direction, phase: Phase::Opening, opened: now, last_seen: now, way: None }
    }

    pub(super) fn see(&mut self, sight: Sight) {
        self.last_seen = self.last_seen.max(sight.now);
        self.phase = if sight.tcp_flags & tcp_flags::RST != 0 {
            Phase::Closed
        } else if sight.tcp_flags & tcp_flags::FIN != 0 {
            Phase::Closing
        } else {
            match (self.phase, sight.from_opener) {
                (Phase::Opening, false) => Phase::Answered,
                (Phase::Answered, true) => Phase::Stream,
                (phase, _) => phase,
            }
        };
    }

    /// Not idle for too long (SG-18; SG-19 where AWS publishes nothing).
    #[must_use]
    pub fn lives(&self, key: &ConnectionKey, now: Now) -> bool {
        let seconds = match (key.flow.protocol, self.phase) {
            (_, Phase::Closed) => return false,
            (6, Phase::Opening | Phase::Answered | Phase::Closing) => 60,
            (6, Phase::Stream) => 432_000,
            (17, Phase::Stream) => 180,
            (1 | 17, _) => 30,
            // SG-16.
            _ => 600,
        };
        now.since(self.last_seen) <= Now::seconds(seconds)
    }
}
