//! Watermark alignment: sources that are far ahead of others wait, so that what waits for the slowest does not pile up.
//!
//! ```text
//!   source ──how far──▶ groups ──heartbeat──▶ job master ──least of all──▶ groups ──wait, read on──▶ source
//! ```
//!
//! A throttle and nothing more: results are the same with and without. Flink's noun; its update interval is the heartbeat of a
//! worker, a second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use streamd_core::id::SubtaskId;
use streamd_core::time::EventTime;

/// Which streams wait for each other, and how far one may be ahead.
#[derive(Debug, Clone)]
pub struct WatermarkAlignment {
    pub(crate) group: String,
    pub(crate) max_drift_ms: i64,
}

impl WatermarkAlignment {
    /// In this group of the job, and at most so much ahead of the one that is least far.
    pub fn new(group: impl Into<String>, max_drift: Duration) -> Self {
        Self {
            group: group.into(),
            max_drift_ms: i64::try_from(max_drift.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// How far the subtasks of each group have come: those of this worker by themselves, those of the whole job as last told. A cheap
/// handle, one for each attempt.
#[derive(Debug, Clone, Default)]
pub struct AlignmentGroups(Arc<Mutex<Groups>>);

#[derive(Debug, Default)]
struct Groups {
    members: BTreeMap<SubtaskId, BTreeMap<String, EventTime>>,
    least: BTreeMap<String, EventTime>,
}

impl AlignmentGroups {
    /// How far the streams of this subtask have come in each group that they are in.
    pub fn of_subtask(&self, subtask: SubtaskId) -> BTreeMap<String, EventTime> {
        self.groups().members.get(&subtask).cloned().unwrap_or_default()
    }

    /// How far the whole job has come in each group.
    pub fn set_least(&self, least: BTreeMap<String, EventTime>) {
        self.groups().least = least;
    }

    /// A stream has come this far. Answers whether it is too far ahead of its group. Until the whole group has spoken everybody who
    /// has is.
    pub(crate) fn is_ahead(&self, subtask: SubtaskId, alignment: &WatermarkAlignment, time: EventTime) -> bool {
        let mut groups = self.groups();
        let WatermarkAlignment { group, max_drift_ms } = alignment;
        groups.members.entry(subtask).or_default().insert(group.clone(), time);
        let least = groups.least.get(group).copied().unwrap_or(EventTime::MIN);
        time > least.plus(*max_drift_ms)
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
