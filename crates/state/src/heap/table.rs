//! The table of one state: the hottest data structure of streamd.

use std::mem;

use hashbrown::HashTable;
use hashbrown::hash_table::{AbsentEntry, OccupiedEntry};
use streamd_core::id::CheckpointId;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::state::{Key, State};

use super::changes::{ShardChanges, Tracking};
use super::directory::Directory;
use super::frozen::FrozenTable;
use super::increment::{FrozenIncrement, FrozenShard};
use super::prefetch::Ahead;
use super::shard::{Entries, Shard, rehash, shard_hash};
use crate::huge_pages;
use crate::timed::Moments;

/// The largest number of buckets of a shard. With entries of 16 bytes, cutting a shard in two takes some 40 µs
/// (measured): what a write may have to wait for while the table grows.
const MAX_SHARD_BUCKETS: usize = 4096;

/// The smallest, whatever the size of the entries.
const MIN_SHARD_BUCKETS: usize = 256;

/// The bytes that a shard should not exceed, between those two.
const SHARD_BYTES: usize = 256 * 1024;

/// Values by key, for the keys of a range of key groups.
///
/// Every method takes the key's [`stable_hash`](State::stable_hash), which the caller has already computed to route the
/// record. A lookup reads the directory (4 bytes a shard), a shard's header (32 bytes) and then, as in any Swiss table, a
/// group of tags and the entry. A full shard is split in two, so that no insertion moves more than one shard.
///
/// While a snapshot holds a shard, a write copies the entry that it changes, and puts it beside; where a part of the shard was written
/// so, the rest is copied at once. Reads copy nothing. Memory given
/// to shards is kept when entries are removed, until a shard is empty at the time of a freeze.
///
/// # Panics
/// The writing methods panic on a key outside the range: it must not be lost in silence.
#[derive(Debug)]
pub struct HeapTable<K, V> {
    directory: Directory,
    shards: Vec<Shard<K, V>>,
    ahead: Ahead,
    /// How many entries a shard makes room for when it receives its first.
    first_room: usize,
    /// What changes, while checkpoints are incremental.
    tracking: Option<Box<Tracking<K>>>,
    /// Where values are looked for by time.
    moments: Option<Moments<V>>,
}

impl<K: Key, V: State> HeapTable<K, V> {
    /// The number of buckets at which a shard is split instead of growing: a power of two.
    const SHARD_BUCKETS: usize = {
        let entry = if size_of::<(K, V)>() == 0 {
            1
        } else {
            size_of::<(K, V)>()
        };
        let fitting = SHARD_BYTES / entry;
        if fitting >= MAX_SHARD_BUCKETS {
            MAX_SHARD_BUCKETS
        } else if fitting <= MIN_SHARD_BUCKETS {
            MIN_SHARD_BUCKETS
        } else {
            fitting.next_power_of_two() / 2
        }
    };

    /// The number of entries of a full shard: hashbrown fills seven eighths of its buckets.
    const SHARD_ENTRIES: usize = Self::SHARD_BUCKETS / 8 * 7;

    /// An empty table for the keys of these groups out of `max_parallelism`.
    pub fn new(key_groups: KeyGroupRange, max_parallelism: u32) -> Self {
        Self {
            directory: Directory::new(key_groups, max_parallelism),
            shards: vec![Shard::new()],
            ahead: Ahead::default(),
            first_room: 1,
            tracking: None,
            moments: None,
        }
    }

    /// Its values are looked for by time: snapshots say when the earliest moments of their segments are.
    pub(crate) fn set_moments(&mut self, moments: Moments<V>) {
        self.moments = Some(moments);
    }

    /// Calls `visit` with the moments of a value, if the table is one of such.
    pub(crate) fn moments_of(&self, value: &V, visit: &mut dyn FnMut(usize, i64)) {
        if let Some(moments) = self.moments {
            moments.of(value, visit);
        }
    }

