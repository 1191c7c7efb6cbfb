//! What a job wants done: the outputs of the job machine.

use streamd_core::error::CodedError;
use streamd_core::id::{CheckpointId, OperationId, TaskManagerId, WorkerId};
use streamd_core::protocol::{Failure, WorkerCommand};
use streamd_core::snapshot::SnapshotMetadata;

use crate::event::{RestorePoint, SlotId};
use crate::lifecycle::JobState;

/// Something to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Find this many slots and report [`Event::SlotsAllocated`](crate::event::Event::SlotsAllocated); wait for task managers
    /// where there are too few. A second request replaces the first; slots that the job holds already count.
    RequestSlots {
        /// How many altogether.
        count: u32,
    },
    /// The workers of another job manager's attempt are back: these are the slots that the job holds.
    AdoptSlots {
        /// All of them.
        slots: Vec<SlotId>,
    },
    /// Give all slots of the job back.
    ReleaseSlots,
    /// Start a worker process of the job.
    StartWorker {
        /// Its number.
        worker: WorkerId,
        /// Where.
        task_manager: TaskManagerId,
    },
    /// End a worker process, by force if it does not go.
    StopWorker {
        /// Its number.
        worker: WorkerId,
    },
    /// Say something to a worker.
    Send {
        /// To whom.
        worker: WorkerId,
        /// What.
        command: WorkerCommand,
    },
    /// Make a snapshot visible: write what the metadata needs beside the subtasks' objects, then the metadata itself, by
    /// create-if-absent, then the record of completion (checkpoints only). Report
    /// [`Event::Published`](crate::event::Event::Published).
    Publish {
        /// Which.
        checkpoint: CheckpointId,
        /// What it says. `nonce` is left empty for the shell to fill.
        metadata: Box<SnapshotMetadata>,
        /// The URI of its folder.
        location: String,
    },
    /// Delete a snapshot folder of streamd's own: subsumed, given up, or not to be kept after the end. Best effort, in the background.
    Discard {
        /// Which.
        checkpoint: CheckpointId,
        /// The URI of its folder.
        location: String,
    },
    /// Delete the record and the metadata of a checkpoint of streamd's own that is subsumed, and some of its objects: later ones refer to
    /// the rest. As [`Discard`](Self::Discard), which comes after it.
    Unpublish {
        /// Which.
        checkpoint: CheckpointId,
        /// The URI of its folder.
        location: String,
        /// The URIs of the objects.
        unneeded: Vec<String>,
    },
    /// Delete a snapshot that the job was given to own when it started from it. As [`Discard`](Self::Discard), but it may
    /// be a savepoint; what its folder holds besides is the user's and stays.
    DiscardClaimed {
        /// Which.
        checkpoint: CheckpointId,
        /// The URI of its folder.
        location: String,
    },
    /// Make a savepoint of a snapshot that is complete, without any subtask: for a job that does not run. Report
    /// [`Event::Promoted`](crate::event::Event::Promoted).
    Promote {
        /// For which operation.
        operation: OperationId,
        /// Of which snapshot. Nothing deletes it before the report.
        source: RestorePoint,
        /// The URI of the savepoint's folder.
        location: String,
        /// Milliseconds after which it is given up.
        timeout_ms: u64,
    },
    /// Answer whoever waits for the operation.
    CompleteOperation {
        /// Which.
        id: OperationId,
        /// The URI of the savepoint, or why there is none.
        result: Result<CompletedOperation, CodedError>,
    },
    /// The job has a new state: tell watchers, log it.
    StateChanged {
        /// The state before.
        from: JobState,
        /// The state now.
        to: JobState,
        /// Why, where it is a failure.
        failure: Option<Failure>,
    },
}

/// The savepoint that an operation made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedOperation {
    /// The URI of the savepoint's folder.
    pub savepoint_path: String,
    /// Its size.
    pub bytes: u64,
    /// Milliseconds from request to completion.
    pub duration_ms: u64,
    /// The snapshot that it is a copy of, where the job did not run and so none could be taken.
    pub promoted: Option<CheckpointId>,
}
