//! Segments one after the other, some pieces fetched ahead of the one that is taken.

use std::collections::VecDeque;

use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::KeyedStateHandle;
use tokio::runtime::Handle;

use super::reader::{LoadedSegment, LoadingSegments, NativeReader};
use crate::error::SnapshotError;
use crate::restore::{ObjectSource, RowVisitor};

/// Pieces that are fetched, checked and unpacked ahead of the one that is delivered: one travels while another is unpacked.
const PIECES_AHEAD: usize = 3;

/// What some readers have, in their order: the segments of the first, of the second, and so on.
pub struct InOrder {
    /// What is to be fetched, by reader.
    pieces: VecDeque<(usize, Vec<usize>)>,
    /// What is on its way.
    ahead: VecDeque<(usize, LoadingSegments)>,
    /// What is here.
    here: VecDeque<(usize, LoadedSegment)>,
}

/// What there is to be taken next.
pub enum NextSegment {
    /// A segment, with the position of its reader.
    Here(usize, LoadedSegment),
    /// Something is on its way.
    Waits,
    /// That was all.
    Nothing,
}

impl InOrder {
    /// Those that are wanted, by the positions of their reader and within that. Nothing is fetched yet.
    pub fn new<'r>(readers: impl Iterator<Item = &'r NativeReader>, is_wanted: impl Fn(usize, usize) -> bool) -> Self {
        let mut pieces = VecDeque::new();
        for (reader, of) in readers.enumerate() {
            let wanted = of.pieces(|index| is_wanted(reader, index));
            pieces.extend(wanted.into_iter().map(|piece| (reader, piece)));
        }
        Self {
            pieces,
            ahead: VecDeque::new(),
            here: VecDeque::new(),
        }
    }

    /// The next segment that is still wanted, if it is here; or whenever it is, to who waits for it.
    /// Those behind it are fetched meanwhile.
    pub fn next<'r>(
        &mut self,
        reader: impl Fn(usize) -> &'r NativeReader,
        is_wanted: impl Fn(usize, usize) -> bool,
        waits: bool,
    ) -> Result<NextSegment, SnapshotError> {
        loop {
            while self.ahead.len() < PIECES_AHEAD
                && let Some((of, piece)) = self.pieces.pop_front()
            {
                let segments: Vec<usize> = piece.into_iter().filter(|index| is_wanted(of, *index)).collect();
                if !segments.is_empty() {
                    self.ahead.push_back((of, reader(of).load(segments)));
                }
            }
            while let Some((of, segment)) = self.here.pop_front() {
                if is_wanted(of, segment.index()) {
                    return Ok(NextSegment::Here(of, segment));
                }
            }
            match self.ahead.pop_front() {
                None => return Ok(NextSegment::Nothing),
                Some((of, loading)) if waits || loading.is_ready() => {
                    let loaded = loading.wait()?;
                    self.here.extend(loaded.into_iter().map(|segment| (of, segment)));
                }
                Some(not_yet) => {
                    self.ahead.push_front(not_yet);
                    return Ok(NextSegment::Waits);
                }
            }
        }
    }
}

/// Calls `visit` for every row of the wanted key groups.
pub(crate) fn read_native(
    handle: &KeyedStateHandle,
    from: ObjectSource<'_>,
    (range, runtime): (KeyGroupRange, &Handle),
    visit: &mut RowVisitor<'_>,
) -> Result<u64, SnapshotError> {
    let reader = NativeReader::open(handle, from, range, runtime)?;
    let mut segments = InOrder::new(std::iter::once(&reader), |_, _| true);
    let mut delivered = 0;
    while let NextSegment::Here(_, segment) = segments.next(|_| &reader, |_, _| true, true)? {
        delivered += reader.deliver(&segment, visit)?;
    }
    reader.check_rows(delivered)?;
    Ok(delivered)
}
