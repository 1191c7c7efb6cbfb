//! Entries that a snapshot reads, and the few that are written meanwhile: a write copies its own entry and no other.
//!
//! ```text
//!   written        entries written since the last freeze               the table's alone
//!   frozen.upper   entries written before it, upon a base frozen       shared with the snapshots that were
//!   frozen.base    by an earlier snapshot that still reads             taken since
//! ```
//!
//! Once no snapshot holds the base, the next write gives it back to the table, and what lies upon it is written into it.

use std::mem;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use streamd_core::state::{Key, State};

use super::shard::{Entries, shard_hash};

/// A key that was written, with its value; without one it was removed.
pub(crate) type Change<K, V> = (K, Option<V>);

/// Keys that were written upon other entries.
type Overlay<K, V> = HashTable<Change<K, V>>;

fn rehash_change<K: Key, V>(change: &Change<K, V>) -> u64 {
    shard_hash(change.0.stable_hash())
}

/// The entries of a shard at the time of a freeze.
#[derive(Debug)]
pub(crate) struct FrozenEntries<K, V> {
    base: Arc<Entries<K, V>>,
    /// What had been written upon it while an earlier snapshot held it.
    upper: Option<Arc<Overlay<K, V>>>,
    rows: usize,
}

// By hand: a derive would ask for `K: Clone, V: Clone`.
impl<K, V> Clone for FrozenEntries<K, V> {
    fn clone(&self) -> Self {
        Self {
            base: Arc::clone(&self.base),
            upper: self.upper.clone(),
            rows: self.rows,
        }
    }
}

impl<K: Key, V: State> FrozenEntries<K, V> {
    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// The entry of a key.
    pub(crate) fn get(&self, hash: u64, key: &K) -> Option<(&K, &V)> {
        let upper = self.upper.as_ref();
        match upper.and_then(|upper| upper.find(shard_hash(hash), |change| change.0 == *key)) {
            Some((key, value)) => Some((key, value.as_ref()?)),
            None => {
                let (key, value) = self.base.find(shard_hash(hash), |entry| entry.0 == *key)?;
                Some((key, value))
            }
        }
    }

    /// Every entry.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let upper = self.upper.as_deref();
        let is_current = move |entry: &&(K, V)| {
            upper.is_none_or(|upper| {
                let hash = shard_hash(entry.0.stable_hash());
                upper.find(hash, |change| change.0 == entry.0).is_none()
            })
        };
        let base = self.base.iter().filter(is_current).map(|(key, value)| (key, value));
        let upper = self.upper.iter().flat_map(|upper| upper.iter());
        base.chain(upper.filter_map(|(key, value)| Some((key, value.as_ref()?))))
    }

    /// The key in a bucket of the base, with the value that it has.
    pub(crate) fn in_bucket(&self, bucket: usize) -> Option<(&K, Option<&V>)> {
        let (key, value) = self.base.get_bucket(bucket)?;
        let change = self.upper.as_ref().and_then(|upper| {
            let hash = shard_hash(key.stable_hash());
            upper.find(hash, |change| change.0 == *key)
        });
        match change {
            Some((_, value)) => Some((key, value.as_ref())),
            None => Some((key, Some(value))),
        }
    }

    /// The bucket of the base that a key is in, if it is.
    pub(crate) fn bucket_of(&self, hash: u64, key: &K) -> Option<usize> {
        self.base.find_bucket_index(shard_hash(hash), |entry| entry.0 == *key)
    }
}

/// Frozen entries, and what was written since.
#[derive(Debug)]
pub(crate) struct Layers<K, V> {
    frozen: FrozenEntries<K, V>,
    written: Overlay<K, V>,
    rows: usize,
}

