//! Reading native state: only the segments whose key groups are wanted, in large pieces.
//!
//! ```text
//!   segments ──▶ piece of 8 MiB ──▶ ranges of objects ──▶ fetch ──▶ check, unpack ──▶ deliver, the latest layer first
//!                 └ the next two pieces are fetched, checked and unpacked meanwhile ┘      (the caller's thread)
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle, NativeBlock, NativeSegment};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::block::{Expected, OpenBlock};
use super::check::check_segments;
use super::format::{self, IMPOSSIBLE, Payload};
use super::stored::StoredObject;
use crate::error::SnapshotError;
use crate::restore::{ObjectSource, RowVisitor, missing};

/// Stored bytes of the segments that are fetched together: large enough for a disk or an object store to be at its best.
const PIECE_BYTES: u64 = 8 << 20;

/// Bytes that are fetched for nothing rather than making two requests.
const GAP_BYTES: u64 = 128 << 10;

/// Requests of one piece that are under way at once.
const REQUESTS_IN_FLIGHT: usize = 8;

/// Bytes that the blocks of a piece may take unpacked; what would take more is unpacked when it is delivered, block by block.
const UNPACKED_BYTES: usize = 32 << 20;

/// A state in the native form, opened to be read segment by segment, in any order. Blocks: use it on a thread that is not tokio's.
pub struct NativeReader {
    source: Arc<Source>,
    runtime: Handle,
    range: KeyGroupRange,
    /// How many rows there must be, where all of them are read.
    rows: Option<u64>,
}

/// Segments that are on their way.
pub struct LoadingSegments {
    task: JoinHandle<Result<Vec<LoadedSegment>, SnapshotError>>,
    runtime: Handle,
    state: String,
}

/// A segment with its blocks, checked.
pub struct LoadedSegment {
    index: usize,
    spans_groups: bool,
    /// In the order of the metadata: the oldest first.
    blocks: Vec<LoadedBlock>,
}

impl NativeReader {
    /// Opens what a handle, whose objects may be in `from`, has of these key groups. Errors if it is not of the native form, if its
    /// metadata is impossible, or if an object is not there as it is recorded.
    pub fn open<'a>(
        handle: &KeyedStateHandle,
        from: impl Into<ObjectSource<'a>>,
        range: KeyGroupRange,
        runtime: &Handle,
    ) -> Result<Self, SnapshotError> {
        let malformed = |reason| SnapshotError::Malformed {
            uri: handle
                .objects
                .first()
                .map(|object| object.path.clone())
                .unwrap_or_default(),
            reason,
        };
        let KeyedStateFormat::Native { segments } = &handle.format else {
            return Err(malformed(format!("state `{}` is not in native form", handle.state)));
        };
        check_segments(handle, segments).map_err(malformed)?;
        let range = range.intersection(handle.key_groups);
        let is_wanted = |segment: &&NativeSegment| !segment.key_groups.intersection(range).is_empty();
        let segments: Vec<NativeSegment> = segments.iter().filter(is_wanted).cloned().collect();
        Ok(Self {
            source: Arc::new(Source {
                state: handle.state.clone(),
                mark: format::state_mark(&handle.state),
                objects: runtime.block_on(open_objects(handle, &segments, from.into()))?,
                segments,
            }),
            runtime: runtime.clone(),
            range,
            rows: (range == handle.key_groups).then_some(handle.rows),
        })
    }

    /// The segments that have keys of these groups.
    pub fn segments(&self) -> &[NativeSegment] {
        &self.source.segments
    }

    /// Those of the segments that are wanted, given by their positions, in runs that are best loaded together.
    pub(super) fn pieces(&self, is_wanted: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
        let mut pieces: Vec<Vec<usize>> = Vec::new();
        let mut bytes = u64::MAX;
        for (index, segment) in self
            .segments()
            .iter()
            .enumerate()
            .filter(|(index, _)| is_wanted(*index))
        {
            let length: u64 = segment.blocks.iter().map(|block| block.length).sum();
            match pieces.last_mut() {
                Some(piece) if bytes.saturating_add(length) <= PIECE_BYTES => {
                    piece.push(index);
                    bytes += length;
                }
                _none_or_full => {
                    pieces.push(vec![index]);
                    bytes = length;
                }
            }
        }
        pieces
    }

    /// Fetches, checks and unpacks these segments, given by their positions, on the threads of the runtime.
    pub fn load(&self, segments: Vec<usize>) -> LoadingSegments {
        LoadingSegments {
            task: self.runtime.spawn(load(Arc::clone(&self.source), segments)),
            runtime: self.runtime.clone(),
            state: self.source.state.clone(),
        }
    }

    /// Calls `visit` for the rows of a segment of the wanted key groups, by rising key group, and returns how many there were.
    pub fn deliver(&self, segment: &LoadedSegment, visit: &mut RowVisitor<'_>) -> Result<u64, SnapshotError> {
        self.source.deliver(segment, self.range, visit)
    }

    /// Errors if so many rows are not all that there must be.
    pub fn check_rows(&self, delivered: u64) -> Result<(), SnapshotError> {
        let Some(rows) = self.rows.filter(|rows| *rows != delivered) else {
            return Ok(());
        };
        Err(SnapshotError::Malformed {
            uri: self
                .source
                .objects
                .values()
                .next()
                .map(StoredObject::uri)
                .unwrap_or_default(),
            reason: format!(
                "state `{}` has {delivered} rows where the metadata says {rows}",
                self.source.state
            ),
        })
    }
}

