//! Who gets what: the state of every subtask, from a snapshot or from nothing.
//!
//! | state | to |
//! |---|---|
//! | keyed | every subtask whose key groups overlap a handle gets the handle; it reads only its groups |
//! | list | the concatenation is dealt in contiguous blocks, the first subtasks one element more |
//! | union list | the concatenation goes to every subtask |
//! | splits of a source that starts fresh | in turn, so that neighbouring splits spread over the subtasks |

use std::collections::BTreeMap;

use streamd_core::graph::{JobGraph, JobVertex, Operator, StateKind};
use streamd_core::id::{OperatorId, SubtaskId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{
    KeyedStateHandle, ListState, ObjectHandle, OperatorState, OperatorSubtaskState, SnapshotMetadata, SubtaskSnapshot,
};

use super::compare::claims;
use crate::event::RestorePoint;

/// The state that every subtask starts from, by operator. A subtask without state is present and empty.
pub type StateAssignment = BTreeMap<SubtaskId, BTreeMap<OperatorId, OperatorSubtaskState>>;

/// How many elements each subtask of an operator had of each of its lists when a snapshot was taken, by index. The list in the snapshot
/// has the elements of the first subtask first.
pub type ListOwners = BTreeMap<(OperatorId, String), Vec<usize>>;

/// Who had what of the lists of a snapshot with these parts.
pub fn owners(parts: &BTreeMap<SubtaskId, SubtaskSnapshot>) -> ListOwners {
    let mut owners = ListOwners::new();
    for (subtask, part) in parts {
        for (operator, state) in &part.operators {
            for list in &state.lists {
                let counts = owners.entry((*operator, list.name.clone())).or_default();
                counts.resize(counts.len().max(subtask.index as usize + 1), 0);
                counts[subtask.index as usize] += list.items.len();
            }
        }
    }
    owners
}

/// Deals a snapshot out to the subtasks of a graph; without one, the initial splits of its sources.
/// `max_parallelism` is the number of key groups of each vertex, by position.
pub fn assign(graph: &JobGraph, max_parallelism: &[u32], restore: Option<&RestorePoint>) -> StateAssignment {
    deal_out(graph, max_parallelism, restore, None)
}

/// As [`assign`], but each subtask gets again what it had: some of them may go on, and have theirs still (RS32).
pub fn assign_again(
    graph: &JobGraph,
    max_parallelism: &[u32],
    restore: Option<&RestorePoint>,
    owners: &ListOwners,
) -> StateAssignment {
    deal_out(graph, max_parallelism, restore, Some(owners))
}

fn deal_out(
    graph: &JobGraph,
    max_parallelism: &[u32],
    restore: Option<&RestorePoint>,
    owners: Option<&ListOwners>,
) -> StateAssignment {
    let mut assignment = StateAssignment::new();
    for (vertex, job_vertex) in (0u32..).zip(&graph.vertices) {
        let groups = max_parallelism
            .get(vertex as usize)
            .copied()
            .unwrap_or_else(|| job_vertex.effective_max_parallelism());
        for index in 0..job_vertex.parallelism {
            assignment.insert(SubtaskId { vertex, index }, BTreeMap::new());
        }
        for operator in &job_vertex.operators {
            let shares = shares_of(operator, (job_vertex, groups), restore, owners);
            for (index, share) in (0u32..).zip(shares) {
                if !share.is_empty()
                    && let Some(subtask) = assignment.get_mut(&SubtaskId { vertex, index })
                {
                    subtask.insert(operator.id, share);
                }
            }
        }
    }
    assignment
}

/// One operator's state for each subtask of its vertex, by index.
fn shares_of(
    operator: &Operator,
    (vertex, groups): (&JobVertex, u32),
    restore: Option<&RestorePoint>,
    owners: Option<&ListOwners>,
) -> Vec<OperatorSubtaskState> {
    let parallelism = vertex.parallelism;
    let mut shares = vec![OperatorSubtaskState::default(); parallelism as usize];
    let restored = restore.and_then(|point| Some((point, operator_state(&point.metadata, operator.id)?)));
    if let Some((point, state)) = restored {
        for (index, share) in (0u32..).zip(&mut shares) {
            let range = KeyGroupRange::of_subtask(index, parallelism, groups);
            let claimed = state.keyed.iter().filter(|handle| claims(operator, &handle.state));
            share.keyed = keyed_share(claimed, range, &point.uri);
        }
        // What nobody claims was dropped with the user's leave, or has no rows.
        for list in state.lists.iter().filter(|list| claims(operator, &list.name)) {
            let items = match declared_kind(operator, &list.name) {
                Some(StateKind::Union | StateKind::Broadcast) => vec![list.items.clone(); parallelism as usize],
                Some(StateKind::List | StateKind::Keyed { .. }) | None => {
                    match owners.map(|owners| owners.get(&(operator.id, list.name.clone()))) {
                        None => in_blocks(&list.items, parallelism),
                        Some(counts) => as_owned(&list.items, counts.map_or(&[], Vec::as_slice), parallelism),
                    }
                }
            };
            deal(&mut shares, list, items);
        }
    }
    if let Some(splits) = &operator.initial_splits {
        let restored_splits =
            restored.is_some_and(|(_, state)| state.lists.iter().any(|list| list.name == splits.name));
        if !restored_splits {
            // A source that took part in the snapshot and left no split behind has read all of them: it starts with
            // an empty list, never with its initial splits again.
            let finished = restore.is_some_and(|point| took_part(&point.metadata, operator.id));
            let items = if finished { &[][..] } else { &splits.items };
            deal(&mut shares, splits, in_turn(items, parallelism));
        }
    }
    shares
}

fn declared_kind<'a>(operator: &'a Operator, state: &str) -> Option<&'a StateKind> {
    operator
        .states
        .iter()
        .find(|declared| declared.name == state)
        .map(|declared| &declared.kind)
}

