//! Where the subtasks of an attempt run: slots to subtasks, task managers to workers.
//!
//! ```text
//!   group "default" (parallelism 3)   slots 0 1 2     slot i holds subtask i of every vertex of the group
//!   group "heavy"   (parallelism 2)   slots 3 4
//! ```

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::graph::JobGraph;
use streamd_core::id::{SubtaskId, TaskManagerId, WorkerId};

use crate::event::SlotId;

/// The subtasks that share each slot, in order of vertex. `None` if there are fewer slots than the graph needs.
pub fn share_slots(graph: &JobGraph, slots: &[SlotId]) -> Option<BTreeMap<SlotId, Vec<SubtaskId>>> {
    let mut shared: BTreeMap<SlotId, Vec<SubtaskId>> = BTreeMap::new();
    let mut first = 0;
    for (group, count) in graph.slots_by_group() {
        let of_group = slots.get(first..)?.get(..usize::try_from(count).ok()?)?;
        first += of_group.len();
        for (vertex, job_vertex) in (0u32..).zip(&graph.vertices) {
            if job_vertex.slot_sharing_group == group {
                for (index, slot) in (0..job_vertex.parallelism).zip(of_group) {
                    shared
                        .entry(slot.clone())
                        .or_default()
                        .push(SubtaskId { vertex, index });
                }
            }
        }
    }
    Some(shared)
}

/// How many slots a graph needs.
pub fn slots_needed(graph: &JobGraph) -> u32 {
    graph
        .slots_by_group()
        .iter()
        .fold(0, |sum, (_, slots)| sum.saturating_add(*slots))
}

/// The subtasks of every slot of every worker of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    workers: BTreeMap<WorkerId, BTreeMap<u32, Vec<SubtaskId>>>,
}

impl Placement {
    /// Gives each slot to the worker of its task manager. Every task manager must have one.
    pub fn new(shared: BTreeMap<SlotId, Vec<SubtaskId>>, worker_on: &BTreeMap<TaskManagerId, WorkerId>) -> Self {
        let mut workers: BTreeMap<WorkerId, BTreeMap<u32, Vec<SubtaskId>>> = BTreeMap::new();
        for (slot, subtasks) in shared {
            let worker = worker_on
                .get(&slot.task_manager)
                .expect("a worker was chosen for every task manager that offers a slot");
            workers.entry(*worker).or_default().insert(slot.slot, subtasks);
        }
        Self { workers }
    }

    /// The workers that take part.
    pub fn workers(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.workers.keys().copied()
    }

    /// Whether a worker takes part.
    pub fn uses(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// The slots of a worker with their subtasks, in order.
    pub fn slots_of(&self, worker: WorkerId) -> impl Iterator<Item = (u32, &[SubtaskId])> + '_ {
        self.workers
            .get(&worker)
            .into_iter()
            .flatten()
            .map(|(slot, subtasks)| (*slot, subtasks.as_slice()))
    }

    /// All subtasks of a worker, in order.
    pub fn subtasks_of(&self, worker: WorkerId) -> Vec<SubtaskId> {
        let subtasks: BTreeSet<SubtaskId> = self
            .slots_of(worker)
            .flat_map(|(_, subtasks)| subtasks)
            .copied()
            .collect();
        subtasks.into_iter().collect()
    }

    /// Every subtask with its worker.
    pub fn workers_of_subtasks(&self) -> impl Iterator<Item = (SubtaskId, WorkerId)> + '_ {
        self.workers
            .iter()
            .flat_map(|(worker, slots)| slots.values().flatten().map(move |subtask| (*subtask, *worker)))
    }
}
