//! Where the memory of a key is, as far as that can be said without reading it.
//!
//! ```text
//!   a shard's table:   … entry 2, entry 1, entry 0 │ tag 0, tag 1, tag 2 …
//!                                                   ╰─ Tags::begin: a key's own tag is at most some places behind begin + (hash & mask)
//! ```
//!
//! hashbrown does not tell where its tags are, but where entries are, and that is how they lie: pinned by the tests below. Were it wrong one
//! day, other memory would be asked for, which costs time and nothing else.

use std::{mem, ptr};

use hashbrown::HashTable;
use streamd_core::state::{Key, State};

use super::directory::Directory;
use super::shard::{Shard, shard_hash};

/// How many keys are sifted at once.
const SIFTED_TOGETHER: usize = 32;

/// Asks for the memory of the next keys of a table.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// By shard: where its tags were when they were asked for last.
    tags: Vec<Tags>,
    recent: Recent,
}

impl Ahead {
    /// Asks for the memory of some dozens of keys, but for that of recent ones.
    #[inline]
    pub(super) fn ask_for<K: Key, V: State>(
        &mut self,
        keys: &[(u64, K)],
        directory: &Directory,
        shards: &[Shard<K, V>],
    ) {
        self.tags.resize(shards.len(), Tags::default());
        if self.recent.are_few() {
            return self.ask_for_all(keys.iter().map(|(hash, _)| *hash), directory, shards);
        }
        for keys in keys.chunks(SIFTED_TOGETHER) {
            let mut sifted = [0; SIFTED_TOGETHER];
            let hashes = self.recent.sift(keys, &mut sifted);
            self.ask_for_all(hashes.iter().copied(), directory, shards);
        }
    }

    #[inline(always)]
    fn ask_for_all<K: Key, V: State>(
        &mut self,
        hashes: impl Iterator<Item = u64> + Clone,
        directory: &Directory,
        shards: &[Shard<K, V>],
    ) {
        for hash in hashes.clone() {
            self.tags[directory.shard_of(hash)].prefetch::<(K, V)>(hash);
        }
        for hash in hashes.clone() {
            let number = directory.shard_of(hash);
            let (shard, tags) = (&shards[number], &mut self.tags[number]);
            if let Some(entry) = shard.prefetch(hash)
                && !tags.are_behind(entry)
            {
                *tags = shard.tags();
            }
        }
        if Shard::<K, V>::OWNS_MEMORY {
            for hash in hashes {
                shards[directory.shard_of(hash)].prefetch_owned(hash);
            }
        }
    }
}

/// Keys of which the memory was asked for a short while ago and is still near. Where a few keys have most of the records, as they often do,
/// they would be asked for again and again.
#[derive(Debug, Default)]
struct Recent {
    /// The lower half of the hash that came last, by the upper half. Empty until it is needed: many tables are small.
    latest: Vec<u32>,
    /// How often nothing is to be sifted, because little was recent the last time.
    pause: u32,
}

impl Recent {
    const KEYS: usize = 256;
    const PAUSE: u32 = 15;

    /// Whether sifting is not worth while. To be asked once for some dozens of keys.
    #[inline]
    fn are_few(&mut self) -> bool {
        let pauses = self.pause > 0;
        self.pause = self.pause.saturating_sub(1);
        pauses
    }

    /// The hashes of those of these keys that are not recent. They are from now on.
    #[inline(always)]
    fn sift<'a, K>(&mut self, keys: &[(u64, K)], sifted: &'a mut [u64; SIFTED_TOGETHER]) -> &'a [u64] {
        self.latest.resize(Self::KEYS, 0);
        let by_upper_half = &mut self.latest[..Self::KEYS];
        let mut count = 0;
        for (hash, _) in keys {
            let latest = &mut by_upper_half[(hash >> 32) as usize % Self::KEYS];
            // Without a branch: whether a key is recent cannot be predicted.
            sifted[count % SIFTED_TOGETHER] = *hash;
            count += usize::from(mem::replace(latest, *hash as u32) != *hash as u32);
        }
        if count * 4 > keys.len() * 3 {
            self.pause = Self::PAUSE;
        }
        &sifted[..count]
    }
}

/// Where the tags of a table are, and how many. Without a table it asks for what is nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tags {
    begin: usize,
    mask: usize,
}

impl Tags {
    /// Those of a table that has entries.
    #[cold]
    pub(super) fn of<T>(table: &HashTable<T>) -> Self {
        let mut entries = (0..table.num_buckets()).filter_map(|bucket| Some((bucket, table.get_bucket(bucket)?)));
        entries.next().map_or_else(Self::default, |(bucket, entry)| Self {
            begin: ptr::from_ref(entry).addr() + (bucket + 1) * size_of::<T>(),
            mask: table.num_buckets() - 1,
        })
    }

