//! How far a record is and when its last packet passed, changed together and without a lock: workers that forward by a
//! cached flow look at it and write it.

use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};

use crate::Tick;

/// A phase, as its owner numbers them, and the time of the last packet.
#[derive(Debug)]
pub struct Life(AtomicU64);

fn pack(phase: u8, last_seen: Tick) -> u64 {
    u64::from(last_seen.0) << 8 | u64::from(phase)
}

fn unpack(life: u64) -> (u8, Tick) {
    (life as u8, Tick((life >> 8) as u32))
}

impl Life {
    pub fn new(phase: u8, last_seen: Tick) -> Self {
        Self(AtomicU64::new(pack(phase, last_seen)))
    }

    pub fn load(&self) -> (u8, Tick) {
        unpack(self.0.load(Acquire))
    }

    /// Changes it to what `change` says of it, unless that is nothing; what it was.
    pub fn update(&self, change: impl Fn(u8, Tick) -> Option<(u8, Tick)>) -> Result<u8, u8> {
        let next = |life| {
            let (phase, last_seen) = unpack(life);
            change(phase, last_seen).map(|(phase, last_seen)| pack(phase, last_seen))
        };
        self.0.fetch_update(AcqRel, Acquire, next).map(|was| was as u8).map_err(|was| was as u8)
    }
}
