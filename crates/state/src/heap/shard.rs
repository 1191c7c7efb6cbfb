//! A shard: a few thousand entries that are frozen together, and what is written meanwhile.

use std::mem;

use hashbrown::HashTable;
use streamd_core::state::{Key, State};
use streamd_prefetch::prefetch;

use super::layers::{FrozenEntries, Layers};
use super::prefetch::{Tags, likely};

/// The entries of a shard.
pub(crate) type Entries<K, V> = HashTable<(K, V)>;

/// The entries of a part of the positions of a table.
///
/// A shard that no snapshot holds is `Owned`, so that the hot path touches no reference count.
#[derive(Debug)]
pub(crate) enum Shard<K, V> {
    /// Written in place.
    Owned(Entries<K, V>),
    /// A snapshot reads it, or has read it: what is written lies upon what is frozen.
    Frozen(Box<Layers<K, V>>),
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
    /// Whether keys or values have memory beside the entries.
    pub(super) const OWNS_MEMORY: bool = K::OWNS_MEMORY || V::OWNS_MEMORY;

    /// A shard without entries, which takes no memory of its own.
    pub(crate) const fn new() -> Self {
        Self::Owned(HashTable::new())
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Owned(entries) => entries.len(),
            Self::Frozen(layers) => layers.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, hash: u64, key: &K) -> Option<&V> {
        match self {
            Self::Owned(entries) => {
                let entry = entries.find(shard_hash(hash), |entry| entry.0 == *key);
                entry.map(|entry| &entry.1)
            }
            Self::Frozen(layers) => layers.get(hash, key),
        }
    }

    /// Asks for the entry that most likely is the key's, and returns it if it is one of the table of the shard.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) -> Option<&(K, V)> {
        match self {
            Self::Owned(entries) => likely(entries, hash).inspect(|entry| prefetch(*entry)),
            Self::Frozen(layers) => layers.prefetch(hash),
        }
    }

    /// Asks for what that entry owns.
    #[inline]
    pub(super) fn prefetch_owned(&self, hash: u64) {
        let likely = match self {
            Self::Owned(entries) => likely(entries, hash).map(|(key, value)| (key, Some(value))),
            Self::Frozen(layers) => layers.likely(hash),
        };
        if let Some((key, value)) = likely {
            key.prefetch();
            value.into_iter().for_each(V::prefetch);
        }
    }

    /// Where the tags of its table are.
    pub(super) fn tags(&self) -> Tags {
        match self {
            Self::Owned(entries) => Tags::of(entries),
            Self::Frozen(layers) => layers.tags(),
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

    /// Takes the shard of this number back if no snapshot holds it any more, or copying it is worth while. The keys that are new since
    /// it was frozen are returned, and missing in the shard then.
    pub(crate) fn take_back(&mut self, number: usize) -> Vec<(K, V)> {
        match self {
            Self::Frozen(layers) if layers.is_released() || layers.is_worth_copying(number) => {}
            Self::Frozen(_) | Self::Owned(_) => return Vec::new(),
        }
        let Self::Frozen(layers) = mem::replace(self, Self::new()) else {
            unreachable!("it was frozen above")
        };
        let (entries, new) = layers.into_parts();
        *self = Self::Owned(entries);
        new
    }

    /// The entries for a snapshot to read. From now on, what is written lies upon them.
    pub(crate) fn freeze(&mut self) -> FrozenEntries<K, V> {
        match self {
            Self::Owned(entries) => {
                let mut layers = Layers::new(mem::take(entries));
                let frozen = layers.freeze();
                *self = Self::Frozen(Box::new(layers));
                frozen
            }
            Self::Frozen(layers) => layers.freeze(),
        }
    }

    /// Calls `visit` with every entry.
    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(&K, &V)) {
        match self {
            Self::Owned(entries) => entries.iter().for_each(|(key, value)| visit(key, value)),
            Self::Frozen(layers) => layers.for_each(visit),
        }
    }
}
