//! Waiting for a condition, with a deadline.

use std::time::Duration;

use streamd_core::time::{Clock, SystemClock};

/// How long a condition may take to come true, on whatever machine. Only a test that fails waits this long.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something to see, and returns it. Panics past the deadline, with `what` was waited for.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Looks until there is something to see, at most this long.
pub fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if watch.elapsed() > patience {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Does it again and again until it takes no longer than `limit`, and returns what it came to then.
///
/// A machine that stops for a moment makes anything slow, once; what waits for something by itself is slow every time.
pub fn at_once<T>(what: &str, limit: Duration, mut act: impl FnMut() -> T) -> T {
    until(&format!("{what} within {limit:?}"), || {
        let watch = Stopwatch::start();
        let done = act();
        (watch.elapsed() <= limit).then_some(done)
    })
}

/// Measures how long something takes.
pub struct Stopwatch(SystemClock);

impl Stopwatch {
    /// Begins now.
    pub fn start() -> Self {
        Self(SystemClock::new())
    }

    /// The time since the beginning.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.monotonic_nanos())
    }
}
