//! Time that passes only when it is told to.

use std::sync::atomic::{AtomicU64, Ordering};

use streamd_core::time::{Clock, MonotonicTime, WallTime};

/// The date at the beginning of each simulation, in milliseconds since 1970.
const BEGIN: i64 = 1_700_000_000_000;

/// The one clock of a simulation.
#[derive(Debug, Default)]
pub(crate) struct SimulatedClock(AtomicU64);

impl SimulatedClock {
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for SimulatedClock {
    fn monotonic(&self) -> MonotonicTime {
        MonotonicTime(self.now())
    }

    fn wall(&self) -> WallTime {
        WallTime(BEGIN + self.now() as i64)
    }
}
