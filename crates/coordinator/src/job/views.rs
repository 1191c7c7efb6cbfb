//! What a status page may know about a job: read-only, copied or borrowed from the machine.

use streamd_core::barrier::SnapshotKind;
use streamd_core::error::CodedError;
use streamd_core::id::{CheckpointId, TaskManagerId, WorkerId};

use crate::action::CompletedOperation;
use crate::checkpoint::FailedCheckpoint;

/// How a job's checkpoints fared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointStatistics {
    /// Checkpoints that were completed.
    pub completed: u64,
    /// Checkpoints that were given up.
    pub failed: u64,
    /// Checkpoints and savepoints that are under way.
    pub in_progress: u64,
    /// The completed checkpoint with the greatest id.
    pub last_completed: Option<CompletedSnapshot>,
    /// The checkpoint that failed last, if any has.
    pub last_failed: Option<FailedCheckpoint>,
}

/// A snapshot that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedSnapshot {
    /// Its number.
    pub id: CheckpointId,
    /// The URI of its folder.
    pub uri: String,
    /// Bytes of its metadata and of all objects that it refers to.
    pub bytes: u64,
    /// Milliseconds from trigger to completion.
    pub duration_ms: u64,
}

/// The snapshot that the state of the current attempt comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredFrom {
    /// Its number.
    pub id: CheckpointId,
    /// The URI of its folder.
    pub uri: String,
    /// Checkpoint or savepoint.
    pub kind: SnapshotKind,
}

/// What has become of a savepoint operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationStatus {
    /// It goes on.
    InProgress(OperationProgress),
    /// It has ended.
    Ended(Result<CompletedOperation, CodedError>),
}

/// How far a savepoint operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationProgress {
    /// What it is doing.
    pub stage: OperationStage,
    /// Subtasks whose part is durable.
    pub acknowledged: u32,
    /// Subtasks altogether.
    pub subtasks: u32,
    /// Bytes of their parts.
    pub bytes: u64,
}

/// What a savepoint operation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationStage {
    /// The input of the job is ending.
    Draining,
    /// Subtasks are writing their parts.
    Writing,
    /// All parts are written; the savepoint is being made visible.
    Publishing,
    /// The savepoint is complete; the job is ending.
    Ending,
    /// The job does not run: its last completed checkpoint is being copied.
    Promoting,
}

/// A worker process of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// Its number.
    pub worker: WorkerId,
    /// The task manager that runs it.
    pub task_manager: TaskManagerId,
    /// Its process id, once it has registered.
    pub process_id: Option<u32>,
}
