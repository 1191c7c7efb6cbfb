//! The alarm of a subtask: when its operators want to be told of the time of day.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use streamd_core::time::WallTime;

/// When a subtask is to tell its operators the time of day. A cheap handle; used by one thread at a time.
#[derive(Debug, Clone)]
pub struct Alarm(Arc<AtomicI64>);

impl Default for Alarm {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }
}

impl Alarm {
    /// Goes off at this time, or before.
    pub fn set(&self, time: WallTime) {
        self.0.fetch_min(time.0, Ordering::Relaxed);
    }

    /// When it goes off, if it is set.
    #[inline]
    pub(crate) fn due(&self) -> Option<WallTime> {
        match self.0.load(Ordering::Relaxed) {
            i64::MAX => None,
            time => Some(WallTime(time)),
        }
    }

    /// It has gone off: whoever wants it again sets it again.
    pub(crate) fn clear(&self) {
        self.0.store(i64::MAX, Ordering::Relaxed);
    }
}
