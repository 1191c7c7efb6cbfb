//! How attempts and jobs end: failure, cancellation, finishing.

use std::collections::BTreeSet;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::SubtaskId;
use streamd_core::protocol::{ExecutionState, Failure, FailureKind, WorkerCommand};
use streamd_core::time::MonotonicTime;

use crate::action::Action;
use crate::checkpoint::End;
use crate::failover::{Decision, Trouble};
use crate::job::machine::{JobMachine, Moment};
use crate::job::phase::{Course, Phase, Stopped};
use crate::lifecycle::JobState;

impl JobMachine {
    /// The attempt has failed; the restart strategy decides what follows. Failures of an attempt that is being dropped
    /// already are part of the first.
    pub(super) fn fail_attempt(&mut self, at: Moment, cause: Failure) {
        self.fail_attempt_by(at, Trouble::Failure, cause);
    }

    /// As [`fail_attempt`](Self::fail_attempt), for whatever ended it.
    pub(super) fn fail_attempt_by(&mut self, at: Moment, trouble: Trouble, cause: Failure) {
        if self.state() != JobState::Running {
            return;
        }
        let in_vain = match cause.kind {
            FailureKind::Recoverable => None,
            FailureKind::DamagedSnapshot => Some("it would read the same snapshot"),
            FailureKind::OutputLost => Some("no attempt could commit what is lost"),
        };
        if let Some(why) = in_vain {
            let message = format!("Recovery is suppressed, {why}: {}", cause.message);
            return self.fail_for_good(at, Failure { message, ..cause });
        }
        match self.failover.on_failure(at.now, trouble) {
            Decision::Restart { delay_ms } => {
                self.remember(at, cause.clone(), Some(delay_ms));
                let survivors = self.survivors();
                let abandoned = self.checkpoints.collecting(|_, _| !survivors.is_empty());
                self.leave_running(at, &cause.message, "take it again once the job is RUNNING");
                let deadline = self.drop_subtasks(at, &survivors);
                abandoned.into_iter().for_each(|id| self.notify_aborted(id));
                self.enter(Phase::Dropping { deadline, delay_ms }, Some(cause));
            }
            Decision::Suppress { strategy } => {
                let failure = Failure {
                    message: format!("Recovery is suppressed by {strategy}: {}", cause.message),
                    ..cause
                };
                self.fail_for_good(at, failure);
            }
        }
    }

    /// The job has failed, and no restart can help.
    pub(super) fn fail_for_good(&mut self, at: Moment, failure: Failure) {
        self.drop_survivors(at);
        let deadline = match &self.phase {
            Phase::Dropping { deadline, .. } => *deadline,
            Phase::BackingOff { .. } | Phase::Settling => at.now,
            Phase::Reconciling {
                is_cancelled: false, ..
            }
            | Phase::WaitingForSlots { .. }
            | Phase::WaitingForWorkers { .. }
            | Phase::Starting
            | Phase::Running(_) => {
                self.leave_running(at, &failure.message, "see why the job failed");
                self.drop_subtasks(at, &BTreeSet::new())
            }
            Phase::Reconciling { is_cancelled: true, .. }
            | Phase::Created
            | Phase::Failing { .. }
            | Phase::Cancelling { .. }
            | Phase::Ended(_) => return,
        };
        self.remember(at, failure.clone(), None);
        let phase = Phase::Failing {
            deadline,
            failure: failure.clone(),
        };
        self.enter(phase, Some(failure));
    }

    pub(super) fn on_cancel(&mut self, at: Moment) {
        self.begin_cancelling(at, None);
    }

