//! What happens to a job: the inputs of the job machine.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use streamd_core::backend::StateBackendOptions;
use streamd_core::barrier::Compression;
use streamd_core::graph::{CheckpointingMode, ClaimMode, ExternalizedCheckpointRetention, JobGraph, RestartStrategy};
use streamd_core::id::{CheckpointId, JobId, OperationId, TaskManagerId, WorkerId};
use streamd_core::protocol::{Failure, WorkerEvent};
use streamd_core::snapshot::SnapshotMetadata;

/// A job as it is handed to its machine: checked, with every setting resolved.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// The job.
    pub job_id: JobId,
    /// What it runs.
    pub graph: Arc<JobGraph>,
    /// The fingerprint that every worker must present.
    pub fingerprint: String,
    /// The number of key groups of each vertex, by position: as in the graph, or adopted from the restored snapshot.
    pub max_parallelism: Vec<u32>,
    /// What it starts from.
    pub restore: Option<RestorePoint>,
    /// Its settings.
    pub options: JobOptions,
    /// The numbers of its workers count up from here; no other job of the cluster uses them.
    pub first_worker: WorkerId,
}

/// A snapshot that a job starts from, read and checked.
#[derive(Debug, Clone)]
pub struct RestorePoint {
    /// What it holds.
    pub metadata: Arc<SnapshotMetadata>,
    /// The URI of the folder that its `_metadata` is in, without a slash at its end.
    pub uri: String,
}

/// The settings of one job: code before command line before configuration before default. They are part of the job's durable
/// record: a field that is added needs a default for records without it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobOptions {
    /// When and how checkpoints are taken.
    pub checkpointing: CheckpointOptions,
    /// Where keyed state lives.
    pub state_backend: StateBackendOptions,
    /// What to do when the job fails.
    pub restart_strategy: RestartStrategy,
    /// The URI under which this job's checkpoints go (`…/<job id>`); `None`: none is configured.
    pub checkpoint_directory: Option<String>,
    /// The URI under which savepoints go where the request names no other.
    pub savepoint_directory: Option<String>,
    /// Whose the snapshot is that the job starts from.
    pub claim_mode: ClaimMode,
    /// The epoch of the leading job manager.
    pub leader_epoch: u64,
    /// Milliseconds to wait for slots before the attempt fails.
    pub slot_request_timeout_ms: u64,
    /// Milliseconds to wait for workers to start and register before the attempt fails.
    pub worker_start_timeout_ms: u64,
    /// Milliseconds to wait for subtasks to report CANCELED before their workers are stopped.
    pub cancel_timeout_ms: u64,
}

/// When and how checkpoints are taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckpointOptions {
    /// Milliseconds between the starts of periodic checkpoints; `None`: checkpointing is disabled.
    pub interval_ms: Option<u64>,
    /// Exactly-once or at-least-once.
    pub mode: CheckpointingMode,
    /// Milliseconds after which a snapshot that is not complete is given up.
    pub timeout_ms: u64,
    /// Milliseconds from the end of one periodic checkpoint to the start of the next.
    pub min_pause_ms: u64,
    /// How many may be under way at once.
    pub max_concurrent: u32,
    /// How many in a row may fail before the job does.
    pub tolerable_failed: u32,
    /// What becomes of checkpoints when the job ends.
    pub retention: ExternalizedCheckpointRetention,
    /// How many completed checkpoints are kept.
    pub num_retained: u32,
    /// Whether a checkpoint refers to the last one for what has not changed since.
    pub incremental: bool,
    /// How keyed state is compressed in checkpoints.
    pub compression: Compression,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Begin: the job leaves CREATED.
    Start,
    /// Begin where another job manager left off: its workers may run on, and are waited for.
    Reconcile {
        /// Milliseconds after which those that have not come back are given up.
        timeout_ms: u64,
    },
    /// The slots asked for, in the order of the request; all of them.
    SlotsAllocated(Vec<SlotId>),
    /// A worker said something; its registration is the first.
    Worker(WorkerId, WorkerEvent),
    /// A worker is gone: its process ended, its link closed, or its task manager is lost. Told once or more.
    WorkerLost(WorkerId, Failure),
    /// A task manager is gone, with its slots and workers.
    TaskManagerLost(TaskManagerId),
    /// What became of [`Action::Publish`](crate::action::Action::Publish).
    Published(CheckpointId, Result<PublishedSnapshot, PublishError>),
    /// What became of [`Action::Promote`](crate::action::Action::Promote).
    Promoted(OperationId, Result<PublishedSnapshot, PublishError>),
    /// A task manager is to be empty: a job that runs there goes on elsewhere, from a checkpoint of now.
    Evacuate(TaskManagerId),
    /// The user wants the job cancelled.
    Cancel,
    /// The user wants a savepoint, perhaps followed by the end of the job.
    Operation(OperationRequest),
    /// Time has passed: at least until [`JobMachine::next_deadline`](crate::job::JobMachine::next_deadline).
    Tick,
}

/// A slot of a task manager.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// Whose.
    pub task_manager: TaskManagerId,
    /// Which, from 0.
    pub slot: u32,
}

/// A snapshot whose metadata is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedSnapshot {
    /// The URI of its folder.
    pub uri: String,
    /// Bytes of the metadata and of every object that it refers to.
    pub bytes: u64,
}

/// Why a snapshot is not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishError {
    /// What happened.
    pub message: String,
    /// Whether the metadata may be in place all the same. Then nothing of it may be deleted.
    pub outcome_unknown: bool,
}

/// A savepoint wanted by the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRequest {
    /// Chosen by the client. A second request with the same id is the same request.
    pub id: OperationId,
    /// What follows the savepoint.
    pub kind: OperationKind,
    /// Where it goes: the URI of the folder under which its own folder is made; `None`: the job's savepoint directory.
    pub target: Option<String>,
    /// The name of the savepoint's own folder, unique (`savepoint-<first 6 digits of the job id>-<12 random digits>`).
    pub folder: String,
    /// Milliseconds after which it is given up; `None`: as checkpoints of the job are.
    pub timeout_ms: Option<u64>,
}

/// What follows a savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// The job goes on.
    Savepoint,
    /// The job is cancelled; nothing after the savepoint takes effect.
    CancelWithSavepoint,
    /// Sinks commit the savepoint, and the job finishes.
    Stop,
    /// The input ends and everything is flushed before the savepoint; then as `Stop`.
    Drain,
}
