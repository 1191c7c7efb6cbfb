//! Writing a native state object: rows are appended to a payload, which becomes a block when it is large enough.

use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_core::backend::Inlining;
use streamd_core::barrier::Compression;
use streamd_core::id::OperatorId;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle, NativeBlock, NativeSegment, ObjectHandle};
use tokio::runtime::Handle;

use super::block::{self, BlockHeader};
use super::codec::Packer;
use super::format::{self, BLOCK_LIMIT, BLOCK_TARGET, MAX_ROW_BYTES, NATIVE_VERSION};
use super::segment::{SegmentKeys, SegmentSink, WrittenBlock, WrittenObject, WrittenSegment};
use super::target::Target;
use crate::error::SnapshotError;
use crate::local_copies::CheckpointCopies;
use crate::store::Location;
use crate::subtask::{KeyedTable, misuse};
use crate::table::check_type;

/// The object of a subtask, while it is written. Nothing is written at all until there is a first block: a checkpoint in which
/// nothing has changed has no object.
pub(crate) struct NativeWriter {
    object: Arc<WrittenObject>,
    path: String,
    target: Target,
    packer: Packer,
    payload: Vec<u8>,
    open: Option<OpenTable>,
    finished: Vec<(OperatorId, KeyedTable, Vec<WrittenSegment>)>,
    blocks: u64,
    rows: u64,
}

/// The table that rows go to.
struct OpenTable {
    table: KeyedTable,
    mark: u32,
    segments: Vec<WrittenSegment>,
    /// The first key group that the next segment may have.
    floor: u32,
    segment: OpenSegment,
    /// Where the run begins in the payload; `None` where the next row begins a run.
    run: Option<usize>,
    /// The key group of the last row.
    group: u32,
    run_rows: u32,
    block_rows: u32,
    /// Bytes of its blocks.
    bytes: u64,
}

/// What rows go to within a table.
enum OpenSegment {
    /// Nothing said: each block becomes a segment of its own. The first key group of the block.
    PerBlock(u32),
    /// A segment that was begun. The groups, and the blocks of it so far: those that it builds upon, and its own.
    Begun {
        keys: SegmentKeys,
        blocks: Vec<WrittenBlock>,
        layer: u32,
    },
}

impl NativeWriter {
    /// A writer of the object `path` in this folder.
    pub(crate) fn new(
        folder: &Location,
        path: String,
        compression: Compression,
        runtime: Handle,
    ) -> Result<Self, SnapshotError> {
        Ok(Self {
            target: Target::new(folder.child(&path)?, runtime),
            object: WrittenObject::new(folder, path.clone()),
            path,
            packer: Packer::new(compression),
            payload: Vec::new(),
            open: None,
            finished: Vec::new(),
            blocks: 0,
            rows: 0,
        })
    }

    /// The object may travel inside of the metadata. To be said before the first table begins.
    pub(crate) fn set_inlining(&mut self, inlining: Inlining) {
        self.target.set_inlining(inlining);
    }

    /// The object stays on the local disk as well. To be said before the first table begins.
    pub(crate) fn keep_copy(&mut self, copies: CheckpointCopies) {
        self.target.keep_copy(copies);
    }

    pub(crate) fn begin(&mut self, table: &KeyedTable) -> Result<(), SnapshotError> {
        if self.open.is_some() {
            return Err(misuse(&table.state, "a table begins before the last one has ended"));
        }
        check_type(&table.state, &table.key)?;
        check_type(&table.state, &table.value)?;
        if self.payload.capacity() == 0 {
            self.payload = Vec::with_capacity(BLOCK_LIMIT + (64 << 10));
        }
        let start = table.key_groups.start;
        self.open = Some(OpenTable {
            table: table.clone(),
            mark: format::state_mark(&table.state),
            segments: Vec::new(),
            floor: start,
            segment: OpenSegment::PerBlock(start),
            run: None,
            group: start,
            run_rows: 0,
            block_rows: 0,
            bytes: 0,
        });
        Ok(())
    }

