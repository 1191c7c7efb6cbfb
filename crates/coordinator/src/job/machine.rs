//! The machine itself.

use std::collections::VecDeque;

use streamd_core::id::{Attempt, OperationId, SubtaskId};
use streamd_core::protocol::{ExecutionState, Failure, SubtaskMetrics};
use streamd_core::time::{MonotonicTime, WallTime};

use crate::action::Action;
use crate::event::{Event, JobSpec};
use crate::job::views::{CheckpointStatistics, OperationStatus, RestoredFrom, WorkerView};
use crate::lifecycle::JobState;

/// One job: what happens goes in, what is to be done comes out.
#[derive(Debug)]
pub struct JobMachine {
    spec: JobSpec,
    state: JobState,
    failures: VecDeque<Failure>,
}

impl JobMachine {
    /// A job that has not begun: CREATED until [`Event::Start`].
    pub fn new(spec: JobSpec) -> Self {
        Self {
            spec,
            state: JobState::Created,
            failures: VecDeque::new(),
        }
    }

    /// What follows from an event, in the order in which it is to be done.
    pub fn on_event(&mut self, _now: MonotonicTime, _wall: WallTime, event: Event) -> Vec<Action> {
        match (self.state, event) {
            (JobState::Created, Event::Cancel) => {
                self.state = JobState::Canceled;
                vec![Action::StateChanged {
                    from: JobState::Created,
                    to: JobState::Canceled,
                    failure: None,
                }]
            }
            (_, _) => Vec::new(),
        }
    }

    /// When the machine wants an [`Event::Tick`] at the latest.
    pub fn next_deadline(&self) -> Option<MonotonicTime> {
        None
    }

    /// What it runs.
    pub fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// The state of the job.
    pub fn state(&self) -> JobState {
        self.state
    }

    /// The current attempt; [`Attempt::NONE`] before the first.
    pub fn attempt(&self) -> Attempt {
        Attempt::NONE
    }

    /// How often the job was started again.
    pub fn restarts(&self) -> u32 {
        0
    }

    /// The state of a subtask's current execution.
    pub fn execution(&self, _subtask: SubtaskId) -> ExecutionState {
        ExecutionState::Created
    }

    /// The last failures, at most 16, first to last.
    pub fn failures(&self) -> impl DoubleEndedIterator<Item = &Failure> {
        self.failures.iter()
    }

    /// How the job's checkpoints fared.
    pub fn checkpoints(&self) -> CheckpointStatistics {
        CheckpointStatistics::default()
    }

    /// What has become of an operation; `None` if there is none with this id (or it was forgotten).
    pub fn operation(&self, _id: OperationId) -> Option<OperationStatus> {
        None
    }

    /// The snapshot that the current attempt's state comes from; `None` at a fresh start.
    pub fn restored_from(&self) -> Option<RestoredFrom> {
        None
    }

    /// The job's live workers, in order.
    pub fn workers(&self) -> Vec<WorkerView> {
        Vec::new()
    }

    /// The latest counters of a subtask in the current attempt.
    pub fn metrics(&self, _subtask: SubtaskId) -> Option<SubtaskMetrics> {
        None
    }
}