impl LoadingSegments {
    /// Whether they are here.
    pub fn is_ready(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for them.
    pub fn wait(self) -> Result<Vec<LoadedSegment>, SnapshotError> {
        let Self { task, runtime, state } = self;
        let loaded = runtime.block_on(task);
        loaded.unwrap_or_else(|error| Err(interrupted(&state, &error)))
    }
}

impl LoadedSegment {
    /// Its position among [`NativeReader::segments`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// Bytes of it as they are stored.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.at.length).sum()
    }
}

/// Only a runtime that shuts down, or a bug, ends a task early.
fn interrupted(state: &str, error: &tokio::task::JoinError) -> SnapshotError {
    SnapshotError::Misuse {
        state: state.to_owned(),
        reason: format!("its reading was interrupted: {error}"),
    }
}

/// Where the blocks of a state are.
struct Source {
    state: String,
    mark: u32,
    segments: Vec<NativeSegment>,
    /// Those that are needed, by their position in the handle.
    objects: BTreeMap<u32, StoredObject>,
}

struct LoadedBlock {
    at: NativeBlock,
    stored: Bytes,
    open: OpenBlock,
    unpacked: Option<Vec<u8>>,
    /// Whether unpacking was left to the delivery.
    is_packed: bool,
}

/// A range of an object that is fetched.
struct Fetch {
    object: u32,
    bytes: Range<u64>,
}

/// Fetches, checks and unpacks the blocks of some segments.
async fn load(source: Arc<Source>, segments: Vec<usize>) -> Result<Vec<LoadedSegment>, SnapshotError> {
    let fetches = fetches(segments.iter().map(|index| &source.segments[*index]));
    let requests = fetches.iter().map(|fetch| {
        let object = source.object(fetch.object);
        async move { object.get_range(fetch.bytes.clone()).await }
    });
    let requests: Vec<_> = requests.collect();
    let pieces: Vec<Bytes> = futures::stream::iter(requests)
        .buffered(REQUESTS_IN_FLIGHT)
        .try_collect()
        .await?;
    let state = source.state.clone();
    let work = tokio::task::spawn_blocking(move || open_all(&source, &segments, &fetches, &pieces));
    work.await.unwrap_or_else(|error| Err(interrupted(&state, &error)))
}

/// The ranges that hold all blocks, neighbours joined.
fn fetches<'a>(segments: impl Iterator<Item = &'a NativeSegment>) -> Vec<Fetch> {
    let mut blocks: Vec<&NativeBlock> = segments.flat_map(|segment| &segment.blocks).collect();
    blocks.sort_unstable_by_key(|block| (block.object, block.offset));
    let mut fetches: Vec<Fetch> = Vec::new();
    for block in blocks {
        let end = block.offset + block.length;
        match fetches.last_mut() {
            Some(last) if last.object == block.object && block.offset <= last.bytes.end + GAP_BYTES => {
                last.bytes.end = last.bytes.end.max(end);
            }
            _none_or_apart => fetches.push(Fetch {
                object: block.object,
                bytes: block.offset..end,
            }),
        }
    }
    fetches
}

fn open_all(
    source: &Source,
    segments: &[usize],
    fetches: &[Fetch],
    pieces: &[Bytes],
) -> Result<Vec<LoadedSegment>, SnapshotError> {
    let mut budget = UNPACKED_BYTES;
    let mut loaded = Vec::with_capacity(segments.len());
    for &index in segments {
        let segment = &source.segments[index];
        let mut blocks = Vec::with_capacity(segment.blocks.len());
        for at in &segment.blocks {
            let stored = piece_of(source, at, fetches, pieces)?;
            let expected = Expected {
                state: source.mark,
                key_groups: segment.key_groups,
                changes: at.layer > 0,
            };
            let open = OpenBlock::open(&stored, expected).map_err(|reason| source.corrupt(at, reason))?;
            let is_packed = open.unpacked_bytes() > budget;
            let unpacked = if is_packed {
                None
            } else {
                budget -= open.unpacked_bytes();
                open.unpack(&stored).map_err(|reason| source.corrupt(at, reason))?
            };
            blocks.push(LoadedBlock {
                at: *at,
                stored,
                open,
                unpacked,
                is_packed,
            });
        }
        loaded.push(LoadedSegment {
            index,
            spans_groups: segment.key_groups.len() > 1,
            blocks,
        });
    }
    Ok(loaded)
}

