//! Pipelined regions: which slots have to restart together.
//!
//! ```text
//!   forward only                      with an exchange
//!   slot 0  source ─▶ sink            slot 0  source ─▶ count
//!   ─────────────────────                          ╲ ╱
//!   slot 1  source ─▶ sink                          ╳         one region
//!                                                  ╱ ╲
//!   two regions                       slot 1  source ─▶ count
//! ```
//!
//! Flink's regions consist of subtasks. Here a slot is the least: its subtasks share a thread, and end together.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::graph::{JobGraph, StateDescriptor, StateKind};
use streamd_core::id::SubtaskId;

use crate::placement::SharedSlots;

/// The subtasks of all regions without a failed one: what may go on while the others start again. Nothing where a failed subtask has no
/// slot.
pub fn survivors(graph: &JobGraph, slots: &SharedSlots, failed: &BTreeSet<SubtaskId>) -> BTreeSet<SubtaskId> {
    let regions = regions(graph, slots);
    let placed = failed.iter().map(|subtask| regions.get(subtask));
    let Some(hurt) = placed.collect::<Option<BTreeSet<_>>>() else {
        return BTreeSet::new();
    };
    let whole = regions.iter().filter(|(_, region)| !hurt.contains(region));
    whole.map(|(subtask, _)| *subtask).collect()
}

/// The region of each subtask, as a number: the same for two slots that a channel joins, or a chain of channels.
fn regions(graph: &JobGraph, slots: &SharedSlots) -> BTreeMap<SubtaskId, usize> {
    let placed = slots.values().enumerate();
    let mut region_of: BTreeMap<SubtaskId, usize> = placed
        .flat_map(|(slot, subtasks)| subtasks.iter().map(move |subtask| (*subtask, slot)))
        .collect();
    for (from, to) in channels(graph).chain(ties(graph)) {
        if let (Some(from), Some(to)) = (region_of.get(&from).copied(), region_of.get(&to).copied())
            && from != to
        {
            region_of
                .values_mut()
                .filter(|region| **region == to)
                .for_each(|region| *region = from);
        }
    }
    region_of
}

/// The channels, each from its producer to its consumer: all, but of an exchange from all to all only those that join them.
fn channels(graph: &JobGraph) -> impl Iterator<Item = (SubtaskId, SubtaskId)> + '_ {
    graph.edges.iter().flat_map(|edge| {
        let sources = graph.vertices[edge.source as usize].parallelism;
        let targets = graph.vertices[edge.target as usize].parallelism;
        (0..sources).flat_map(move |producer| {
            let from = SubtaskId {
                vertex: edge.source,
                index: producer,
            };
            let mut consumers = edge.partitioner.targets_of(producer, sources, targets);
            if producer > 0 && consumers == (0..targets) {
                consumers.end = 1;
            }
            consumers.map(move |index| {
                let vertex = edge.target;
                (from, SubtaskId { vertex, index })
            })
        })
    })
}

/// The first subtask with each other one of an operator whose state they all have all of. Each restores from what all of them had: one that
/// went back alone would have what the others have left behind.
fn ties(graph: &JobGraph) -> impl Iterator<Item = (SubtaskId, SubtaskId)> + '_ {
    let is_common = |state: &StateDescriptor| matches!(state.kind, StateKind::Union | StateKind::Broadcast);
    (0u32..).zip(&graph.vertices).flat_map(move |(vertex, job_vertex)| {
        let mut states = job_vertex.operators.iter().flat_map(|operator| &operator.states);
        let others = if states.any(is_common) {
            1..job_vertex.parallelism
        } else {
            0..0
        };
        others.map(move |index| (SubtaskId { vertex, index: 0 }, SubtaskId { vertex, index }))
    })
}

#[cfg(test)]
mod tests {
    use streamd_core::graph::{JobEdge, JobVertex, Operator, OperatorKind, PartitionerKind};
    use streamd_core::id::{OperatorId, TaskManagerId};

    use super::*;
    use crate::event::SlotId;
    use crate::placement::share_slots;

    /// Vertices in these slot sharing groups, of two subtasks each.
    fn graph(groups: &[&str], edges: &[(u32, u32, PartitionerKind)]) -> JobGraph {
        let mut graph = JobGraph::new("job");
        graph.vertices = groups
            .iter()
            .enumerate()
            .map(|(number, group)| JobVertex {
                id: OperatorId::from_uid(&number.to_string()),
                name: String::new(),
                parallelism: 2,
                max_parallelism: None,
                slot_sharing_group: (*group).to_owned(),
                operators: Vec::new(),
            })
            .collect();
        graph.edges = edges
            .iter()
            .map(|(source, target, partitioner)| JobEdge {
                source: *source,
                target: *target,
                partitioner: *partitioner,
            })
            .collect();
        graph
    }