    /// A row of a state that does not say what its segments are. By rising key group.
    #[inline]
    pub(crate) fn row(&mut self, key_group: u32, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        let Some(open) = self.open.as_mut() else {
            return Err(misuse("", "a row comes before its table begins"));
        };
        if open.run.is_none() || open.group != key_group {
            if key_group < open.group || !open.table.key_groups.contains(key_group) {
                let reason = format!(
                    "key group {key_group} comes after {}, or is not in {}",
                    open.group, open.table.key_groups
                );
                return Err(misuse(&open.table.state, reason));
            }
            if key_group != open.group && self.payload.len() >= BLOCK_TARGET {
                self.close_block()?;
            }
        }
        self.append(key_group, key, Some(value))
    }

    pub(crate) fn end(&mut self) -> Result<(), SnapshotError> {
        let Some(open) = &self.open else {
            return Err(misuse("", "a table ends that never began"));
        };
        if let OpenSegment::Begun { .. } = open.segment {
            return Err(misuse(&open.table.state, "a table ends before its last segment"));
        }
        self.close_block()?;
        let open = self.open.take().expect("checked above");
        if let Some(limit) = self.target.max_state().filter(|limit| open.bytes > *limit) {
            return Err(SnapshotError::StateTooLarge {
                state: open.table.state,
                operator: open.table.label,
                bytes: open.bytes,
                limit,
            });
        }
        self.finished.push((open.table.operator, open.table, open.segments));
        Ok(())
    }

    /// Makes the object visible and durable, and says what is in it.
    pub(crate) fn finish(mut self) -> Result<BTreeMap<OperatorId, Vec<KeyedStateHandle>>, SnapshotError> {
        if let Some(open) = &self.open {
            return Err(misuse(
                &open.table.state,
                "the snapshot is finished before the table has ended",
            ));
        }
        if self.target.is_begun() {
            self.target.append(&format::footer(self.blocks, self.rows))?;
        }
        if let Some(limit) = self.target.max_object().filter(|limit| self.target.length() > *limit) {
            let bytes = self.target.length();
            return Err(SnapshotError::StatesTooLarge { bytes, limit });
        }
        // What is inlined, later checkpoints cannot refer to: one that has only the changes would be worth nothing to them.
        if self.target.is_begun() && self.builds_upon_others() {
            self.target.become_file()?;
        }
        if let Some(handle) = self.target.finish(self.path)? {
            self.object.finish(handle);
        }
        let mut handles = BTreeMap::<_, Vec<_>>::new();
        for (operator, table, segments) in self.finished {
            let handle = handle(table, &segments, &self.object)?;
            handles.entry(operator).or_default().push(handle);
        }
        Ok(handles)
    }

    pub(crate) fn abort(self) -> Result<(), SnapshotError> {
        self.target.abort()
    }

    /// Whether anything is referred to that an earlier checkpoint wrote.
    fn builds_upon_others(&self) -> bool {
        let segments = self.finished.iter().flat_map(|(_, _, segments)| segments);
        let mut parts = segments.flat_map(WrittenSegment::parts);
        parts.any(|(object, _)| !Arc::ptr_eq(object, &self.object))
    }

    #[inline]
    fn append(&mut self, key_group: u32, key: &[u8], value: Option<&[u8]>) -> Result<(), SnapshotError> {
        let bytes = key.len() + value.map_or(0, <[u8]>::len);
        let Some(open) = self.open.as_mut().filter(|_| bytes <= MAX_ROW_BYTES) else {
            return Err(self.too_large(bytes));
        };
        if open.run.is_none() || open.group != key_group {
            open.begin_run(&mut self.payload, key_group);
        }
        format::put_row(&mut self.payload, key, value);
        open.run_rows += 1;
        if self.payload.len() >= BLOCK_LIMIT {
            self.close_block()?;
        }
        Ok(())
    }

