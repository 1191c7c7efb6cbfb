//! A table as it was at a barrier, together with what an earlier checkpoint has of it already.

use std::ops::ControlFlow;
use std::slice;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use streamd_core::id::CheckpointId;
use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::state::{Key, State, to_row};
use streamd_snapshot::{SegmentKeys, SegmentSink, SnapshotError, WrittenSegment};

use super::changes::{Basis, ShardChanges};
use super::frozen::{RowBuffers, RowVisitor, earliest, visit_shard, write_whole};
use super::layers::FrozenEntries;
use super::ledger::{Ledger, Written};
use crate::timed::Moments;

/// A shard of which more than one in this many rows have changed is written whole.
const CHANGED_SHARE: usize = 4;

/// Changes may take this part of the bytes of the rows that they lie upon: one in so many.
const CHANGE_BYTES_SHARE: u64 = 2;

/// Layers of changes that lie upon each other, at least; up to [`LAYERS_SPREAD`] more, by shard: else all shards of a state that
/// changes evenly would be written whole by the same checkpoint.
const MAX_LAYERS: u32 = 24;
/// See [`MAX_LAYERS`].
const LAYERS_SPREAD: u32 = 16;

/// The entries of a [`HeapTable`](super::HeapTable) at a barrier: those of shards that have changed since the checkpoint that this one
/// builds upon. The others are not even kept from being written to.
#[derive(Debug)]
pub struct FrozenIncrement<K, V> {
    pub(super) checkpoint: CheckpointId,
    pub(super) place: String,
    pub(super) max_parallelism: u32,
    pub(super) moments: Option<Moments<V>>,
    /// In order of position.
    pub(super) shards: Vec<FrozenShard<K, V>>,
    pub(super) basis: Basis<K>,
    pub(super) ledger: Ledger,
    pub(super) rows: u64,
}

/// A shard that is not empty.
#[derive(Debug)]
pub(super) struct FrozenShard<K, V> {
    pub(super) number: usize,
    pub(super) keys: SegmentKeys,
    /// Nothing where the earlier checkpoint has it as it is.
    pub(super) entries: Option<FrozenEntries<K, V>>,
}

/// What of a shard is to be written upon its segment.
struct Changed<'a, K, V> {
    rows: Vec<(u32, (&'a K, &'a V))>,
    /// Encoded.
    removed: Vec<(u32, Vec<u8>)>,
}

