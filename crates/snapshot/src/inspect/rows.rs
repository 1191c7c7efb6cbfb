//! The rows of a keyed state, over all subtasks that wrote it.

use std::ops::ControlFlow;

use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::row::{DataType, RowError};
use streamd_core::snapshot::{KeyedStateHandle, OperatorState};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_64;

use super::error::InspectError;
use crate::database_reader::read_operator_state;
use crate::error::SnapshotError;
use crate::json::{Renderer, parse_text, split};

/// Characters of a key or value that a message shows.
const SHOWN: usize = 60;

/// A row of a keyed state: each part in the encoding of their types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The key group of the key.
    pub key_group: u32,
    /// The key.
    pub key: &'a [u8],
    /// What tells several rows of one key apart, such as a window; empty where the state has no such thing.
    pub namespace: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// A keyed state of a snapshot.
#[derive(Debug)]
pub struct KeyedContents<'a> {
    operator: &'a OperatorState,
    /// By rising key group.
    handles: Vec<&'a KeyedStateHandle>,
    folder: &'a str,
}

impl<'a> KeyedContents<'a> {
    /// `handles` are all those of one state of the operator, at least one.
    pub(super) fn new(operator: &'a OperatorState, mut handles: Vec<&'a KeyedStateHandle>, folder: &'a str) -> Self {
        handles.sort_by_key(|handle| handle.key_groups);
        Self {
            operator,
            handles,
            folder,
        }
    }

    /// Whose it is.
    pub fn operator(&self) -> &'a OperatorState {
        self.operator
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.handles[0].state
    }

    /// The type of its keys.
    pub fn key_type(&self) -> &'a DataType {
        &self.handles[0].key
    }

    /// The type of what tells several rows of one key apart, if the state has such a thing.
    pub fn namespace_type(&self) -> Option<&'a DataType> {
        self.handles[0].namespace.as_ref()
    }

    /// The type of its values.
    pub fn value_type(&self) -> &'a DataType {
        &self.handles[0].value
    }

    /// Its parts, by rising key group.
    pub fn handles(&self) -> &[&'a KeyedStateHandle] {
        &self.handles
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.handles
            .iter()
            .map(|handle| handle.rows)
            .fold(0, u64::saturating_add)
    }

    /// Calls `visit` for every row by rising key group, until it breaks off. Memory is bounded whatever the size of the state. Blocks:
    /// call it on a thread that is not tokio's.
    pub fn visit(
        &self,
        runtime: &Handle,
        mut visit: impl FnMut(Row<'_>) -> Result<ControlFlow<()>, InspectError>,
    ) -> Result<(), InspectError> {
        self.visit_range(KeyGroupRange::all(self.operator.max_parallelism), runtime, &mut visit)
    }

    pub(super) fn visit_range(
        &self,
        range: KeyGroupRange,
        runtime: &Handle,
        visit: &mut dyn FnMut(Row<'_>) -> Result<ControlFlow<()>, InspectError>,
    ) -> Result<(), InspectError> {
        for handle in &self.handles {
            self.check_types(handle)?;
            let mut ended = None;
            let part = (self.operator, *handle);
            let read = read_operator_state(part, self.folder, range, runtime, &mut |key_group, key, value| {
                let row = self.row(key_group, key, value)?;
                ended = Some(match visit(row) {
                    Ok(ControlFlow::Continue(())) => return Ok(()),
                    Ok(ControlFlow::Break(())) => Ok(()),
                    Err(error) => Err(error),
                });
                Err(enough(&handle.state))
            });
            match (ended, read) {
                (Some(outcome), _stopped) => return outcome,
                (None, Ok(_rows)) => {}
                (None, Err(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Calls `visit` for every row of a key: one, or any number where the state has a namespace. Only the key's group is read.
    /// Blocks, as [`visit`](Self::visit).
    pub fn visit_key(
        &self,
        key: &[u8],
        runtime: &Handle,
        mut visit: impl FnMut(Row<'_>) -> Result<(), InspectError>,
    ) -> Result<(), InspectError> {
        let group = self.key_group(key);
        let range = KeyGroupRange {
            start: group,
            end: group + 1,
        };
        let is_only_one = self.namespace_type().is_none();
        self.visit_range(range, runtime, &mut |row| {
            if row.key != key {
                return Ok(ControlFlow::Continue(()));
            }
            visit(row)?;
            Ok(match is_only_one {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })
    }

    /// A row whose namespace, if there is one, is encoded behind the key.
    fn row<'r>(&self, key_group: u32, key: &'r [u8], value: &'r [u8]) -> Result<Row<'r>, SnapshotError> {
        let (key, namespace) = match self.namespace_type() {
            None => (key, &[][..]),
            Some(_) => split(self.key_type(), key).map_err(|source| SnapshotError::Row {
                state: self.name().to_owned(),
                source,
            })?,
        };
        Ok(Row {
            key_group,
            key,
            namespace,
            value,
        })
    }

    /// The group that an encoded key belongs to.
    pub fn key_group(&self, key: &[u8]) -> u32 {
        key_group_of(xxh3_64(key), self.operator.max_parallelism)
    }

    /// The encoding of a key that a person typed, as JSON or as bare text.
    pub fn parse_key(&self, text: &str) -> Result<Vec<u8>, InspectError> {
        parse_text(self.key_type(), text).map_err(|source| self.misfit("key", text, source))
    }

    /// The encoding of a value that a person typed, as JSON or as bare text.
    pub fn parse_value(&self, text: &str) -> Result<Vec<u8>, InspectError> {
        parse_text(self.value_type(), text).map_err(|source| self.misfit("value", text, source))
    }

    pub(crate) fn misfit(&self, what: &'static str, text: &str, source: crate::json::ValueError) -> InspectError {
        let text = match text.char_indices().nth(SHOWN) {
            Some((at, _char)) => format!("{}…", &text[..at]),
            None => text.to_owned(),
        };
        InspectError::Value {
            what,
            text,
            state: self.name().to_owned(),
            source: Box::new(source),
        }
    }

    /// The error for a key that is not there.
    pub fn no_such_key(&self, key: &[u8]) -> InspectError {
        let shown = Renderer::new(self.key_type()).render(key);
        InspectError::NoSuchKey {
            operator: self.operator.label(),
            state: self.name().to_owned(),
            key: shown.unwrap_or_else(|_no_row| "of other bytes".to_owned()),
        }
    }

    /// The error for a row that does not fit the types of the state.
    pub fn bad_row(&self, source: RowError) -> InspectError {
        InspectError::Snapshot(SnapshotError::Row {
            state: self.name().to_owned(),
            source,
        })
    }

    /// All parts of a state are of the same types, since one version of an application wrote them.
    fn check_types(&self, handle: &KeyedStateHandle) -> Result<(), SnapshotError> {
        if handle.key == *self.key_type()
            && handle.namespace.as_ref() == self.namespace_type()
            && handle.value == *self.value_type()
        {
            return Ok(());
        }
        Err(SnapshotError::ImpossibleOperator {
            uri: self.folder.to_owned(),
            operator: self.operator.id,
            reason: format!("the parts of state `{}` are of different types", handle.state),
        })
    }
}

/// Ends a reading that has found what it looked for; never seen outside.
fn enough(state: &str) -> SnapshotError {
    SnapshotError::Consumer {
        state: state.to_owned(),
        source: "enough rows were read".into(),
    }
}