    /// What goes on, as `vertex/index`, when these have failed.
    fn going_on(graph: &JobGraph, failed: &[(u32, u32)]) -> String {
        let count: u32 = graph.slots_by_group().iter().map(|(_, slots)| slots).sum();
        let slots: Vec<SlotId> = (0..count)
            .map(|slot| SlotId {
                task_manager: TaskManagerId("a".to_owned()),
                slot,
            })
            .collect();
        let shared = share_slots(graph, &slots, &SharedSlots::new()).unwrap();
        let failed = failed.iter().map(|(vertex, index)| SubtaskId {
            vertex: *vertex,
            index: *index,
        });
        let survivors = survivors(graph, &shared, &failed.collect());
        let names: Vec<String> = survivors.iter().map(SubtaskId::to_string).collect();
        names.join(" ")
    }

    #[test]
    fn without_an_exchange_each_slot_is_a_region() {
        let graph = graph(&["default", "default"], &[(0, 1, PartitionerKind::Forward)]);
        assert_eq!(going_on(&graph, &[(0, 0)]), "0/1 1/1");
        assert_eq!(going_on(&graph, &[(1, 1)]), "0/0 1/0");
        assert_eq!(going_on(&graph, &[(0, 0), (1, 1)]), "");
    }

    #[test]
    fn an_exchange_makes_one_region_of_its_slots() {
        for exchange in [
            PartitionerKind::Hash,
            PartitionerKind::Rebalance,
            PartitionerKind::Broadcast,
        ] {
            let graph = graph(&["default", "default"], &[(0, 1, exchange)]);
            assert_eq!(going_on(&graph, &[(0, 0)]), "", "{exchange:?}");
        }
    }

    #[test]
    fn pipelines_in_slots_of_their_own_are_regions() {
        let exchange = PartitionerKind::Hash;
        let graph = graph(
            &["left", "left", "right", "right"],
            &[(0, 1, exchange), (2, 3, exchange)],
        );
        assert_eq!(going_on(&graph, &[(1, 0)]), "2/0 2/1 3/0 3/1");
        assert_eq!(going_on(&graph, &[(2, 1)]), "0/0 0/1 1/0 1/1");
    }

    #[test]
    fn a_chain_of_channels_joins_slots_of_several_groups() {
        let forward = PartitionerKind::Forward;
        let graph = graph(&["a", "b", "c"], &[(1, 2, forward), (0, 1, forward)]);
        assert_eq!(going_on(&graph, &[(2, 0)]), "0/1 1/1 2/1");
    }

    #[test]
    fn pipelines_that_share_slots_restart_together() {
        let exchange = PartitionerKind::Hash;
        let graph = graph(&["default", "default", "default"], &[(0, 1, exchange)]);
        assert_eq!(going_on(&graph, &[(2, 0)]), "");
    }

    #[test]
    fn a_state_that_every_subtask_has_all_of_makes_one_region_of_its_operator() {
        let mut graph = graph(&["left", "right"], &[]);
        graph.vertices[0].operators = vec![Operator {
            id: OperatorId::from_uid("rules"),
            uid: None,
            name: "rules".to_owned(),
            kind: OperatorKind::Source,
            states: Vec::new(),
            initial_splits: None,
            guarantee: None,
        }];
        let kinds = [
            (StateKind::List, "0/1 1/0 1/1"),
            (StateKind::Union, "1/0 1/1"),
            (StateKind::Broadcast, "1/0 1/1"),
        ];
        for (kind, expected) in kinds {
            graph.vertices[0].operators[0].states = vec![StateDescriptor {
                kind: kind.clone(),
                ..StateDescriptor::list::<u64>("rules")
            }];
            assert_eq!(going_on(&graph, &[(0, 0)]), expected, "{kind:?}");
            assert_eq!(going_on(&graph, &[(1, 0)]), "0/0 0/1 1/1", "{kind:?}");
        }
    }

    #[test]
    fn a_failure_of_what_has_no_slot_leaves_nothing() {
        let graph = graph(&["default"], &[]);
        assert_eq!(going_on(&graph, &[(7, 0)]), "");
    }
}