    /// Prepares an empty table for about this many rows, so that it need not grow on the way. Does nothing to others.
    pub fn reserve(&mut self, rows: u64) {
        if !self.is_empty() {
            return;
        }
        // A tenth of slack: shards do not fill evenly, and a single entry too many splits or doubles one.
        let per_shard = Self::SHARD_ENTRIES as u64 * 9 / 10;
        let (key_groups, max_parallelism) = (self.directory.key_groups(), self.directory.max_parallelism());
        self.directory = Directory::sized(key_groups, max_parallelism, rows, per_shard);
        self.shards = (0..self.directory.shards()).map(|_| Shard::new()).collect();
        let expected = self.directory.expected_per_slot(rows).saturating_mul(11) / 10;
        self.first_room = usize::try_from(expected)
            .unwrap_or(usize::MAX)
            .clamp(1, Self::SHARD_ENTRIES);
        huge_pages::take_for(self.room_bytes());
        if let Some(tracking) = &mut self.tracking {
            **tracking = Tracking::new(self.shards.len());
        }
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, hash: u64, key: &K) -> Option<&V> {
        self.shards[self.directory.shard_of(hash)].get(hash, key)
    }

    /// The value of a key, to change.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        let mut number = self.directory.shard_of(hash);
        if let Shard::Frozen(_) = self.shards[number] {
            number = self.take_back(hash);
        }
        match &mut self.shards[number] {
            Shard::Owned(entries) => {
                let present = find(entries, hash, key).ok()?;
                if let Some(tracking) = &mut self.tracking {
                    tracking.changed(number, present.bucket_index());
                }
                Some(&mut present.into_mut().1)
            }
            Shard::Frozen(layers) => {
                let tracking = self.tracking.as_deref_mut();
                layers.get_mut(hash, key, |bucket| track_beside(tracking, number, key, bucket))
            }
        }
    }

    /// The value of a key, which becomes `default()` if there is none. The key is cloned only then.
    #[inline]
    pub fn get_or_insert_with(&mut self, hash: u64, key: &K, default: impl FnOnce() -> V) -> &mut V {
        let number = self.shard_with_room(hash);
        match &mut self.shards[number] {
            Shard::Owned(entries) => {
                let present = match find(entries, hash, key) {
                    Ok(present) => present,
                    Err(absent) => {
                        let entry = (key.clone(), default());
                        absent.into_table().insert_unique(shard_hash(hash), entry, rehash)
                    }
                };
                if let Some(tracking) = &mut self.tracking {
                    tracking.changed(number, present.bucket_index());
                }
                &mut present.into_mut().1
            }
            Shard::Frozen(layers) => {
                let tracking = self.tracking.as_deref_mut();
                let first = |bucket| track_beside(tracking, number, key, bucket);
                layers.get_or_insert_with(hash, key, default, first)
            }
        }
    }

    /// Sets the value of a key and returns the one it had.
    #[inline]
    pub fn insert(&mut self, hash: u64, key: &K, value: V) -> Option<V> {
        let number = self.shard_with_room(hash);
        let Shard::Owned(entries) = &mut self.shards[number] else {
            return self.insert_beside(hash, key, value);
        };
        let (present, before) = match find(entries, hash, key) {
            Ok(mut present) => {
                let before = mem::replace(&mut present.get_mut().1, value);
                (present, Some(before))
            }
            Err(absent) => {
                let entry = (key.clone(), value);
                (absent.into_table().insert_unique(shard_hash(hash), entry, rehash), None)
            }
        };
        if let Some(tracking) = &mut self.tracking {
            tracking.changed(number, present.bucket_index());
        }
        before
    }

    /// As [`insert`](Self::insert), while a snapshot holds the shard.
    #[cold]
    fn insert_beside(&mut self, hash: u64, key: &K, value: V) -> Option<V> {
        if let Some(present) = self.get_mut(hash, key) {
            return Some(mem::replace(present, value));
        }
        self.get_or_insert_with(hash, key, || value);
        None
    }

    /// Forgets a key and returns the value it had.
    #[inline]
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        let mut number = self.directory.shard_of(hash);
        if let Shard::Frozen(_) = self.shards[number] {
            number = self.take_back(hash);
        }
        let (key, value) = match &mut self.shards[number] {
            Shard::Owned(entries) => find(entries, hash, key).ok()?.remove().0,
            Shard::Frozen(layers) => (key.clone(), layers.remove(hash, key)?),
        };
        if let Some(tracking) = &mut self.tracking {
            tracking.changed_key(number, key);
        }
        Some(value)
    }

    /// Asks for the memory of the next keys that are looked up, some dozens, so that it arrives for all of them together.
    #[inline]
    pub fn prefetch(&mut self, keys: &[(u64, K)]) {
        self.ahead.ask_for(keys, &self.directory, &self.shards);
    }

    /// The number of keys. Counts the shards' entries: not for every record.
    pub fn len(&self) -> usize {
        self.shards.iter().map(Shard::len).sum()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(Shard::is_empty)
    }

    /// A copy of the table as it is now, made by sharing: takes a pointer for each shard. What is written later does not
    /// show in it.
    pub fn freeze(&mut self) -> FrozenTable<K, V> {
        let mut shards = Vec::with_capacity(self.shards.len());
        for (number, keys) in self.directory.in_order() {
            let shard = &mut self.shards[number];
            if shard.is_empty() {
                *shard = Shard::new();
            } else {
                shards.push((keys, shard.freeze()));
            }
        }
        FrozenTable::new(self.directory.max_parallelism(), self.moments, shards)
    }

    /// A copy of the table for a checkpoint, without what its base has already. `place` is the folder of the checkpoints of the job.
    /// From the first such call on, the table tracks what changes; [`stop_tracking`](Self::stop_tracking) ends that.
    ///
    /// `base` must be complete, and stay so for as long as this checkpoint is under way. Where the table did not write it,
    /// everything is in the copy.
    pub fn freeze_increment(
        &mut self,
        checkpoint: CheckpointId,
        base: Option<CheckpointId>,
        place: &str,
    ) -> FrozenIncrement<K, V> {
        let count = self.shards.len();
        let tracking = self.tracking.get_or_insert_with(|| Box::new(Tracking::new(count)));
        let basis = tracking.cut(checkpoint, base, place);
        let ledger = tracking.ledger();
        let is_unchanged = |number: usize| {
            basis.written.as_ref().is_some_and(|written| {
                written.segment(number).is_some()
                    && !written.is_outdated(number)
                    && basis
                        .changes
                        .iter()
                        .all(|changes| changes.get(number).is_none_or(ShardChanges::is_nothing))
            })
        };
        let (mut shards, mut rows) = (Vec::with_capacity(count), 0);
        for (number, keys) in self.directory.in_order() {
            let shard = &mut self.shards[number];
            if shard.is_empty() {
                *shard = Shard::new();
                continue;
            }
            rows += shard.len() as u64;
            shards.push(FrozenShard {
                number,
                keys,
                entries: if is_unchanged(number) {
                    None
                } else {
                    Some(shard.freeze())
                },
            });
        }
        FrozenIncrement {
            checkpoint,
            place: place.to_owned(),
            max_parallelism: self.directory.max_parallelism(),
            moments: self.moments,
            shards,
            basis,
            ledger,
            rows,
        }
    }

    /// Forgets what has changed: checkpoints are no longer incremental.
    pub fn stop_tracking(&mut self) {
        self.tracking = None;
    }

    /// Calls `visit` with every key and value, in order of shard, and so of key group.
    pub fn for_each(&self, visit: &mut dyn FnMut(&K, &V)) {
        for (number, _) in self.directory.in_order() {
            self.shards[number].for_each(visit);
        }
    }

    /// What the table takes when all its shards are full, without what keys and values have elsewhere.
    #[inline]
    pub(crate) fn room_bytes(&self) -> usize {
        self.shards.len() * (Self::SHARD_BUCKETS * size_of::<(K, V)>())
    }

    /// Whether its entries are so many bytes, or were once many more: only a few shards are asked. For every dozen of records, at most.
    #[inline]
    pub(crate) fn has_bytes(&self, bytes: usize) -> bool {
        // What keys and values have elsewhere: a cache line, if it is little.
        let owned = if Shard::<K, V>::OWNS_MEMORY { 64 } else { 0 };
        let room = self.room_bytes();
        room >= 8 * bytes || room >= bytes && self.len() * (size_of::<(K, V)>() + owned) >= bytes
    }

    /// The number of shards, for tests and measurements.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Whether the shard of this hash is, or was until the last write to it, held by a snapshot: for tests and measurements.
    pub fn is_frozen(&self, hash: u64) -> bool {
        matches!(self.shards[self.directory.shard_of(hash)], Shard::Frozen(_))
    }

    /// The shard that a key with this hash belongs into: frozen, or with room for it.
    #[inline]
    fn shard_with_room(&mut self, hash: u64) -> usize {
        let number = self.directory.shard_of(hash);
        // Before the search, although the key may be there: afterwards, the entry found would borrow the shards. A full
        // shard is rare, and cutting it one write early does no harm.
        if self.shards[number].has_room() {
            number
        } else {
            self.make_room(hash)
        }
    }

    /// Takes the shard of this hash back from its snapshot if that has let go, and splits or grows it until there is room in it.
    /// Returns its number.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, hash: u64) -> usize {
        self.directory.assert_owned(hash);
        self.take_back(hash);
        loop {
            let number = self.directory.shard_of(hash);
            let Shard::Owned(entries) = &mut self.shards[number] else {
                return number;
            };
            if entries.len() < entries.capacity() {
                return number;
            }
            // A shard can be full of the marks of removed entries: hashbrown clears them away when it makes room, without
            // growing if the entries fill less than half of the buckets.
            let full = entries.num_buckets() >= Self::SHARD_BUCKETS && entries.len() > Self::SHARD_ENTRIES / 2;
            let boundary = if full { self.directory.split(hash) } else { None };
            match boundary {
                Some(boundary) => self.split(number, boundary),
                None => {
                    let room = if entries.is_empty() { self.first_room } else { 1 };
                    entries.reserve(room, rehash);
                    if let Some(tracking) = &mut self.tracking {
                        tracking.rearranged(number);
                    }
                }
            }
        }
    }

    /// Takes the shard of this hash back if it is frozen and its snapshots have let go. Returns the number of the shard of this hash
    /// then: keys that are new are put into it, for which it may have to be split.
    #[cold]
    #[inline(never)]
    fn take_back(&mut self, hash: u64) -> usize {
        self.take_back_shard(self.directory.shard_of(hash));
        self.directory.shard_of(hash)
    }

    /// Takes a shard back if it is frozen and its snapshots have let go.
    pub(super) fn take_back_released(&mut self, number: usize) {
        if let Shard::Frozen(layers) = &self.shards[number]
            && layers.is_released()
        {
            self.take_back_shard(number);
        }
    }

    pub(super) fn shard(&self, number: usize) -> &Shard<K, V> {
        &self.shards[number]
    }

    fn take_back_shard(&mut self, number: usize) {
        for (key, value) in self.shards[number].take_back(number) {
            let hash = key.stable_hash();
            let number = self.shard_with_room(hash);
            let Shard::Owned(entries) = &mut self.shards[number] else {
                unreachable!("the shard was taken back before")
            };
            // That it has changed is known since it was written.
            entries.insert_unique(shard_hash(hash), (key, value), rehash);
        }
    }

    /// Moves the entries of a shard from `boundary` on into a new shard.
    fn split(&mut self, number: usize, boundary: u64) {
        let Shard::Owned(entries) = mem::replace(&mut self.shards[number], Shard::new()) else {
            unreachable!("a shard is taken back before it is split")
        };
        // Room for a full shard in each: half of them would need it with the next entries anyway.
        let mut halves = [
            HashTable::with_capacity(Self::SHARD_ENTRIES),
            HashTable::with_capacity(Self::SHARD_ENTRIES),
        ];
        for entry in entries {
            let hash = entry.0.stable_hash();
            let half = usize::from(self.directory.position(hash) >= boundary);
            halves[half].insert_unique(shard_hash(hash), entry, rehash);
        }
        let [lower, upper] = halves;
        self.shards[number] = Shard::Owned(lower);
        self.shards.push(Shard::Owned(upper));
        huge_pages::take_for(self.room_bytes());
        if let Some(tracking) = &mut self.tracking {
            tracking.rearranged(number);
            tracking.rearranged(self.shards.len() - 1);
        }
    }
}

/// An entry, or the shard where it could be inserted.
type Found<'a, K, V> = Result<OccupiedEntry<'a, (K, V)>, AbsentEntry<'a, (K, V)>>;

#[inline(always)]
fn find<'a, K: Key, V>(entries: &'a mut Entries<K, V>, hash: u64, key: &K) -> Found<'a, K, V> {
    entries.find_entry(shard_hash(hash), |entry| entry.0 == *key)
}

/// A key is written beside the entries of a frozen shard, of which it is in this bucket.
fn track_beside<K: Key>(tracking: Option<&mut Tracking<K>>, number: usize, key: &K, bucket: Option<usize>) {
    match (tracking, bucket) {
        (Some(tracking), Some(bucket)) => tracking.changed(number, bucket),
        (Some(tracking), None) => tracking.changed_key(number, key.clone()),
        (None, _) => {}
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
