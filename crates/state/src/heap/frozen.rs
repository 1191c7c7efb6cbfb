//! A table as it was at a barrier.

use std::ops::ControlFlow;

use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::state::{Key, State};

use super::layers::FrozenEntries;

/// What takes rows, until it breaks off: key group, encoded key, encoded value.
pub type RowVisitor<'a> = dyn FnMut(u32, &[u8], &[u8]) -> ControlFlow<()> + 'a;

/// What takes every row: key group, encoded key, encoded value.
pub type EveryRowVisitor<'a> = dyn FnMut(u32, &[u8], &[u8]) + 'a;

/// The entries of a [`HeapTable`](super::HeapTable) at the moment of its freeze, to be read by another thread while the
/// table lives on. Dropping it early spares the table its copies of what is written.
#[derive(Debug)]
pub struct FrozenTable<K, V> {
    max_parallelism: u32,
    /// In order of position, each with the key groups that its entries may be in.
    shards: Vec<(KeyGroupRange, FrozenEntries<K, V>)>,
}

impl<K: Key, V: State> FrozenTable<K, V> {
    pub(super) fn new(max_parallelism: u32, shards: Vec<(KeyGroupRange, FrozenEntries<K, V>)>) -> Self {
        Self {
            max_parallelism,
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
        for (key_groups, entries) in &self.shards {
            visit_shard((*key_groups, self.max_parallelism), entries, &mut row, visit)?;
        }
        ControlFlow::Continue(())
    }

    /// As [`try_for_each_row`](Self::try_for_each_row), letting go of each shard as soon as it was visited: the table has to copy fewer.
    pub fn drain_rows(&mut self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        let mut row = RowBuffers::default();
        for (key_groups, entries) in self.shards.drain(..) {
            visit_shard((key_groups, self.max_parallelism), &entries, &mut row, visit)?;
        }
        ControlFlow::Continue(())
    }
}

/// Calls `visit` with the rows of a shard, by rising key group.
pub(super) fn visit_shard<K: Key, V: State>(
    (key_groups, max_parallelism): (KeyGroupRange, u32),
    entries: &FrozenEntries<K, V>,
    row: &mut RowBuffers,
    visit: &mut RowVisitor<'_>,
) -> ControlFlow<()> {
    if key_groups.len() == 1 {
        for entry in entries.iter() {
            row.visit(key_groups.start, entry, visit)?;
        }
    } else {
        let group = |key: &K| key_group_of(key.stable_hash(), max_parallelism);
        let mut by_group: Vec<(u32, (&K, &V))> = entries.iter().map(|entry| (group(entry.0), entry)).collect();
        by_group.sort_unstable_by_key(|&(group, _)| group);
        for (group, entry) in by_group {
            row.visit(group, entry, visit)?;
        }
    }
    ControlFlow::Continue(())
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
