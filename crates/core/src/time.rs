//! Time, as typed integers of milliseconds. Nothing here reads a clock: a [`Clock`] is handed in.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Milliseconds since the start of 1970 (UTC). Shown to people and stored in snapshots; no decision depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub i64);

/// Milliseconds since the start of 1970 (UTC) in the time of the records: when something happened, not when it was read. What
/// windows and event-time timers go by. Arithmetic stops at the ends of time instead of overflowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Before everything: the watermark of a stream that has said nothing yet, and the timestamp of a record without one.
    pub const MIN: Self = Self(i64::MIN);
    /// After everything: the watermark at the end of a stream.
    pub const MAX: Self = Self(i64::MAX);

    /// This time and so many milliseconds later.
    pub fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl From<i64> for EventTime {
    fn from(millis: i64) -> Self {
        Self(millis)
    }
}

/// What a stream says of its event time, between its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watermark {
    /// No record with this timestamp or an earlier one is expected any more.
    Time(EventTime),
    /// Nothing comes for now: others need not wait for this stream.
    Idle,
    /// Records come again.
    Active,
}

/// Milliseconds on a clock that never steps back, from an arbitrary start. Time-outs and delays are measured on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MonotonicTime(pub u64);

impl MonotonicTime {
    /// This moment and `millis` later; the far end of time instead of an overflow.
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` until now, 0 if `earlier` lies ahead.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where time comes from. Production code holds one that reads the machine; tests hold one that they turn by hand.
pub trait Clock: Send + Sync {
    /// The moment on the clock that never steps back.
    fn monotonic(&self) -> MonotonicTime;

    /// Nanoseconds on the same clock, for measuring how long work takes.
    fn monotonic_nanos(&self) -> u64 {
        self.monotonic().0.saturating_mul(1_000_000)
    }

    /// The date, for people.
    fn wall(&self) -> WallTime;
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic side starts at 0 now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's monotonic clock"
    )]
    pub fn new() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> MonotonicTime {
        MonotonicTime(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic_nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's date")]
    fn wall(&self) -> WallTime {
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => WallTime(i64::try_from(after.as_millis()).unwrap_or(i64::MAX)),
            Err(before) => WallTime(i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)),
        }
    }
}

/// A clock that stands still until it is told to go on: for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock {
    monotonic: AtomicU64,
    wall: AtomicI64,
}

impl ManualClock {
    /// A clock that begins at this date, its monotonic side at 0.
    pub fn showing(wall: WallTime) -> Self {
        Self {
            monotonic: AtomicU64::new(0),
            wall: AtomicI64::new(wall.0),
        }
    }

    /// Lets time pass on both sides.
    pub fn advance(&self, millis: u64) {
        self.monotonic.fetch_add(millis, Ordering::SeqCst);
        self.wall.fetch_add(millis.cast_signed(), Ordering::SeqCst);
    }

    /// Turns the clock to this date. Where that lies behind, the monotonic side stands still.
    pub fn turn_to(&self, wall: WallTime) {
        let before = self.wall.swap(wall.0, Ordering::SeqCst);
        let passed = u64::try_from(wall.0.saturating_sub(before)).unwrap_or(0);
        self.monotonic.fetch_add(passed, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> MonotonicTime {
        MonotonicTime(self.monotonic.load(Ordering::SeqCst))
    }

    fn wall(&self) -> WallTime {
        WallTime(self.wall.load(Ordering::SeqCst))
    }
}
