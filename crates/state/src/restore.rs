//! Keyed state out of a snapshot: the rows of the key groups that a subtask owns now, whoever owned them before.

use std::collections::BTreeMap;

use streamd_core::error::ErrorCode;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::row::DataType;
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::Key;
use streamd_snapshot::{SnapshotError, read_keyed_state};
use tokio::runtime::Handle;

use crate::backend::{KeyedStateBackend, StateDescriptor};
use crate::error::StateError;

/// Why keyed state could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The state does not fit the application, or is not whole.
    #[error(transparent)]
    State(#[from] StateError),
    /// The snapshot could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl RestoreError {
    /// The stable code of the error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::State(error) => error.code(),
            Self::Snapshot(error) => error.code(),
        }
    }
}

/// The parts of one state, and where it is in the backend.
struct Parts<'a> {
    index: usize,
    handles: Vec<&'a KeyedStateHandle>,
}

/// Fills an empty backend, whose states are registered, with the rows of its key groups, and returns how many there were.
///
/// `handles` are those of all subtasks that wrote the operator's state, or at least of those whose key groups the backend
/// needs; their objects are named by absolute URIs. A registered state without any handle is new and stays empty.
/// Blocks: call it on a thread that is not tokio's. `io` is where the bytes travel.
///
/// Errors, before any row is read, if a state is not registered, has another schema than the registered one, or its parts
/// leave a key group out or hold it twice. After an error the backend is partly filled: drop it.
pub fn restore<K: Key>(
    backend: &mut KeyedStateBackend<K>,
    handles: &[KeyedStateHandle],
    io: &Handle,
) -> Result<u64, RestoreError> {
    let key_groups = backend.key_groups();
    let states = by_state(backend, handles)?;
    for (state, parts) in &states {
        check_coverage(state, &parts.handles, key_groups)?;
        let rows = parts
            .handles
            .iter()
            .map(|handle| rows_of_range(handle, key_groups))
            .sum();
        backend.reserve(state, rows);
    }
    let mut rows = 0;
    for parts in states.values() {
        for handle in &parts.handles {
            rows += restore_part(backend, parts.index, handle, io)?;
        }
    }
    Ok(rows)
}

fn by_state<'a, K: Key>(
    backend: &KeyedStateBackend<K>,
    handles: &'a [KeyedStateHandle],
) -> Result<BTreeMap<&'a str, Parts<'a>>, StateError> {
    let descriptors = backend.descriptors();
    let mut states = BTreeMap::new();
    for handle in handles {
        let index = backend
            .position(&handle.state)
            .ok_or_else(|| StateError::UnknownState {
                state: handle.state.clone(),
            })?;
        check_schema(handle, &descriptors[index])?;
        let parts = states.entry(handle.state.as_str()).or_insert_with(|| Parts {
            index,
            handles: Vec::new(),
        });
        parts.handles.push(handle);
    }
    Ok(states)
}

fn check_schema(handle: &KeyedStateHandle, descriptor: &StateDescriptor) -> Result<(), StateError> {
    let check = |part, stored: &DataType, declared: &DataType| {
        if stored.is_same_schema(declared) {
            return Ok(());
        }
        Err(StateError::IncompatibleSchema {
            state: handle.state.clone(),
            part,
            stored: Box::new(stored.clone()),
            declared: Box::new(declared.clone()),
        })
    };
    check("key", &handle.key, &descriptor.key)?;
    check("value", &handle.value, &descriptor.value)
}

/// Whether the parts of a state hold each of these key groups exactly once.
fn check_coverage(state: &str, parts: &[&KeyedStateHandle], key_groups: KeyGroupRange) -> Result<(), StateError> {
    let mut ranges: Vec<_> = parts
        .iter()
        .map(|handle| handle.key_groups.intersection(key_groups))
        .collect();
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable();
    let wrong = |start, end, parts| {
        Err(StateError::Coverage {
            state: state.to_owned(),
            key_groups: KeyGroupRange { start, end },
            parts,
        })
    };
    let mut covered = key_groups.start;
    for range in ranges {
        if range.start > covered {
            return wrong(covered, range.start, 0);
        }
        if range.start < covered {
            return wrong(range.start, covered.min(range.end), 2);
        }
        covered = range.end;
    }
    if covered < key_groups.end {
        return wrong(covered, key_groups.end, 0);
    }
    Ok(())
}

/// About how many rows of a part are in these key groups: keys are spread evenly over their groups.
fn rows_of_range(handle: &KeyedStateHandle, key_groups: KeyGroupRange) -> u64 {
    let shared = u128::from(handle.key_groups.intersection(key_groups).len());
    let all = u128::from(handle.key_groups.len().max(1));
    u64::try_from(u128::from(handle.rows) * shared / all).expect("a share is no larger than the whole")
}

fn restore_part<K: Key>(
    backend: &mut KeyedStateBackend<K>,
    index: usize,
    handle: &KeyedStateHandle,
    io: &Handle,
) -> Result<u64, RestoreError> {
    let mut refused = None;
    // The objects are named by absolute URIs: the folder plays no part.
    let read = read_keyed_state(handle, "", backend.key_groups(), io, &mut |key_group, key, value| {
        backend
            .restore_row_at(index, Some(key_group), key, value)
            .map_err(|error| {
                refused = Some(error.clone());
                SnapshotError::Consumer {
                    state: handle.state.clone(),
                    source: Box::new(error),
                }
            })
    });
    match refused {
        Some(error) => Err(error.into()),
        None => Ok(read?),
    }
}
