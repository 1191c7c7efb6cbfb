//! The savepoints and stops that users asked a job for, so that each can be waited for and asked for twice.

use std::collections::{BTreeMap, BTreeSet};

use streamd_coordinator::action::CompletedOperation;
use streamd_coordinator::event::{OperationKind, OperationRequest};
use streamd_coordinator::job::{OperationProgress, OperationStage, OperationStatus};
use streamd_core::error::CodedError;
use streamd_core::id::OperationId;
use tokio::sync::watch;

/// Operations that a job remembers. A user who takes a savepoint each minute can still ask after one of sixteen hours ago.
const REMEMBERED: usize = 1_000;

/// The operations of one job.
#[derive(Default)]
pub(super) struct Operations {
    by_id: BTreeMap<OperationId, watch::Sender<OperationStatus>>,
    in_order: Vec<OperationId>,
    /// The folders of savepoints that sinks are to commit.
    committed: BTreeSet<String>,
}

impl Operations {
    /// Notes a new operation over `subtasks` subtasks. `false` if it is known already.
    pub(super) fn begin(&mut self, id: OperationId, subtasks: u32) -> bool {
        if self.by_id.contains_key(&id) {
            return false;
        }
        self.forget_oldest();
        let begun = OperationStatus::InProgress(OperationProgress {
            stage: OperationStage::Writing,
            acknowledged: 0,
            subtasks,
            bytes: 0,
        });
        self.by_id.insert(id, watch::Sender::new(begun));
        self.in_order.push(id);
        true
    }

    /// Notes where an operation writes, if sinks are to commit what it writes.
    pub(super) fn note_folder(&mut self, request: &OperationRequest) {
        match request.kind {
            OperationKind::Stop | OperationKind::Drain => {
                self.committed.insert(request.folder.clone());
            }
            OperationKind::Savepoint | OperationKind::CancelWithSavepoint => {}
        }
    }

    /// Whether sinks are to commit the snapshot at this place once it is complete.
    pub(super) fn is_committed(&self, location: &str) -> bool {
        let folder = location.rsplit('/').next();
        folder.is_some_and(|folder| self.committed.contains(folder))
    }

    /// Notes the outcome, and tells whoever waits.
    pub(super) fn complete(&mut self, id: OperationId, result: Result<CompletedOperation, CodedError>) {
        if let Some(operation) = self.by_id.get(&id) {
            operation.send_replace(OperationStatus::Ended(result));
        }
    }

    /// Asks `current` how far each operation is that is under way.
    pub(super) fn refresh(&mut self, current: impl Fn(OperationId) -> Option<OperationStatus>) {
        for (id, operation) in self.by_id.iter().filter(|(_, operation)| !is_over(operation)) {
            if let Some(status @ OperationStatus::InProgress(_)) = current(*id) {
                operation.send_if_modified(|known| {
                    let changed = *known != status;
                    *known = status;
                    changed
                });
            }
        }
    }

    /// Fails every operation that is under way.
    pub(super) fn fail_all(&mut self, error: &CodedError) {
        for operation in self.by_id.values().filter(|operation| !is_over(operation)) {
            operation.send_replace(OperationStatus::Ended(Err(error.clone())));
        }
    }

    /// The progress and outcome of an operation.
    pub(super) fn find(&self, id: OperationId) -> Option<watch::Receiver<OperationStatus>> {
        self.by_id.get(&id).map(watch::Sender::subscribe)
    }

    fn forget_oldest(&mut self) {
        if self.in_order.len() < REMEMBERED {
            return;
        }
        let over = |id: &OperationId| self.by_id.get(id).is_none_or(is_over);
        if let Some(position) = self.in_order.iter().position(over) {
            let id = self.in_order.remove(position);
            self.by_id.remove(&id);
        }
    }
}

fn is_over(operation: &watch::Sender<OperationStatus>) -> bool {
    matches!(&*operation.borrow(), OperationStatus::Ended(_))
}