    /// Asks for those that a search for a key with this hash reads first, and for the entry in its own bucket, where most keys are, or
    /// beside it.
    #[inline(always)]
    pub(super) fn prefetch<T>(self, hash: u64) {
        let bucket = shard_hash(hash) as usize & self.mask;
        streamd_prefetch::prefetch_at(self.begin + bucket);
        streamd_prefetch::prefetch_value_at::<T>(self.begin.wrapping_sub((bucket + 1) * size_of::<T>()));
    }

    /// Whether the tags are still behind the table that has this entry.
    #[inline(always)]
    pub(super) fn are_behind<T>(self, entry: &T) -> bool {
        let before = self.begin.wrapping_sub(ptr::from_ref(entry).addr());
        before <= (self.mask + 1) * size_of::<T>()
    }
}

/// The entry that most likely is that of a key with this hash: the first one whose tag is right. It is not read.
#[inline(always)]
pub(super) fn likely<T>(table: &HashTable<T>, hash: u64) -> Option<&T> {
    table.find(shard_hash(hash), |_| true)
}

#[cfg(test)]
mod tests {
    use streamd_core::state::State;

    use super::*;

    fn table_of(keys: std::ops::Range<u64>) -> HashTable<(u64, u64)> {
        let mut table = HashTable::new();
        for key in keys {
            table.insert_unique(shard_hash(key.stable_hash()), (key, key), |entry| {
                shard_hash(entry.0.stable_hash())
            });
        }
        table
    }

    #[test]
    fn entries_lie_backwards_from_one_place() {
        let table = table_of(0..1000);
        let tags = Tags::of(&table);
        for bucket in 0..table.num_buckets() {
            if let Some(entry) = table.get_bucket(bucket) {
                assert_eq!(
                    ptr::from_ref(entry).addr() + (bucket + 1) * size_of_val(entry),
                    tags.begin
                );
                assert!(tags.are_behind(entry));
            }
        }
    }

    #[test]
    fn a_search_begins_where_the_hash_says() {
        for key in 0..1000 {
            let mut table = table_of(0..0);
            table.reserve(500, |_| unreachable!("there is no entry"));
            let hash = shard_hash(key.stable_hash());
            let bucket = table.insert_unique(hash, (key, key), |_| hash).bucket_index();
            assert_eq!(bucket, hash as usize & Tags::of(&table).mask);
            assert_eq!(likely(&table, key.stable_hash()), Some(&(key, key)));
        }
    }

    #[test]
    fn most_entries_of_a_full_table_lie_in_their_own_bucket() {
        let table = table_of(0..1792);
        assert_eq!(table.capacity(), table.len());
        let tags = Tags::of(&table);
        let own = |bucket: &usize| {
            let entry = table.get_bucket(*bucket);
            entry.is_some_and(|entry| shard_hash(entry.0.stable_hash()) as usize & tags.mask == *bucket)
        };
        let found = (0..table.num_buckets()).filter(own).count();
        assert!(found > table.len() / 2, "{found} of {}", table.len());
    }

    #[test]
    fn what_is_recent_is_left_out_and_nothing_else_and_where_little_is_recent_it_is_not_looked_for() {
        let mut recent = Recent::default();
        let keys = |from: u64| {
            (from..from + 32)
                .map(|key| (key.stable_hash(), key))
                .collect::<Vec<_>>()
        };
        let mut sifted = [0; SIFTED_TOGETHER];
        let mut sift = |recent: &mut Recent, keys: &[(u64, u64)]| recent.sift(keys, &mut sifted).to_vec();
        let all = |keys: &[(u64, u64)]| keys.iter().map(|(hash, _)| *hash).collect::<Vec<_>>();
        assert_eq!(sift(&mut recent, &keys(0)), all(&keys(0)));
        for _ in 0..Recent::PAUSE {
            assert!(recent.are_few());
        }
        assert!(!recent.are_few());
        let mut next = keys(0);
        next[5] = (77u64.stable_hash(), 77);
        // A key may have taken the place of another.
        let left = sift(&mut recent, &next);
        assert!(left.contains(&next[5].0) && left.len() < 12, "{left:?}");
        assert!(left.iter().all(|hash| all(&next).contains(hash)));
        assert!(!recent.are_few());
    }

    #[test]
    fn a_table_that_was_moved_is_noticed() {
        let (before, after) = (table_of(0..1000), table_of(0..2000));
        let tags = Tags::of(&before);
        assert!(after.iter().all(|entry| !tags.are_behind(entry)));
        assert!(after.iter().all(|entry| !Tags::default().are_behind(entry)));
    }
}
