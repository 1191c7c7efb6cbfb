//! Rows of a state that are still in the snapshot that it is restored from: they come when their keys are first worked on, and otherwise
//! when there is time.
//!
//! ```text
//!   keys ──▶ missing segments ──▶ fetched now ─────────────────┐
//!                                                              ├──▶ table
//!   all segments, in their order ──▶ fetched some pieces ahead ┘
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use streamd_core::key_group::HashRange;
use streamd_snapshot::{LoadedSegment, LoadingSegments, NativeReader, PIECES_AHEAD, SnapshotError};

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
    /// What is to be fetched in passing, by part.
    pieces: VecDeque<(usize, Range<usize>)>,
    /// What is on its way.
    ahead: VecDeque<(usize, LoadingSegments)>,
    /// What is here.
    here: VecDeque<(usize, LoadedSegment)>,
}

/// What there is to be taken into a table next.
pub(crate) enum Next {
    /// A segment, with the part that it is of.
    Segment(usize, LoadedSegment),
    /// Something is on its way.
    Waits,
    Nothing,
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
        let pieces = parts.iter().enumerate();
        let pieces = pieces.flat_map(|(part, of)| of.reader.pieces().into_iter().map(move |piece| (part, piece)));
        Self {
            pieces: pieces.collect(),
            parts,
            ahead: VecDeque::new(),
            here: VecDeque::new(),
        }
    }

    /// Which keys each of the segments has, by its number.
    pub(crate) fn hashes(&self, max_parallelism: u32) -> Vec<HashRange> {
        let segments = self.parts.iter().flat_map(|part| part.reader.segments());
        segments
            .map(|segment| {
                let of_groups = || HashRange::of_groups(segment.key_groups, max_parallelism);
                segment.hashes.unwrap_or_else(of_groups)
            })
            .collect()
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
        !missing.is_missing(self.number(part, segment.index()))
    }

    /// The next segment in their order that is missing, if it is here; or whenever it is, to who waits for it. Those behind it are fetched
    /// meanwhile.
    pub(crate) fn next(&mut self, missing: &Missing, waits: bool) -> Result<Next, SnapshotError> {
        loop {
            self.fetch_ahead(missing);
            while let Some((part, segment)) = self.here.pop_front() {
                if missing.is_missing(self.number(part, segment.index())) {
                    return Ok(Next::Segment(part, segment));
                }
            }
            match self.ahead.front() {
                None => return Ok(Next::Nothing),
                Some((_, loading)) if !waits && !loading.is_ready() => return Ok(Next::Waits),
                Some(_) => {}
            }
            if let Some((part, loading)) = self.ahead.pop_front() {
                let loaded = loading.wait()?;
                self.here.extend(loaded.into_iter().map(|segment| (part, segment)));
            }
        }
    }

    fn fetch_ahead(&mut self, missing: &Missing) {
        while self.ahead.len() < PIECES_AHEAD
            && let Some((part, piece)) = self.pieces.pop_front()
        {
            let segments: Vec<usize> = piece
                .filter(|index| missing.is_missing(self.number(part, *index)))
                .collect();
            if !segments.is_empty() {
                self.ahead.push_back((part, self.parts[part].reader.load(segments)));
            }
        }
    }

    /// The table has this segment, with so many rows. Returns its number.
    pub(crate) fn taken(&mut self, part: usize, segment: &LoadedSegment, rows: u64) -> u32 {
        self.parts[part].rows += rows;
        self.number(part, segment.index())
    }

    fn number(&self, part: usize, index: usize) -> u32 {
        self.parts[part].first + u32::try_from(index).expect("segments are counted in 32 bits")
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
    /// The hashes that the keys of a segment must have.
    pub(crate) fn hashes(&self, segment: &LoadedSegment) -> Option<HashRange> {
        self.reader.segments()[segment.index()].hashes
    }
}
