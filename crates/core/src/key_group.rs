//! Keys to key groups to subtasks.
//!
//! A key is hashed by its canonical encoding ([`State::stable_hash`](crate::state::State::stable_hash)); the hash picks
//! one of `max parallelism` key groups; a subtask owns a contiguous range of groups, by Flink's integer formula.
//! The hash function and its version are recorded in every snapshot: changing either is a new version, never an edit.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest number of key groups (and so the largest parallelism) that a job may have. As in Flink.
pub const UPPER_BOUND_MAX_PARALLELISM: u32 = 1 << 15;

/// The fewest key groups a job gets when its maximum is not set.
const LOWER_BOUND_DEFAULT_MAX_PARALLELISM: u32 = 128;

/// How many times a job may grow beyond its first parallelism when its maximum is not set.
const DEFAULT_GROWTH: u32 = 128;

/// The version of hash function and group formula that this build writes: XXH3-64 with seed 0 over the canonical
/// encoding, then `(hash >> 32) * groups >> 32`.
pub const KEY_HASH_VERSION: u32 = 1;

/// The key group of a key with this hash, among `max_parallelism` groups.
#[inline]
pub fn key_group_of(hash: u64, max_parallelism: u32) -> u32 {
    (((hash >> 32) * u64::from(max_parallelism)) >> 32) as u32
}

/// The subtasks that key groups belong to: `key group * parallelism / max parallelism`, by a multiplication instead of a division.
#[derive(Debug, Clone, Copy)]
pub struct Owners {
    /// `parallelism / max_parallelism` as a number with [`OWNER_BITS`] fraction bits, rounded up.
    share: u64,
}

/// So many that rounding never shows: a group and a parallelism have at most 15 bits, and their product at most 30.
const OWNER_BITS: u32 = 45;

impl Owners {
    /// Those of the groups below `max_parallelism`, at most [`UPPER_BOUND_MAX_PARALLELISM`], among `parallelism` subtasks, at most as many.
    pub fn new(parallelism: u32, max_parallelism: u32) -> Self {
        debug_assert!(parallelism <= max_parallelism && max_parallelism <= UPPER_BOUND_MAX_PARALLELISM);
        Self {
            share: u64::from(parallelism) * (1u64 << OWNER_BITS).div_ceil(u64::from(max_parallelism)),
        }
    }

    /// The subtask that owns a key group.
    #[inline]
    pub fn of(self, key_group: u32) -> u32 {
        ((u64::from(key_group) * self.share) >> OWNER_BITS) as u32
    }
}

/// The number of key groups of a job whose parallelism is `parallelism` and that sets no maximum:
/// 128 times the parallelism, rounded up to a power of two, from 128 to 32768.
pub fn default_max_parallelism(parallelism: u32) -> u32 {
    parallelism
        .saturating_mul(DEFAULT_GROWTH)
        .checked_next_power_of_two()
        .unwrap_or(UPPER_BOUND_MAX_PARALLELISM)
        .clamp(LOWER_BOUND_DEFAULT_MAX_PARALLELISM, UPPER_BOUND_MAX_PARALLELISM)
}

/// A contiguous range of key groups, `start` included, `end` excluded. Empty where `start == end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyGroupRange {
    /// The first group.
    pub start: u32,
    /// One past the last group.
    pub end: u32,
}

impl KeyGroupRange {
    /// The groups that subtask `index` of `parallelism` owns. The ranges of all subtasks are disjoint and cover every group.
    pub fn of_subtask(index: u32, parallelism: u32, max_parallelism: u32) -> Self {
        let bound = |i: u32| ((u64::from(i) * u64::from(max_parallelism)).div_ceil(u64::from(parallelism))) as u32;
        Self {
            start: bound(index),
            end: bound(index + 1),
        }
    }

    /// Every group of a job.
    pub fn all(max_parallelism: u32) -> Self {
        Self {
            start: 0,
            end: max_parallelism,
        }
    }

    /// How many groups the range holds.
    pub fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether the range holds no group.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether the range holds this group.
    #[inline]
    pub fn contains(self, key_group: u32) -> bool {
        self.start <= key_group && key_group < self.end
    }

