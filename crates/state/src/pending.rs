//! Rows of a state that are still in the snapshot that it is restored from: they come when their keys are first worked on, and otherwise
//! when there is time.
//!
//! ```text
//!   keys ──▶ missing segments ──▶ fetched now ─────────────────┐
//!                                                              ├──▶ table
//!   all segments, in their order ──▶ fetched some pieces ahead ┘
//! ```

use std::collections::BTreeMap;

use streamd_core::key_group::HashRange;
use streamd_core::snapshot::NativeSegment;
use streamd_snapshot::{InOrder, LoadedSegment, LoadingSegments, NativeReader, NextSegment, SnapshotError};

use crate::missing::Missing;
use crate::schema::RowPlan;

/// A part of a state: what one subtask wrote.
pub(crate) struct PendingPart {
    pub(crate) reader: NativeReader,
    /// What becomes of its rows.
    pub(crate) plan: RowPlan,
    /// The number of its first segment among those of all parts.
    first: u32,
    /// Rows that the table has.
    rows: u64,
}

/// The parts of a state that are not read yet, or not wholly.
pub(crate) struct PendingRows {
    parts: Vec<PendingPart>,
    /// What is fetched in passing.
    in_order: InOrder,
}

impl PendingRows {
    /// Those of these parts.
    pub(crate) fn new(parts: Vec<(NativeReader, RowPlan)>) -> Self {
        let mut first = 0;
        let number = |(reader, plan): (NativeReader, RowPlan)| {
            let part = PendingPart {
                first,
                reader,
                plan,
                rows: 0,
            };
            first += u32::try_from(part.reader.segments().len()).expect("metadata of 256 MiB names fewer segments");
            part
        };
        let parts: Vec<PendingPart> = parts.into_iter().map(number).collect();
        Self {
            in_order: InOrder::new(parts.iter().map(|part| &part.reader), |_, _| true),
            parts,
        }
    }

    /// Which keys each of the segments has, by its number.
    pub(crate) fn hashes(&self, max_parallelism: u32) -> Vec<HashRange> {
        self.segments()
            .map(|segment| {
                let of_groups = || HashRange::of_groups(segment.key_groups, max_parallelism);
                segment.hashes.unwrap_or_else(of_groups)
            })
            .collect()
    }

    /// The segments of all parts, by number.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &NativeSegment> {
        self.parts.iter().flat_map(|part| part.reader.segments())
    }

    pub(crate) fn part(&self, part: usize) -> &PendingPart {
        &self.parts[part]
    }

    /// Begins to fetch these segments, given by rising number.
    pub(crate) fn fetch(&self, segments: &[u32]) -> Vec<(usize, LoadingSegments)> {
        let mut by_part: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &segment in segments {
            let part = self.parts.partition_point(|part| part.first <= segment) - 1;
            let index = (segment - self.parts[part].first) as usize;
            by_part.entry(part).or_default().push(index);
        }
        by_part
            .into_iter()
            .map(|(part, indices)| (part, self.parts[part].reader.load(indices)))
            .collect()
    }

    /// Whether the table has this segment.
    pub(crate) fn has(&self, missing: &Missing, part: usize, segment: &LoadedSegment) -> bool {
        !missing.is_missing(self.parts[part].number(segment.index()))
    }

    /// The next segment in their order that is missing, with the part that it is of, if it is here; or whenever it is, to who waits for it.
    pub(crate) fn next(&mut self, missing: &Missing, waits: bool) -> Result<NextSegment, SnapshotError> {
        let (parts, in_order) = (&self.parts, &mut self.in_order);
        let is_missing = |part: usize, index| missing.is_missing(parts[part].number(index));
        in_order.next(|part| &parts[part].reader, is_missing, waits)
    }

    /// Some of the segments, to be taken in their order.
    pub(crate) fn those(&self, is_wanted: impl Fn(u32) -> bool) -> InOrder {
        let readers = self.parts.iter().map(|part| &part.reader);
        InOrder::new(readers, |part, index| is_wanted(self.parts[part].number(index)))
    }

    /// The next of those that is missing, whenever it is here.
    pub(crate) fn next_of(&self, those: &mut InOrder, missing: &Missing) -> Result<NextSegment, SnapshotError> {
        let is_missing = |part: usize, index| missing.is_missing(self.parts[part].number(index));
        those.next(|part| &self.parts[part].reader, is_missing, true)
    }

    /// The table has this segment, with so many rows. Returns its number.
    pub(crate) fn taken(&mut self, part: usize, segment: &LoadedSegment, rows: u64) -> u32 {
        self.parts[part].rows += rows;
        self.parts[part].number(segment.index())
    }

    /// The table has everything: errors if that is not what there must be. Returns the number of rows.
    pub(crate) fn finish(self) -> Result<u64, SnapshotError> {
        let mut rows = 0;
        for part in &self.parts {
            part.reader.check_rows(part.rows)?;
            rows += part.rows;
        }
        Ok(rows)
    }
}

impl PendingPart {
    /// The number of a segment among those of all parts.
    fn number(&self, index: usize) -> u32 {
        self.first + u32::try_from(index).expect("segments are counted in 32 bits")
    }

    /// What is said of a segment.
    pub(crate) fn described(&self, segment: &LoadedSegment) -> &NativeSegment {
        &self.reader.segments()[segment.index()]
    }
}