impl<K: Key, V: State> Layers<K, V> {
    pub(crate) fn new(entries: Entries<K, V>) -> Self {
        let rows = entries.len();
        Self {
            frozen: FrozenEntries {
                base: Arc::new(entries),
                upper: None,
                rows,
            },
            written: HashTable::new(),
            rows,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    pub(crate) fn get(&self, hash: u64, key: &K) -> Option<&V> {
        match self.written.find(shard_hash(hash), |change| change.0 == *key) {
            Some((_, value)) => value.as_ref(),
            None => self.frozen.get(hash, key).map(|(_, value)| value),
        }
    }

    /// The value of a key, to change: a copy of the frozen one.
    pub(crate) fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        self.get(hash, key)?;
        self.writable(hash, key).as_mut()
    }

    /// The value of a key, which becomes `default()` if there is none.
    pub(crate) fn get_or_insert_with(&mut self, hash: u64, key: &K, default: impl FnOnce() -> V) -> &mut V {
        self.rows += usize::from(self.get(hash, key).is_none());
        self.writable(hash, key).get_or_insert_with(default)
    }

    /// Sets the value of a key and returns the one it had.
    pub(crate) fn insert(&mut self, hash: u64, key: &K, value: V) -> Option<V> {
        let before = self.writable(hash, key).replace(value);
        self.rows += usize::from(before.is_none());
        before
    }

    /// Forgets a key and returns the value it had.
    pub(crate) fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        self.get(hash, key)?;
        self.rows -= 1;
        self.writable(hash, key).take()
    }

    /// The value of a key among those that were written: if it was not written yet, with a copy of what it has.
    fn writable(&mut self, hash: u64, key: &K) -> &mut Option<V> {
        let is_key = |change: &Change<K, V>| change.0 == *key;
        let change = match self.written.entry(shard_hash(hash), is_key, rehash_change) {
            Entry::Occupied(present) => present,
            Entry::Vacant(absent) => {
                let value = self.frozen.get(hash, key).map(|(_, value)| value.clone());
                absent.insert((key.clone(), value))
            }
        };
        &mut change.into_mut().1
    }

    /// The entries for one more snapshot. What was written since the last one is frozen too.
    pub(crate) fn freeze(&mut self) -> FrozenEntries<K, V> {
        let written = mem::take(&mut self.written);
        if !written.is_empty() {
            let upper = match self.frozen.upper.take() {
                None => written,
                // Still read only where three snapshots overlap; else nothing is copied.
                Some(upper) => put_upon(Arc::unwrap_or_clone(upper), written),
            };
            self.frozen.upper = Some(Arc::new(upper));
        }
        self.frozen.rows = self.rows;
        self.frozen.clone()
    }

    /// How many buckets the base has.
    #[cfg(test)]
    pub(crate) fn buckets(&self) -> usize {
        self.frozen.base.num_buckets()
    }

    /// Whether a key was written since the last freeze.
    pub(crate) fn is_written(&self, hash: u64, key: &K) -> bool {
        self.written.find(shard_hash(hash), |change| change.0 == *key).is_some()
    }

    /// The bucket of the base that a key is in, if it is.
    pub(crate) fn bucket_of(&self, hash: u64, key: &K) -> Option<usize> {
        self.frozen.bucket_of(hash, key)
    }

    /// Whether no snapshot holds the base any more.
    pub(crate) fn is_released(&self) -> bool {
        // Only this table makes new pointers to it, so one alone stays alone.
        Arc::strong_count(&self.frozen.base) == 1
    }

    /// The base and what is to be written into it. Copies whatever is still held: call it when it [is released](Self::is_released).
    pub(crate) fn into_parts(self) -> (Entries<K, V>, Vec<Change<K, V>>) {
        let FrozenEntries { base, upper, .. } = self.frozen;
        let changes = match upper {
            None => self.written,
            Some(upper) => put_upon(Arc::unwrap_or_clone(upper), self.written),
        };
        (Arc::unwrap_or_clone(base), changes.into_iter().collect())
    }

    /// Calls `visit` with every entry.
    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(&K, &V)) {
        let is_current = |key: &K| {
            let hash = shard_hash(key.stable_hash());
            self.written.find(hash, |change| change.0 == *key).is_none()
        };
        let frozen = self.frozen.iter().filter(|(key, _)| is_current(key));
        frozen.for_each(|(key, value)| visit(key, value));
        for (key, value) in &self.written {
            if let Some(value) = value {
                visit(key, value);
            }
        }
    }
}

/// Changes upon earlier ones: the later replace the earlier.
fn put_upon<K: Key, V: State>(mut earlier: Overlay<K, V>, later: Overlay<K, V>) -> Overlay<K, V> {
    if earlier.is_empty() {
        return later;
    }
    for change in later {
        match earlier.entry(rehash_change(&change), |known| known.0 == change.0, rehash_change) {
            Entry::Occupied(mut present) => *present.get_mut() = change,
            Entry::Vacant(absent) => {
                absent.insert(change);
            }
        }
    }
    earlier
}
