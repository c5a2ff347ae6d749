//! NAT sessions and the leases that they hold.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use minivpc_model::Serial;
use minivpc_packet::{Flow, tcp_flags};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::Sight;
use super::life::Life;
use crate::Tick;

/// Ports, and ICMP ids, that a NAT gateway uses (NAT-9, NAT-13).
pub const PORTS: RangeInclusive<u16> = 1024..=u16::MAX;

/// Idle time of every session, seconds (NAT-18, NAT-19).
const IDLE: u32 = 350;
/// How long a TCP connection that both sides have closed is kept, seconds, for what is still on its way (as SG-19).
const FINISHED: u32 = 60;

/// What a gateway puts in the place of a client's address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// One of its private addresses (NAT-5).
    pub address: IpAddr,
    /// The port or ICMP id.
    pub port: u16,
}

/// A session by its inside: a client's flow at one gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionKey {
    /// The gateway's interface.
    pub nat: Serial,
    /// What the client sends.
    pub flow: Flow,
}

/// Where sessions of one of a gateway's addresses go to; each port serves it once (NAT-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The gateway's interface.
    pub nat: Serial,
    /// The gateway's address.
    pub from: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// The destination's address.
    pub peer: IpAddr,
    /// The destination's port; 0 for ICMP.
    pub peer_port: u16,
}

/// A session by its outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Where it goes to.
    pub to: Destination,
    /// The gateway's port or ICMP id.
    pub port: u16,
}

impl Lease {
    /// The lease of a session that uses `endpoint`.
    #[must_use]
    pub fn of(session: &SessionKey, endpoint: Endpoint) -> Self {
        let Flow { dst, dst_port, protocol, .. } = session.flow;
        let Endpoint { address: from, port } = endpoint;
        Self { to: Destination { nat: session.nat, from, protocol, peer: dst, peer_port: dst_port }, port }
    }
}

/// A NAT session.
#[derive(Debug)]
pub struct Session {
    /// Its inside.
    pub key: SessionKey,
    /// The leased address and port.
    pub endpoint: Endpoint,
    life: Life,
}

/// How far a session is, in bits. TCP: the far end has answered; the client, and the far end, have sent a FIN; a RST
/// was seen.
const ESTABLISHED: u8 = 1;
const FIN: [u8; 2] = [2, 4];
const RESET: u8 = 8;
/// It was idle for too long, or never opened, and its lease may be another's.
const OVER: u8 = 16;

fn is_finished(phase: u8) -> bool {
    phase & RESET != 0 || FIN.iter().all(|fin| phase & fin != 0)
}

fn outlasts(phase: u8, last_seen: Tick, now: Tick) -> bool {
    let patience = if is_finished(phase) { FINISHED } else { IDLE };
    phase & (RESET | OVER) == 0 && now.since(last_seen) <= patience
}

/// The phase after a packet, and what the packet means for the connection, if it means anything.
fn after(phase: u8, sight: Sight) -> (u8, Option<Seen>) {
    let has = |flags: u8| sight.tcp_flags & flags == flags;
    if phase & OVER != 0 {
        return (phase, None);
    }
    let syn = has(tcp_flags::SYN) && !has(tcp_flags::ACK);
    if syn && sight.from_opener && is_finished(phase) {
        return (0, Some(Seen::Attempt));
    }
    let mut next = phase;
    if has(tcp_flags::RST) {
        next |= RESET;
    }
    if has(tcp_flags::FIN) {
        next |= FIN[usize::from(!sight.from_opener)];
    }
    let establishes = phase & ESTABLISHED == 0 && !sight.from_opener && has(tcp_flags::SYN | tcp_flags::ACK);
    if establishes {
        next |= ESTABLISHED;
    }
    (next, establishes.then_some(Seen::Established))
}

impl Session {
    /// A session whose first packet passes now.
    #[must_use]
    pub fn open(key: SessionKey, endpoint: Endpoint, now: Tick) -> Self {
        Self::resume(key, endpoint, (0, now))
    }

    pub(super) fn resume(key: SessionKey, endpoint: Endpoint, life: (u8, Tick)) -> Self {
        Self { key, endpoint, life: Life::new(life.0, life.1) }
    }

