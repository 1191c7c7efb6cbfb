//! The tables of one subtask's keyed states in a savepoint.

use std::collections::BTreeMap;

use streamd_core::barrier::Compression;
use streamd_core::id::OperatorId;
use streamd_core::row::{DataType, RowReader};
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle};
use tokio::runtime::Handle;

use super::file::{AddError, Description, Lead, Packing, TableFile};
use super::plain::PlainFile;
use super::types::check_type;
use crate::error::SnapshotError;
use crate::layout;
use crate::row_batch::RowBatch;
use crate::store::{BlockingUpload, Location};
use crate::subtask::{KeyedTable, SubtaskContext, misuse};

/// The column of what tells several rows of one key apart.
pub(super) const NAMESPACE: &str = "namespace";

/// Bytes of the key and value of one row at most: Arrow's offsets within a batch end at 2 GiB.
const MAX_ROW_BYTES: usize = 256 << 20;

/// The columns of a table but the first: key, namespace if there is one, value.
pub(super) fn columns_of<'a>(
    key: &'a DataType,
    namespace: Option<&'a DataType>,
    value: &'a DataType,
) -> Vec<(&'static str, &'a DataType)> {
    let namespace = namespace.map(|namespace| (NAMESPACE, namespace));
    [("key", key)]
        .into_iter()
        .chain(namespace)
        .chain([("value", value)])
        .collect()
}

/// Writes one Parquet file per table.
pub(crate) struct SavepointWriter {
    folder: Location,
    packing: Packing,
    context: SubtaskContext,
    runtime: Handle,
    open: Option<OpenTable>,
    finished: BTreeMap<OperatorId, Vec<KeyedStateHandle>>,
}

struct OpenTable {
    table: KeyedTable,
    path: String,
    uri: String,
    file: OpenFile,
    group: u32,
    rows: u64,
}

/// The file of a table, by what its columns are.
enum OpenFile {
    /// Such that a value in them may be absent or repeated.
    Any(Box<TableFile<BlockingUpload>>),
    /// All values are there.
    Plain(Box<PlainFile>),
}

impl OpenFile {
    fn new(packing: Packing, description: &Description<'_>, out: BlockingUpload) -> Result<Self, AddError> {
        match PlainFile::leaves(description.columns) {
            Some(leaves) => {
                let file = PlainFile::new(packing, description, leaves, out)?;
                Ok(Self::Plain(Box::new(file)))
            }
            None => {
                let file = TableFile::packed(packing, Lead::KeyGroup, description, out).map_err(AddError::File)?;
                Ok(Self::Any(Box::new(file.encoded_beside())))
            }
        }
    }

    fn add(&mut self, key_group: u32, values: &[&[u8]]) -> Result<(), AddError> {
        match self {
            Self::Any(file) => file.add(i64::from(key_group), values),
            Self::Plain(file) => file.add(key_group, values),
        }
    }

    fn finish(self) -> Result<BlockingUpload, AddError> {
        match self {
            Self::Any(file) => file.finish().map_err(AddError::File),
            Self::Plain(file) => file.finish(),
        }
    }
}

impl SavepointWriter {
    pub(crate) fn new(folder: Location, context: SubtaskContext, runtime: Handle) -> Self {
        Self {
            folder,
            packing: Packing::Lz4,
            context,
            runtime,
            open: None,
            finished: BTreeMap::new(),
        }
    }

    /// With tables compressed as checkpoints are; where those are not compressed, with LZ4 all the same.
    pub(crate) fn compressed(self, compression: Compression) -> Self {
        let packing = match compression {
            Compression::None | Compression::Lz4 => Packing::Lz4,
            Compression::Zstd => Packing::Zstd,
        };
        Self { packing, ..self }
    }

    pub(crate) fn begin(&mut self, table: &KeyedTable) -> Result<(), SnapshotError> {
        if self.open.is_some() {
            return Err(misuse(&table.state, "a table begins before the last one has ended"));
        }
        for (_column, data_type) in columns_of(&table.key, table.namespace.as_ref(), &table.value) {
            check_type(&table.state, data_type)?;
        }
        let path = layout::keyed_table(table.operator, &table.label, &table.state, self.context.writer());
        let location = self.folder.child(&path)?;
        let uri = location.uri();
        let columns = columns_of(&table.key, table.namespace.as_ref(), &table.value);
        let description = Description {
            operator: &table.label,
            state: &table.state,
            columns: &columns,
        };
        let out = BlockingUpload::new(&location, self.runtime.clone());
        let file =
            OpenFile::new(self.packing, &description, out).map_err(|error| not_added(error, &table.state, &uri))?;
        let group = table.key_groups.start;
        self.open = Some(OpenTable {
            table: table.clone(),
            path,
            uri,
            file,
            group,
            rows: 0,
        });
        Ok(())
    }

