//! I19: rescaling conserves state.

use std::collections::BTreeMap;

use streamd_core::graph::{JobGraph, StateKind};
use streamd_core::id::{OperatorId, SubtaskId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateHandle, OperatorState, OperatorSubtaskState};

use crate::event::RestorePoint;
use crate::restore::{StateAssignment, absolute, claims};

/// I19: every key group of every handle is read by exactly the subtask that owns it, and every list element goes to exactly
/// one subtask (to all of them, for a union list). Errors say what is lost or doubled.
pub fn rescale_conserves(
    graph: &JobGraph,
    max_parallelism: &[u32],
    restore: &RestorePoint,
    assignment: &StateAssignment,
) -> Result<(), String> {
    for (vertex, job_vertex) in (0u32..).zip(&graph.vertices) {
        let groups = max_parallelism[vertex as usize];
        for operator in &job_vertex.operators {
            let Some(state) = restore.metadata.operators.iter().find(|state| state.id == operator.id) else {
                continue;
            };
            let shares: Vec<(KeyGroupRange, &OperatorSubtaskState)> = (0..job_vertex.parallelism)
                .filter_map(|index| {
                    let range = KeyGroupRange::of_subtask(index, job_vertex.parallelism, groups);
                    Some((range, share(assignment, SubtaskId { vertex, index }, operator.id)?))
                })
                .collect();
            // What the operator does not claim was dropped with the user's leave.
            let claimed = state.keyed.iter().filter(|handle| claims(operator, &handle.state));
            keyed_conserved((state, claimed), &restore.uri, &shares)?;
            for list in state.lists.iter().filter(|list| claims(operator, &list.name)) {
                let union = operator
                    .states
                    .iter()
                    .any(|it| it.name == list.name && matches!(it.kind, StateKind::Union | StateKind::Broadcast));
                let copies = if union { job_vertex.parallelism as usize } else { 1 };
                list_conserved(state, &list.name, copies, &shares)?;
            }
        }
    }
    Ok(())
}

fn share(assignment: &StateAssignment, subtask: SubtaskId, operator: OperatorId) -> Option<&OperatorSubtaskState> {
    assignment.get(&subtask)?.get(&operator)
}

fn keyed_conserved<'a>(
    (state, handles): (&OperatorState, impl Iterator<Item = &'a KeyedStateHandle>),
    uri: &str,
    shares: &[(KeyGroupRange, &OperatorSubtaskState)],
) -> Result<(), String> {
    for handle in handles {
        let paths: Vec<String> = handle
            .objects
            .iter()
            .map(|object| absolute(uri, &object.path))
            .collect();
        let read: u32 = shares
            .iter()
            .flat_map(|(range, share)| share.keyed.iter().map(move |it| (range, it)))
            .filter(|(_, it)| it.state == handle.state && it.key_groups == handle.key_groups)
            .filter(|(_, it)| it.objects.iter().map(|object| &object.path).eq(&paths))
            .map(|(range, it)| it.key_groups.intersection(*range).len())
            .sum();
        if read != handle.key_groups.len() {
            return Err(format!(
                "state `{}` of operator `{}`: {read} of the {} key groups of `{}` are read",
                handle.state,
                state.label(),
                handle.key_groups.len(),
                paths.join("`, `")
            ));
        }
    }
    Ok(())
}

fn list_conserved(
    state: &OperatorState,
    name: &str,
    copies: usize,
    shares: &[(KeyGroupRange, &OperatorSubtaskState)],
) -> Result<(), String> {
    let counted = |items: &mut dyn Iterator<Item = &Vec<u8>>| {
        let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        items.for_each(|item| *counts.entry(item.clone()).or_default() += 1);
        counts
    };
    let before = counted(&mut state.lists.iter().filter(|it| it.name == name).flat_map(|it| &it.items));
    let dealt = shares.iter().flat_map(|(_, share)| &share.lists);
    let after = counted(&mut dealt.filter(|it| it.name == name).flat_map(|it| &it.items));
    let expected: BTreeMap<Vec<u8>, usize> = before.into_iter().map(|(item, n)| (item, n * copies)).collect();
    if expected != after {
        return Err(format!(
            "list `{name}` of operator `{}`: {} elements were dealt, {} expected",
            state.label(),
            after.values().sum::<usize>(),
            expected.values().sum::<usize>()
        ));
    }
    Ok(())
}
