//! What workers report.

use std::collections::BTreeMap;

use streamd_core::id::{Attempt, CheckpointId, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::protocol::{ExecutionState, Failure, FaultDomain, SubtaskMetrics, WorkerCommand, WorkerEvent};

use crate::action::Action;
use crate::failover::Trouble;
use crate::job::machine::{JobMachine, Moment};
use crate::job::phase::{Course, Phase};

impl JobMachine {
    /// Words of a worker that is gone, of an older attempt, or about another worker's subtask have no effect (I7).
    pub(super) fn on_worker(&mut self, at: Moment, worker: WorkerId, event: WorkerEvent) {
        if let WorkerEvent::Returned(returned) = event {
            return self.on_returned(worker, &returned);
        }
        if !self.workers.is_live(worker) {
            return;
        }
        match event {
            WorkerEvent::Registered(registration) => self.on_registered(at, worker, &registration),
            WorkerEvent::SubtaskState {
                attempt,
                subtask,
                state,
                failure,
            } if self.runs(worker, attempt, subtask) => self.on_subtask_state(at, subtask, state, failure),
            WorkerEvent::Acknowledge {
                attempt,
                checkpoint,
                subtask,
                snapshot,
            } if self.runs(worker, attempt, subtask) => self.on_acknowledge(at, checkpoint, subtask, snapshot),
            WorkerEvent::Acknowledge {
                attempt,
                checkpoint,
                subtask,
                ..
            } if attempt < self.attempt => self.on_late_acknowledge(checkpoint, subtask),
            WorkerEvent::Decline {
                attempt,
                checkpoint,
                subtask,
                reason,
            } if self.runs(worker, attempt, subtask) => self.on_decline(at, checkpoint, subtask, &reason),
            WorkerEvent::EndOfData { attempt, subtask } if self.runs(worker, attempt, subtask) => {
                self.execution.end_of_data(subtask);
            }
            WorkerEvent::Heartbeat { attempt, subtasks } if attempt == self.attempt => {
                self.on_heartbeat(worker, subtasks);
            }
            WorkerEvent::Returned(_)
            | WorkerEvent::SubtaskState { .. }
            | WorkerEvent::Acknowledge { .. }
            | WorkerEvent::Decline { .. }
            | WorkerEvent::EndOfData { .. }
            | WorkerEvent::Heartbeat { .. } => {}
        }
    }

    fn runs(&self, worker: WorkerId, attempt: Attempt, subtask: SubtaskId) -> bool {
        attempt == self.attempt && self.execution.runs(worker, subtask)
    }

    /// The subtask was gone, but what it had begun to write was not: the folder was deleted before it came.
    fn on_late_acknowledge(&mut self, checkpoint: CheckpointId, subtask: SubtaskId) {
        if let Some(discarded) = self.checkpoints.acknowledged_too_late(checkpoint, subtask) {
            self.discard(discarded);
        }
    }

    fn on_heartbeat(&mut self, worker: WorkerId, subtasks: Vec<SubtaskMetrics>) {
        for metrics in subtasks {
            let subtask = SubtaskId {
                vertex: metrics.vertex,
                index: metrics.index,
            };
            if self.execution.runs(worker, subtask) {
                self.metrics.insert(subtask, metrics);
            }
        }
        self.align_watermarks(worker);
    }

    /// Tells a worker how far the job has come in each of its watermark alignment groups, once every subtask has said how far it is.
    fn align_watermarks(&mut self, worker: WorkerId) {
        let of_worker = |subtask: &SubtaskId| self.execution.runs(worker, *subtask);
        let aligned = self
            .metrics
            .iter()
            .any(|(subtask, metrics)| of_worker(subtask) && !metrics.alignment.is_empty());
        if !aligned || self.metrics.len() < self.execution.len() {
            return;
        }
        let mut groups = BTreeMap::new();
        for (group, time) in self.metrics.values().flat_map(|metrics| &metrics.alignment) {
            let least = groups.entry(group.clone()).or_insert(*time);
            *least = (*least).min(*time);
        }
        let attempt = self.attempt;
        let command = WorkerCommand::AlignWatermarks { attempt, groups };
        self.out.push(Action::Send { worker, command });
    }

    fn on_subtask_state(&mut self, at: Moment, subtask: SubtaskId, to: ExecutionState, reason: Option<Failure>) {
        let from = self.execution.state(subtask);
        match to {
            ExecutionState::Initializing | ExecutionState::Running => {
                self.execution.transition(subtask, to);
            }
            ExecutionState::Failed => {
                if self.execution.transition(subtask, to) {
                    if from == ExecutionState::Running {
                        self.drop_survivors(at);
                    }
                    let unnamed = || {
                        Failure::new(
                            FaultDomain::Internal,
                            format!("subtask `{subtask}` failed for no reason"),
                        )
                    };
                    self.fail_attempt(at, reason.unwrap_or_else(unnamed));
                }
            }
            ExecutionState::Finished if matches!(self.phase, Phase::Running(Course::Finishing { .. })) => {
                self.execution.transition(subtask, to);
            }
            ExecutionState::Finished | ExecutionState::Canceled if from == ExecutionState::Canceling => {
                self.execution.transition(subtask, to);
            }
            ExecutionState::Finished | ExecutionState::Canceled => {
                if self.execution.transition(subtask, ExecutionState::Failed) {
                    if from == ExecutionState::Running {
                        self.drop_survivors(at);
                    }
                    let message = format!("subtask `{subtask}` is {} without being told to", to.name());
                    self.fail_attempt(at, Failure::new(FaultDomain::Internal, message));
                }
            }
            // The job master's own words; a worker does not say them.
            ExecutionState::Created
            | ExecutionState::Scheduled
            | ExecutionState::Deploying
            | ExecutionState::Canceling => {}
        }
    }

    /// A worker is gone. That is a failure only where this attempt needs it.
    pub(super) fn on_worker_lost(&mut self, at: Moment, worker: WorkerId, reason: Failure) {
        if !self.workers.remove(worker) {
            return;
        }
        let needed = match &self.phase {
            Phase::WaitingForWorkers { placement, .. } => placement.uses(worker),
            Phase::Reconciling { .. } => {
                self.execution.fail_worker(worker);
                return self.part(at, reason);
            }
            Phase::Created
            | Phase::WaitingForSlots { .. }
            | Phase::Starting
            | Phase::Running(_)
            | Phase::Dropping { .. }
            | Phase::BackingOff { .. }
            | Phase::Settling
            | Phase::Failing { .. }
            | Phase::Cancelling { .. }
            | Phase::Ended(_) => false,
        };
        let had_survivors = !self.kept_slots(worker).is_empty();
        let had_subtasks = self.execution.fail_worker(worker);
        if had_survivors {
            self.drop_survivors(at);
        }
        if needed || had_subtasks {
            let trouble = match self.has_progressed {
                true => Trouble::LossAfterProgress,
                false => Trouble::Loss,
            };
            self.fail_attempt_by(at, trouble, reason);
        }
    }

    pub(super) fn on_task_manager_lost(&mut self, at: Moment, task_manager: &TaskManagerId) {
        for worker in self.workers.on(task_manager) {
            let message = format!("task manager `{task_manager}` is lost, and `{worker}` with it");
            self.on_worker_lost(at, worker, Failure::new(FaultDomain::External, message));
        }
    }
}
