//! From the subtasks' parts to the metadata of the whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_core::graph::{JobGraph, JobVertex, Operator};
use streamd_core::id::{Attempt, CheckpointId, JobId, SubtaskId};
use streamd_core::key_group::KEY_HASH_VERSION;
use streamd_core::snapshot::{
    ListState, METADATA_VERSION, OperatorState, OperatorSubtaskState, SnapshotMetadata, SubtaskSnapshot,
};

use super::pending::PendingSnapshot;

/// What the metadata of every snapshot of an attempt says.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The job.
    pub job_id: JobId,
    /// The epoch of the leading job manager.
    pub leader_epoch: u64,
    /// The attempt.
    pub attempt: Attempt,
    /// The plan.
    pub graph: Arc<JobGraph>,
    /// The number of key groups of each vertex, by position.
    pub max_parallelism: Vec<u32>,
}

impl Origin {
    /// The metadata of a snapshot with these parts. The nonce is left to whoever writes it.
    pub(super) fn metadata(
        &self,
        id: CheckpointId,
        pending: &PendingSnapshot,
        collected: &BTreeMap<SubtaskId, SubtaskSnapshot>,
    ) -> SnapshotMetadata {
        SnapshotMetadata {
            version: METADATA_VERSION,
            key_hash_version: KEY_HASH_VERSION,
            kind: pending.purpose.kind(),
            job_id: self.job_id,
            checkpoint_id: id,
            triggered_at: pending.triggered_at,
            leader_epoch: self.leader_epoch,
            attempt: self.attempt,
            nonce: String::new(),
            graph: (*self.graph).clone(),
            operators: self.operators(collected),
        }
    }

    fn operators(&self, collected: &BTreeMap<SubtaskId, SubtaskSnapshot>) -> Vec<OperatorState> {
        let mut operators = Vec::new();
        for (vertex, job_vertex) in (0u32..).zip(&self.graph.vertices) {
            for operator in &job_vertex.operators {
                let parts: Vec<&OperatorSubtaskState> = (0..job_vertex.parallelism)
                    .filter_map(|index| collected.get(&SubtaskId { vertex, index })?.operators.get(&operator.id))
                    .collect();
                if !parts.is_empty() {
                    operators.push(self.operator(operator, (vertex, job_vertex), &parts));
                }
            }
        }
        operators
    }

    fn operator(
        &self,
        operator: &Operator,
        (position, vertex): (u32, &JobVertex),
        parts: &[&OperatorSubtaskState],
    ) -> OperatorState {
        OperatorState {
            id: operator.id,
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            parallelism: vertex.parallelism,
            max_parallelism: self
                .max_parallelism
                .get(position as usize)
                .copied()
                .unwrap_or_else(|| vertex.effective_max_parallelism()),
            keyed: parts.iter().flat_map(|part| &part.keyed).cloned().collect(),
            lists: concatenated(parts.iter().flat_map(|part| &part.lists)),
        }
    }

    /// Whether a subtask may send such a part: every operator in it belongs to the subtask's vertex.
    pub(super) fn accepts(&self, subtask: SubtaskId, snapshot: &SubtaskSnapshot) -> bool {
        let operators = self
            .graph
            .vertices
            .get(subtask.vertex as usize)
            .map(|vertex| vertex.operators.as_slice());
        snapshot
            .operators
            .keys()
            .all(|id| operators.unwrap_or_default().iter().any(|operator| operator.id == *id))
    }
}

/// One list per name, in order of first sight.
fn concatenated<'a>(lists: impl Iterator<Item = &'a ListState>) -> Vec<ListState> {
    let mut whole: Vec<ListState> = Vec::new();
    for list in lists {
        match whole.iter_mut().find(|known| known.name == list.name) {
            Some(known) => known.items.extend(list.items.iter().cloned()),
            None => whole.push(list.clone()),
        }
    }
    whole
}
