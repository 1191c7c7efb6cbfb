//! The user's long-running requests: savepoint, cancel with savepoint, stop, drain.

use std::collections::{BTreeMap, VecDeque};

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{CheckpointId, OperationId};
use streamd_core::time::MonotonicTime;

use crate::action::CompletedOperation;
use crate::event::OperationKind;

/// How many results are kept for those who ask again. A client asks within minutes; this many take hours to make.
pub const RESULTS_KEPT: usize = 256;

/// How many operations of a job may be under way at once. Each makes every subtask write its whole state.
pub const MAX_UNDER_WAY: usize = 16;

/// What an operation led to.
pub type OperationResult = Result<CompletedOperation, CodedError>;

/// An operation under way.
#[derive(Debug, Clone)]
pub struct RunningOperation {
    /// What it is.
    pub kind: OperationKind,
    /// When it was asked for.
    pub requested: MonotonicTime,
    /// The URI of its savepoint's folder.
    pub location: String,
    /// When it is given up, where the request says so.
    pub deadline: Option<MonotonicTime>,
    /// Its savepoint, once triggered.
    pub snapshot: Option<CheckpointId>,
    /// The snapshot that its savepoint is being made of, where the job does not run.
    pub promoting: Option<CheckpointId>,
}

impl RunningOperation {
    /// Whether its time is up.
    pub fn is_overdue(&self, now: MonotonicTime) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// All operations of a job by id, so that a request that is repeated is not done twice.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    running: BTreeMap<OperationId, RunningOperation>,
    ended: BTreeMap<OperationId, OperationResult>,
    order: VecDeque<OperationId>,
}

impl Operations {
    /// The operation under way with this id.
    pub fn running(&self, id: OperationId) -> Option<&RunningOperation> {
        self.running.get(&id)
    }

    /// The result of the operation with this id.
    pub fn result(&self, id: OperationId) -> Option<&OperationResult> {
        self.ended.get(&id)
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.running.len()
    }

    /// The ids of those under way.
    pub fn running_ids(&self) -> Vec<OperationId> {
        self.running.keys().copied().collect()
    }

    /// Whether a savepoint is being made of this snapshot.
    pub fn is_promoting(&self, source: CheckpointId) -> bool {
        self.running
            .values()
            .any(|operation| operation.promoting == Some(source))
    }

    /// The operation that ends the job once the snapshot is copied that it is to leave as its savepoint.
    pub fn ending_by_promotion(&self) -> Option<OperationId> {
        let ends = |operation: &RunningOperation| {
            operation.promoting.is_some() && operation.kind == OperationKind::CancelWithSavepoint
        };
        self.running.iter().find(|(_, it)| ends(it)).map(|(id, _)| *id)
    }

    /// Notes that the savepoint of an operation is a copy of this snapshot, and complete.
    pub fn promoted(&mut self, id: OperationId, source: CheckpointId) {
        if let Some(operation) = self.running.get_mut(&id) {
            operation.promoting = None;
            operation.snapshot = Some(source);
        }
    }

    /// Begins an operation.
    pub fn begin(&mut self, id: OperationId, operation: RunningOperation) {
        self.running.insert(id, operation);
    }

    /// Notes the savepoint of an operation.
    pub fn triggered(&mut self, id: OperationId, snapshot: CheckpointId) {
        if let Some(operation) = self.running.get_mut(&id) {
            operation.snapshot = Some(snapshot);
        }
    }

    /// Ends an operation, begun or refused. The oldest result beyond the number to keep is forgotten.
    pub fn end(&mut self, id: OperationId, result: OperationResult) {
        self.running.remove(&id);
        if self.ended.insert(id, result).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > RESULTS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }
}

/// Refuses an operation of a job that takes no checkpoints.
pub fn checkpointing_disabled() -> CodedError {
    CodedError::new(
        ErrorCode::CheckpointingDisabled,
        "Checkpointing disabled. You can enable it via the execution environment of your job",
    )
    .with_hint(
        "add `env.enable_checkpointing(Duration::from_secs(10));` to its main, or run it with \
         `-D execution.checkpointing.interval=10s`",
    )
}

/// Refuses an operation that does not say where its savepoint goes.
pub fn no_savepoint_directory() -> CodedError {
    CodedError::new(
        ErrorCode::SavepointDirectoryMissing,
        "no savepoint directory is named and none is configured",
    )
    .with_hint("name a target directory, or set `state.savepoints.dir` in the configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_kept_up_to_a_bound_and_the_oldest_is_forgotten_first() {
        let mut operations = Operations::default();
        let id = |n: usize| OperationId::from_bytes((n as u128).to_be_bytes());
        for n in 0..=RESULTS_KEPT {
            operations.end(id(n), Err(checkpointing_disabled()));
        }
        assert!(operations.result(id(0)).is_none());
        assert!(operations.result(id(1)).is_some() && operations.result(id(RESULTS_KEPT)).is_some());
    }
}
