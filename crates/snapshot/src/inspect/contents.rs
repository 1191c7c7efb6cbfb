//! What is in a snapshot: operators and their states, found by the names that people use.

use streamd_core::graph::StateKind;
use streamd_core::row::DataType;
use streamd_core::snapshot::{KeyedStateHandle, ListState, OperatorState};

use super::error::InspectError;
use super::rows::KeyedContents;
use crate::error::SnapshotError;
use crate::read::{StoredSnapshot, objects_of};
use crate::restore::resolve;
use crate::store::Location;

/// A state of an operator, over all subtasks.
#[derive(Debug, Clone, PartialEq)]
pub struct StateSummary<'a> {
    /// Its name.
    pub name: &'a str,
    /// `keyed`, `list`, `union` or `broadcast`.
    pub kind: &'static str,
    /// The type of its keys, if it has any.
    pub key: Option<&'a DataType>,
    /// The type of what tells several rows of one key apart, such as windows.
    pub namespace: Option<&'a DataType>,
    /// The type of its values or elements.
    pub value: &'a DataType,
    /// How many rows or elements.
    pub rows: u64,
    /// Bytes of the objects that hold it, or of its elements.
    pub bytes: u64,
    /// In how many parts it lies: one for each subtask that wrote it, for a list one.
    pub parts: usize,
}

/// A state, to be read.
#[derive(Debug)]
pub enum StateContents<'a> {
    /// A value per key.
    Keyed(KeyedContents<'a>),
    /// Elements in order.
    List {
        /// Whose it is.
        operator: &'a OperatorState,
        /// The elements.
        list: &'a ListState,
    },
}

/// The states of an operator, keyed ones first, by name.
pub fn states_of<'a>(stored: &'a StoredSnapshot, operator: &'a OperatorState) -> Vec<StateSummary<'a>> {
    let mut states: Vec<StateSummary<'a>> = Vec::new();
    for handle in &operator.keyed {
        match states.iter_mut().find(|state| state.name == handle.state) {
            Some(state) => {
                state.rows = state.rows.saturating_add(handle.rows);
                state.bytes = state.bytes.saturating_add(handle.bytes);
                state.parts += 1;
            }
            None => states.push(of_handle(handle)),
        }
    }
    states.sort_by_key(|state| state.name);
    let mut lists: Vec<StateSummary<'a>> = operator
        .lists
        .iter()
        .map(|list| StateSummary {
            name: &list.name,
            kind: kind_of_list(stored, operator, &list.name),
            key: None,
            namespace: None,
            value: &list.data_type,
            rows: list.items.len() as u64,
            bytes: list.items.iter().map(|item| item.len() as u64).sum(),
            parts: 1,
        })
        .collect();
    lists.sort_by_key(|state| state.name);
    states.extend(lists);
    states
}

fn of_handle(handle: &KeyedStateHandle) -> StateSummary<'_> {
    StateSummary {
        name: &handle.state,
        kind: "keyed",
        key: Some(&handle.key),
        namespace: handle.namespace.as_ref(),
        value: &handle.value,
        rows: handle.rows,
        bytes: handle.bytes,
        parts: 1,
    }
}

fn kind_of_list(stored: &StoredSnapshot, operator: &OperatorState, name: &str) -> &'static str {
    let declared = stored
        .metadata
        .graph
        .operators()
        .filter(|(_vertex, described)| described.id == operator.id)
        .flat_map(|(_vertex, described)| &described.states)
        .find(|state| state.name == name);
    match declared.map(|state| &state.kind) {
        Some(StateKind::Union) => "union",
        Some(StateKind::Broadcast) => "broadcast",
        Some(StateKind::List | StateKind::Keyed { .. }) | None => "list",
    }
}

/// The operator of this uid, this id of 32 digits, or this name where only one has it.
pub fn find_operator<'a>(stored: &'a StoredSnapshot, wanted: &str) -> Result<&'a OperatorState, InspectError> {
    let operators = &stored.metadata.operators;
    let exact = operators
        .iter()
        .find(|operator| operator.uid.as_deref() == Some(wanted))
        .or_else(|| operators.iter().find(|operator| operator.id.to_string() == wanted))
        .or_else(|| operators.iter().find(|operator| operator.label() == wanted));
    if let Some(operator) = exact {
        return Ok(operator);
    }
    let named: Vec<&OperatorState> = operators.iter().filter(|operator| operator.name == wanted).collect();
    let labels = |operators: &[&OperatorState]| operators.iter().map(|operator| operator.label()).collect();
    let (folder, operator) = (stored.folder.clone(), wanted.to_owned());
    match named.as_slice() {
        [one] => Ok(one),
        [] => Err(InspectError::NoSuchOperator {
            folder,
            operator,
            known: labels(&operators.iter().collect::<Vec<_>>()),
        }),
        several => Err(InspectError::AmbiguousOperator {
            folder,
            operator,
            known: labels(several),
        }),
    }
}

/// The state of this name of an operator; its only one where none is named.
pub fn find_state<'a>(
    stored: &'a StoredSnapshot,
    operator: &'a OperatorState,
    wanted: Option<&str>,
) -> Result<StateContents<'a>, InspectError> {
    let states = states_of(stored, operator);
    let name = match (wanted, states.as_slice()) {
        (Some(name), _) => name,
        (None, [one]) => one.name,
        (None, several) => {
            return Err(InspectError::StateNotNamed {
                operator: operator.label(),
                known: several.iter().map(|state| state.name.to_owned()).collect(),
            });
        }
    };
    let handles: Vec<&KeyedStateHandle> = operator.keyed.iter().filter(|handle| handle.state == name).collect();
    if !handles.is_empty() {
        return Ok(StateContents::Keyed(KeyedContents::new(
            operator,
            handles,
            &stored.folder,
        )));
    }
    match operator.lists.iter().find(|list| list.name == name) {
        Some(list) => Ok(StateContents::List { operator, list }),
        None => Err(InspectError::NoSuchState {
            operator: operator.label(),
            state: name.to_owned(),
            known: states.iter().map(|state| state.name.to_owned()).collect(),
        }),
    }
}

/// The URIs of the objects that a snapshot refers to outside of its own folder, in order: they must stay where they are.
pub fn outside(stored: &StoredSnapshot) -> Result<Vec<String>, SnapshotError> {
    let folder = format!("{}/", Location::open(&stored.folder)?.uri());
    let mut uris = Vec::new();
    for object in objects_of(&stored.metadata) {
        let uri = resolve(&stored.folder, &object.path)?.uri();
        if !uri.starts_with(&folder) {
            uris.push(uri);
        }
    }
    uris.sort_unstable();
    Ok(uris)
}
