//! Writing a native state object: rows are appended to one buffer, which becomes a block when it is large enough.

use std::collections::BTreeMap;

use streamd_core::id::OperatorId;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle, NativeBlock, ObjectHandle};
use tokio::runtime::Handle;

use super::format::{self, BLOCK_HEADER_BYTES, BLOCK_LIMIT, BLOCK_TARGET, BlockHeader, MAX_ROW_BYTES};
use crate::error::SnapshotError;
use crate::store::{BlockingUpload, Location};
use crate::subtask::{KeyedTable, misuse};
use crate::table::check_type;

/// The object of a subtask, while it is written. Nothing is written at all until the first table begins.
pub(crate) struct NativeWriter {
    location: Location,
    path: String,
    runtime: Handle,
    object: Option<BlockingUpload>,
    block: Vec<u8>,
    open: Option<OpenTable>,
    finished: Vec<(OperatorId, KeyedStateHandle)>,
    blocks: u64,
    rows: u64,
}

/// The table that rows go to.
struct OpenTable {
    table: KeyedTable,
    ordinal: u32,
    blocks: Vec<NativeBlock>,
    rows: u64,
    bytes: u64,
    /// The first key group of the block.
    first: u32,
    /// Where the run begins in the block; `None` where the next row begins a run.
    run: Option<usize>,
    /// The key group of the last row.
    group: u32,
    run_rows: u32,
    block_rows: u32,
}

impl NativeWriter {
    /// A writer of the object `path` in this folder.
    pub(crate) fn new(folder: &Location, path: String, runtime: Handle) -> Result<Self, SnapshotError> {
        Ok(Self {
            location: folder.child(&path)?,
            path,
            runtime,
            object: None,
            block: Vec::new(),
            open: None,
            finished: Vec::new(),
            blocks: 0,
            rows: 0,
        })
    }

    pub(crate) fn begin(&mut self, table: &KeyedTable) -> Result<(), SnapshotError> {
        if self.open.is_some() {
            return Err(misuse(&table.state, "a table begins before the last one has ended"));
        }
        check_type(&table.state, &table.key)?;
        check_type(&table.state, &table.value)?;
        if self.object.is_none() {
            let mut object = BlockingUpload::new(&self.location, self.runtime.clone());
            object.append(&format::header())?;
            self.object = Some(object);
            self.block = Vec::with_capacity(BLOCK_LIMIT + (64 << 10));
        }
        self.block.resize(BLOCK_HEADER_BYTES, 0);
        self.open = Some(OpenTable {
            table: table.clone(),
            ordinal: u32::try_from(self.finished.len()).expect("fewer than 2^32 tables"),
            blocks: Vec::new(),
            rows: 0,
            bytes: 0,
            first: 0,
            run: None,
            group: table.key_groups.start,
            run_rows: 0,
            block_rows: 0,
        });
        Ok(())
    }

    #[inline]
    pub(crate) fn row(&mut self, key_group: u32, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        let Some(open) = self.open.as_mut() else {
            return Err(misuse("", "a row comes before its table begins"));
        };
        if open.run.is_none() || open.group != key_group {
            self.begin_run(key_group)?;
        }
        if key.len() + value.len() > MAX_ROW_BYTES {
            return Err(self.too_large(key.len() + value.len()));
        }
        let open = self.open.as_mut().expect("checked above");
        format::put_length(&mut self.block, key.len());
        format::put_length(&mut self.block, value.len());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        open.run_rows += 1;
        if self.block.len() >= BLOCK_LIMIT {
            self.close_block()?;
        }
        Ok(())
    }

