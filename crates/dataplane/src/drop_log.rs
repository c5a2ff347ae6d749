//! What was dropped, where and how often: bounded, off the fast path.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use foldhash::fast::RandomState;
use minivpc_model::NetworkInterfaceId;
use minivpc_packet::Headers;

use crate::Now;
use crate::drop::DropReason;
use crate::explain::Component;

/// Most kinds of drops that are told apart.
const CAPACITY: usize = 4096;

/// What was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A packet, as it came to the hop that dropped it.
    Packet(Headers),
    /// A question or announcement by ARP.
    Arp(Ipv4Addr),
    /// Another EtherType.
    EtherType(u16),
    /// A frame that isn't looked into.
    Frame,
}

/// Drops of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Why.
    pub reason: DropReason,
    /// By whom.
    pub component: Component,
    /// The packet; of packets that differ in TTL and MAC addresses only, the last one.
    pub subject: Subject,
    /// The interface whose guest sent it.
    pub sender: NetworkInterfaceId,
    /// How often.
    pub count: u64,
    /// When first.
    pub first: Now,
    /// When last.
    pub last: Now,
}

/// Drops since the lab came up.
#[derive(Debug, Default)]
pub struct DropLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kinds: HashMap<Kind, Dropped, RandomState>,
    more: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    reason: DropReason,
    component: Component,
    subject: Subject,
    sender: NetworkInterfaceId,
}

impl DropLog {
    pub(crate) fn count(
        &self,
        reason: DropReason,
        component: Component,
        subject: Subject,
        sender: NetworkInterfaceId,
        now: Now,
    ) {
        let told_apart = match subject {
            Subject::Packet(packet) => Subject::Packet(Headers { ttl: 0, src_mac: [0; 6], dst_mac: [0; 6], ..packet }),
            other => other,
        };
        let kind = Kind { reason, component, subject: told_apart, sender };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let full = inner.kinds.len() >= CAPACITY;
        if let Some(dropped) = inner.kinds.get_mut(&kind) {
            dropped.count += 1;
            dropped.last = now;
            dropped.subject = subject;
        } else if full {
            inner.more += 1;
        } else {
            let dropped = Dropped { reason, component, subject, sender, count: 1, first: now, last: now };
            inner.kinds.insert(kind, dropped);
        }
    }

    /// All kinds of drops, oldest first, and how many packets more were dropped that the log had no room to tell apart.
    #[must_use]
    pub fn list(&self) -> (Vec<Dropped>, u64) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = inner.kinds.values().copied().collect();
        all.sort_by_key(|dropped| (dropped.first, dropped.reason));
        (all, inner.more)
    }
}
