//! Connections of security groups: one per interface and flow, found from both directions.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use minivpc_model::Serial;
use minivpc_packet::{Flow, Headers, Kind, tcp_flags};
use serde::{Deserialize, Serialize};

use super::life::Life;
use super::way::Way;
use crate::Tick;
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
    /// It is over: TCP by a RST, any by its idle time or because another one has taken its place.
    Closed,
}

impl Phase {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Opening,
            1 => Self::Answered,
            2 => Self::Stream,
            3 => Self::Closing,
            _ => Self::Closed,
        }
    }

    /// After a packet.
    fn after(self, sight: Sight) -> Self {
        if self == Self::Closed || sight.tcp_flags & tcp_flags::RST != 0 {
            return Self::Closed;
        }
        if sight.tcp_flags & tcp_flags::FIN != 0 {
            return Self::Closing;
        }
        match (self, sight.from_opener) {
            (Self::Opening, false) => Self::Answered,
            (Self::Answered, true) => Self::Stream,
            (phase, _) => phase,
        }
    }

    /// Idle time, seconds (SG-18; SG-19 where AWS publishes nothing).
    fn patience(self, protocol: u8) -> Option<u32> {
        match (protocol, self) {
            (_, Self::Closed) => None,
            (6, Self::Opening | Self::Answered | Self::Closing) => Some(60),
            (6, Self::Stream) => Some(432_000),
            (17, Self::Stream) => Some(180),
            (1 | 17, _) => Some(30),
            // SG-16.
            _ => Some(600),
        }
    }
}

/// What one packet tells of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// When it passed.
    pub at: Tick,
    /// Sent by the side that opened.
    pub from_opener: bool,
    /// Its TCP flags, else 0.
    pub tcp_flags: u8,
}

impl Sight {
    /// What `packet` tells.
    #[must_use]
    pub fn of(packet: &Headers, at: Tick, from_opener: bool) -> Self {
        let tcp_flags = match packet.kind {
            Kind::Tcp(flags) => flags,
            _ => 0,
        };
        Self { at, from_opener, tcp_flags }
    }
}

/// A tracked connection at one interface (SG-12).
#[derive(Debug)]
pub struct Connection {
    /// Its name.
    pub key: ConnectionKey,
    /// Whether the interface sent or received the first packet.
    pub direction: Direction,
    /// When it was opened.
    pub opened: Tick,
    life: Life,
    way: ArcSwapOption<Way>,
}

impl Connection {
    /// A connection whose first packet passes the interface now.
    #[must_use]
    pub fn open(key: ConnectionKey, direction: Direction, now: Tick) -> Self {
        Self::resume(key, direction, now, (Phase::Opening, now))
    }

    pub(super) fn resume(key: ConnectionKey, direction: Direction, opened: Tick, life: (Phase, Tick)) -> Self {
        Self { key, direction, opened, life: Life::new(life.0 as u8, life.1), way: ArcSwapOption::empty() }
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::of(self.life.load().0)
    }

    /// When its last packet passed.
    #[must_use]
    pub fn last_seen(&self) -> Tick {
        self.life.load().1
    }

    /// The way of the packets that its interface sends on it, if it has sent any.
    #[must_use]
    pub fn way(&self) -> Option<Arc<Way>> {
        self.way.load_full()
    }

    pub(super) fn take_way(&self, way: Arc<Way>) {
        self.way.store(Some(way));
    }

    /// A packet passed; true if that makes another phase of it.
    pub(super) fn see(&self, sight: Sight) -> bool {
        let after = |phase, last_seen: Tick| Some((Phase::of(phase).after(sight) as u8, last_seen.max(sight.at)));
        let was = self.life.update(after).unwrap_or_else(|phase| phase);
        Phase::of(was).after(sight) != Phase::of(was)
    }

    /// Its phase, if packets such as this one don't change it.
    pub(crate) fn steady(&self, sight: Sight) -> Option<Phase> {
        let phase = self.phase();
        (phase != Phase::Closed && phase.after(sight) == phase).then_some(phase)
    }

    /// Is it in `phase`, and lives?
    pub(crate) fn is_still(&self, phase: Phase, at: Tick) -> bool {
        let (now, last_seen) = self.life.load();
        now == phase as u8 && self.outlasts(now, last_seen, at)
    }

    /// A packet passed that leaves it in `phase`: false if it isn't in that, or any more.
    pub(crate) fn see_again(&self, phase: Phase, at: Tick) -> bool {
        let again = |now, last_seen| (now == phase as u8 && self.outlasts(now, last_seen, at)).then_some((now, at));
        let (now, last_seen) = self.life.load();
        if now == phase as u8 && last_seen >= at {
            return true;
        }
        self.life.update(again).is_ok()
    }

    /// Ends it if nobody has answered it: TCP only, as others may want no answer.
    pub(super) fn end_unanswered(&self, now: Tick) -> bool {
        self.is_unanswered() && self.end(now, |phase| phase == Phase::Opening)
    }

    /// TCP: nobody has answered yet.
    pub(super) fn is_unanswered(&self) -> bool {
        self.key.flow.protocol == 6 && self.phase() == Phase::Opening
    }

    /// Not over and not idle for too long.
    #[must_use]
    pub fn lives(&self, now: Tick) -> bool {
        let (phase, last_seen) = self.life.load();
        self.outlasts(phase, last_seen, now)
    }

    fn outlasts(&self, phase: u8, last_seen: Tick, now: Tick) -> bool {
        let patience = Phase::of(phase).patience(self.key.flow.protocol);
        patience.is_some_and(|patience| now.since(last_seen) <= patience)
    }

    /// Ends it if it doesn't live, or `goes` in its phase; true if it is over then.
    pub(super) fn end(&self, now: Tick, goes: impl Fn(Phase) -> bool) -> bool {
        let over = |phase, last_seen| {
            let ends = goes(Phase::of(phase)) || !self.outlasts(phase, last_seen, now);
            ends.then_some((Phase::Closed as u8, last_seen))
        };
        self.life.update(over).is_ok()
    }
}
