//! The barrier: the control element that cuts a stream into the records before a snapshot and those after it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::CheckpointId;

/// A barrier. Travels in every channel, after the records that the snapshot covers; cloning it copies a pointer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// The snapshot that it cuts.
    pub checkpoint: CheckpointId,
    /// How the snapshot is taken.
    pub options: Arc<SnapshotOptions>,
}

/// How a snapshot is taken, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotOptions {
    /// Checkpoint or savepoint.
    pub kind: SnapshotKind,
    /// The URI of the folder that the subtasks write into, without a slash at its end.
    pub location: String,
    /// What the sources do after this barrier.
    pub sources: AfterBarrier,
    /// Whether records that come after the barrier in one channel wait for it in the others.
    pub aligned: bool,
}

/// Checkpoint or savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// streamd's own: in the backend's native form, deleted by streamd, for recovery.
    Checkpoint,
    /// The user's: self-contained, movable, in the open format, deleted by the user alone.
    Savepoint,
}

/// What the sources do once they have emitted the barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterBarrier {
    /// Read on.
    Continue,
    /// Emit nothing until the job is finished or told to go on: the barrier of `stop` and of `cancel -s`.
    Halt,
}