    /// The groups that both ranges hold.
    pub fn intersection(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        Self {
            start,
            end: self.end.min(other.end).max(start),
        }
    }
}

/// A range of the upper halves of keys' hashes, `start` included, `end` excluded: what decides a key's group, finer than groups. In
/// metadata an array of the two numbers, which are at most 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "[u64; 2]", from = "[u64; 2]")]
pub struct HashRange {
    /// The first.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

impl HashRange {
    /// Those of the keys whose `(hash >> 32) * max_parallelism` is in `start..end`.
    pub fn of_positions(start: u64, end: u64, max_parallelism: u32) -> Self {
        let bound = |position: u64| position.div_ceil(u64::from(max_parallelism.max(1)));
        Self {
            start: bound(start),
            end: bound(end),
        }
    }

    /// Those of the keys of these groups.
    pub fn of_groups(key_groups: KeyGroupRange, max_parallelism: u32) -> Self {
        let position = |group: u32| u64::from(group) << 32;
        Self::of_positions(position(key_groups.start), position(key_groups.end), max_parallelism)
    }

    /// Whether the range holds the key with this hash.
    #[inline]
    pub fn contains(self, hash: u64) -> bool {
        (self.start..self.end).contains(&(hash >> 32))
    }
}

impl From<HashRange> for [u64; 2] {
    fn from(range: HashRange) -> Self {
        [range.start, range.end]
    }
}

impl From<[u64; 2]> for HashRange {
    fn from([start, end]: [u64; 2]) -> Self {
        Self { start, end }
    }
}

impl fmt::Display for KeyGroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_disjoint_complete_and_agree_with_the_formula(max in 1u32..=UPPER_BOUND_MAX_PARALLELISM, p in 1u32..512) {
            let p = p.min(max);
            let mut next = 0;
            for index in 0..p {
                let range = KeyGroupRange::of_subtask(index, p, max);
                prop_assert_eq!(range.start, next);
                for group in [range.start, range.end - 1] {
                    prop_assert_eq!(Owners::new(p, max).of(group), index);
                }
                next = range.end;
            }
            prop_assert_eq!(next, max);
        }

        #[test]
        fn every_hash_has_a_group(hash: u64, max in 1u32..=UPPER_BOUND_MAX_PARALLELISM) {
            prop_assert!(key_group_of(hash, max) < max);
        }
    }

    proptest! {
        #[test]
        fn the_hashes_of_groups_are_those_of_their_keys(hash: u64, max in 1u32..=UPPER_BOUND_MAX_PARALLELISM, a: u32, b: u32) {
            let (start, end) = (a.min(b) % (max + 1), a.max(b) % (max + 1));
            let groups = KeyGroupRange { start, end: end.max(start) };
            let hashes = HashRange::of_groups(groups, max);
            prop_assert_eq!(hashes.contains(hash), groups.contains(key_group_of(hash, max)));
        }
    }

    proptest! {
        #[test]
        fn owners_are_what_a_division_gives(max in 1u32..=UPPER_BOUND_MAX_PARALLELISM, p in 1u32..=UPPER_BOUND_MAX_PARALLELISM) {
            let p = p.min(max);
            let owners = Owners::new(p, max);
            for group in 0..max {
                prop_assert_eq!(u64::from(owners.of(group)), u64::from(group) * u64::from(p) / u64::from(max));
            }
        }
    }

    #[test]
    fn ranges_of_128_groups_are_flinks() {
        let ranges = |p| {
            (0..p)
                .map(|i| KeyGroupRange::of_subtask(i, p, 128))
                .map(|r| (r.start, r.end - 1))
                .collect::<Vec<_>>()
        };
        assert_eq!(ranges(2), [(0, 63), (64, 127)]);
        assert_eq!(ranges(3), [(0, 42), (43, 85), (86, 127)]);
        assert_eq!(ranges(5), [(0, 25), (26, 51), (52, 76), (77, 102), (103, 127)]);
    }

    #[test]
    fn a_job_may_grow_a_hundredfold() {
        assert_eq!(default_max_parallelism(1), 128);
        assert_eq!(default_max_parallelism(3), 512);
        assert_eq!(default_max_parallelism(u32::MAX), 32768);
    }
}
