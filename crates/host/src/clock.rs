//! The lab's time: it goes on while an engine is dead.

use std::time::Duration;

use minivpc_dataplane::Now;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// When a lab came up, in nanoseconds of the machine's monotonic clock.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Clock(u64);

impl Clock {
    /// Of a lab that comes up now.
    #[must_use]
    pub fn start() -> Self {
        Self(monotonic())
    }

    /// Time since the lab came up.
    #[must_use]
    pub fn now(self) -> Now {
        Now(monotonic().saturating_sub(self.0))
    }

    /// The same as a duration.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(self.now().0)
    }
}

fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
