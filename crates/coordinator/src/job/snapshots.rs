//! Snapshots in the life of a job: what triggers them, and what follows from their end.

use std::sync::Arc;

use streamd_core::barrier::AfterBarrier;
use streamd_core::error::ErrorCode;
use streamd_core::id::{CheckpointId, OperationId, SubtaskId};
use streamd_core::protocol::{Failure, FaultDomain, WorkerCommand};
use streamd_core::snapshot::SubtaskSnapshot;

use crate::action::{Action, CompletedOperation};
use crate::checkpoint::{
    Acknowledgement, Discarded, FailedCheckpoint, NewSnapshot, PartlyNeeded, PendingSnapshot, Purpose, Swept, Verdict,
};
use crate::event::{OperationKind, PublishError, PublishedSnapshot, RestorePoint};
use crate::job::ending::stop_failed;
use crate::job::machine::{JobMachine, Moment};
use crate::job::phase::{Course, Phase, Stopped};

/// What to do about a savepoint that failed.
const TAKE_AGAIN: &str = "see the cause, then take the savepoint again";

/// Why a snapshot is not complete: in words, and as the code of the operation that it was for.
struct Reason {
    code: ErrorCode,
    words: String,
}

impl Reason {
    fn failed(words: impl Into<String>) -> Self {
        Self {
            code: ErrorCode::SavepointFailed,
            words: words.into(),
        }
    }
}

impl JobMachine {
    /// Snapshots whose time is up end; periodic checkpoints that are due begin.
    pub(super) fn step_snapshots(&mut self, at: Moment) -> bool {
        let expired = self.checkpoints.expired(at.now);
        if let Some(id) = expired.first() {
            let reason = Reason {
                code: ErrorCode::OperationTimedOut,
                words: "expired before all subtasks acknowledged it".to_owned(),
            };
            self.give_up(at, *id, reason);
            return true;
        }
        let under_way = self.checkpoints.checkpoints_under_way();
        if self.checkpoints.schedule.is_due(at.now, under_way) {
            self.trigger_checkpoint(at);
            return true;
        }
        false
    }

    /// Once all input has ended, a checkpoint must cover it before the subtasks may finish. One triggered earlier does not.
    pub(super) fn on_data_ended(&mut self, at: Moment) -> bool {
        if !self.execution.all_data_ended() {
            return false;
        }
        if self.takes_checkpoints() {
            self.enter(Phase::Running(Course::LastCheckpoint), None);
            self.trigger_checkpoint(at);
        } else {
            self.begin_finishing(None);
        }
        true
    }

    /// Once a drain's input has ended, its savepoint follows. A drain that was given less time than its input takes fails,
    /// and the attempt with it: input that has ended cannot begin again.
    pub(super) fn on_drained(&mut self, at: Moment, operation: OperationId) -> bool {
        if !self.execution.all_data_ended() {
            let overdue = self
                .operations
                .running(operation)
                .is_some_and(|running| running.is_overdue(at.now));
            if overdue {
                let reason = Reason {
                    code: ErrorCode::OperationTimedOut,
                    words: "its time was up before the input had ended".to_owned(),
                };
                self.fail_operation(operation, reason.code, &reason.words, "drain again with more time");
                self.fail_drained(at, &reason.words);
            }
            return overdue;
        }
        self.enter(Phase::Running(Course::Stopping { operation }), None);
        self.trigger_savepoint(at, operation, AfterBarrier::Halt);
        true
    }

    pub(super) fn trigger_checkpoint(&mut self, at: Moment) {
        let Some(directory) = &self.spec.options.checkpoint_directory else {
            return;
        };
        let location = format!("{}/chk-{}", directory.trim_end_matches('/'), self.checkpoints.next_id());
        let purpose = if self.execution.all_data_ended() {
            Purpose::Final
        } else {
            Purpose::Periodic
        };
        self.trigger(
            at,
            NewSnapshot {
                purpose,
                location,
                sources: AfterBarrier::Continue,
                timeout_ms: None,
            },
        );
    }