impl<K: Key, V: State> FrozenIncrement<K, V> {
    /// The number of rows of the table.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Calls `visit` with the rows of the changed shards: everything, where the checkpoint builds upon no other.
    pub fn try_for_each_row(&self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        let mut row = RowBuffers::default();
        for shard in &self.shards {
            if let Some(entries) = &shard.entries {
                visit_shard((shard.keys.key_groups, self.max_parallelism), entries, &mut row, visit)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Writes what the earlier checkpoint does not have, shard by shard; each is let go as soon as it is written.
    pub fn write(&mut self, sink: &mut dyn SegmentSink) -> Result<(), SnapshotError> {
        let mut row = RowBuffers::default();
        let shards = std::mem::take(&mut self.shards);
        let count = shards.iter().map(|shard| shard.number + 1).max().unwrap_or(0);
        let mut segments: Vec<Option<WrittenSegment>> = vec![None; count];
        for shard in shards {
            let number = shard.number;
            segments[number] = Some(self.write_shard(shard, &mut row, sink)?);
        }
        let place = std::mem::take(&mut self.place);
        let written = Written::new(place, segments, self.basis.written.as_deref());
        self.ledger.record(self.checkpoint, written);
        Ok(())
    }

    fn write_shard(
        &self,
        shard: FrozenShard<K, V>,
        row: &mut RowBuffers,
        sink: &mut dyn SegmentSink,
    ) -> Result<WrittenSegment, SnapshotError> {
        let base = self
            .basis
            .written
            .as_ref()
            .and_then(|written| written.segment(shard.number));
        match (shard.entries, base) {
            (None, Some(segment)) => {
                sink.refer(segment)?;
                Ok(segment.clone())
            }
            (None, None) => Err(SnapshotError::Misuse {
                state: String::new(),
                reason: "a shard without changes is in no earlier checkpoint".to_owned(),
            }),
            (Some(entries), base) => {
                let upon = base.filter(|base| base.keys() == shard.keys && sink.reaches(base));
                match upon
                    .and_then(|upon| Some((upon, self.changed(shard.number, shard.keys.key_groups, &entries, upon)?)))
                {
                    Some((upon, changed)) => write_changes((upon, &entries, self.moments), &changed, row, sink),
                    None => {
                        let place = (shard.keys, self.max_parallelism);
                        write_whole(place, (&[entries], self.moments), row, sink)
                    }
                }
            }
        }
    }

    /// What has changed in a shard upon its segment; nothing where it is better written whole.
    fn changed<'a>(
        &self,
        number: usize,
        key_groups: KeyGroupRange,
        entries: &'a FrozenEntries<K, V>,
        upon: &WrittenSegment,
    ) -> Option<Changed<'a, K, V>> {
        if self
            .basis
            .written
            .as_ref()
            .is_some_and(|written| written.is_outdated(number))
        {
            return None;
        }
        // The remainder is smaller than the spread, which is small.
        if upon.layers() >= MAX_LAYERS + (number % LAYERS_SPREAD as usize) as u32 {
            return None;
        }
        let (mut buckets, mut keys): (Vec<u64>, Vec<&K>) = (Vec::new(), Vec::new());
        for changes in self.basis.changes.iter().filter_map(|changes| changes.get(number)) {
            match changes {
                ShardChanges::Nothing => {}
                ShardChanges::All => return None,
                ShardChanges::Rows(rows) => {
                    buckets.resize(buckets.len().max(rows.buckets.len()), 0);
                    buckets
                        .iter_mut()
                        .zip(&rows.buckets)
                        .for_each(|(all, these)| *all |= these);
                    keys.extend(&rows.keys);
                }
            }
        }
        let marked: u32 = buckets.iter().map(|word| word.count_ones()).sum();
        let count = marked as usize + keys.len();
        if count * CHANGED_SHARE > entries.len() {
            return None;
        }
        let whole = upon.whole_bytes();
        let expected = whole / upon.rows().max(1) * count as u64;
        if (upon.change_bytes() + expected) * CHANGE_BYTES_SHARE > whole {
            return None;
        }
        Some(self.resolve(key_groups, entries, &buckets, &keys))
    }

    fn resolve<'a>(
        &self,
        key_groups: KeyGroupRange,
        entries: &'a FrozenEntries<K, V>,
        buckets: &[u64],
        keys: &[&K],
    ) -> Changed<'a, K, V> {
        let group = |key: &K| match key_groups.len() {
            1 => key_groups.start,
            _several => key_group_of(key.stable_hash(), self.max_parallelism),
        };
        let (mut rows, mut removed) = (Vec::new(), Vec::new());
        for (index, word) in buckets.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                let bucket = index * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                // Whoever was in the bucket may have been removed since.
                match entries.in_bucket(bucket) {
                    Some((key, Some(value))) => rows.push((group(key), (key, value))),
                    Some((key, None)) => removed.push((group(key), to_row(key))),
                    None => {}
                }
            }
        }
        let is_marked = |bucket: usize| {
            buckets
                .get(bucket / 64)
                .is_some_and(|word| word & (1 << (bucket % 64)) != 0)
        };
        let mut seen: HashTable<&K> = HashTable::with_capacity(keys.len());
        for &key in keys {
            let hash = key.stable_hash();
            let Entry::Vacant(first) = seen.entry(hash, |known| **known == *key, |known| known.stable_hash()) else {
                continue;
            };
            first.insert(key);
            // What is removed may have come again since, into a bucket of its own.
            if entries.bucket_of(hash, key).is_some_and(is_marked) {
                continue;
            }
            match entries.get(hash, key) {
                Some(entry) => rows.push((group(key), entry)),
                None => removed.push((group(key), to_row(key))),
            }
        }
        rows.sort_by_key(|&(group, _)| group);
        removed.sort_unstable();
        Changed { rows, removed }
    }
}

fn write_changes<K: Key, V: State>(
    (upon, entries, moments): (&WrittenSegment, &FrozenEntries<K, V>, Option<Moments<V>>),
    changed: &Changed<'_, K, V>,
    row: &mut RowBuffers,
    sink: &mut dyn SegmentSink,
) -> Result<WrittenSegment, SnapshotError> {
    if changed.rows.is_empty() && changed.removed.is_empty() {
        sink.refer(upon)?;
        return Ok(upon.clone());
    }
    sink.begin_segment(upon.keys(), Some(upon))?;
    for (group, entry) in &changed.rows {
        let (key, value) = row.encode(*entry);
        sink.put(*group, key, value)?;
    }
    for (group, key) in &changed.removed {
        sink.remove(*group, key)?;
    }
    sink.end_segment(entries.len() as u64, earliest(moments, slice::from_ref(entries)))
}
