//! NAT sessions and the leases that they hold.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use minivpc_model::Serial;
use minivpc_packet::{Flow, tcp_flags};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::Sight;
use crate::Now;

/// Ports, and ICMP ids, that a NAT gateway uses (NAT-9, NAT-13).
pub const PORTS: RangeInclusive<u16> = 1024..=u16::MAX;

/// Idle time of every session (NAT-18, NAT-19).
const IDLE: Now = Now::seconds(350);
/// How long a TCP connection that both sides have closed is kept, for what is still on its way (as SG-19).
const FINISHED: Now = Now::seconds(60);

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// No other session of the lab has or had it.
    pub number: u64,
    /// The leased address and port.
    pub endpoint: Endpoint,
    /// When it was opened.
    pub opened: Now,
    /// When its last packet passed.
    pub last_seen: Now,
    /// TCP: the far end has answered.
    pub established: bool,
    /// TCP: the client, and the far end, have sent a FIN.
    pub fins: [bool; 2],
    /// TCP: a RST was seen.
    pub closed: bool,
}

impl Session {
    /// A session whose first packet passes now.
    #[must_use]
    pub fn open(number: u64, endpoint: Endpoint, now: Now) -> Self {
        Self { number, endpoint, opened: now, last_seen: now, established: false, fins: [false; 2], closed: false }
    }

    /// What the packet means for the connection, if it means anything.
    pub(super) fn see(&mut self, sight: Sight) -> Option<Seen> {
        let has = |flags: u8| sight.tcp_flags & flags == flags;
        let syn = has(tcp_flags::SYN) && !has(tcp_flags::ACK);
        if syn && sight.from_opener && self.is_finished() {
            *self = Self::open(self.number, self.endpoint, sight.now);
            return Some(Seen::Attempt);
        }
        self.last_seen = self.last_seen.max(sight.now);
        self.closed |= has(tcp_flags::RST);
        self.fins[usize::from(!sight.from_opener)] |= has(tcp_flags::FIN);
        let establishes = !self.established && !sight.from_opener && has(tcp_flags::SYN | tcp_flags::ACK);
        self.established |= establishes;
        establishes.then_some(Seen::Established)
    }

    /// TCP: ended as it should, by both sides or by a reset.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.closed || self.fins == [true; 2]
    }

    /// Not closed and not idle for too long.
    #[must_use]
    pub fn lives(&self, now: Now) -> bool {
        let patience = if self.is_finished() { FINISHED } else { IDLE };
        !self.closed && now.since(self.last_seen) <= patience
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
