//! Ways of packets through the VPC, each kept once for all flows that take it.
//!
//! A way counts the packets that went it by the flow cache, so that such a packet adds to one pair of numbers however
//! many components it passes. What a component has counted is its own numbers and those of the ways through it; a way
//! that nobody takes any more leaves its numbers with its components.

use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::metrics::{NatMetrics, Traffic};
use crate::explain::{NatAct, Ruling, Step};

/// The way of the packets of one direction through the VPC.
#[derive(Debug)]
pub struct Way {
    /// The hops, as its first packet met them.
    pub steps: Box<[Step]>,
    /// The snapshot that the steps speak of, by its number.
    pub generation: u64,
    /// TTL with which that packet was sent.
    pub ttl: u8,
    /// The direction: that of the connection key's flow, or the other.
    pub reversed: bool,
    gateways: Box<[(Arc<NatMetrics>, NatAct)]>,
    cached: Traffic,
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

    /// A packet went it by the cache. All that go it come from one port, so from one worker, and no count gets lost.
    pub(crate) fn count(&self, packets: u32, bytes: u32) {
        self.cached.add_alone(packets, bytes);
    }

    fn name(&self) -> Name<'_> {
        Name { generation: self.generation, ttl: self.ttl, reversed: self.reversed, steps: &self.steps }
    }
}

/// What two ways differ in.
#[derive(PartialEq, Eq, Hash)]
pub struct Name<'a> {
    pub generation: u64,
    pub ttl: u8,
    pub reversed: bool,
    pub steps: &'a [Step],
}

/// All ways that somebody takes.
#[derive(Default)]
pub struct Ways {
    all: RwLock<HashTable<Arc<Way>>>,
    hasher: RandomState,
}

impl Ways {
    /// The way of this name. `gateways` are the counters of the NAT gateways on it, and what they do.
    pub fn of(&self, name: &Name<'_>, gateways: impl FnOnce() -> Box<[(Arc<NatMetrics>, NatAct)]>) -> Arc<Way> {
        let hash = self.hasher.hash_one(name);
        let known = |way: &Arc<Way>| way.name() == *name;
        if let Some(way) = self.all.read().unwrap_or_else(PoisonError::into_inner).find(hash, known) {
            return Arc::clone(way);
        }
        let rehash = |way: &Arc<Way>| self.hasher.hash_one(way.name());
        let way = || {
            let Name { generation, ttl, reversed, steps } = *name;
            Arc::new(Way {
                steps: steps.into(),
                generation,
                ttl,
                reversed,
                gateways: gateways(),
                cached: Traffic::default(),
            })
        };
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(hash, known, rehash).or_insert_with(way).get())
    }

    /// What a gateway has counted, with what went through it by the cache.
    pub fn counted(&self, gateway: &Arc<NatMetrics>) -> NatMetrics {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let sum = gateway.copy();
        for way in all.iter() {
            for (_, act) in way.gateways.iter().filter(|(counters, _)| Arc::ptr_eq(counters, gateway)) {
                sum.add(*act, &way.cached);
            }
        }
        sum
    }

    /// Forgets the ways that nobody takes.
    pub fn sweep(&self) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        // Whoever takes a way up holds the lock, so nobody can take up one that only the table has.
        for way in all.extract_if(|way| Arc::strong_count(way) == 1) {
            way.gateways.iter().for_each(|(gateway, act)| gateway.add(*act, &way.cached));
        }
    }

    pub fn clear(&self) {
        self.all.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
