//! Whether the parts of a state are the whole of it: each key group in one of them. What is left out was lost, and what is there twice would
//! be restored twice.

use std::fmt;

use streamd_core::key_group::KeyGroupRange;

/// Key groups that are in no part of a state, or in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncovered {
    /// The first of them.
    pub key_groups: KeyGroupRange,
    /// In how many parts they are.
    pub parts: usize,
}

/// Errors unless parts that hold these key groups hold each of those that are `wanted` exactly once.
pub fn check_coverage(parts: impl Iterator<Item = KeyGroupRange>, wanted: KeyGroupRange) -> Result<(), Uncovered> {
    let mut ranges: Vec<_> = parts.map(|groups| groups.intersection(wanted)).collect();
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable();
    let wrong = |start, end, parts| {
        let key_groups = KeyGroupRange { start, end };
        Err(Uncovered { key_groups, parts })
    };
    let mut covered = wanted.start;
    for range in ranges {
        if range.start > covered {
            return wrong(covered, range.start, 0);
        }
        if range.start < covered {
            return wrong(range.start, covered.min(range.end), 2);
        }
        covered = range.end;
    }
    if covered < wanted.end {
        return wrong(covered, wanted.end, 0);
    }
    Ok(())
}

impl fmt::Display for Uncovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_groups, parts } = self;
        match parts {
            0 => write!(f, "key groups {key_groups} in no part"),
            parts => write!(f, "key groups {key_groups} in {parts} parts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u32, end: u32) -> KeyGroupRange {
        KeyGroupRange { start, end }
    }

    fn check(parts: &[(u32, u32)], wanted: (u32, u32)) -> Result<(), (u32, u32, usize)> {
        let parts = parts.iter().map(|part| range(part.0, part.1));
        check_coverage(parts, range(wanted.0, wanted.1))
            .map_err(|wrong| (wrong.key_groups.start, wrong.key_groups.end, wrong.parts))
    }

    #[test]
    fn every_key_group_that_is_wanted_is_in_exactly_one_part() {
        assert_eq!(check(&[(4, 8), (0, 4), (3, 3)], (0, 8)), Ok(()));
        assert_eq!(check(&[(0, 4), (4, 8)], (2, 5)), Ok(()));
        assert_eq!(check(&[], (3, 3)), Ok(()));
        assert_eq!(check(&[(0, 4), (5, 8)], (0, 8)), Err((4, 5, 0)));
        assert_eq!(check(&[(1, 8)], (0, 8)), Err((0, 1, 0)));
        assert_eq!(check(&[(0, 7)], (0, 8)), Err((7, 8, 0)));
        assert_eq!(check(&[(0, 5), (4, 8)], (0, 8)), Err((4, 5, 2)));
        assert_eq!(check(&[(0, 8), (2, 3)], (0, 8)), Err((2, 3, 2)));
        // What is wrong elsewhere is not what is wanted.
        assert_eq!(check(&[(0, 5), (4, 8)], (5, 8)), Ok(()));
    }
}