    pub(super) fn trigger_savepoint(&mut self, at: Moment, operation: OperationId, sources: AfterBarrier) {
        let Some(running) = self.operations.running(operation) else {
            return;
        };
        let new = NewSnapshot {
            purpose: Purpose::Savepoint(operation),
            location: running.location.clone(),
            sources,
            timeout_ms: running.deadline.map(|deadline| deadline.since(at.now)),
        };
        let id = self.trigger(at, new);
        self.operations.triggered(operation, id);
    }

    fn trigger(&mut self, at: Moment, new: NewSnapshot) -> CheckpointId {
        let subtasks = self.execution.subtasks();
        let barrier = self.checkpoints.trigger((at.now, at.wall), new, subtasks);
        let checkpoint = barrier.checkpoint;
        let attempt = self.attempt;
        self.broadcast(&WorkerCommand::TriggerCheckpoint { attempt, barrier });
        checkpoint
    }

    pub(super) fn on_acknowledge(
        &mut self,
        at: Moment,
        checkpoint: CheckpointId,
        subtask: SubtaskId,
        snapshot: SubtaskSnapshot,
    ) {
        let origin = self.origin();
        match self.checkpoints.acknowledge(checkpoint, subtask, snapshot, &origin) {
            Acknowledgement::Ignored | Acknowledgement::Awaiting => {}
            // The subtask wrote into a folder that was deleted while it did.
            Acknowledgement::Late(discarded) => self.discard(discarded),
            Acknowledgement::Foreign => {
                let words = format!("failed: subtask `{subtask}` acknowledged state of operators that it does not run");
                self.give_up(at, checkpoint, Reason::failed(words));
            }
            Acknowledgement::Collected { metadata, location } => self.out.push(Action::Publish {
                checkpoint,
                metadata: Box::new((*metadata).clone()),
                location,
            }),
        }
    }

    pub(super) fn on_decline(&mut self, at: Moment, checkpoint: CheckpointId, subtask: SubtaskId, reason: &str) {
        let words = format!("was declined by subtask `{subtask}`: {reason}");
        self.give_up(at, checkpoint, Reason::failed(words));
        self.checkpoints.declined(checkpoint, subtask);
    }

    /// Ends a snapshot of the running attempt that cannot be completed.
    fn give_up(&mut self, at: Moment, id: CheckpointId, reason: Reason) {
        let Some(pending) = self.checkpoints.give_up(id) else {
            return;
        };
        let (acknowledged, subtasks) = pending.progress();
        let words = format!(
            "{} `{id}` {} ({acknowledged} of {subtasks} subtasks had acknowledged)",
            pending.purpose.noun(),
            reason.words
        );
        self.notify_aborted(id);
        self.discard((id, pending.location.clone()));
        self.on_failed_snapshot(at, id, &pending, &Reason { words, ..reason });
    }

    /// What a failed snapshot means for the running attempt: a checkpoint counts, a savepoint is its operation's affair.
    fn on_failed_snapshot(&mut self, at: Moment, id: CheckpointId, pending: &PendingSnapshot, reason: &Reason) {
        match pending.purpose {
            Purpose::Savepoint(operation) => self.on_failed_savepoint(at, operation, reason),
            Purpose::Periodic | Purpose::Final => {
                self.checkpoints.schedule.on_end(at.now);
                self.checkpoints.last_failed = Some(FailedCheckpoint {
                    id,
                    cause: reason.words.clone(),
                    at: at.wall,
                });
                self.put_off_evacuation(at);
                let finishing = matches!(self.phase, Phase::Running(Course::Finishing { .. }));
                if self.checkpoints.tolerance.on_failure(id) == Verdict::Exceeded && !finishing {
                    let message = format!("Exceeded checkpoint tolerable failure threshold: {}", reason.words);
                    self.fail_attempt(at, Failure::new(FaultDomain::External, message));
                }
            }
        }
    }

