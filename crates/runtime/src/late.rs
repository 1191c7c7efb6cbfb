//! The count of records that come too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many records of a subtask came too late for their windows and were dropped. A cheap handle; one thread counts, others read.
#[derive(Debug, Clone, Default)]
pub struct LateCounter(Arc<AtomicU64>);

impl LateCounter {
    /// One more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
