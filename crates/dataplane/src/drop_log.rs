//! What was dropped, where and how often: bounded, off the fast path.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use foldhash::fast::RandomState;
use minivpc_packet::{Flow, Fragment, Headers};

use crate::Now;
use crate::drop::DropReason;
use crate::explain::Component;

/// Most packets that are told apart. When there are more, the half that was seen longest ago is folded into counts
/// by reason, so a flood doesn't hide what comes after it.
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
    /// Packets that are no longer told apart.
    Folded,
}

/// Drops of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Why.
    pub reason: DropReason,
    /// By whom.
    pub component: Component,
    /// The packet; of packets that differ in source port, TTL, length and MAC addresses only, the last one.
    pub subject: Subject,
    /// The interface whose guest sent it, or the host.
    pub sender: Component,
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
    kinds: Mutex<HashMap<Kind, Dropped, RandomState>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    reason: DropReason,
    component: Component,
    subject: Subject,
    sender: Component,
}

impl DropLog {
    pub(crate) fn count(
        &self,
        reason: DropReason,
        component: Component,
        subject: Subject,
        sender: Component,
        now: Now,
    ) {
        let told_apart = match subject {
            Subject::Packet(packet) => {
                let fragment = packet.fragment.map(|_| Fragment { id: 0, first: false, last: false });
                let (mac, dont_fragment, mss_limit) = ([0; 6], false, None);
                let flow = Flow { src_port: 0, ..packet.flow };
                Subject::Packet(Headers {
                    flow,
                    ttl: 0,
                    size: 0,
                    src_mac: mac,
                    dst_mac: mac,
                    dont_fragment,
                    fragment,
                    mss_limit,
                    ..packet
                })
            }
            other => other,
        };
        let kind = Kind { reason, component, subject: told_apart, sender };
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= CAPACITY && !kinds.contains_key(&kind) {
            fold(&mut kinds);
        }
        let dropped = kinds.entry(kind).or_insert(Dropped {
            reason,
            component,
            subject,
            sender,
            count: 0,
            first: now,
            last: now,
        });
        dropped.count += 1;
        dropped.last = now;
        dropped.subject = subject;
    }

    /// Forgets all drops.
    pub fn clear(&self) {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// All kinds of drops, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Dropped> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = kinds.values().copied().collect();
        all.sort_by_key(|dropped| (dropped.first, dropped.reason));
        all
    }
}

/// What remains of folded kinds is one for each reason, component and sender: as many as the lab is large.
fn fold(kinds: &mut HashMap<Kind, Dropped, RandomState>) {
    let told_apart = || kinds.values().filter(|dropped| dropped.subject != Subject::Folded);
    let mut times: Vec<_> = told_apart().map(|dropped| dropped.last).collect();
    let middle = times.len() / 2;
    if times.is_empty() {
        return;
    }
    let oldest = *times.select_nth_unstable(middle).1;
    let old: Vec<_> =
        kinds.extract_if(|kind, dropped| kind.subject != Subject::Folded && dropped.last <= oldest).collect();
    for (kind, dropped) in old {
        let folded = kinds.entry(Kind { subject: Subject::Folded, ..kind }).or_insert(Dropped {
            subject: Subject::Folded,
            count: 0,
            ..dropped
        });
        folded.count += dropped.count;
        folded.first = folded.first.min(dropped.first);
        folded.last = folded.last.max(dropped.last);
    }
}
