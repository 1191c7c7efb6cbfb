//! A shard: a few thousand entries that are frozen, and copied on write, together.

use std::mem;
use std::sync::Arc;

use hashbrown::HashTable;
use streamd_core::state::{Key, State};

/// The entries of a shard.
pub(crate) type Entries<K, V> = HashTable<(K, V)>;

/// The entries of a part of the positions of a table.
///
/// A shard that no snapshot holds is `Owned`, so that the hot path touches no reference count.
#[derive(Debug)]
pub(crate) enum Shard<K, V> {
    /// Written in place.
    Owned(Entries<K, V>),
    /// A snapshot reads it, or has read it: a write has to take it back first.
    Frozen(Arc<Entries<K, V>>),
}

/// What hashbrown is given as the hash within a shard: the low half of the key's hash in both halves. (The high half has
/// chosen the shard and is nearly constant within it, but hashbrown takes a tag of 7 bits from the top.)
#[inline]
pub(crate) fn shard_hash(hash: u64) -> u64 {
    u64::from(hash as u32) * 0x1_0000_0001
}

/// [`shard_hash`] of an entry, for when a shard is rearranged.
#[inline]
pub(crate) fn rehash<K: Key, V>(entry: &(K, V)) -> u64 {
    shard_hash(entry.0.stable_hash())
}

impl<K: Key, V: State> Shard<K, V> {
    /// A shard without entries, which takes no memory of its own.
    pub(crate) const fn new() -> Self {
        Self::Owned(HashTable::new())
    }

    /// The entries, to read.
    #[inline]
    pub(crate) fn entries(&self) -> &Entries<K, V> {
        match self {
            Self::Owned(entries) => entries,
            Self::Frozen(entries) => entries,
        }
    }

    /// Whether an entry can be inserted at once: the shard is neither frozen nor full.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        match self {
            Self::Owned(entries) => entries.len() < entries.capacity(),
            Self::Frozen(_) => false,
        }
    }

    /// The entries, to write: taken back from the snapshot if it has let go, else copied.
    #[inline]
    pub(crate) fn entries_mut(&mut self) -> &mut Entries<K, V> {
        if let Self::Frozen(_) = self {
            self.thaw();
        }
        match self {
            Self::Owned(entries) => entries,
            Self::Frozen(_) => unreachable!("the shard was taken back above"),
        }
    }

    #[cold]
    #[inline(never)]
    fn thaw(&mut self) {
        if let Self::Frozen(entries) = mem::replace(self, Self::new()) {
            *self = Self::Owned(Arc::unwrap_or_clone(entries));
        }
    }

    /// The entries for a snapshot to read. From now on, a write first takes them back.
    pub(crate) fn freeze(&mut self) -> Arc<Entries<K, V>> {
        let entries = match mem::replace(self, Self::new()) {
            Self::Owned(entries) => Arc::new(entries),
            Self::Frozen(entries) => entries,
        };
        *self = Self::Frozen(Arc::clone(&entries));
        entries
    }
}
