//! Operations in the life of a job: which are accepted, how they begin and end.

use streamd_core::barrier::AfterBarrier;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::OperationId;
use streamd_core::protocol::{ExecutionState, WorkerCommand};

use crate::action::Action;
use crate::checkpoint::{PendingSnapshot, Purpose};
use crate::event::{OperationKind, OperationRequest};
use crate::job::machine::{JobMachine, Moment};
use crate::job::phase::{Course, Phase};
use crate::operation::{
    MAX_UNDER_WAY, OperationResult, RunningOperation, checkpointing_disabled, no_savepoint_directory,
};

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
            Ok(operation) => {
                self.operations.begin(id, operation);
                self.begin_operation(at, id, request.kind);
            }
            Err(refusal) => self.end_operation(id, Err(refusal)),
        }
    }

    fn admit(&self, at: Moment, request: &OperationRequest) -> Result<RunningOperation, CodedError> {
        if self.spec.options.checkpointing.interval_ms.is_none() {
            return Err(checkpointing_disabled());
        }
        let directory = request
            .target
            .as_ref()
            .or(self.spec.options.savepoint_directory.as_ref());
        let directory = directory.ok_or_else(no_savepoint_directory)?;
        self.check_running()?;
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
        Ok(RunningOperation {
            kind: request.kind,
            requested: at.now,
            location: below(directory, &request.folder),
            snapshot: None,
        })
    }

    /// A snapshot needs every subtask at work, and a job that is not ending already.
    fn check_running(&self) -> Result<(), CodedError> {
        let job_id = self.spec.job_id;
        let refusal = |message: String, hint: &str| {
            Err(CodedError::new(ErrorCode::JobNotRunning, message).with_hint(hint.to_owned()))
        };
        match &self.phase {
            Phase::Running(Course::Processing | Course::LastCheckpoint) => Ok(()),
            Phase::Running(Course::Draining { operation } | Course::Stopping { operation }) => refusal(
                format!("job {job_id} is being stopped by operation {operation}"),
                "wait for that operation to end",
            ),
            Phase::Running(Course::Finishing { .. }) => {
                refusal(format!("job {job_id} is finishing"), "wait for the job to end")
            }
            Phase::WaitingForSlots { .. } | Phase::WaitingForWorkers { .. } | Phase::Starting => {
                let running = self
                    .execution
                    .states()
                    .filter(|(_, state)| *state == ExecutionState::Running)
                    .count();
                refusal(
                    format!(
                        "job {job_id} is RUNNING, but only {running} of its {} subtasks are",
                        self.execution.len()
                    ),
                    "wait until all subtasks are RUNNING, then try again",
                )
            }
            Phase::Dropping { .. } | Phase::BackingOff { .. } | Phase::Settling => refusal(
                format!("job {job_id} is {}", self.state().name()),
                "wait until it is RUNNING again; its last completed checkpoint can be restored as well",
            ),
            Phase::Created | Phase::Failing { .. } | Phase::Cancelling { .. } | Phase::Ended(_) => refusal(
                format!("job {job_id} is {}", self.state().name()),
                "a savepoint can be taken of a RUNNING job only",
            ),
        }
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
    pub(super) fn fail_operation(&mut self, id: OperationId, cause: &str, hint: &str) {
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
        self.end_operation(
            id,
            Err(CodedError::new(ErrorCode::SavepointFailed, message).with_hint(hint)),
        );
    }

    /// Ends the operation that a snapshot was taken for, if it was.
    pub(super) fn fail_operation_of(&mut self, pending: &PendingSnapshot, cause: &str, hint: &str) {
        match pending.purpose {
            Purpose::Savepoint(operation) => self.fail_operation(operation, cause, hint),
            Purpose::Periodic | Purpose::Final => {}
        }
    }
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
