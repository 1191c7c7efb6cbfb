//! Which keys of a table are still in a snapshot only.

use streamd_core::key_group::HashRange;

/// Segments that lie upon one place in the order of hashes, on average: beyond this, restoring them key by key is not worth the index.
const MAX_DEPTH: usize = 64;

/// The segments whose rows a table does not have yet, by the hashes of their keys.
#[derive(Debug)]
pub struct Missing {
    /// Where what can be said of hashes changes, in ascending order. Below the first and from the last on there are no segments.
    bounds: Vec<u64>,
    /// From each of the bounds on: the segments.
    segments: Vec<Vec<u32>>,
    arrived: Vec<bool>,
    left: usize,
}

impl Missing {
    /// Those of segments with these hashes, all of which are missing. Nothing where there are too many for one key: then they are better
    /// read at once.
    pub(crate) fn of(segments: &[HashRange]) -> Option<Self> {
        let mut bounds: Vec<u64> = segments.iter().flat_map(|range| [range.start, range.end]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let mut at = vec![Vec::new(); bounds.len()];
        let mut room = segments.len() * MAX_DEPTH;
        for (segment, range) in (0u32..).zip(segments) {
            let first = bounds.partition_point(|bound| *bound < range.start);
            let end = bounds.partition_point(|bound| *bound < range.end);
            room = room.checked_sub(end.saturating_sub(first))?;
            at[first..end].iter_mut().for_each(|here| here.push(segment));
        }
        Some(Self {
            bounds,
            segments: at,
            arrived: vec![false; segments.len()],
            left: segments.len(),
        })
    }

    /// Those of so many segments, with any hashes: what is to be read as a whole.
    pub(crate) fn unordered(segments: usize) -> Self {
        Self {
            bounds: Vec::new(),
            segments: Vec::new(),
            arrived: vec![false; segments],
            left: segments,
        }
    }

    /// The segments that have, or may have, the row of the key with this hash.
    pub(crate) fn of_key(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let behind = self.bounds.partition_point(|bound| *bound <= hash >> 32);
        let here = behind.checked_sub(1).map_or(&[][..], |place| &self.segments[place]);
        here.iter().copied().filter(|segment| self.is_missing(*segment))
    }

    pub(crate) fn is_missing(&self, segment: u32) -> bool {
        !self.arrived[segment as usize]
    }

    /// The table has the rows of a segment now.
    pub(crate) fn arrive(&mut self, segment: u32) {
        let before = std::mem::replace(&mut self.arrived[segment as usize], true);
        self.left -= usize::from(!before);
    }

    /// How many segments are missing.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Refuses to take a row for absent that has not been read.
    ///
    /// # Panics
    /// If the row of this key may be missing: it was not touched before.
    pub(crate) fn assert_none(&self, hash: u64) {
        assert!(
            self.of_key(hash).next().is_none(),
            "the state of a key was used before the key was touched: a bug in its operator"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = HashRange> {
        (0u64..50, 0u64..50).prop_map(|(a, b)| HashRange {
            start: a.min(b),
            end: a.max(b) + 1,
        })
    }

    proptest! {
        #[test]
        fn the_segments_of_a_key_are_those_that_hold_its_hash(
            ranges in proptest::collection::vec(range(), 1..20),
            arrived in proptest::collection::vec(any::<bool>(), 20),
            half in 0u64..60,
        ) {
            let mut missing = Missing::of(&ranges).unwrap();
            for (segment, _) in (0u32..).zip(&ranges).filter(|(segment, _)| arrived[*segment as usize]) {
                missing.arrive(segment);
            }
            let hash = (half << 32) + 77;
            let expected: Vec<u32> = (0u32..)
                .zip(&ranges)
                .filter(|(segment, range)| !arrived[*segment as usize] && range.contains(hash))
                .map(|(segment, _)| segment)
                .collect();
            prop_assert_eq!(missing.of_key(hash).collect::<Vec<_>>(), expected);
            prop_assert_eq!(missing.left(), arrived[..ranges.len()].iter().filter(|arrived| !**arrived).count());
        }
    }

    #[test]
    fn segments_that_all_lie_upon_each_other_are_not_indexed() {
        let ranges: Vec<_> = (0..1000)
            .map(|at| HashRange {
                start: at,
                end: 1 << 32,
            })
            .collect();
        assert!(Missing::of(&ranges).is_none());
    }
}
