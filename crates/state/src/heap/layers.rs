//! Entries that a snapshot reads, and the few that are written meanwhile: a write copies its own entry and no other.
//!
//! ```text
//!   written        entries written since the last freeze               the table's alone
//!   frozen.upper   entries written before it, upon a base frozen       shared with the snapshots that were
//!   frozen.base    by an earlier snapshot that still reads             taken since
//! ```
//!
//! Once no snapshot holds the base, the next write gives it back to the table, and what lies upon it is written into it. Where many of
//! the entries of a shard are written before that, and own no memory of their own, the rest of it is copied as well: in one piece that
//! takes some ten microseconds, and writing in place costs a third. Entries that do own memory are as dear together as one by one.

use std::mem;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use streamd_core::state::{Key, State};
use streamd_prefetch::prefetch;

use super::prefetch::{Tags, likely};
use super::shard::{Entries, shard_hash};

/// A shard is copied whole when one in so many of its entries was written, at most; at least one in [`LEAST_SHARE`]. Different shards
/// have different shares: else all would be copied at once where all are written equally, and hold a record up together.
const MOST_SHARE: usize = 4;
/// See [`MOST_SHARE`].
const LEAST_SHARE: usize = 16;

/// A key that was written upon other entries.
#[derive(Debug, Clone)]
struct Change<K, V> {
    key: K,
    /// Without one the key was removed.
    value: Option<V>,
    /// Where the base has the key, if it does.
    bucket: Option<u32>,
}

/// Keys that were written upon other entries.
type Overlay<K, V> = HashTable<Change<K, V>>;

fn rehash_change<K: Key, V>(change: &Change<K, V>) -> u64 {
    shard_hash(change.key.stable_hash())
}

