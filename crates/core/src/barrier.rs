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
    /// Checkpoints: what need not be written again.
    pub increment: Increment,
    /// How the native form is compressed.
    pub compression: Compression,
}

/// What a checkpoint may leave out because an earlier one has it. The job master decides, for it keeps the earlier ones; so
/// notifications of completion may be late or lost. Savepoints always hold everything, and change nothing for checkpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Increment {
    /// Nothing: checkpoints of this job are not incremental.
    #[default]
    Off,
    /// Nothing, but those that follow are incremental: changes are tracked from this barrier on.
    First,
    /// What is unchanged since this checkpoint, which is complete and kept for as long as the new one is under way. A subtask
    /// that did not take part in it writes everything.
    Since(CheckpointId),
}

/// How blocks of a native state object are compressed. A block that would not shrink is stored as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4: cheap.
    Lz4,
    /// Zstandard: small.
    Zstd,
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
