//! A table as it was at a barrier.

use std::ops::ControlFlow;
use std::sync::Arc;

use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::state::{Key, State};

use super::shard::Entries;

/// What takes rows, until it breaks off: key group, encoded key, encoded value.
pub type RowVisitor<'a> = dyn FnMut(u32, &[u8], &[u8]) -> ControlFlow<()> + 'a;

/// What takes every row: key group, encoded key, encoded value.
pub type EveryRowVisitor<'a> = dyn FnMut(u32, &[u8], &[u8]) + 'a;

/// The entries of a [`HeapTable`](super::HeapTable) at the moment of its freeze, to be read by another thread while the
/// table lives on. Dropping it early spares the table its copies.
#[derive(Debug)]
pub struct FrozenTable<K, V> {
    max_parallelism: u32,
    /// In order of position, each with the key groups that its entries may be in.
    shards: Vec<(KeyGroupRange, Arc<Entries<K, V>>)>,
}

impl<K: Key, V: State> FrozenTable<K, V> {
    pub(super) fn new(max_parallelism: u32, shards: Vec<(KeyGroupRange, Arc<Entries<K, V>>)>) -> Self {
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
        let mut by_group = Vec::new();
        for (key_groups, entries) in &self.shards {
            if key_groups.len() == 1 {
                for entry in entries.iter() {
                    row.visit(key_groups.start, entry, visit)?;
                }
            } else {
                by_group.extend(entries.iter().map(|entry| (self.key_group(&entry.0), entry)));
                by_group.sort_unstable_by_key(|&(group, _)| group);
                for (group, entry) in by_group.drain(..) {
                    row.visit(group, entry, visit)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn key_group(&self, key: &K) -> u32 {
        key_group_of(key.stable_hash(), self.max_parallelism)
    }
}

/// The encoding of one row at a time, in memory that the next row uses again.
#[derive(Default)]
struct RowBuffers {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl RowBuffers {
    fn visit<K: State, V: State>(
        &mut self,
        group: u32,
        (key, value): &(K, V),
        visit: &mut RowVisitor<'_>,
    ) -> ControlFlow<()> {
        self.key.clear();
        self.value.clear();
        key.encode(&mut self.key);
        value.encode(&mut self.value);
        visit(group, &self.key, &self.value)
    }
}
