//! Operations in the life of a job: which are accepted, how they begin and end.

use streamd_core::barrier::AfterBarrier;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{CheckpointId, JobId, OperationId};
use streamd_core::protocol::{ExecutionState, WorkerCommand};

use crate::action::{Action, CompletedOperation};
use crate::checkpoint::{PendingSnapshot, Purpose};
use crate::event::{OperationKind, OperationRequest, PublishError, PublishedSnapshot, RestorePoint};
use crate::job::machine::{JobMachine, Moment};
use crate::job::phase::{Course, Phase, Stopped};
use crate::operation::{
    MAX_UNDER_WAY, OperationResult, RunningOperation, checkpointing_disabled, no_savepoint_directory,
};

/// How a savepoint comes about.
enum Way {
    /// The subtasks take it.
    Subtasks,
    /// It is a copy of this snapshot.
    Promotion(RestorePoint),
}

impl JobMachine {
    /// The same id is the same request: it is answered again, not done again.
    pub(super) fn on_operation(&mut self, at: Moment, request: OperationRequest) {
        let id = request.id;
        if let Some(result) = self.operations.result(id).cloned() {
            self.out.push(Action::CompleteOperation { id, result });
            return;
        }
        if self.operations.running(id).is_some() {
            return;
        }
        match self.admit(at, &request) {
            Ok((operation, Way::Subtasks)) => {
                self.operations.begin(id, operation);
                self.begin_operation(at, id, request.kind);
            }
            Ok((operation, Way::Promotion(source))) => {
                self.restart_whole(at);
                self.begin_promotion(id, operation, source);
            }
            Err(refusal) => self.end_operation(id, Err(refusal)),
        }
    }

    fn admit(&self, at: Moment, request: &OperationRequest) -> Result<(RunningOperation, Way), CodedError> {
        if self.spec.options.checkpointing.interval_ms.is_none() {
            return Err(checkpointing_disabled());
        }
        let directory = request
            .target
            .as_ref()
            .or(self.spec.options.savepoint_directory.as_ref());
        let directory = directory.ok_or_else(no_savepoint_directory)?;
        let way = self.way_to(request.kind)?;
        if self.operations.under_way() >= MAX_UNDER_WAY {
            return Err(CodedError::new(
                ErrorCode::SavepointFailed,
                format!(
                    "job {} has {MAX_UNDER_WAY} savepoints under way already",
                    self.spec.job_id
                ),
            )
            .with_hint("wait for one of them to end"));
        }
        let operation = RunningOperation {
            kind: request.kind,
            requested: at.now,
            location: below(directory, &request.folder),
            deadline: request.timeout_ms.map(|timeout| at.now.plus(timeout)),
            snapshot: None,
            promoting: None,
        };
        Ok((operation, way))
    }

    /// A snapshot needs every subtask at work, and a job that is not ending already. Where a job that ran before does not
    /// run, a savepoint is made of what its next attempt would start from.
    fn way_to(&self, kind: OperationKind) -> Result<Way, CodedError> {
        let job_id = self.spec.job_id;
        if let Some(operation) = self.operations.ending_by_promotion() {
            return Err(being_stopped(job_id, operation));
        }
        match &self.phase {
            Phase::Running(Course::Processing | Course::LastCheckpoint) => Ok(Way::Subtasks),
            Phase::Running(Course::Draining { operation } | Course::Stopping { operation }) => {
                Err(being_stopped(job_id, *operation))
            }
            Phase::Running(Course::Finishing { .. }) => {
                Err(refusal(format!("job {job_id} is finishing"), "wait for the job to end"))
            }
            Phase::WaitingForSlots { .. } | Phase::WaitingForWorkers { .. } | Phase::Starting => {
                let running = self
                    .execution
                    .states()
                    .filter(|(_, state)| *state == ExecutionState::Running)
                    .count();
                let state = format!(
                    "RUNNING, but only {running} of its {} subtasks are",
                    self.execution.len()
                );
                match self.restarts() {
                    0 => Err(refusal(
                        format!("job {job_id} is {state}"),
                        "wait until all subtasks are RUNNING, then try again",
                    )),
                    _again => self.promotion(kind, &state),
                }
            }
            Phase::Dropping { .. } | Phase::BackingOff { .. } | Phase::Settling | Phase::Failing { .. } => {
                self.promotion(kind, self.state().name())
            }
            Phase::Reconciling { .. } => Err(refusal(
                format!("job {job_id} is {}: its job manager has changed", self.state().name()),
                "wait until all subtasks are RUNNING, then try again",
            )),
            Phase::Created | Phase::Cancelling { .. } | Phase::Ended(_) => Err(refusal(
                format!("job {job_id} is {}", self.state().name()),
                "a savepoint can be taken of a RUNNING job only",
            )),
        }
    }

