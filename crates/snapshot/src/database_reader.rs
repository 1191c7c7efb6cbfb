//! Who reads the rows of a state that is in the files of a database: only a program that has such a database can.

use std::sync::OnceLock;

use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle, OperatorState};
use tokio::runtime::Handle;

use crate::error::SnapshotError;
use crate::restore::{RowVisitor, absolute, read_keyed_state};

/// Reads rows that are in the files of a database.
pub trait DatabaseReader: Send + Sync {
    /// Calls `visit` for every row of `wanted` whose key group is in `range`, by rising key group, and returns how many there were.
    ///
    /// `database` are the handles of all states of the database, `wanted` among them; their objects are named by absolute URIs.
    fn read(
        &self,
        database: &[KeyedStateHandle],
        wanted: &KeyedStateHandle,
        range: KeyGroupRange,
        runtime: &Handle,
        visit: &mut RowVisitor<'_>,
    ) -> Result<u64, SnapshotError>;
}

static INSTALLED: OnceLock<Box<dyn DatabaseReader>> = OnceLock::new();

/// Lets this program read databases. What is installed first stays.
pub fn install_database_reader(reader: Box<dyn DatabaseReader>) {
    let _one_is_there = INSTALLED.set(reader);
}

/// Whether this program can read the rows of a handle.
pub(crate) fn is_readable(handle: &KeyedStateHandle) -> bool {
    match handle.format {
        KeyedStateFormat::Native { .. } | KeyedStateFormat::Parquet => true,
        KeyedStateFormat::RocksDb { .. } => INSTALLED.get().is_some(),
    }
}

/// As [`read_keyed_state`], of one part of the state of an operator, in the files of a database too where this program can read these.
pub(crate) fn read_operator_state(
    (operator, handle): (&OperatorState, &KeyedStateHandle),
    folder: &str,
    range: KeyGroupRange,
    runtime: &Handle,
    visit: &mut RowVisitor<'_>,
) -> Result<u64, SnapshotError> {
    let range = range.intersection(handle.key_groups);
    let reader = match (&handle.format, INSTALLED.get()) {
        (KeyedStateFormat::RocksDb { .. }, Some(reader)) if !range.is_empty() && handle.rows > 0 => reader,
        _read_here_or_refused => return read_keyed_state(handle, folder, range, runtime, visit),
    };
    let of_same_database = operator.keyed.iter().filter(|other| is_one_database(other, handle));
    let database: Vec<KeyedStateHandle> = of_same_database
        .map(|other| absolute(other, folder))
        .collect::<Result<_, _>>()?;
    reader.read(&database, &absolute(handle, folder)?, range, runtime, visit)
}

/// Whether two states are in one database: they have its manifest in common.
fn is_one_database(one: &KeyedStateHandle, other: &KeyedStateHandle) -> bool {
    let manifest = |handle: &KeyedStateHandle| handle.objects.first().map(|object| object.path.clone());
    matches!(one.format, KeyedStateFormat::RocksDb { .. }) && manifest(one) == manifest(other)
}
