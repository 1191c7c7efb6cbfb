//! Moving a job off a task manager that is to be empty: a checkpoint now, then the next attempt, which finds its slots elsewhere.
//!
//! No failure, and none is counted. Whatever else restarts the job meanwhile moves it as well: nobody gets slots of a task
//! manager that is being drained.

use std::collections::BTreeSet;

use streamd_core::id::TaskManagerId;
use streamd_core::time::MonotonicTime;

use crate::job::machine::{JobMachine, Moment};
use crate::job::phase::{Course, Phase};

/// Milliseconds after a checkpoint that failed until the next is tried: the store may be what is ailing.
const RETRY_MS: u64 = 1_000;

/// A move that is to come.
#[derive(Debug, Clone)]
pub(super) struct Evacuation {
    /// The task managers to leave.
    from: BTreeSet<TaskManagerId>,
    /// Whether a checkpoint was completed since the move was asked for.
    is_covered: bool,
    /// No checkpoint for the move is triggered before this.
    not_before: MonotonicTime,
}

impl JobMachine {
    pub(super) fn on_evacuate(&mut self, at: Moment, task_manager: TaskManagerId) {
        // Where the job has no place for checkpoints, it would begin anew: then it stays until it ends or fails.
        if self.workers.on(&task_manager).is_empty() || self.spec.options.checkpoint_directory.is_none() {
            return;
        }
        let evacuation = self.evacuation.get_or_insert(Evacuation {
            from: BTreeSet::new(),
            is_covered: false,
            not_before: at.now,
        });
        if evacuation.from.insert(task_manager) {
            evacuation.is_covered = false;
        }
    }

    /// A checkpoint is complete: nothing before it is done twice when the job moves.
    pub(super) fn cover_evacuation(&mut self) {
        if let Some(evacuation) = &mut self.evacuation {
            evacuation.is_covered = true;
        }
    }

    /// A checkpoint has failed: the next one waits a moment.
    pub(super) fn put_off_evacuation(&mut self, at: Moment) {
        if let Some(evacuation) = &mut self.evacuation {
            evacuation.not_before = at.now.plus(RETRY_MS);
        }
    }

    /// When the move wants something done by itself.
    pub(super) fn evacuation_deadline(&self) -> Option<MonotonicTime> {
        let waits = self.checkpoints.checkpoints_under_way() == 0;
        let evacuation = self.evacuation.as_ref().filter(|it| waits && !it.is_covered)?;
        Some(evacuation.not_before)
    }

    /// Takes the checkpoint, then leaves. A savepoint that is under way is waited for.
    pub(super) fn step_evacuation(&mut self, at: Moment) -> bool {
        if !matches!(self.phase, Phase::Running(Course::Processing)) {
            return false;
        }
        if self.evacuation_deadline().is_some_and(|due| due <= at.now) {
            self.trigger_checkpoint(at);
            return true;
        }
        let is_ready = self.evacuation.as_ref().is_some_and(|it| it.is_covered);
        if !is_ready || self.operations.under_way() > 0 || self.checkpoints.is_publishing() {
            return false;
        }
        self.leave_running(
            at,
            "the job moves to another task manager",
            "take it again once the job is RUNNING",
        );
        let deadline = self.drop_subtasks(at, &BTreeSet::new());
        self.enter(Phase::Dropping { deadline, delay_ms: 0 }, None);
        true
    }
}