    /// The user wants the job gone, perhaps after a savepoint that is complete.
    pub(super) fn begin_cancelling(&mut self, at: Moment, stopped: Option<Stopped>) {
        self.drop_survivors(at);
        let deadline = match &mut self.phase {
            Phase::Cancelling { savepoint, .. } => {
                if savepoint.is_none() {
                    *savepoint = stopped;
                }
                return;
            }
            Phase::Dropping { deadline, .. } | Phase::Failing { deadline, .. } => *deadline,
            Phase::Created | Phase::BackingOff { .. } | Phase::Settling => {
                self.execution.cancel(&BTreeSet::new());
                at.now
            }
            Phase::Reconciling {
                deadline,
                reunion,
                is_cancelled: _,
            } => {
                let phase = Phase::Reconciling {
                    deadline: *deadline,
                    reunion: std::mem::take(reunion),
                    is_cancelled: true,
                };
                return self.enter(phase, None);
            }
            Phase::WaitingForSlots { .. } | Phase::WaitingForWorkers { .. } | Phase::Starting | Phase::Running(_) => {
                self.leave_running(
                    at,
                    "the job was cancelled",
                    "start the job again to take a savepoint of it",
                );
                self.drop_subtasks(at, &BTreeSet::new())
            }
            Phase::Ended(_) => return,
        };
        let savepoint = stopped;
        self.enter(Phase::Cancelling { deadline, savepoint }, None);
    }

    /// What a running attempt leaves behind when it ends before its time: snapshots that will never be complete, and
    /// operations that waited for them. A snapshot whose publication is under way is left to its outcome.
    pub(super) fn leave_running(&mut self, at: Moment, cause: &str, hint: &str) {
        self.checkpoints.schedule.stop();
        for id in self.checkpoints.collecting(|_, _| true) {
            if let Some(pending) = self.checkpoints.give_up(id) {
                // Subtasks may still be writing into the folder.
                self.deferred.push((id, pending.location.clone()));
                self.fail_operation_of(&pending, cause, hint);
            }
        }
        let Phase::Running(course) = &self.phase else {
            return;
        };
        match course {
            Course::Processing | Course::LastCheckpoint | Course::Stopping { .. } => {}
            Course::Draining { operation } => {
                let operation = *operation;
                self.fail_operation(operation, ErrorCode::SavepointFailed, cause, hint);
            }
            Course::Finishing { stop } => {
                if let Some(Stopped { operation, result }) = stop.clone() {
                    self.end_operation(operation, Err(stop_failed(&result.savepoint_path, cause)));
                }
            }
        }
        self.checkpoints.schedule.on_end(at.now);
    }

    /// Has every worker drop its subtasks, but for the survivors. Returns when patience ends.
    pub(super) fn drop_subtasks(&mut self, at: Moment, survivors: &BTreeSet<SubtaskId>) -> MonotonicTime {
        self.execution.cancel(survivors);
        let attempt = self.attempt;
        for worker in self.execution.workers() {
            if self.workers.is_live(worker) {
                let kept = self.kept_slots(worker).iter().map(|it| it.slot).collect();
                let command = WorkerCommand::Cancel { attempt, kept };
                self.out.push(Action::Send { worker, command });
            }
        }
        at.now.plus(self.spec.options.cancel_timeout_ms)
    }

    /// Waits until nothing of the attempt is left but survivors; workers that do not let go are stopped.
    pub(super) fn step_dropping(&mut self, at: Moment, overdue: bool) -> bool {
        if self.execution.any_in(ExecutionState::Canceling) {
            if overdue && self.has_survivors() {
                // They may be on the same workers.
                self.restart_whole(at);
            } else if overdue {
                for worker in self.execution.busy_workers() {
                    self.stop_worker(worker);
                    self.execution.fail_worker(worker);
                }
            }
            return overdue;
        }
        self.discard_deferred();
        match &self.phase {
            Phase::Dropping { delay_ms, .. } => {
                let until = at.now.plus(*delay_ms);
                self.enter(Phase::BackingOff { until }, None);
                true
            }
            Phase::Failing { failure, .. } if !self.checkpoints.is_settling() => {
                let failure = failure.clone();
                self.end(JobState::Failed, Some(failure), None);
                true
            }
            Phase::Cancelling { savepoint, .. } if !self.checkpoints.is_settling() => {
                let savepoint = savepoint.clone();
                self.end(JobState::Canceled, None, savepoint);
                true
            }
            Phase::Created
            | Phase::Reconciling { .. }
            | Phase::WaitingForSlots { .. }
            | Phase::WaitingForWorkers { .. }
            | Phase::Starting
            | Phase::Running(_)
            | Phase::BackingOff { .. }
            | Phase::Settling
            | Phase::Failing { .. }
            | Phase::Cancelling { .. }
            | Phase::Ended(_) => false,
        }
    }

