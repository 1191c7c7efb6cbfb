//! A table as it was at a barrier.

use std::ops::ControlFlow;

use streamd_core::key_group::{HashRange, KeyGroupRange, key_group_of};
use streamd_core::state::{Key, State};
use streamd_snapshot::{RowBatch, SegmentKeys, SegmentSink, SnapshotError, WrittenSegment};

use super::layers::FrozenEntries;
use crate::timed::Moments;

/// What takes rows, until it breaks off: key group, encoded key, encoded value.
pub type RowVisitor<'a> = dyn FnMut(u32, &[u8], &[u8]) -> ControlFlow<()> + 'a;

/// What takes rows by the thousand, until it breaks off. It may take memory of the batch, which is cleared afterwards.
pub type BatchVisitor<'a> = dyn FnMut(&mut RowBatch) -> ControlFlow<()> + 'a;

/// Entries whose memory is fetched at once before the first of them is encoded.
const PREFETCHED: usize = 32;

/// Rows of neighbouring shards that make up a segment where a table is written whole: a few dozen kilobytes at least.
const SEGMENT_ROWS: usize = 4096;

/// What takes every row: key group, encoded key, encoded value.
pub type EveryRowVisitor<'a> = dyn FnMut(u32, &[u8], &[u8]) + 'a;

/// The entries of a [`HeapTable`](super::HeapTable) at the moment of its freeze, to be read by another thread while the
/// table lives on. Dropping it early spares the table its copies of what is written.
#[derive(Debug)]
pub struct FrozenTable<K, V> {
    max_parallelism: u32,
    moments: Option<Moments<V>>,
    /// In order of position, each with the keys that its entries may have.
    shards: Vec<(SegmentKeys, FrozenEntries<K, V>)>,
}