    pub(crate) fn row(&mut self, key_group: u32, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        let Some(open) = self.open.as_mut() else {
            return Err(misuse("", "a row comes before its table begins"));
        };
        open.enter(key_group)?;
        open.add(key_group, key, value)
    }

    /// Takes the rows of a batch, and perhaps its memory.
    pub(crate) fn rows(&mut self, batch: &mut RowBatch) -> Result<(), SnapshotError> {
        let Some(open) = self.open.as_mut() else {
            return Err(misuse("", "rows come before their table begins"));
        };
        for &(key_group, _rows) in batch.groups() {
            open.enter(key_group)?;
        }
        let OpenTable {
            file: OpenFile::Plain(file),
            table: KeyedTable { namespace: None, .. },
            ..
        } = open
        else {
            return batch
                .iter()
                .try_for_each(|(key_group, key, value)| open.add(key_group, key, value));
        };
        batch
            .iter()
            .try_for_each(|(_, key, value)| check_size(&open.table.state, key.len() + value.len()))?;
        open.rows += batch.len() as u64;
        file.add_all(batch)
            .map_err(|error| not_added(error, &open.table.state, &open.uri))
    }

    pub(crate) fn end(&mut self) -> Result<(), SnapshotError> {
        let Some(open) = self.open.take() else {
            return Err(misuse("", "a table ends that never began"));
        };
        let finished = open.file.finish();
        let out = finished.map_err(|error| not_added(error, &open.table.state, &open.uri))?;
        let object = out.finish()?.into_handle(open.path);
        let handle = KeyedStateHandle {
            state: open.table.state,
            key: open.table.key,
            namespace: open.table.namespace,
            value: open.table.value,
            key_groups: open.table.key_groups,
            format: KeyedStateFormat::Parquet,
            rows: open.rows,
            bytes: object.length,
            objects: vec![object],
        };
        self.finished.entry(open.table.operator).or_default().push(handle);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<BTreeMap<OperatorId, Vec<KeyedStateHandle>>, SnapshotError> {
        match &self.open {
            Some(open) => Err(misuse(
                &open.table.state,
                "the snapshot is finished before the table has ended",
            )),
            None => Ok(self.finished),
        }
    }

    /// An unfinished upload vanishes when it is dropped.
    pub(crate) fn abort(self) -> Result<(), SnapshotError> {
        let _inside = self.runtime.enter();
        drop(self.open);
        Ok(())
    }
}

impl OpenTable {
    /// The next rows are of this key group: not of an earlier one than those before, nor of another subtask's.
    fn enter(&mut self, key_group: u32) -> Result<(), SnapshotError> {
        if key_group < self.group || !self.table.key_groups.contains(key_group) {
            let groups = self.table.key_groups;
            let reason = format!(
                "key group {key_group} comes after {}, or is not in {groups}",
                self.group
            );
            return Err(misuse(&self.table.state, reason));
        }
        self.group = key_group;
        Ok(())
    }

    fn add(&mut self, key_group: u32, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        let state = &self.table.state;
        check_size(state, key.len() + value.len())?;
        self.rows += 1;
        let added = match &self.table.namespace {
            None => self.file.add(key_group, &[key, value]),
            // The namespace is what follows the key.
            Some(_) => {
                let mut rest = RowReader::new(key);
                rest.value(&self.table.key)
                    .map_err(AddError::Row)
                    .and_then(|key| self.file.add(key_group, &[key, rest.remaining(), value]))
            }
        };
        added.map_err(|error| not_added(error, state, &self.uri))
    }
}

#[inline]
fn check_size(state: &str, bytes: usize) -> Result<(), SnapshotError> {
    if bytes <= MAX_ROW_BYTES {
        return Ok(());
    }
    Err(SnapshotError::UnsupportedType {
        state: state.to_owned(),
        reason: format!("a row of {bytes} bytes is larger than the limit of {MAX_ROW_BYTES}"),
    })
}

fn not_added(error: AddError, state: &str, uri: &str) -> SnapshotError {
    match error {
        AddError::Row(source) => SnapshotError::Row {
            state: state.to_owned(),
            source,
        },
        AddError::File(source) => failed(uri, source),
        AddError::Store(source) => source.into(),
    }
}

pub(super) fn failed(uri: &str, source: parquet::errors::ParquetError) -> SnapshotError {
    SnapshotError::Parquet {
        operation: "write",
        uri: uri.to_owned(),
        source,
    }
}
