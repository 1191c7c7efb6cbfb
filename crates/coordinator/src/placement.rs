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

/// The subtasks that share each slot, in order of vertex.
pub type SharedSlots = BTreeMap<SlotId, Vec<SubtaskId>>;

/// Deals slots out to subtasks. A subtask whose slot of the attempt before is among them gets it again: what it has left on that
/// machine serves it once more. `None` if there are fewer slots than the graph needs.
pub fn share_slots(graph: &JobGraph, slots: &[SlotId], before: &SharedSlots) -> Option<SharedSlots> {
    let groups = graph.slots_by_group();
    let places = groups
        .iter()
        .flat_map(|(group, count)| (0..*count).map(|index| (group.as_str(), index)));
    let granted: BTreeSet<&SlotId> = slots.iter().collect();
    let place_before = |subtasks: &Vec<SubtaskId>| {
        let subtask = subtasks.first()?;
        let vertex = graph.vertices.get(subtask.vertex as usize)?;
        Some((vertex.slot_sharing_group.as_str(), subtask.index))
    };
    let again: BTreeMap<(&str, u32), &SlotId> = before
        .iter()
        .filter(|(slot, _)| granted.contains(slot))
        .filter_map(|(slot, subtasks)| Some((place_before(subtasks)?, slot)))
        .collect();
    let taken: BTreeSet<&SlotId> = again.values().copied().collect();
    let mut free = slots.iter().filter(|slot| !taken.contains(slot));
    let mut slot_of: BTreeMap<(&str, u32), &SlotId> = BTreeMap::new();
    for place in places {
        let slot = match again.get(&place) {
            Some(slot) => slot,
            None => free.next()?,
        };
        slot_of.insert(place, slot);
    }
    let mut shared = SharedSlots::new();
    for (vertex, job_vertex) in (0u32..).zip(&graph.vertices) {
        for index in 0..job_vertex.parallelism {
            let slot = slot_of.get(&(job_vertex.slot_sharing_group.as_str(), index))?;
            shared
                .entry((*slot).clone())
                .or_default()
                .push(SubtaskId { vertex, index });
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
    pub fn new(shared: SharedSlots, worker_on: &BTreeMap<TaskManagerId, WorkerId>) -> Self {
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