/// The bytes of a block, out of those that were fetched.
fn piece_of(source: &Source, at: &NativeBlock, fetches: &[Fetch], pieces: &[Bytes]) -> Result<Bytes, SnapshotError> {
    let position = fetches.partition_point(|fetch| (fetch.object, fetch.bytes.start) <= (at.object, at.offset));
    let index = position
        .checked_sub(1)
        .expect("every block lies in one of the ranges made from the blocks");
    let (fetch, piece) = (&fetches[index], &pieces[index]);
    let start = at.offset - fetch.bytes.start;
    let end = start + at.length;
    if end > piece.len() as u64 {
        let there = (piece.len() as u64).saturating_sub(start);
        return Err(source.corrupt(at, format!("{} bytes are expected, {there} are there", at.length)));
    }
    Ok(piece.slice(start as usize..end as usize))
}

impl Source {
    fn corrupt(&self, at: &NativeBlock, reason: String) -> SnapshotError {
        SnapshotError::CorruptBlock {
            uri: self.object(at.object).uri(),
            offset: at.offset,
            reason,
        }
    }

    fn object(&self, position: u32) -> &StoredObject {
        &self.objects[&position]
    }

    /// Delivers the wanted rows of a segment by rising key group, and returns how many.
    fn deliver(
        &self,
        segment: &LoadedSegment,
        range: KeyGroupRange,
        visit: &mut RowVisitor<'_>,
    ) -> Result<u64, SnapshotError> {
        let unpacked = segment
            .blocks
            .iter()
            .map(|block| block.unpacked_late(self))
            .collect::<Result<Vec<_>, _>>()?;
        let blocks: Vec<Rows<'_>> = segment
            .blocks
            .iter()
            .zip(&unpacked)
            .map(|(b, late)| b.rows(late))
            .collect();
        let mut delivered = 0;
        let mut deliver = |group: u32, key: &[u8], value: &[u8]| {
            if range.contains(group) {
                visit(group, key, value)?;
                delivered += 1;
            }
            Ok(())
        };
        if segment.is_changed() {
            for (group, key, value) in self.latest(segment, blocks)? {
                deliver(group, key, value)?;
            }
        } else {
            for (rows, announced, at) in blocks {
                let impossible = || self.corrupt(at, IMPOSSIBLE.to_owned());
                rows.try_for_each(announced, impossible, &mut |group, key, value| {
                    value.map_or(Ok(()), |value| deliver(group, key, value))
                })?;
            }
        }
        Ok(delivered)
    }

    /// The rows of a segment as its latest layers have them, by rising key group.
    fn latest<'a>(&self, segment: &LoadedSegment, blocks: Vec<Rows<'a>>) -> Result<Vec<Row<'a>>, SnapshotError> {
        let mut latest = Vec::new();
        let mut decided: HashSet<&[u8], Xxh3DefaultBuilder> = HashSet::default();
        for (rows, announced, at) in blocks.into_iter().rev() {
            let impossible = || self.corrupt(at, IMPOSSIBLE.to_owned());
            rows.try_for_each(announced, impossible, &mut |group, key, value| {
                let is_news = if at.layer > 0 {
                    decided.insert(key)
                } else {
                    !decided.contains(key)
                };
                latest.extend(value.filter(|_| is_news).map(|value| (group, key, value)));
                Ok(())
            })?;
        }
        if segment.spans_groups {
            latest.sort_by_key(|&(group, _, _)| group);
        }
        Ok(latest)
    }
}

/// Key group, key and value.
type Row<'a> = (u32, &'a [u8], &'a [u8]);

/// The rows of a block, what they must be, and where they are stored.
type Rows<'a> = (Payload<'a>, (KeyGroupRange, u32), &'a NativeBlock);

impl LoadedSegment {
    fn is_changed(&self) -> bool {
        self.blocks.last().is_some_and(|block| block.at.layer > 0)
    }
}

impl LoadedBlock {
    fn rows<'a>(&'a self, late: &'a Option<Vec<u8>>) -> Rows<'a> {
        let unpacked = late.as_deref().or(self.unpacked.as_deref());
        let (rows, announced) = self.open.rows(&self.stored, unpacked);
        (rows, announced, &self.at)
    }

    fn unpacked_late(&self, source: &Source) -> Result<Option<Vec<u8>>, SnapshotError> {
        if !self.is_packed {
            return Ok(None);
        }
        let unpacked = self.open.unpack(&self.stored);
        unpacked.map_err(|reason| source.corrupt(&self.at, reason))
    }
}

/// The objects that are needed, each with its recorded length and of a known version.
async fn open_objects(
    handle: &KeyedStateHandle,
    needed: &[NativeSegment],
    from: ObjectSource<'_>,
) -> Result<BTreeMap<u32, StoredObject>, SnapshotError> {
    let blocks = needed.iter().flat_map(|segment| &segment.blocks);
    let used: BTreeSet<u32> = blocks.map(|block| block.object).collect();
    let opened: Vec<_> = used
        .into_iter()
        .map(|position| {
            // That there is one was checked with the segments.
            let recorded = &handle.objects[position as usize];
            async move {
                let opened = StoredObject::open(recorded, from).await;
                let opened = opened.map_err(|error| missing(error, from.folder(), &recorded.path))?;
                Ok::<_, SnapshotError>((position, opened))
            }
        })
        .collect();
    futures::stream::iter(opened)
        .buffer_unordered(REQUESTS_IN_FLIGHT)
        .try_collect()
        .await
}
