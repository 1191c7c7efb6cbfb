//! What a subtask counts while it works.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use streamd_core::id::SubtaskId;
use streamd_core::protocol::SubtaskMetrics;
use streamd_core::time::EventTime;

use crate::late::LateCounter;

/// Counters of a subtask, written by its slot and read by the worker's heartbeat.
#[derive(Debug)]
pub struct SubtaskCounters {
    pub(crate) records_in: AtomicU64,
    pub(crate) busy_ns: AtomicU64,
    pub(crate) backpressured_ns: AtomicU64,
    pub(crate) late_dropped: LateCounter,
    /// What the operators were told last.
    pub(crate) watermark: AtomicI64,
}

impl Default for SubtaskCounters {
    fn default() -> Self {
        Self {
            records_in: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            backpressured_ns: AtomicU64::new(0),
            late_dropped: LateCounter::default(),
            watermark: AtomicI64::new(EventTime::MIN.0),
        }
    }
}

impl SubtaskCounters {
    /// The counters as they stand.
    pub fn read(&self, subtask: SubtaskId) -> SubtaskMetrics {
        SubtaskMetrics {
            vertex: subtask.vertex,
            index: subtask.index,
            records_in: self.records_in.load(Ordering::Relaxed),
            busy_ns: self.busy_ns.load(Ordering::Relaxed),
            backpressured_ns: self.backpressured_ns.load(Ordering::Relaxed),
            late_dropped: self.late_dropped.read(),
            watermark: Some(self.watermark.load(Ordering::Relaxed)).filter(|time| *time != EventTime::MIN.0),
            ..SubtaskMetrics::default()
        }
    }
}

/// One writer: a plain load and store, not a locked instruction.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}
