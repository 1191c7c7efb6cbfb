//! The tables of one subtask's keyed states in a savepoint.

use std::collections::BTreeMap;

use streamd_core::barrier::Compression;
use streamd_core::id::OperatorId;
use streamd_core::row::{DataType, RowReader};
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle};
use tokio::runtime::Handle;

use super::file::{AddError, Description, Lead, Packing, TableFile};
use super::types::check_type;
use crate::error::SnapshotError;
use crate::layout;
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
    file: TableFile<BlockingUpload>,
    group: u32,
    rows: u64,
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
        let file = TableFile::packed(self.packing, Lead::KeyGroup, &description, out)
            .map_err(|source| failed(&uri, source))?
            .encoded_beside();
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
        let state = &open.table.state;
        if key_group < open.group || !open.table.key_groups.contains(key_group) {
            let groups = open.table.key_groups;
            let reason = format!(
                "key group {key_group} comes after {}, or is not in {groups}",
                open.group
            );
            return Err(misuse(state, reason));
        }
        let bytes = key.len() + value.len();
        if bytes > MAX_ROW_BYTES {
            let reason = format!("a row of {bytes} bytes is larger than the limit of {MAX_ROW_BYTES}");
            return Err(SnapshotError::UnsupportedType {
                state: state.clone(),
                reason,
            });
        }
        open.group = key_group;
        open.rows += 1;
        let lead = i64::from(key_group);
        let added = match &open.table.namespace {
            None => open.file.add(lead, &[key, value]),
            // The namespace is what follows the key.
            Some(_) => {
                let mut rest = RowReader::new(key);
                rest.value(&open.table.key)
                    .map_err(AddError::Row)
                    .and_then(|key| open.file.add(lead, &[key, rest.remaining(), value]))
            }
        };
        added.map_err(|error| match error {
            AddError::Row(source) => SnapshotError::Row {
                state: state.clone(),
                source,
            },
            AddError::File(source) => failed(&open.uri, source),
        })
    }

    pub(crate) fn end(&mut self) -> Result<(), SnapshotError> {
        let Some(open) = self.open.take() else {
            return Err(misuse("", "a table ends that never began"));
        };
        let out = open.file.finish().map_err(|source| failed(&open.uri, source))?;
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

pub(super) fn failed(uri: &str, source: parquet::errors::ParquetError) -> SnapshotError {
    SnapshotError::Parquet {
        operation: "write",
        uri: uri.to_owned(),
        source,
    }
}
