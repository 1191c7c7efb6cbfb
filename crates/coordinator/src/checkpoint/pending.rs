//! A snapshot under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use streamd_core::barrier::SnapshotKind;
use streamd_core::id::{CheckpointId, OperationId, SubtaskId};
use streamd_core::snapshot::{SnapshotMetadata, SubtaskSnapshot};
use streamd_core::time::{MonotonicTime, WallTime};

use crate::restore::ListOwners;

/// Why a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For recovery.
    Periodic,
    /// For recovery, and triggered after all input has ended: once it is complete, the job can finish.
    Final,
    /// For the user, by an operation.
    Savepoint(OperationId),
}

impl Purpose {
    /// Checkpoint or savepoint.
    pub fn kind(self) -> SnapshotKind {
        match self {
            Self::Periodic | Self::Final => SnapshotKind::Checkpoint,
            Self::Savepoint(_) => SnapshotKind::Savepoint,
        }
    }

    /// How messages call such a snapshot.
    pub fn noun(self) -> &'static str {
        match self.kind() {
            SnapshotKind::Checkpoint => "checkpoint",
            SnapshotKind::Savepoint => "savepoint",
        }
    }
}

/// A snapshot from its trigger to its completion or failure.
#[derive(Debug, Clone)]
pub struct PendingSnapshot {
    /// Why it is taken.
    pub purpose: Purpose,
    /// The URI of its folder.
    pub location: String,
    /// When it was triggered.
    pub triggered: MonotonicTime,
    /// When it was triggered, for people.
    pub triggered_at: WallTime,
    /// The latest completed checkpoint at that time: subtasks may refer to what it consists of instead of writing it again.
    pub base: Option<CheckpointId>,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// Subtasks are still writing.
    Collecting {
        deadline: MonotonicTime,
        awaiting: BTreeSet<SubtaskId>,
        collected: BTreeMap<SubtaskId, SubtaskSnapshot>,
    },
    /// All subtasks have written; the metadata is on its way to the store. Nothing of it may be deleted any more before
    /// the outcome is known, so neither time-out nor failure ends this stage.
    Publishing {
        metadata: Arc<SnapshotMetadata>,
        owners: ListOwners,
        subtasks: usize,
        bytes: u64,
    },
}

impl PendingSnapshot {
    /// Whether its metadata is on its way to the store.
    pub fn is_publishing(&self) -> bool {
        matches!(self.stage, Stage::Publishing { .. })
    }

    /// How many subtasks have written, of how many.
    pub fn progress(&self) -> (usize, usize) {
        match &self.stage {
            Stage::Collecting {
                awaiting, collected, ..
            } => (collected.len(), collected.len() + awaiting.len()),
            Stage::Publishing { subtasks, .. } => (*subtasks, *subtasks),
        }
    }

    /// Bytes that those have written.
    pub fn bytes(&self) -> u64 {
        match &self.stage {
            Stage::Collecting { collected, .. } => collected.values().map(SubtaskSnapshot::state_bytes).sum(),
            Stage::Publishing { bytes, .. } => *bytes,
        }
    }

    /// The metadata, once it is being published.
    pub fn metadata(&self) -> Option<&Arc<SnapshotMetadata>> {
        match &self.stage {
            Stage::Collecting { .. } => None,
            Stage::Publishing { metadata, .. } => Some(metadata),
        }
    }

    /// Who had what of its lists, once it is being published.
    pub fn owners(&self) -> Option<&ListOwners> {
        match &self.stage {
            Stage::Collecting { .. } => None,
            Stage::Publishing { owners, .. } => Some(owners),
        }
    }

    pub(super) fn deadline(&self) -> Option<MonotonicTime> {
        match &self.stage {
            Stage::Collecting { deadline, .. } => Some(*deadline),
            Stage::Publishing { .. } => None,
        }
    }
}