    /// Hands the block to the upload, if there is a row in it.
    fn close_block(&mut self) -> Result<(), SnapshotError> {
        let open = self.open.as_mut().expect("called with an open table");
        open.close_run(&mut self.payload);
        if open.block_rows == 0 {
            return Ok(());
        }
        let (keys, layer) = match &open.segment {
            OpenSegment::PerBlock(first) => {
                let (start, end) = (*first, open.group + 1);
                let key_groups = KeyGroupRange { start, end };
                (
                    SegmentKeys {
                        key_groups,
                        hashes: None,
                    },
                    0,
                )
            }
            OpenSegment::Begun { keys, layer, .. } => (*keys, *layer),
        };
        let header = BlockHeader {
            state: open.mark,
            key_groups: keys.key_groups,
            rows: open.block_rows,
            changes: layer > 0,
        };
        let (header, stored) = block::seal(header, &self.payload, &mut self.packer);
        if !self.target.is_begun() {
            self.target.append(&format::header(NATIVE_VERSION))?;
        }
        let block = WrittenBlock {
            object: Arc::clone(&self.object),
            layer,
            offset: self.target.length(),
            length: (header.len() + stored.len()) as u64,
        };
        open.bytes += block.length;
        // What is too large is refused with its whole size, and need not be kept.
        if self.target.max_state().is_none_or(|limit| open.bytes <= limit) {
            self.target.append(&header)?;
            self.target.append(stored)?;
        }
        self.blocks += 1;
        self.rows += u64::from(open.block_rows);
        match &mut open.segment {
            OpenSegment::PerBlock(_) => open.segments.push(WrittenSegment {
                keys,
                rows: open.block_rows.into(),
                earliest: Vec::new(),
                blocks: Arc::new([block]),
            }),
            OpenSegment::Begun { blocks, .. } => blocks.push(block),
        }
        open.block_rows = 0;
        self.payload.clear();
        Ok(())
    }

    #[cold]
    fn too_large(&self, bytes: usize) -> SnapshotError {
        let Some(open) = &self.open else {
            return misuse("", "a row comes before its table begins");
        };
        let reason = format!("a row of {bytes} bytes is larger than the limit of {MAX_ROW_BYTES}");
        SnapshotError::UnsupportedType {
            state: open.table.state.clone(),
            reason,
        }
    }

    /// The open table, for a segment of these groups that begins now.
    fn between_segments(&mut self, key_groups: KeyGroupRange) -> Result<&mut OpenTable, SnapshotError> {
        if self.open.is_none() {
            return Err(misuse("", "a segment comes before its table begins"));
        }
        self.close_block()?;
        let open = self.open.as_mut().expect("checked above");
        let all = open.table.key_groups;
        let fits = !key_groups.is_empty() && key_groups.start >= open.floor && key_groups.end <= all.end;
        match &open.segment {
            OpenSegment::PerBlock(_) if fits => Ok(open),
            OpenSegment::PerBlock(_) => {
                let reason = format!(
                    "a segment of {key_groups} comes after {}, or is not in {all}",
                    open.floor
                );
                Err(misuse(&open.table.state, reason))
            }
            OpenSegment::Begun { .. } => Err(misuse(
                &open.table.state,
                "a segment begins before the last one has ended",
            )),
        }
    }
}

impl OpenTable {
    fn begin_run(&mut self, payload: &mut Vec<u8>, key_group: u32) {
        self.close_run(payload);
        if self.block_rows == 0
            && let OpenSegment::PerBlock(first) = &mut self.segment
        {
            *first = key_group;
        }
        self.run = Some(payload.len());
        self.run_rows = 0;
        self.group = key_group;
        payload.extend_from_slice(&key_group.to_le_bytes());
        payload.extend_from_slice(&[0; 4]);
    }

    /// Writes the number of its rows into the header of the run.
    fn close_run(&mut self, payload: &mut [u8]) {
        if let Some(at) = self.run.take() {
            payload[at + 4..at + 8].copy_from_slice(&self.run_rows.to_le_bytes());
            self.block_rows += self.run_rows;
        }
    }
}

