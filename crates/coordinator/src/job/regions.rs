//! Restarting a part of a job: its failed pipelined regions, while the others go on.
//!
//! The phases are those of any restart. What tells it from that of the whole job is who is RUNNING in them: between the failure and the next
//! deployment, nobody is where the whole job restarts, and the survivors are where they go on. They run under the number of the old
//! attempt until the next deployment reaches them, and take no part in any snapshot before. Whatever else happens meanwhile makes it a
//! restart of the whole job.

use std::collections::BTreeSet;

use streamd_core::id::{Attempt, SubtaskId, WorkerId};
use streamd_core::protocol::{ExecutionState, KeptSlot};

use crate::job::machine::{JobMachine, Moment};
use crate::job::phase::{Course, Phase};
use crate::lifecycle::JobState;
use crate::placement::SharedSlots;
use crate::region;

/// Milliseconds for which a region waits for slots. They are there at once, or some are missing: then the job holds none, and another may
/// be given those that the survivors are in.
pub(super) const SLOTS_TIMEOUT_MS: u64 = 1_000;

impl JobMachine {
    /// The subtasks that may go on after a failure of this moment; nobody where the whole job has to restart.
    ///
    /// A failure that is none of a subtask is the job's. After a change of job managers nobody knows who has which slot, nor who had which
    /// element of a list.
    pub(super) fn survivors(&self) -> BTreeSet<SubtaskId> {
        let processes = matches!(self.phase, Phase::Running(Course::Processing)) && self.evacuation.is_none();
        let is_aligned = self.metrics.values().any(|metrics| !metrics.alignment.is_empty());
        let failed = self.execution.all_that_are(ExecutionState::Failed);
        // Streams whose watermarks are aligned wait for each other as those do that are joined by a channel.
        if !processes || is_aligned || failed.is_empty() {
            return BTreeSet::new();
        }
        region::survivors(&self.spec.graph, &self.slots, &failed)
    }

    /// Whether survivors wait for the next attempt. Asked between a failure and the next deployment.
    pub(super) fn has_survivors(&self) -> bool {
        self.execution.any_in(ExecutionState::Running)
    }

    /// Whether there is anybody who wants to hear of snapshots.
    pub(super) fn is_at_work(&self) -> bool {
        self.phase.is_deployed() || self.has_survivors()
    }

    /// The slots of a worker whose subtasks survive.
    pub(super) fn kept_slots(&self, worker: WorkerId) -> Vec<KeptSlot> {
        let survives = |subtask: &SubtaskId| {
            self.execution.runs(worker, *subtask) && self.execution.state(*subtask) == ExecutionState::Running
        };
        let kept = self.slots.iter().filter(|(_, subtasks)| subtasks.iter().all(survives));
        kept.map(|(slot, subtasks)| KeptSlot {
            slot: slot.slot,
            subtasks: subtasks.clone(),
        })
        .collect()
    }

    /// Whether the survivors have the slots in which they are.
    pub(super) fn keep_their_slots(&self, granted: &SharedSlots) -> bool {
        let survives = |subtask: &SubtaskId| self.execution.state(*subtask) == ExecutionState::Running;
        let mut theirs = self.slots.iter().filter(|(_, subtasks)| subtasks.iter().any(survives));
        theirs.all(|(slot, subtasks)| granted.get(slot) == Some(subtasks))
    }

    /// While the job is RESTARTING, nobody goes on any more.
    pub(super) fn drop_survivors(&mut self, at: Moment) {
        if self.state() == JobState::Restarting {
            self.restart_whole(at);
        }
    }

    /// The survivors do not go on: the whole job restarts, as soon as the regions would have.
    pub(super) fn restart_whole(&mut self, at: Moment) {
        let delay_ms = match &self.phase {
            Phase::Dropping { delay_ms, .. } => *delay_ms,
            Phase::BackingOff { until } => until.since(at.now),
            Phase::Settling | Phase::WaitingForSlots { .. } | Phase::WaitingForWorkers { .. } => 0,
            Phase::Created
            | Phase::Reconciling { .. }
            | Phase::Starting
            | Phase::Running(_)
            | Phase::Failing { .. }
            | Phase::Cancelling { .. }
            | Phase::Ended(_) => return,
        };
        if self.has_survivors() {
            let deadline = self.drop_subtasks(at, &BTreeSet::new());
            self.enter(Phase::Dropping { deadline, delay_ms }, None);
        }
    }

    /// The attempt that slots are wanted for. Survivors keep to the one before until everything is deployed.
    pub fn attempt_of_slots(&self) -> Attempt {
        match &self.phase {
            Phase::WaitingForSlots { .. } | Phase::WaitingForWorkers { .. } if self.has_survivors() => {
                self.attempt.next()
            }
            _any => self.attempt,
        }
    }
}
