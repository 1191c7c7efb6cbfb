//! Keyed state out of a snapshot: the rows of the key groups that a subtask owns now, whoever owned them before.

use std::collections::BTreeMap;

use streamd_core::error::{ErrorCode, chain};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle};
use streamd_core::state::Key;
use streamd_snapshot::{
    LocalCopies, NativeReader, ObjectSource, RowBatch, RowVisitor, SnapshotError, check_coverage, read_keyed_state,
    read_savepoint_state,
};
use tokio::runtime::Handle;

use crate::backend::{KeyedStateBackend, StoredAt};
use crate::error::StateError;
use crate::schema::RowPlan;

/// Why keyed state could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The state does not fit the application, or is not whole.
    #[error(transparent)]
    State(#[from] StateError),
    /// The snapshot could not be read.
    #[error(transparent)]
    Snapshot(SnapshotError),
}

impl RestoreError {
    /// Whether reading again gives the same: see [`SnapshotError::is_damage`].
    pub fn is_damage(&self) -> bool {
        match self {
            Self::State(error) => error.is_damage(),
            Self::Snapshot(error) => error.is_damage(),
        }
    }

    /// The stable code of the error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::State(error) => error.code(),
            Self::Snapshot(error) => error.code(),
        }
    }
}

/// Where a row was refused, why.
impl From<SnapshotError> for RestoreError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Consumer { state, source } => match source.downcast::<StateError>() {
                Ok(refused) => Self::State(*refused),
                Err(source) => Self::Snapshot(SnapshotError::Consumer { state, source }),
            },
            error => Self::Snapshot(error),
        }
    }
}

impl From<RestoreError> for StateError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::State(error) => error,
            RestoreError::Snapshot(error) => Self::NotRestored {
                code: error.code(),
                is_damage: error.is_damage(),
                reason: chain(&error),
            },
        }
    }
}

/// The parts of one state, and where it is in the backend.
struct Parts<'a> {
    index: usize,
    handles: Vec<&'a KeyedStateHandle>,
    /// What becomes of the rows of each part.
    plans: Vec<RowPlan>,
}

/// Stored bytes of a state that are restored at once; more come later. Builds with assertions restore everything later, so that small
/// states are restored as large ones are.
pub const AT_ONCE_BYTES: u64 = if cfg!(debug_assertions) { 0 } else { 8 << 20 };

/// Fills an empty backend, whose states are registered, with the rows of its key groups, and returns how many are there.
///
/// In a database, the files of a checkpoint may be there before anybody has read them: then they are read in the background, and whoever
/// [touches](KeyedStateBackend::touch) a key or [restores more](KeyedStateBackend::restore_more) is told of damage; a snapshot waits for it.
/// On the heap, of a large state in native form only the first rows are. The others come when their keys are
/// [touched](KeyedStateBackend::touch), whenever [`restore_more`](KeyedStateBackend::restore_more) is called, and at the latest when the
/// backend is frozen or all its rows are visited: until then the objects must not go.
///
/// `handles` are those of all subtasks that wrote the operator's state, or at least of those whose key groups the backend
/// needs; their objects are named by absolute URIs. A registered state without any handle is new and stays empty.
/// Blocks: call it on a thread that is not tokio's. `io` is where the bytes travel.
///
/// Values that an older version of their type wrote are migrated on the way. Errors, before any row is read, if a state is not
/// registered, was written with a type that nothing makes the registered one of, or its parts leave a key group out or hold
/// it twice. After an error the backend is partly filled: drop it.
pub fn restore<K: Key>(
    backend: &mut KeyedStateBackend<K>,
    handles: &[KeyedStateHandle],
    io: &Handle,
) -> Result<u64, RestoreError> {
    restore_with(backend, handles, io, AT_ONCE_BYTES)
}