impl<K: Key, V: State> FrozenTable<K, V> {
    pub(super) fn new(
        max_parallelism: u32,
        moments: Option<Moments<V>>,
        shards: Vec<(SegmentKeys, FrozenEntries<K, V>)>,
    ) -> Self {
        Self {
            max_parallelism,
            moments,
            shards,
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.shards.iter().map(|(_, entries)| entries.len() as u64).sum()
    }

    /// Calls `visit` with key group, encoded key and encoded value of every row, in order of key group.
    pub fn for_each_row(&self, visit: &mut EveryRowVisitor<'_>) {
        let _always_continued = self.try_for_each_row(&mut |group, key, value| {
            visit(group, key, value);
            ControlFlow::Continue(())
        });
    }

    /// As [`for_each_row`](Self::for_each_row), until `visit` breaks off.
    pub fn try_for_each_row(&self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        let mut row = RowBuffers::default();
        for (keys, entries) in &self.shards {
            visit_shard((keys.key_groups, self.max_parallelism), entries, &mut row, visit)?;
        }
        ControlFlow::Continue(())
    }

    /// As [`try_for_each_row`](Self::try_for_each_row), letting go of each shard as soon as it was visited: the table has to copy fewer.
    pub fn drain_rows(&mut self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        let mut row = RowBuffers::default();
        for (keys, entries) in self.shards.drain(..) {
            visit_shard((keys.key_groups, self.max_parallelism), &entries, &mut row, visit)?;
        }
        ControlFlow::Continue(())
    }

    /// As [`drain_rows`](Self::drain_rows), many at a time.
    pub fn drain_batches(&mut self, visit: &mut BatchVisitor<'_>) -> ControlFlow<()> {
        let mut batch = RowBatch::default();
        for (keys, entries) in self.shards.drain(..) {
            visit_entries(
                (keys.key_groups, self.max_parallelism),
                &entries,
                |group, (key, value)| {
                    batch.push_with(group, |row| key.encode(row), |row| value.encode(row));
                    match batch.is_full() {
                        true => hand_on(&mut batch, visit),
                        false => ControlFlow::Continue(()),
                    }
                },
            )?;
        }
        hand_on(&mut batch, visit)
    }

    /// Writes the table as segments, each of whole shards: whoever restores it can find the rows of a key. Each is let go as soon as
    /// it is written.
    pub fn write(&mut self, sink: &mut dyn SegmentSink) -> Result<(), SnapshotError> {
        let mut row = RowBuffers::default();
        let mut shards = self.shards.drain(..).peekable();
        while let Some((mut keys, entries)) = shards.next() {
            let mut rows = entries.len();
            let mut together = vec![entries];
            while rows < SEGMENT_ROWS
                && let Some((next, entries)) = shards.next_if(|(_, next)| rows + next.len() <= SEGMENT_ROWS)
            {
                keys = joined(keys, next);
                rows += entries.len();
                together.push(entries);
            }
            write_whole((keys, self.max_parallelism), (&together, self.moments), &mut row, sink)?;
        }
        Ok(())
    }
}

/// The keys of neighbouring shards.
fn joined(first: SegmentKeys, last: SegmentKeys) -> SegmentKeys {
    let hashes = first.hashes.zip(last.hashes);
    SegmentKeys {
        key_groups: KeyGroupRange {
            start: first.key_groups.start,
            end: last.key_groups.end,
        },
        hashes: hashes.map(|(first, last)| HashRange {
            start: first.start,
            end: last.end,
        }),
    }
}

/// Writes neighbouring shards as one segment.
pub(super) fn write_whole<K: Key, V: State>(
    (keys, max_parallelism): (SegmentKeys, u32),
    (shards, moments): (&[FrozenEntries<K, V>], Option<Moments<V>>),
    row: &mut RowBuffers,
    sink: &mut dyn SegmentSink,
) -> Result<WrittenSegment, SnapshotError> {
    sink.begin_segment(keys, None)?;
    let mut rows = 0;
    for entries in shards {
        rows += entries.len() as u64;
        let mut failure = None;
        let place = (keys.key_groups, max_parallelism);
        let visited = visit_shard(place, entries, row, &mut |group, key, value| {
            sink.put(group, key, value).map_or_else(
                |error| {
                    failure = Some(error);
                    ControlFlow::Break(())
                },
                ControlFlow::Continue,
            )
        });
        if let (ControlFlow::Break(()), Some(error)) = (visited, failure) {
            return Err(error);
        }
    }
    sink.end_segment(rows, earliest(moments, shards))
}

/// The earliest moments of the entries of some shards, where there is anything to be said of that.
pub(super) fn earliest<K: Key, V: State>(moments: Option<Moments<V>>, shards: &[FrozenEntries<K, V>]) -> Vec<i64> {
    let values = shards.iter().flat_map(FrozenEntries::iter).map(|(_, value)| value);
    moments.map(|moments| moments.earliest(values)).unwrap_or_default()
}

/// Hands on what is in a batch.
pub(crate) fn hand_on(batch: &mut RowBatch, visit: &mut BatchVisitor<'_>) -> ControlFlow<()> {
    if batch.is_empty() {
        return ControlFlow::Continue(());
    }
    let visited = visit(batch);
    batch.clear();
    visited
}

/// Calls `visit` with the rows of a shard, by rising key group.
pub(super) fn visit_shard<K: Key, V: State>(
    place: (KeyGroupRange, u32),
    entries: &FrozenEntries<K, V>,
    row: &mut RowBuffers,
    visit: &mut RowVisitor<'_>,
) -> ControlFlow<()> {
    visit_entries(place, entries, |group, entry| row.visit(group, entry, visit))
}

/// Calls `visit` with key group and entry, by rising key group.
fn visit_entries<'a, K: Key, V: State>(
    (key_groups, max_parallelism): (KeyGroupRange, u32),
    entries: &'a FrozenEntries<K, V>,
    mut visit: impl FnMut(u32, (&'a K, &'a V)) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if key_groups.len() == 1 {
        return prefetched(entries.iter(), |entry| *entry, |entry| visit(key_groups.start, entry));
    }
    let group = |key: &K| key_group_of(key.stable_hash(), max_parallelism);
    let mut by_group: Vec<(u32, (&K, &V))> = entries.iter().map(|entry| (group(entry.0), entry)).collect();
    by_group.sort_unstable_by_key(|&(group, _)| group);
    prefetched(
        by_group.into_iter(),
        |(_, entry)| *entry,
        |(group, entry)| visit(group, entry),
    )
}

/// Calls `visit` with each of the entries, whose memory is fetched for some dozens at once: the processor waits for it once.
fn prefetched<'a, K: Key, V: State, T>(
    mut entries: impl Iterator<Item = T>,
    entry: impl Fn(&T) -> (&'a K, &'a V),
    mut visit: impl FnMut(T) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut ahead: Vec<T> = Vec::with_capacity(PREFETCHED);
    loop {
        ahead.extend(entries.by_ref().take(PREFETCHED));
        if ahead.is_empty() {
            return ControlFlow::Continue(());
        }
        for next in &ahead {
            let (key, value) = entry(next);
            key.prefetch();
            value.prefetch();
        }
        ahead.drain(..).try_for_each(&mut visit)?;
    }
}

/// The encoding of one row at a time, in memory that the next row uses again.
#[derive(Default)]
pub(super) struct RowBuffers {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl RowBuffers {
    /// Key and value of an entry, encoded.
    pub(super) fn encode<K: State, V: State>(&mut self, (key, value): (&K, &V)) -> (&[u8], &[u8]) {
        self.key.clear();
        self.value.clear();
        key.encode(&mut self.key);
        value.encode(&mut self.value);
        (&self.key, &self.value)
    }

    fn visit<K: State, V: State>(
        &mut self,
        group: u32,
        entry: (&K, &V),
        visit: &mut RowVisitor<'_>,
    ) -> ControlFlow<()> {
        let (key, value) = self.encode(entry);
        visit(group, key, value)
    }
}