impl SegmentSink for NativeWriter {
    fn reaches(&self, segment: &WrittenSegment) -> bool {
        segment
            .parts()
            .all(|(object, _)| Arc::ptr_eq(object, &self.object) || object.handle_from(&self.object).is_some())
    }

    fn refer(&mut self, segment: &WrittenSegment) -> Result<(), SnapshotError> {
        let open = self.between_segments(segment.keys.key_groups)?;
        open.floor = segment.keys.key_groups.start;
        open.segments.push(segment.clone());
        Ok(())
    }

    fn begin_segment(&mut self, keys: SegmentKeys, upon: Option<&WrittenSegment>) -> Result<(), SnapshotError> {
        let open = self.between_segments(keys.key_groups)?;
        if upon.is_some_and(|segment| segment.keys != keys) {
            return Err(misuse(
                &open.table.state,
                "changes of other keys are put upon a segment",
            ));
        }
        open.segment = OpenSegment::Begun {
            keys,
            blocks: upon.map(|segment| segment.blocks.to_vec()).unwrap_or_default(),
            layer: upon.map_or(0, |segment| segment.layers() + 1),
        };
        Ok(())
    }

    #[inline]
    fn put(&mut self, key_group: u32, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        self.append(key_group, key, Some(value))
    }

    fn remove(&mut self, key_group: u32, key: &[u8]) -> Result<(), SnapshotError> {
        self.append(key_group, key, None)
    }

    fn end_segment(&mut self, rows: u64, earliest: Vec<i64>) -> Result<WrittenSegment, SnapshotError> {
        if self.open.is_none() {
            return Err(misuse("", "a segment ends that never began"));
        }
        self.close_block()?;
        let open = self.open.as_mut().expect("checked above");
        let begun = std::mem::replace(&mut open.segment, OpenSegment::PerBlock(open.floor));
        let OpenSegment::Begun { keys, blocks, .. } = begun else {
            return Err(misuse(&open.table.state, "a segment ends that never began"));
        };
        let segment = WrittenSegment {
            keys,
            rows,
            earliest,
            blocks: blocks.into(),
        };
        open.floor = keys.key_groups.start;
        open.group = open.group.max(keys.key_groups.start);
        if !segment.blocks.is_empty() {
            open.segments.push(segment.clone());
        }
        Ok(segment)
    }
}

/// What the metadata says of a table.
fn handle(
    table: KeyedTable,
    segments: &[WrittenSegment],
    own: &Arc<WrittenObject>,
) -> Result<KeyedStateHandle, SnapshotError> {
    let mut objects: Vec<(&Arc<WrittenObject>, ObjectHandle)> = Vec::new();
    let (mut described, mut rows, mut bytes) = (Vec::with_capacity(segments.len()), 0, 0);
    for segment in segments {
        let mut blocks = Vec::with_capacity(segment.blocks.len());
        for block in &*segment.blocks {
            let known = objects
                .iter()
                .rposition(|(object, _)| Arc::ptr_eq(object, &block.object));
            let position = match known {
                Some(position) => position,
                None => {
                    let unreachable = || misuse(&table.state, "a segment lies where the snapshot cannot refer to");
                    objects.push((&block.object, block.object.handle_from(own).ok_or_else(unreachable)?));
                    objects.len() - 1
                }
            };
            blocks.push(NativeBlock {
                object: u32::try_from(position).expect("fewer than 2^32 objects"),
                layer: block.layer,
                offset: block.offset,
                length: block.length,
            });
            bytes += block.length;
        }
        rows += segment.rows;
        described.push(NativeSegment {
            key_groups: segment.keys.key_groups,
            hashes: segment.keys.hashes,
            earliest: segment.earliest.clone(),
            blocks,
        });
    }
    Ok(KeyedStateHandle {
        state: table.state,
        key: table.key,
        namespace: table.namespace,
        value: table.value,
        key_groups: table.key_groups,
        format: KeyedStateFormat::Native { segments: described },
        objects: objects.into_iter().map(|(_, handle)| handle).collect(),
        rows,
        bytes,
    })
}