/// As [`restore`], with so many stored bytes of each state at once.
pub fn restore_with<K: Key>(
    backend: &mut KeyedStateBackend<K>,
    handles: &[KeyedStateHandle],
    io: &Handle,
    at_once: u64,
) -> Result<u64, RestoreError> {
    let key_groups = backend.key_groups();
    let states = by_state(backend, handles)?;
    for (state, parts) in &states {
        let held = parts.handles.iter().map(|handle| handle.key_groups);
        check_coverage(held, key_groups).map_err(|wrong| StateError::Coverage {
            state: (*state).to_owned(),
            wrong,
        })?;
        let rows = parts
            .handles
            .iter()
            .map(|handle| rows_of_range(handle, key_groups))
            .sum();
        backend.reserve(state, rows);
    }
    let mut reader = Reader {
        io,
        copies: backend.copies().cloned(),
        #[cfg(feature = "rocksdb")]
        databases: crate::rocksdb::Databases::new(handles, backend.instance()),
    };
    #[cfg(feature = "rocksdb")]
    if let Some(rows) = restore_database(backend, &states, &mut reader)? {
        backend.search()?;
        backend.check_files()?;
        return Ok(rows);
    }
    let mut rows = 0;
    for parts in states.values() {
        let mut later = Vec::new();
        for (handle, plan) in parts.handles.iter().zip(&parts.plans) {
            if backend.restores_later() && is_native(handle, key_groups) {
                let opened = NativeReader::open(handle, reader.source(), key_groups, io)?;
                later.push((opened, plan.clone()));
            } else if handle.format == KeyedStateFormat::Parquet {
                rows += restore_savepoint_part(backend, parts.index, (handle, plan), io)?;
            } else {
                rows += restore_part(backend, parts.index, (handle, plan), &mut reader)?;
            }
        }
        if !later.is_empty() {
            rows += backend.restore_later(parts.index, later, at_once)?;
        }
    }
    Ok(rows)
}

/// Whether a part has rows of these key groups, in native form.
fn is_native(handle: &KeyedStateHandle, key_groups: KeyGroupRange) -> bool {
    matches!(handle.format, KeyedStateFormat::Native { .. })
        && handle.rows > 0
        && !handle.key_groups.intersection(key_groups).is_empty()
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
        let plan = RowPlan::resolve(handle, &descriptors[index], backend.now())?;
        let parts = states.entry(handle.state.as_str()).or_insert_with(|| Parts {
            index,
            handles: Vec::new(),
            plans: Vec::new(),
        });
        parts.handles.push(handle);
        parts.plans.push(plan);
    }
    Ok(states)
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
    (handle, plan): (&KeyedStateHandle, &RowPlan),
    reader: &mut Reader<'_>,
) -> Result<u64, RestoreError> {
    let key_groups = backend.key_groups();
    read_part(key_groups, (handle, plan), reader, |key_group, key, value| {
        let hashes = None;
        backend.restore_row_at(index, Some(StoredAt { key_group, hashes }), key, value)
    })
}

/// As [`restore_part`], of a savepoint. Other threads make its keys and values: most of the time goes into memory that is touched for the
/// first time, and each thread touches what it fills.
fn restore_savepoint_part<K: Key>(
    backend: &mut KeyedStateBackend<K>,
    index: usize,
    (handle, plan): (&KeyedStateHandle, &RowPlan),
    io: &Handle,
) -> Result<u64, RestoreError> {
    let refuse = |error| refused(&handle.state, error);
    let decoder = backend.decoder(index);
    let decode = |rows: &mut RowBatch| {
        let decoded = decoder.decode(plan, rows).map_err(refuse)?;
        Ok((rows.len() as u64, decoded))
    };
    let (wanted, mut restored) = ((backend.key_groups(), io), 0);
    let read = read_savepoint_state(handle, "", wanted, &decode, &mut |(rows, decoded)| {
        restored += rows;
        backend.restore_decoded(index, decoded).map_err(refuse)
    });
    read.map(|()| restored).map_err(Into::into)
}

/// Hands the rows of a part to `take`, each value as the present type encodes it. The first row that is refused ends it.
fn read_part(
    key_groups: KeyGroupRange,
    (handle, plan): (&KeyedStateHandle, &RowPlan),
    reader: &mut Reader<'_>,
    take: impl FnMut(u32, &[u8], &[u8]) -> Result<(), StateError>,
) -> Result<u64, RestoreError> {
    let read = |visit: &mut RowVisitor<'_>| reader.rows(handle, key_groups, visit);
    read_rows(&handle.state, plan, read, take)
}