    pub(super) fn life(&self) -> (u8, Tick) {
        self.life.load()
    }

    /// The lease that it holds.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease::of(&self.key, self.endpoint)
    }

    /// A packet passed: is it in another phase now, and what did the packet mean?
    pub(super) fn see(&self, sight: Sight) -> (bool, Option<Seen>) {
        let next = |phase, last_seen: Tick| Some((after(phase, sight).0, last_seen.max(sight.at)));
        let was = self.life.update(next).unwrap_or_else(|phase| phase);
        let (now, seen) = after(was, sight);
        (now != was, seen)
    }

    /// Its phase, if packets such as this one don't change it.
    pub(crate) fn steady(&self, sight: Sight) -> Option<u8> {
        let (phase, _) = self.life.load();
        (phase & (RESET | OVER) == 0 && after(phase, sight).0 == phase).then_some(phase)
    }

    /// Is it in `phase`, and lives?
    pub(crate) fn is_still(&self, phase: u8, at: Tick) -> bool {
        let (now, last_seen) = self.life.load();
        now == phase && outlasts(now, last_seen, at)
    }

    /// A packet passed that leaves it in `phase`: false if it isn't in that, or any more.
    pub(crate) fn see_again(&self, phase: u8, at: Tick) -> bool {
        let (now, last_seen) = self.life.load();
        if now == phase && last_seen >= at {
            return true;
        }
        let again = |now, last_seen| (now == phase && outlasts(now, last_seen, at)).then_some((now, at));
        self.life.update(again).is_ok()
    }

    /// TCP: answered, and not closed.
    #[must_use]
    pub fn is_established(&self) -> bool {
        let (phase, _) = self.life.load();
        phase & ESTABLISHED != 0 && !is_finished(phase)
    }

    /// TCP: ended as it should, by both sides or by a reset.
    pub(super) fn is_finished(&self) -> bool {
        is_finished(self.life.load().0)
    }

    /// Ends it if nobody has answered it: TCP only, as others may want no answer.
    pub(super) fn end_unanswered(&self, now: Tick) -> bool {
        self.is_unanswered() && self.end(now, |phase| phase & ESTABLISHED == 0)
    }

    /// TCP: nobody has answered yet.
    pub(super) fn is_unanswered(&self) -> bool {
        self.key.flow.protocol == 6 && self.life.load().0 & (ESTABLISHED | OVER) == 0
    }

    /// When its last packet passed.
    pub(crate) fn last_seen(&self) -> Tick {
        self.life.load().1
    }

    /// Not closed and not idle for too long.
    #[must_use]
    pub fn lives(&self, now: Tick) -> bool {
        let (phase, last_seen) = self.life.load();
        outlasts(phase, last_seen, now)
    }

    /// Ends it if it doesn't live, or `goes` in its phase; true if it is over then.
    pub(super) fn end(&self, now: Tick, goes: impl Fn(u8) -> bool) -> bool {
        let over =
            |phase, last_seen| (goes(phase) || !outlasts(phase, last_seen, now)).then_some((phase | OVER, last_seen));
        self.life.update(over).is_ok()
    }
}

/// What a packet means for a TCP connection through a gateway.
pub(super) enum Seen {
    /// The client opens another one with the ports of the last.
    Attempt,
    /// The far end has answered.
    Established,
}

/// The secret that makes ports unpredictable from outside; who knows it can predict them all, so a recording replays.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatKey(pub [u8; 16]);

impl NatKey {
    /// Which of a gateway's `count` addresses to try first for a session.
    #[must_use]
    pub fn address(&self, key: &SessionKey, count: usize) -> usize {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        key.hash(&mut hasher);
        (hasher.finish() % count.max(1) as u64) as usize
    }

    /// The port to try for a session: a keyed hash of the flow and the number of the try, not a random stream, so it
    /// doesn't depend on worker, cache or order.
    #[must_use]
    pub fn port(&self, key: &SessionKey, attempt: u16) -> u16 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        (key, attempt).hash(&mut hasher);
        let width = u64::from(PORTS.end() - PORTS.start()) + 1;
        PORTS.start() + (hasher.finish() % width) as u16
    }
}
