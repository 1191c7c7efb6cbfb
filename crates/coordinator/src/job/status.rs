//! What a status page asks the machine.

use streamd_core::id::{Attempt, OperationId, SubtaskId};
use streamd_core::protocol::{ExecutionState, SubtaskMetrics};

use crate::checkpoint::{FailedCheckpoint, PendingSnapshot};
use crate::event::JobSpec;
use crate::failure::FailureRecord;
use crate::job::machine::JobMachine;
use crate::job::phase::Phase;
use crate::job::views::{
    CheckpointStatistics, CompletedSnapshot, OperationProgress, OperationStage, OperationStatus, RestoredFrom,
    WorkerView,
};

impl JobMachine {
    /// What it runs.
    pub fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// The current attempt; [`Attempt::NONE`] before the first.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// How often the job was started again.
    pub fn restarts(&self) -> u32 {
        self.attempt_of_slots().0.saturating_sub(1)
    }

    /// The state of a subtask's current execution.
    pub fn execution(&self, subtask: SubtaskId) -> ExecutionState {
        self.execution.state(subtask)
    }

    /// The last failures, at most 16, first to last.
    pub fn failures(&self) -> impl DoubleEndedIterator<Item = &FailureRecord> {
        self.failures.iter()
    }

    /// The checkpoint that failed last, if any has.
    pub fn last_failed_checkpoint(&self) -> Option<&FailedCheckpoint> {
        self.checkpoints.last_failed.as_ref()
    }

    /// How the job's checkpoints fared.
    pub fn checkpoints(&self) -> CheckpointStatistics {
        let (completed, failed) = self.checkpoints.counts();
        CheckpointStatistics {
            completed,
            failed,
            in_progress: self.checkpoints.under_way() as u64,
            last_completed: self.checkpoints.latest().map(|(id, checkpoint)| CompletedSnapshot {
                id,
                uri: checkpoint.location.clone(),
                bytes: checkpoint.bytes,
                duration_ms: checkpoint.duration_ms,
            }),
            last_failed: self.checkpoints.last_failed.clone(),
        }
    }

    /// What has become of an operation; `None` if there is none with this id (or it was forgotten).
    pub fn operation(&self, id: OperationId) -> Option<OperationStatus> {
        if let Some(result) = self.operations.result(id) {
            return Some(OperationStatus::Ended(result.clone()));
        }
        let operation = self.operations.running(id)?;
        let pending = operation
            .snapshot
            .and_then(|snapshot| self.checkpoints.pending(snapshot));
        // A drain that waits for the end of its input has no snapshot yet; one that waits for the job to end has no
        // snapshot any more.
        let all = self.execution.len();
        let (stage, (acknowledged, subtasks)) = match (pending, operation.snapshot, operation.promoting) {
            (_, _, Some(_)) => (OperationStage::Promoting, (0, all)),
            (Some(pending), _, None) if pending.is_publishing() => (OperationStage::Publishing, pending.progress()),
            (Some(pending), _, None) => (OperationStage::Writing, pending.progress()),
            (None, Some(_), None) => (OperationStage::Ending, (all, all)),
            (None, None, None) => (OperationStage::Draining, (0, all)),
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Some(OperationStatus::InProgress(OperationProgress {
            stage,
            acknowledged: count(acknowledged),
            subtasks: count(subtasks),
            bytes: pending.map_or(0, PendingSnapshot::bytes),
        }))
    }

    /// The snapshot that the current attempt's state comes from; `None` at a fresh start.
    pub fn restored_from(&self) -> Option<RestoredFrom> {
        self.restored.as_ref().map(|point| RestoredFrom {
            id: point.metadata.checkpoint_id,
            uri: point.uri.clone(),
            kind: point.metadata.kind,
        })
    }

    /// The savepoint after which the job is being cancelled, if its user wanted one.
    pub fn cancelled_with(&self) -> Option<&str> {
        match &self.phase {
            Phase::Cancelling { savepoint, .. } => savepoint.as_ref().map(|it| it.result.savepoint_path.as_str()),
            _elsewhere => None,
        }
    }

    /// Whether the job may still read the snapshot that it was started from: until it has one of its own, or has ended.
    pub fn needs_start(&self) -> bool {
        let Some(start) = &self.spec.restore else {
            return false;
        };
        let is_next = self.restore.as_ref().is_some_and(|next| next.uri == start.uri);
        let is_copied = || self.operations.is_promoting(start.metadata.checkpoint_id);
        !self.state().is_terminal() && (is_next || is_copied())
    }

    /// The job's live workers, in order.
    pub fn workers(&self) -> Vec<WorkerView> {
        self.workers
            .live()
            .map(|(worker, task_manager, process_id)| WorkerView {
                worker,
                task_manager: task_manager.clone(),
                process_id,
            })
            .collect()
    }

    /// The latest counters of a subtask in the current attempt.
    pub fn metrics(&self, subtask: SubtaskId) -> Option<SubtaskMetrics> {
        self.metrics.get(&subtask).cloned()
    }
}