/// Hands the rows of a state that `read` reads to `take`, each value as the present type encodes it. The first row that is refused ends
/// it.
pub(crate) fn read_rows<E: Into<RestoreError>>(
    state: &str,
    plan: &RowPlan,
    read: impl FnOnce(&mut RowVisitor<'_>) -> Result<u64, E>,
    mut take: impl FnMut(u32, &[u8], &[u8]) -> Result<(), StateError>,
) -> Result<u64, RestoreError> {
    let mut scratch = Vec::new();
    let read = read(&mut |key_group, key, value| {
        plan.value(value, &mut scratch)
            .map_err(|source| StateError::MalformedRow {
                state: state.to_owned(),
                part: "value",
                source,
            })
            .and_then(|value| take(key_group, key, value))
            .map_err(|error| refused(state, error))
    });
    read.map_err(Into::into)
}

/// That a row of a state is refused, to whoever reads it.
fn refused(state: &str, error: StateError) -> SnapshotError {
    SnapshotError::Consumer {
        state: state.to_owned(),
        source: Box::new(error),
    }
}

/// Reads the rows of handles, however they are stored.
struct Reader<'a> {
    io: &'a Handle,
    copies: Option<LocalCopies>,
    #[cfg(feature = "rocksdb")]
    databases: crate::rocksdb::Databases<'a>,
}

impl Reader<'_> {
    fn rows(
        &mut self,
        handle: &KeyedStateHandle,
        range: KeyGroupRange,
        visit: &mut dyn FnMut(u32, &[u8], &[u8]) -> Result<(), SnapshotError>,
    ) -> Result<u64, RestoreError> {
        #[cfg(feature = "rocksdb")]
        if matches!(handle.format, KeyedStateFormat::RocksDb { .. }) {
            if range.intersection(handle.key_groups).is_empty() {
                return Ok(0);
            }
            return Ok(self.databases.read(handle, range, self.io, visit)?);
        }
        Ok(read_keyed_state(handle, self.source(), range, self.io, visit)?)
    }

    fn source(&self) -> ObjectSource<'_> {
        // The objects are named by absolute URIs: the folder plays no part.
        ObjectSource::store("").or_copies(self.copies.as_ref())
    }
}

/// Fills the database of a backend: with the very files of a checkpoint where they fit, else row by row. `None` if it has none.
#[cfg(feature = "rocksdb")]
fn restore_database<K: Key>(
    backend: &mut KeyedStateBackend<K>,
    states: &BTreeMap<&str, Parts<'_>>,
    reader: &mut Reader<'_>,
) -> Result<Option<u64>, RestoreError> {
    let key_groups = backend.key_groups();
    let Some(mut columns) = backend.columns() else {
        return Ok(None);
    };
    let parts = states.values().flat_map(|parts| parts.handles.iter().zip(&parts.plans));
    let parts: Vec<(&KeyedStateHandle, bool)> = parts
        .filter(|(handle, _)| !handle.key_groups.intersection(key_groups).is_empty())
        .map(|(handle, plan)| (*handle, plan.is_identity()))
        .collect();
    if let Some(rows) = columns.take_over(&parts, key_groups, reader.io)? {
        return Ok(Some(rows));
    }
    columns.open()?;
    let mut rows = 0;
    for (state, parts) in states {
        for (handle, plan) in parts.handles.iter().zip(&parts.plans) {
            rows += load_part(backend, (state, parts.index), (handle, plan), reader)?;
        }
    }
    if let Some(mut columns) = backend.columns() {
        columns.finish_loads()?;
    }
    Ok(Some(rows))
}

/// Loads the rows of a handle into the database of a backend.
#[cfg(feature = "rocksdb")]
fn load_part<K: Key>(
    backend: &mut KeyedStateBackend<K>,
    (state, index): (&str, usize),
    (handle, plan): (&KeyedStateHandle, &RowPlan),
    reader: &mut Reader<'_>,
) -> Result<u64, RestoreError> {
    let column = crate::rocksdb::column_name(state);
    let key_groups = backend.key_groups();
    read_part(key_groups, (handle, plan), reader, |key_group, key, value| {
        let hashes = None;
        backend.restore_row_at(index, Some(StoredAt { key_group, hashes }), key, value)?;
        backend.load_row(&column, (key_group, key, value))
    })
}