    pub(super) fn end_back_off(&mut self, at: Moment) -> bool {
        if self.is_unsettled() {
            self.enter(Phase::Settling, None);
            true
        } else {
            self.begin_attempt(at)
        }
    }

    /// Whether the next attempt has to wait: for the outcome of a publication, which it may have to start from; or for that of
    /// a savepoint after which there is no next attempt. It must not commit anything that the savepoint does not cover.
    pub(super) fn is_unsettled(&self) -> bool {
        self.checkpoints.is_publishing() || self.operations.ending_by_promotion().is_some()
    }

    /// Everything is committed: the subtasks close.
    pub(super) fn begin_finishing(&mut self, stop: Option<Stopped>) {
        self.checkpoints.schedule.stop();
        self.enter(Phase::Running(Course::Finishing { stop }), None);
        let attempt = self.attempt;
        self.broadcast(&WorkerCommand::Finish { attempt });
    }

    /// Once every subtask has finished, the job has.
    pub(super) fn step_finishing(&mut self) -> bool {
        if !self.execution.all_in(ExecutionState::Finished) || self.checkpoints.is_settling() {
            return false;
        }
        let stop = match &self.phase {
            Phase::Running(Course::Finishing { stop }) => stop.clone(),
            _elsewhere => None,
        };
        for id in self.checkpoints.collecting(|_, _| true) {
            if let Some(pending) = self.checkpoints.give_up(id) {
                self.deferred.push((id, pending.location.clone()));
                self.fail_operation_of(&pending, "the job finished", "restore from its last savepoint");
            }
        }
        self.end(JobState::Finished, None, stop);
        true
    }

    /// The end of the job. Its result is told before anything of it is deleted.
    fn end(&mut self, state: JobState, failure: Option<Failure>, stopped: Option<Stopped>) {
        let workers: Vec<_> = self.workers.live().map(|(worker, _, _)| worker).collect();
        for worker in workers {
            self.stop_worker(worker);
        }
        self.out.push(Action::ReleaseSlots);
        let end = match &failure {
            // A damaged snapshot may be all that is left of the job's state, and what was lost is computed again from an older one.
            Some(failure) if failure.kind != FailureKind::Recoverable => End::Keep,
            Some(_) | None => End::of(state, self.spec.options.checkpointing.retention),
        };
        self.enter(Phase::Ended(state), failure);
        if let Some(Stopped { operation, result }) = stopped {
            self.end_operation(operation, Ok(result));
        }
        for operation in self.operations.running_ids() {
            self.fail_operation(
                operation,
                ErrorCode::SavepointFailed,
                &format!("the job is {}", state.name()),
                "start the job again",
            );
        }
        self.discard_deferred();
        let swept = self.checkpoints.store().end(end);
        self.clean_up(swept);
    }

    /// Deletes what was left to the end of the attempt, and once more what was deleted while a subtask wrote into it that then died:
    /// its file may have come after.
    pub(super) fn discard_deferred(&mut self) {
        let deferred = std::mem::take(&mut self.deferred);
        // A survivor may still be writing; it will be heard of.
        let again = match self.has_survivors() {
            true => Vec::new(),
            false => self.checkpoints.unheard_of(),
        };
        let again = again.into_iter().filter(|unheard_of| !deferred.contains(unheard_of));
        let all: Vec<_> = deferred.iter().cloned().chain(again).collect();
        all.into_iter().for_each(|discarded| self.discard(discarded));
    }
}

/// The savepoint of a stop is complete, but the job has not ended as it should.
pub(super) fn stop_failed(savepoint_path: &str, cause: &str) -> CodedError {
    CodedError::new(
        ErrorCode::StopFailed,
        format!("the savepoint `{savepoint_path}` is complete, but the job did not stop: {cause}"),
    )
    .with_hint("look at the state of the job: the savepoint is valid, and its effects may be committed already")
}