fn operator_state(metadata: &SnapshotMetadata, id: OperatorId) -> Option<&OperatorState> {
    metadata.operators.iter().find(|state| state.id == id)
}

fn took_part(metadata: &SnapshotMetadata, id: OperatorId) -> bool {
    operator_state(metadata, id).is_some() || metadata.graph.operators().any(|(_, operator)| operator.id == id)
}

/// The handles that hold keys of the range, whole, with absolute URIs.
fn keyed_share<'a>(
    handles: impl Iterator<Item = &'a KeyedStateHandle>,
    range: KeyGroupRange,
    folder: &str,
) -> Vec<KeyedStateHandle> {
    handles
        .filter(|handle| !handle.key_groups.intersection(range).is_empty())
        .map(|handle| KeyedStateHandle {
            objects: handle
                .objects
                .iter()
                .map(|object| absolute_object(folder, object))
                .collect(),
            ..handle.clone()
        })
        .collect()
}

fn absolute_object(folder: &str, object: &ObjectHandle) -> ObjectHandle {
    ObjectHandle {
        path: absolute(folder, &object.path),
        ..object.clone()
    }
}

/// The absolute URI of an object that a snapshot in `folder` calls `path`.
pub fn absolute(folder: &str, path: &str) -> String {
    let folder = folder.trim_end_matches('/');
    if path.contains("://") || path.starts_with("file:") {
        return path.to_owned();
    }
    // An earlier checkpoint of the same job: its folder lies beside.
    match (path.strip_prefix("../"), folder.rsplit_once('/')) {
        (Some(beside), Some((parent, _))) => format!("{parent}/{beside}"),
        _below => format!("{folder}/{path}"),
    }
}

fn deal(shares: &mut [OperatorSubtaskState], list: &ListState, dealt: Vec<Vec<Vec<u8>>>) {
    for (share, items) in shares.iter_mut().zip(dealt) {
        share.lists.push(ListState {
            name: list.name.clone(),
            data_type: list.data_type.clone(),
            items,
        });
    }
}

/// Contiguous blocks of `total / parallelism` elements, the first `total % parallelism` blocks one more.
fn in_blocks(items: &[Vec<u8>], parallelism: u32) -> Vec<Vec<Vec<u8>>> {
    let parallelism = parallelism as usize;
    let (base, remainder) = (items.len() / parallelism, items.len() % parallelism);
    let mut rest = items;
    (0..parallelism)
        .map(|index| {
            let (block, tail) = rest.split_at(base + usize::from(index < remainder));
            rest = tail;
            block.to_vec()
        })
        .collect()
}

/// Contiguous blocks of as many elements as each subtask had.
fn as_owned(items: &[Vec<u8>], counts: &[usize], parallelism: u32) -> Vec<Vec<Vec<u8>>> {
    let total: usize = counts.iter().sum();
    assert!(
        total == items.len() && counts.len() <= parallelism as usize,
        "invariant RS32: {} elements of a list had {total} owners",
        items.len()
    );
    let mut rest = items;
    (0..parallelism as usize)
        .map(|index| {
            let (block, tail) = rest.split_at(counts.get(index).copied().unwrap_or(0));
            rest = tail;
            block.to_vec()
        })
        .collect()
}

/// Element `i` to subtask `i mod parallelism`.
fn in_turn(items: &[Vec<u8>], parallelism: u32) -> Vec<Vec<Vec<u8>>> {
    let parallelism = parallelism as usize;
    (0..parallelism)
        .map(|index| items.iter().skip(index).step_by(parallelism).cloned().collect())
        .collect()
}