fn find_change<'a, K: Key, V>(overlay: &'a Overlay<K, V>, hash: u64, key: &K) -> Option<&'a Change<K, V>> {
    overlay.find(shard_hash(hash), |change| change.key == *key)
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
        match self.change(hash, key) {
            Some(change) => Some((&change.key, change.value.as_ref()?)),
            None => {
                let (key, value) = self.base.find(shard_hash(hash), |entry| entry.0 == *key)?;
                Some((key, value))
            }
        }
    }

    /// What lies upon the base of a key.
    fn change(&self, hash: u64, key: &K) -> Option<&Change<K, V>> {
        find_change(self.upper.as_ref()?, hash, key)
    }

    /// A copy of what a key has, to be changed.
    fn copy(&self, hash: u64, key: &K) -> Option<Change<K, V>> {
        if let Some(change) = self.change(hash, key) {
            return Some(change.clone());
        }
        let bucket = self.bucket_of(hash, key)?;
        let (key, value) = self.base.get_bucket(bucket)?;
        Some(Change {
            key: key.clone(),
            value: Some(value.clone()),
            bucket: u32::try_from(bucket).ok(),
        })
    }

    /// Every entry.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let is_current = |entry: &&(K, V)| {
            // Without anything upon the base, nothing is hashed for it.
            self.upper.is_none() || self.change(entry.0.stable_hash(), &entry.0).is_none()
        };
        let base = self.base.iter().filter(is_current).map(|(key, value)| (key, value));
        let upper = self.upper.iter().flat_map(|upper| upper.iter());
        base.chain(upper.filter_map(|change| Some((&change.key, change.value.as_ref()?))))
    }

    /// The key in a bucket of the base, with the value that it has.
    pub(crate) fn in_bucket(&self, bucket: usize) -> Option<(&K, Option<&V>)> {
        let (key, value) = self.base.get_bucket(bucket)?;
        match &self.upper {
            None => Some((key, Some(value))),
            Some(upper) => match find_change(upper, key.stable_hash(), key) {
                Some(change) => Some((key, change.value.as_ref())),
                None => Some((key, Some(value))),
            },
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
        match find_change(&self.written, hash, key) {
            Some(change) => change.value.as_ref(),
            None => self.frozen.get(hash, key).map(|(_, value)| value),
        }
    }

    /// Asks for what most likely is the key's, and returns it if it is an entry of the base.
    pub(super) fn prefetch(&self, hash: u64) -> Option<&(K, V)> {
        if let Some(change) = self.likely_change(hash) {
            prefetch(change);
            return None;
        }
        likely(&self.frozen.base, hash).inspect(|entry| prefetch(*entry))
    }

    /// What most likely is the key's.
    pub(super) fn likely(&self, hash: u64) -> Option<(&K, Option<&V>)> {
        match self.likely_change(hash) {
            Some(change) => Some((&change.key, change.value.as_ref())),
            None => likely(&self.frozen.base, hash).map(|(key, value)| (key, Some(value))),
        }
    }

    fn likely_change(&self, hash: u64) -> Option<&Change<K, V>> {
        likely(&self.written, hash).or_else(|| likely(self.frozen.upper.as_ref()?, hash))
    }

    /// Where the tags of the base are.
    pub(super) fn tags(&self) -> Tags {
        Tags::of(&self.frozen.base)
    }

    /// The value of a key, to change: a copy of the frozen one. `first` is called if it is the first since the last freeze, with the
    /// bucket that the base has the key in.
    pub(crate) fn get_mut(&mut self, hash: u64, key: &K, first: impl FnOnce(Option<usize>)) -> Option<&mut V> {
        let is_key = |change: &Change<K, V>| change.key == *key;
        let change = match self.written.entry(shard_hash(hash), is_key, rehash_change) {
            Entry::Occupied(present) => present,
            Entry::Vacant(absent) => {
                let copy = self.frozen.copy(hash, key).filter(|change| change.value.is_some())?;
                first(copy.bucket.map(|bucket| bucket as usize));
                absent.insert(copy)
            }
        };
        change.into_mut().value.as_mut()
    }

    /// The value of a key, which becomes `default()` if there is none. `first` as for [`get_mut`](Self::get_mut).
    pub(crate) fn get_or_insert_with(
        &mut self,
        hash: u64,
        key: &K,
        default: impl FnOnce() -> V,
        first: impl FnOnce(Option<usize>),
    ) -> &mut V {
        let is_key = |change: &Change<K, V>| change.key == *key;
        let change = match self.written.entry(shard_hash(hash), is_key, rehash_change) {
            Entry::Occupied(present) => present,
            Entry::Vacant(absent) => {
                let copy = self.frozen.copy(hash, key).unwrap_or_else(|| Change {
                    key: key.clone(),
                    value: None,
                    bucket: None,
                });
                first(copy.bucket.map(|bucket| bucket as usize));
                absent.insert(copy)
            }
        };
        let value = &mut change.into_mut().value;
        self.rows += usize::from(value.is_none());
        value.get_or_insert_with(default)
    }

    /// Forgets a key and returns the value it had.
    pub(crate) fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        // The key is told as removed, whether it was written before or not.
        self.get_mut(hash, key, |_| {})?;
        let change = self.written.find_mut(shard_hash(hash), |change| change.key == *key)?;
        self.rows -= 1;
        change.value.take()
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

    /// Whether no snapshot holds the base any more.
    pub(crate) fn is_released(&self) -> bool {
        // Only this table makes new pointers to it, so one alone stays alone.
        Arc::strong_count(&self.frozen.base) == 1
    }

    /// Whether so many of the entries of the shard of this number were written that the others may be copied too.
    pub(crate) fn is_worth_copying(&self, number: usize) -> bool {
        if mem::needs_drop::<(K, V)>() {
            return false;
        }
        let share = MOST_SHARE + number % (LEAST_SHARE - MOST_SHARE + 1);
        self.written.len() * share >= self.rows
    }

    /// The base with what was written upon its keys, and the keys that are new. Copies whatever is still held;
    /// entries stay in their buckets.
    pub(crate) fn into_parts(self) -> (Entries<K, V>, Vec<(K, V)>) {
        let FrozenEntries { base, upper, .. } = self.frozen;
        let changes = match upper {
            None => self.written,
            Some(upper) => put_upon(Arc::unwrap_or_clone(upper), self.written),
        };
        let (mut entries, mut new) = (Arc::unwrap_or_clone(base), Vec::new());
        for Change { key, value, bucket } in changes {
            // No entry moves while others are replaced and removed.
            let present = bucket.and_then(|bucket| entries.get_bucket_entry(bucket as usize).ok());
            match (present, value) {
                (Some(mut present), Some(value)) => present.get_mut().1 = value,
                (Some(present), None) => drop(present.remove()),
                (None, Some(value)) => new.push((key, value)),
                (None, None) => {}
            }
        }
        (entries, new)
    }

    /// Calls `visit` with every entry.
    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(&K, &V)) {
        let is_current = |key: &K| find_change(&self.written, key.stable_hash(), key).is_none();
        let frozen = self.frozen.iter().filter(|(key, _)| is_current(key));
        frozen.for_each(|(key, value)| visit(key, value));
        for change in &self.written {
            if let Some(value) = &change.value {
                visit(&change.key, value);
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
        match earlier.entry(rehash_change(&change), |known| known.key == change.key, rehash_change) {
            Entry::Occupied(mut present) => *present.get_mut() = change,
            Entry::Vacant(absent) => {
                absent.insert(change);
            }
        }
    }
    earlier
}