    /// The way to a savepoint of a job that does not run. After a cancellation the resumed job commits what its savepoint
    /// covers, so a copy will do. A stop promises that it is committed already, and nobody is there to do it.
    fn promotion(&self, kind: OperationKind, state: &str) -> Result<Way, CodedError> {
        let job_id = self.spec.job_id;
        match (kind, &self.restore) {
            (OperationKind::Savepoint | OperationKind::CancelWithSavepoint, Some(source)) => {
                Ok(Way::Promotion(source.clone()))
            }
            (OperationKind::Savepoint | OperationKind::CancelWithSavepoint, None) => Err(refusal(
                format!("job {job_id} is {state}, and has completed no checkpoint"),
                "wait until it is RUNNING again; `streamctl cancel` ends it without a savepoint",
            )),
            (OperationKind::Stop | OperationKind::Drain, _) => Err(refusal(
                format!("job {job_id} is {state}: nobody can commit its output"),
                "`streamctl cancel -s` ends it and makes a savepoint of its last completed checkpoint; what that covers is \
                 committed by the job that is resumed from it",
            )),
        }
    }

    fn begin_promotion(&mut self, id: OperationId, mut operation: RunningOperation, source: RestorePoint) {
        let checkpoint = source.metadata.checkpoint_id;
        let timeout_ms = operation.deadline.map(|deadline| deadline.since(operation.requested));
        self.checkpoints.promote(checkpoint);
        self.out.push(Action::Promote {
            operation: id,
            source,
            location: operation.location.clone(),
            timeout_ms: timeout_ms.unwrap_or(self.spec.options.checkpointing.timeout_ms),
        });
        operation.promoting = Some(checkpoint);
        self.operations.begin(id, operation);
    }

    /// What became of a promotion, whatever has become of the job meanwhile.
    pub(super) fn on_promoted(&mut self, at: Moment, id: OperationId, result: Result<PublishedSnapshot, PublishError>) {
        let Some(running) = self.operations.running(id).cloned() else {
            return;
        };
        let Some(source) = running.promoting else { return };
        self.checkpoints.promoted(source);
        match result {
            Ok(published) => {
                let result = CompletedOperation {
                    savepoint_path: published.uri,
                    bytes: published.bytes,
                    duration_ms: at.now.since(running.requested),
                    promoted: Some(source),
                };
                self.on_promoted_whole(at, (id, running.kind), source, result);
            }
            Err(error) => {
                let code = match (error.outcome_unknown, running.is_overdue(at.now)) {
                    (true, _) => ErrorCode::OutcomeUnknown,
                    (false, true) => ErrorCode::OperationTimedOut,
                    (false, false) => ErrorCode::SavepointFailed,
                };
                let cause = format!("checkpoint `{source}` was not made a savepoint: {}", error.message);
                self.fail_operation(id, code, &cause, "see the cause, then take the savepoint again");
                if !error.outcome_unknown {
                    self.discard((source, running.location));
                }
                if matches!(self.phase, Phase::Running(Course::Stopping { operation }) if operation == id) {
                    self.go_on(at);
                }
            }
        }
        self.sweep();
    }

