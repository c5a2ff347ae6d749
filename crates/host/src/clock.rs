//! The lab's time: it goes on while an engine is dead.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use minivpc_dataplane::Now;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// When a lab came up.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Clock {
    /// In nanoseconds of the machine's monotonic clock.
    monotonic: u64,
    /// Since Unix's epoch, by the machine's clock at that time: a lab's own never jumps.
    began: Duration,
}

impl Clock {
    /// Of a lab that comes up now.
    #[must_use]
    pub fn start() -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { monotonic: monotonic(), began }
    }

    /// When the lab came up, since Unix's epoch.
    #[must_use]
    pub fn began(self) -> Duration {
        self.began
    }

    /// Time since the lab came up.
    #[must_use]
    pub fn now(self) -> Now {
        Now(monotonic().saturating_sub(self.monotonic))
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
