//! From the hash of a key to the shard that holds it.
//!
//! A key's *position* is `(hash >> 32) * key groups`, as a number of 32 fraction bits: its integer part is the key
//! group, so keys in order of position are in order of key group. The directory cuts the positions of its range into
//! `2^depth` equal slots and says which shard holds each. A small shard serves many neighbouring slots, even many key
//! groups; when it is full, it is split in the middle of its positions, and if it had but one slot, the directory
//! doubles first. So the number of shards follows the number of entries, not of key groups; no insertion ever moves
//! more than one shard; and an empty table of 32768 groups costs as much as one of a single group.

use streamd_core::key_group::{HashRange, KeyGroupRange, key_group_of};
use streamd_snapshot::SegmentKeys;

/// The directory doubles only while it has at most this many slots per shard afterwards. Hashes spread evenly, so that
/// shards fill up together and about 2 suffice; keys chosen to collide must not blow the directory up.
const MAX_SLOTS_PER_SHARD: usize = 8;

/// The most slots that a directory is sized for in advance. Above three thousand million entries it grows by itself.
const MAX_RESERVED_DEPTH: u32 = 20;

/// Which shard holds which positions.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    key_groups: KeyGroupRange,
    max_parallelism: u32,
    /// The position where the range begins.
    base: u64,
    /// There are `2^depth` slots. Those beyond the end of the range are never used.
    depth: u32,
    /// Each is for `2^shift` positions.
    shift: u32,
    /// By slot: the number of its shard.
    slots: Vec<u32>,
    /// By shard: it serves the slots of one `2^depth`-th of the positions.
    shard_depths: Vec<u32>,
}

impl Directory {
    /// A directory of one shard.
    pub(crate) fn new(key_groups: KeyGroupRange, max_parallelism: u32) -> Self {
        let bits = 32 + key_groups.len().max(1).next_power_of_two().trailing_zeros();
        Self {
            key_groups,
            max_parallelism,
            base: u64::from(key_groups.start) << 32,
            depth: 0,
            shift: bits,
            slots: vec![0],
            shard_depths: vec![0],
        }
    }

    /// A directory whose shards hold about `per_shard` entries each when the table holds `rows`.
    pub(crate) fn sized(key_groups: KeyGroupRange, max_parallelism: u32, rows: u64, per_shard: u64) -> Self {
        let mut directory = Self::new(key_groups, max_parallelism);
        while directory.depth < MAX_RESERVED_DEPTH && directory.expected_per_slot(rows) > per_shard {
            directory.depth += 1;
            directory.shift -= 1;
        }
        let shards = 1u32 << directory.depth;
        directory.slots = (0..shards).collect();
        directory.shard_depths = vec![directory.depth; shards as usize];
        directory
    }

    /// The entries of a slot when `rows` are spread over the range.
    pub(crate) fn expected_per_slot(&self, rows: u64) -> u64 {
        let groups = u128::from(self.key_groups.len().max(1));
        let padded = groups.next_power_of_two();
        u64::try_from(((u128::from(rows) * padded) / groups) >> self.depth).unwrap_or(u64::MAX)
    }

    pub(crate) fn key_groups(&self) -> KeyGroupRange {
        self.key_groups
    }

    pub(crate) fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    /// How many shards there are; they are numbered from 0.
    pub(crate) fn shards(&self) -> usize {
        self.shard_depths.len()
    }

    /// The position of a key within the range. Larger than every slot if the key belongs to an earlier group.
    #[inline]
    pub(crate) fn position(&self, hash: u64) -> u64 {
        ((hash >> 32) * u64::from(self.max_parallelism)).wrapping_sub(self.base)
    }

    /// The number of the shard that holds the key with this hash.
    ///
    /// # Panics
    /// If the key lies outside the range: it was sent to the wrong subtask.
    #[inline]
    pub(crate) fn shard_of(&self, hash: u64) -> usize {
        let slot = (self.position(hash) >> self.shift) as usize;
        match self.slots.get(slot) {
            Some(&shard) => shard as usize,
            None => self.misrouted(hash),
        }
    }

    /// Panics if the key lies outside the range, also where the lookup does not notice.
    #[inline]
    pub(crate) fn assert_owned(&self, hash: u64) {
        if !self.key_groups.contains(key_group_of(hash, self.max_parallelism)) {
            self.misrouted(hash);
        }
    }

    #[cold]
    #[inline(never)]
    fn misrouted(&self, hash: u64) -> ! {
        panic!(
            "a key of key group {} was sent to the owner of the key groups {}: a bug in the exchange",
            key_group_of(hash, self.max_parallelism),
            self.key_groups
        );
    }

    /// Cuts the shard of this hash in two: the upper half of its positions goes to a new shard, the highest number.
    ///
    /// Returns the first position of the new shard; nothing if the shard cannot be cut, because its keys all but
    /// collide: then it has to grow.
    pub(crate) fn split(&mut self, hash: u64) -> Option<u64> {
        let shard = self.shard_of(hash);
        let shard_depth = self.shard_depths[shard];
        if shard_depth == self.depth && !self.double() {
            return None;
        }
        let width = 1usize << (self.depth - shard_depth);
        let slot = (self.position(hash) >> self.shift) as usize;
        let first = slot & !(width - 1);
        let middle = first + width / 2;
        let new_shard = u32::try_from(self.shards()).expect("2^32 shards do not fit into memory");
        self.slots[middle..first + width].fill(new_shard);
        self.shard_depths[shard] = shard_depth + 1;
        self.shard_depths.push(shard_depth + 1);
        Some((middle as u64) << self.shift)
    }

    fn double(&mut self) -> bool {
        let allowed = self.shift > 0 && self.slots.len() * 2 <= self.shards() * MAX_SLOTS_PER_SHARD;
        if allowed {
            self.slots = self.slots.iter().flat_map(|&shard| [shard, shard]).collect();
            self.depth += 1;
            self.shift -= 1;
        }
        allowed
    }

    /// Every shard once, in order of position, with the keys that its positions are of.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (usize, SegmentKeys)> + '_ {
        let mut slot = 0;
        std::iter::from_fn(move || {
            let shard = *self.slots.get(slot)? as usize;
            let width = 1usize << (self.depth - self.shard_depths[shard]);
            let end_of_range = u64::from(self.key_groups.end) << 32;
            let position_at = |slot: usize| (self.base + ((slot as u64) << self.shift)).min(end_of_range);
            let (start, end) = (position_at(slot), position_at(slot + width));
            slot += width;
            let key_groups = KeyGroupRange {
                start: (start >> 32) as u32,
                end: end.div_ceil(1 << 32) as u32,
            };
            let hashes = Some(HashRange::of_positions(start, end, self.max_parallelism));
            Some((shard, SegmentKeys { key_groups, hashes }))
        })
    }
}