    /// The job goes on as if the savepoint had never been asked for. Only a drain cannot: its input has ended.
    fn on_failed_savepoint(&mut self, at: Moment, operation: OperationId, reason: &Reason) {
        let kind = self.operations.running(operation).map(|running| running.kind);
        let stopping = matches!(&self.phase, Phase::Running(Course::Stopping { operation: it }) if *it == operation);
        self.fail_operation(operation, reason.code, &reason.words, TAKE_AGAIN);
        if !stopping {
            return;
        }
        if kind == Some(OperationKind::Drain) {
            self.fail_drained(at, &reason.words);
        } else {
            self.go_on(at);
        }
    }

    /// A drain that failed has ended the attempt's input.
    fn fail_drained(&mut self, at: Moment, cause: &str) {
        let message = format!("the job was drained, and goes back to its last checkpoint: {cause}");
        self.fail_attempt(at, Failure::new(FaultDomain::External, message));
    }

    /// The outcome of a publication, whatever has become of the attempt meanwhile.
    pub(super) fn on_published(
        &mut self,
        at: Moment,
        id: CheckpointId,
        result: Result<PublishedSnapshot, PublishError>,
    ) {
        let Some(pending) = self.checkpoints.take_publishing(id) else {
            return;
        };
        match result {
            Ok(published) => match pending.purpose {
                Purpose::Periodic | Purpose::Final => self.on_completed_checkpoint(at, id, &pending, &published),
                Purpose::Savepoint(operation) => self.on_completed_savepoint(at, id, operation, &pending, published),
            },
            Err(error) => self.on_unpublished(at, id, &pending, &error),
        }
    }

    /// Where the outcome is unknown, the metadata may be in place, and with it a valid snapshot: nothing is deleted.
    fn on_unpublished(&mut self, at: Moment, id: CheckpointId, pending: &PendingSnapshot, error: &PublishError) {
        self.checkpoints.count_failed(pending);
        let noun = pending.purpose.noun();
        let reason = if error.outcome_unknown {
            let words = format!(
                "whether {noun} `{id}` at `{}` was published is unknown: {}",
                pending.location, error.message
            );
            let code = ErrorCode::OutcomeUnknown;
            Reason { code, words }
        } else {
            Reason::failed(format!("{noun} `{id}` was not published: {}", error.message))
        };
        if self.is_at_work() {
            self.notify_aborted(id);
        }
        if !error.outcome_unknown {
            self.discard((id, pending.location.clone()));
        }
        if self.phase.is_deployed() {
            self.on_failed_snapshot(at, id, pending, &reason);
        } else if let Purpose::Savepoint(operation) = pending.purpose {
            self.fail_operation(operation, reason.code, &reason.words, TAKE_AGAIN);
        }
    }

    fn on_completed_checkpoint(
        &mut self,
        at: Moment,
        id: CheckpointId,
        pending: &PendingSnapshot,
        published: &PublishedSnapshot,
    ) {
        self.checkpoints.complete(id, pending, published.bytes, at.now);
        self.checkpoints.schedule.on_end(at.now);
        self.restore_from_now_on(id, pending, &published.uri);
        let last = pending.purpose == Purpose::Final && matches!(self.phase, Phase::Running(Course::LastCheckpoint));
        if self.is_at_work() {
            self.notify_complete(id);
        }
        self.abort_subsumed(id);
        self.sweep();
        self.has_progressed |= self.phase.is_deployed();
        self.cover_evacuation();
        if last {
            self.begin_finishing(None);
        }
    }

    /// Older checkpoints that are still being written are of no use any more. That is no failure.
    fn abort_subsumed(&mut self, completed: CheckpointId) {
        let older = |id: CheckpointId, pending: &PendingSnapshot| {
            id < completed && matches!(pending.purpose, Purpose::Periodic | Purpose::Final)
        };
        for id in self.checkpoints.collecting(older) {
            if let Some(pending) = self.checkpoints.give_up(id) {
                self.notify_aborted(id);
                self.discard((id, pending.location));
            }
        }
    }

