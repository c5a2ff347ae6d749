//! NAT sessions and the leases that they hold.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use minivpc_model::Serial;
use minivpc_packet::{Flow, tcp_flags};
use siphasher::sip::SipHasher13;

use super::Sight;
use crate::Now;

/// Ports, and ICMP ids, that a NAT gateway uses (NAT-9, NAT-13).
pub const PORTS: RangeInclusive<u16> = 1024..=u16::MAX;

/// Idle time of every session (NAT-18, NAT-19).
const IDLE: Now = Now::seconds(350);

/// A session by its inside: a client's flow at one gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The gateway's interface.
    pub nat: Serial,
    /// What the client sends.
    pub flow: Flow,
}

/// What a gateway's sessions go to; each port serves it once (NAT-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The gateway's interface.
    pub nat: Serial,
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
    /// The lease of a session with this port.
    #[must_use]
    pub fn of(session: &SessionKey, port: u16) -> Self {
        let Flow { dst, dst_port, protocol, .. } = session.flow;
        Self { to: Destination { nat: session.nat, protocol, peer: dst, peer_port: dst_port }, port }
    }
}

/// A NAT session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// No other session of the lab has or had it.
    pub number: u64,
    /// The leased port or ICMP id.
    pub port: u16,
    /// When it was opened.
    pub opened: Now,
    /// When its last packet passed.
    pub last_seen: Now,
    /// TCP: the far end has answered.
    pub established: bool,
    /// TCP: a RST was seen.
    pub closed: bool,
}

impl Session {
    /// A session whose first packet passes now.
    #[must_use]
    pub fn open(number: u64, port: u16, now: Now) -> Self {
        Self { number, port, opened: now, last_seen: now, established: false, closed: false }
    }

    /// True for the packet that answers the client's SYN.
    pub(super) fn see(&mut self, sight: Sight) -> bool {
        self.last_seen = self.last_seen.max(sight.now);
        self.closed |= sight.tcp_flags & tcp_flags::RST != 0;
        let answer = tcp_flags::SYN | tcp_flags::ACK;
        let establishes = !self.established && !sight.from_opener && sight.tcp_flags & answer == answer;
        self.established |= establishes;
        establishes
    }

    /// Not closed and not idle for too long.
    #[must_use]
    pub fn lives(&self, now: Now) -> bool {
        !self.closed && now.since(self.last_seen) <= IDLE
    }
}

/// The secret that makes ports unpredictable from outside; who knows it can predict them all, so a recording replays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NatKey(pub [u8; 16]);

impl NatKey {
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