    fn on_promoted_whole(
        &mut self,
        at: Moment,
        (id, kind): (OperationId, OperationKind),
        source: CheckpointId,
        result: CompletedOperation,
    ) {
        match kind {
            OperationKind::CancelWithSavepoint => {
                self.operations.promoted(id, source);
                self.begin_cancelling(at, Some(Stopped { operation: id, result }));
            }
            // The last two are refused where there is no subtask.
            OperationKind::Savepoint | OperationKind::Stop | OperationKind::Drain => self.end_operation(id, Ok(result)),
        }
    }

    /// What was to end the job has failed, and the job has its subtasks: it goes on as before.
    pub(super) fn go_on(&mut self, at: Moment) {
        self.enter(Phase::Running(Course::Processing), None);
        self.checkpoints.schedule.start(at.now);
    }

    /// From the moment on which an operation ends the job, no periodic checkpoint begins.
    fn begin_operation(&mut self, at: Moment, operation: OperationId, kind: OperationKind) {
        match kind {
            OperationKind::Savepoint => self.trigger_savepoint(at, operation, AfterBarrier::Continue),
            OperationKind::CancelWithSavepoint | OperationKind::Stop => {
                self.checkpoints.schedule.stop();
                self.enter(Phase::Running(Course::Stopping { operation }), None);
                self.trigger_savepoint(at, operation, AfterBarrier::Halt);
            }
            OperationKind::Drain => {
                self.checkpoints.schedule.stop();
                self.enter(Phase::Running(Course::Draining { operation }), None);
                let attempt = self.attempt;
                self.broadcast(&WorkerCommand::Drain { attempt });
            }
        }
    }

    /// Answers whoever waits, and keeps the answer.
    pub(super) fn end_operation(&mut self, id: OperationId, result: OperationResult) {
        self.operations.end(id, result.clone());
        self.out.push(Action::CompleteOperation { id, result });
    }

    /// Ends an operation under way without a savepoint.
    pub(super) fn fail_operation(&mut self, id: OperationId, code: ErrorCode, cause: &str, hint: &str) {
        let Some(running) = self.operations.running(id) else {
            return;
        };
        let savepoint = match running.kind {
            OperationKind::Savepoint => "savepoint",
            OperationKind::CancelWithSavepoint => "cancellation with savepoint",
            OperationKind::Stop => "stop with savepoint",
            OperationKind::Drain => "drain with savepoint",
        };
        let message = format!("{savepoint} of job {} failed: {cause}", self.spec.job_id);
        self.end_operation(id, Err(CodedError::new(code, message).with_hint(hint)));
    }

    /// Ends the operation that a snapshot was taken for, if it was.
    pub(super) fn fail_operation_of(&mut self, pending: &PendingSnapshot, cause: &str, hint: &str) {
        match pending.purpose {
            Purpose::Savepoint(operation) => {
                self.fail_operation(operation, ErrorCode::SavepointFailed, cause, hint);
            }
            Purpose::Periodic | Purpose::Final => {}
        }
    }
}

fn being_stopped(job_id: JobId, operation: OperationId) -> CodedError {
    refusal(
        format!("job {job_id} is being stopped by operation {operation}"),
        "wait for that operation to end",
    )
}

fn refusal(message: String, hint: &str) -> CodedError {
    CodedError::new(ErrorCode::JobNotRunning, message).with_hint(hint)
}

/// The URI of a folder below another, which may be the root.
fn below(directory: &str, folder: &str) -> String {
    format!("{}/{folder}", directory.strip_suffix('/').unwrap_or(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_savepoint_may_go_to_the_root() {
        assert_eq!(below("file:///data", "savepoint-1"), "file:///data/savepoint-1");
        assert_eq!(below("file:///", "savepoint-1"), "file:///savepoint-1");
    }
}
