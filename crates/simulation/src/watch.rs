//! What an onlooker at the links can tell of snapshots, to count what was met.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use streamd_core::id::{Attempt, CheckpointId, WorkerId};
use streamd_core::protocol::{WorkerCommand, WorkerEvent};

use crate::trace::Trace;

/// Follows the snapshots of a job.
pub(crate) struct SnapshotWatch {
    timeout_ms: u64,
    trace: Arc<Trace>,
    pending: BTreeMap<CheckpointId, u64>,
    over: BTreeSet<CheckpointId>,
    /// The last attempt that was deployed, and what it restored.
    deployed: Option<(Attempt, Option<CheckpointId>)>,
}

impl SnapshotWatch {
    pub(crate) fn new(timeout_ms: u64, trace: Arc<Trace>) -> Self {
        Self {
            timeout_ms,
            trace,
            pending: BTreeMap::new(),
            over: BTreeSet::new(),
            deployed: None,
        }
    }

    fn completed(&mut self, checkpoint: CheckpointId) {
        if self.pending.remove(&checkpoint).is_some() {
            self.over.insert(checkpoint);
            self.trace.saw("a checkpoint was completed");
        }
    }

    /// The job master tells a worker something.
    pub(crate) fn told(&mut self, now: u64, _worker: WorkerId, command: &WorkerCommand) {
        match command {
            WorkerCommand::TriggerCheckpoint { barrier, .. } => {
                self.pending.entry(barrier.checkpoint).or_insert(now);
            }
            WorkerCommand::NotifyCheckpointComplete { checkpoint, .. } => self.completed(*checkpoint),
            WorkerCommand::NotifyCheckpointAborted { checkpoint, .. } => {
                if let Some(triggered) = self.pending.remove(checkpoint) {
                    self.over.insert(*checkpoint);
                    self.trace.saw(match triggered + self.timeout_ms <= now {
                        true => "a snapshot expired",
                        false => "a snapshot was aborted",
                    });
                }
            }
            WorkerCommand::Deploy(deployment) => {
                let (attempt, restored) = (deployment.attempt, deployment.restored);
                if !deployment.kept.is_empty() {
                    self.trace.saw("a worker kept slots while others restarted");
                }
                if self.deployed.is_some_and(|(last, _)| last == attempt) {
                    return;
                }
                if restored.is_some() && self.deployed.is_some_and(|(_, last)| last == restored) {
                    self.trace.saw("two attempts restored the same snapshot");
                }
                self.deployed = Some((attempt, restored));
                self.pending.clear();
            }
            _other => {}
        }
    }

    /// The job master hears a worker.
    pub(crate) fn said(&mut self, event: &WorkerEvent) {
        match event {
            WorkerEvent::Acknowledge { checkpoint, .. } if self.over.contains(checkpoint) => {
                self.trace.saw("an acknowledgement came late");
            }
            WorkerEvent::Decline { .. } => self.trace.saw("a subtask declined"),
            _other => {}
        }
    }

    pub(crate) fn is_any_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Another job manager begins: ids may come again that never completed.
    pub(crate) fn forget(&mut self) {
        self.pending.clear();
        self.over.clear();
    }
}