    pub(crate) fn end(&mut self) -> Result<(), SnapshotError> {
        if self.open.is_none() {
            return Err(misuse("", "a table ends that never began"));
        }
        self.close_block()?;
        let open = self.open.take().expect("checked above");
        self.rows += open.rows;
        self.finished.push((
            open.table.operator,
            KeyedStateHandle {
                state: open.table.state,
                key: open.table.key,
                value: open.table.value,
                key_groups: open.table.key_groups,
                format: KeyedStateFormat::Native { blocks: open.blocks },
                object: ObjectHandle {
                    path: self.path.clone(),
                    length: 0,
                    digest: String::new(),
                },
                rows: open.rows,
                bytes: open.bytes,
            },
        ));
        Ok(())
    }

    /// Makes the object visible and durable, and says what is in it.
    pub(crate) fn finish(self) -> Result<BTreeMap<OperatorId, Vec<KeyedStateHandle>>, SnapshotError> {
        if let Some(open) = &self.open {
            return Err(misuse(
                &open.table.state,
                "the snapshot is finished before the table has ended",
            ));
        }
        let mut handles = BTreeMap::<_, Vec<_>>::new();
        let Some(mut object) = self.object else {
            return Ok(handles);
        };
        object.append(&format::footer(self.blocks, self.rows))?;
        let object = object.finish()?.into_handle(self.path);
        for (operator, handle) in self.finished {
            handles.entry(operator).or_default().push(KeyedStateHandle {
                object: object.clone(),
                ..handle
            });
        }
        Ok(handles)
    }

    pub(crate) fn abort(self) -> Result<(), SnapshotError> {
        match self.object {
            Some(object) => Ok(object.abort()?),
            None => Ok(()),
        }
    }

    fn begin_run(&mut self, key_group: u32) -> Result<(), SnapshotError> {
        self.close_run();
        let open = self.open.as_ref().expect("called with an open table");
        if key_group < open.group || !open.table.key_groups.contains(key_group) {
            let reason = format!(
                "key group {key_group} comes after {}, or is not in {}",
                open.group, open.table.key_groups
            );
            return Err(misuse(&open.table.state, reason));
        }
        if key_group != open.group && self.block.len() >= BLOCK_TARGET {
            self.close_block()?;
        }
        let open = self.open.as_mut().expect("called with an open table");
        if open.block_rows == 0 {
            open.first = key_group;
        }
        open.run = Some(self.block.len());
        open.run_rows = 0;
        open.group = key_group;
        self.block.extend_from_slice(&key_group.to_le_bytes());
        self.block.extend_from_slice(&[0; 4]);
        Ok(())
    }

    /// Writes the number of its rows into the header of the run.
    fn close_run(&mut self) {
        let Some(open) = self.open.as_mut() else { return };
        if let Some(at) = open.run.take() {
            self.block[at + 4..at + 8].copy_from_slice(&open.run_rows.to_le_bytes());
            open.block_rows += open.run_rows;
        }
    }

    /// Hands the block to the upload, if there is a row in it.
    fn close_block(&mut self) -> Result<(), SnapshotError> {
        self.close_run();
        let open = self.open.as_mut().expect("called with an open table");
        if open.block_rows == 0 {
            return Ok(());
        }
        let key_groups = KeyGroupRange {
            start: open.first,
            end: open.group + 1,
        };
        format::seal(
            &mut self.block,
            BlockHeader {
                table: open.ordinal,
                key_groups,
                rows: open.block_rows,
            },
        );
        let object = self.object.as_mut().expect("begun with the first table");
        let length = self.block.len() as u64;
        open.blocks.push(NativeBlock {
            key_groups,
            offset: object.length(),
            length,
        });
        object.append(&self.block)?;
        open.rows += u64::from(open.block_rows);
        open.bytes += length;
        open.block_rows = 0;
        self.blocks += 1;
        self.block.truncate(BLOCK_HEADER_BYTES);
        Ok(())
    }

    fn too_large(&self, bytes: usize) -> SnapshotError {
        let state = self
            .open
            .as_ref()
            .map(|open| open.table.state.clone())
            .unwrap_or_default();
        let reason = format!("a row of {bytes} bytes is larger than the limit of {MAX_ROW_BYTES}");
        SnapshotError::UnsupportedType { state, reason }
    }
}