    fn on_completed_savepoint(
        &mut self,
        at: Moment,
        id: CheckpointId,
        operation: OperationId,
        pending: &PendingSnapshot,
        published: PublishedSnapshot,
    ) {
        let Some(running) = self.operations.running(operation) else {
            return;
        };
        let kind = running.kind;
        let result = CompletedOperation {
            savepoint_path: published.uri,
            bytes: published.bytes,
            duration_ms: at.now.since(running.requested),
            promoted: None,
        };
        let stopping = matches!(&self.phase, Phase::Running(Course::Stopping { operation: it }) if *it == operation);
        match kind {
            OperationKind::Savepoint => self.end_operation(operation, Ok(result)),
            OperationKind::CancelWithSavepoint => self.begin_cancelling(at, Some(Stopped { operation, result })),
            OperationKind::Stop | OperationKind::Drain if stopping => {
                // From here on sinks commit what the savepoint covers, so no attempt may start from anything older.
                self.restore_from_now_on(id, pending, &result.savepoint_path);
                self.abandon_checkpoints();
                self.notify_complete(id);
                self.begin_finishing(Some(Stopped { operation, result }));
            }
            OperationKind::Stop | OperationKind::Drain => {
                let cause = format!("the job was {} before it was told to finish", self.state().name());
                self.end_operation(operation, Err(stop_failed(&result.savepoint_path, &cause)));
            }
        }
    }

    /// The latest completed snapshot wins, not the one that was completed last.
    fn restore_from_now_on(&mut self, id: CheckpointId, pending: &PendingSnapshot, uri: &str) {
        let newer = self
            .restore
            .as_ref()
            .is_none_or(|point| point.metadata.checkpoint_id < id);
        if let Some(metadata) = pending.metadata().filter(|_| newer) {
            let mut metadata = Arc::clone(metadata);
            if metadata.has_contents() {
                // They are in the metadata file now: neither memory nor deployments need to carry them.
                Arc::make_mut(&mut metadata).take_contents();
            }
            let uri = uri.to_owned();
            self.restore = Some(RestorePoint { metadata, uri });
            self.owners = pending.owners().cloned();
        }
    }

    /// The job ends with a savepoint: checkpoints under way are of no use. Their folders go when nothing writes any more.
    fn abandon_checkpoints(&mut self) {
        let checkpoints =
            |_: CheckpointId, pending: &PendingSnapshot| matches!(pending.purpose, Purpose::Periodic | Purpose::Final);
        for id in self.checkpoints.collecting(checkpoints) {
            if let Some(pending) = self.checkpoints.give_up(id) {
                self.deferred.push((id, pending.location));
            }
        }
    }

    pub(super) fn notify_complete(&mut self, checkpoint: CheckpointId) {
        let attempt = self.attempt;
        self.broadcast(&WorkerCommand::NotifyCheckpointComplete { attempt, checkpoint });
    }

    pub(super) fn notify_aborted(&mut self, checkpoint: CheckpointId) {
        let attempt = self.attempt;
        self.broadcast(&WorkerCommand::NotifyCheckpointAborted { attempt, checkpoint });
    }

    pub(super) fn discard(&mut self, (checkpoint, location): Discarded) {
        let claimed = self.claimed().is_some_and(|point| point.uri == location);
        self.out.push(if claimed {
            Action::DiscardClaimed { checkpoint, location }
        } else {
            Action::Discard { checkpoint, location }
        });
    }

    pub(super) fn sweep(&mut self) {
        let swept = self.checkpoints.sweep();
        self.clean_up(swept);
    }

    pub(super) fn clean_up(&mut self, swept: Swept) {
        for PartlyNeeded {
            checkpoint,
            location,
            unneeded,
        } in swept.partly_needed
        {
            self.out.push(Action::Unpublish {
                checkpoint,
                location,
                unneeded,
            });
        }
        for discarded in swept.unneeded {
            self.discard(discarded);
        }
    }
}
