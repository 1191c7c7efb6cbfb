//! How long the values of a state live, and how those that are over go: a few rows at a time while others are worked on, and
//! on the way into snapshots.

use std::any::Any;
use std::fmt;
use std::ops::ControlFlow;

use streamd_core::state::Key;
use streamd_core::time::WallTime;
use streamd_snapshot::{SegmentKeys, SegmentSink, SnapshotError, WrittenSegment};

use crate::error::StateError;
use crate::expiring::{Expire, Left, RowFilter, filter_row};
use crate::frozen_state::FrozenRows;
use crate::heap::{RowVisitor, SweepCursor};
use crate::table::Table;

/// How long the values of a state live. How long what is over is still to be seen is not this crate's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeToLive {
    /// Milliseconds from the last update on.
    pub millis: i64,
    /// How many places of the table are looked at for each key that is worked on. Of rows on disk it is two at the most.
    pub cleanup_size: usize,
    /// Whether snapshots leave out what is over; those that are written whole, since others refer to earlier ones.
    pub cleanup_in_full_snapshots: bool,
}

/// Looks at a few rows of a table, of whichever type, and removes what is over. It is given the number of keys that are about to be
/// worked on, and how many places are to be looked at for each.
type SweepTable =
    fn(table: &mut dyn Any, cursors: &mut Cursors, due: (usize, usize), deadline: WallTime) -> Result<(), StateError>;

/// Rows on disk that are looked at for each key at the most: they cost more than places on the heap. With two, a state whose keys are
/// all new grows to twice what lives.
#[cfg(feature = "rocksdb")]
const DISK_ROWS: usize = 2;

/// How far a table was looked through, wherever it is.
#[derive(Default)]
struct Cursors {
    heap: SweepCursor,
    #[cfg(feature = "rocksdb")]
    disk: crate::rocksdb::DiskCursor,
}

/// The lifetime of one state, without the types of its table.
pub(crate) struct Lifetime {
    ttl: TimeToLive,
    filter: RowFilter,
    sweep: SweepTable,
    cursors: Cursors,
}

impl Lifetime {
    /// That of a table of these types.
    pub(crate) fn new<K: Key, V: Expire>(ttl: TimeToLive) -> Self {
        Self {
            ttl,
            filter: filter_row::<V>,
            sweep: sweep_table::<K, V>,
            cursors: Cursors::default(),
        }
    }

    /// What was updated at or before this time is over now.
    pub(crate) fn deadline(&self, now: WallTime) -> WallTime {
        WallTime(now.0.saturating_sub(self.ttl.millis))
    }

    /// `keys` keys are about to be worked on.
    pub(crate) fn sweep(&mut self, table: &mut dyn Any, keys: usize, now: WallTime) -> Result<(), StateError> {
        if self.ttl.cleanup_size == 0 {
            return Ok(());
        }
        let deadline = self.deadline(now);
        (self.sweep)(table, &mut self.cursors, (keys, self.ttl.cleanup_size), deadline)
    }

    /// Frozen rows without what is over, where that is wanted.
    pub(crate) fn filtered(&self, rows: Box<dyn FrozenRows>, now: WallTime) -> Box<dyn FrozenRows> {
        if !self.ttl.cleanup_in_full_snapshots {
            return rows;
        }
        Box::new(LivingRows {
            rows,
            filter: self.filter,
            deadline: self.deadline(now),
        })
    }
}

impl fmt::Debug for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lifetime").field(&self.ttl).finish()
    }
}

fn sweep_table<K: Key, V: Expire>(
    table: &mut dyn Any,
    cursors: &mut Cursors,
    (keys, cleanup_size): (usize, usize),
    deadline: WallTime,
) -> Result<(), StateError> {
    match table.downcast_mut::<Table<K, V>>() {
        Some(Table::Heap(table, _)) => {
            let places = keys.saturating_mul(cleanup_size);
            table.sweep(&mut cursors.heap, places, deadline);
            Ok(())
        }
        #[cfg(feature = "rocksdb")]
        Some(Table::RocksDb(table)) => {
            let rows = keys.saturating_mul(cleanup_size.min(DISK_ROWS));
            Ok(table.sweep(&mut cursors.disk, rows, deadline)?)
        }
        None => unreachable!("the lifetime of a state is made with its table"),
    }
}

/// Frozen rows without what is over at a deadline.
struct LivingRows {
    rows: Box<dyn FrozenRows>,
    filter: RowFilter,
    deadline: WallTime,
}

impl LivingRows {
    /// What takes all rows, and hands on what lives.
    fn living<'a>(
        (filter, deadline): (RowFilter, WallTime),
        visit: &'a mut RowVisitor<'_>,
    ) -> impl FnMut(u32, &[u8], &[u8]) -> ControlFlow<()> + 'a {
        let mut kept = Vec::new();
        move |key_group, key, value| match living((filter, deadline), value, &mut kept) {
            Some(value) => visit(key_group, key, value),
            None => ControlFlow::Continue(()),
        }
    }
}

/// What is left of a value at a deadline. Where that is less than all, it is put into `kept`.
fn living<'a>((filter, deadline): (RowFilter, WallTime), value: &'a [u8], kept: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    match filter(value, deadline, kept) {
        Ok(Left::Nothing) => None,
        Ok(Left::Some) => Some(kept),
        // A row that cannot be read is not this one's to refuse: whoever reads the snapshot says so.
        Ok(Left::All) | Err(_) => Some(value),
    }
}

impl FrozenRows for LivingRows {
    /// How many there are at most.
    fn rows(&self) -> u64 {
        self.rows.rows()
    }

    fn try_for_each_row(&self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        self.rows
            .try_for_each_row(&mut Self::living((self.filter, self.deadline), visit))
    }

    fn drain_rows(&mut self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        self.rows
            .drain_rows(&mut Self::living((self.filter, self.deadline), visit))
    }

    fn is_increment(&self) -> bool {
        self.rows.is_increment()
    }

    fn write_segments(&mut self, sink: &mut dyn SegmentSink) -> Option<Result<(), SnapshotError>> {
        if self.is_increment() {
            // What an increment leaves out is in an earlier checkpoint, over or not.
            return self.rows.write_segments(sink);
        }
        self.rows.write_segments(&mut LivingSegments {
            sink,
            filter: self.filter,
            deadline: self.deadline,
            kept: Vec::new(),
            over: 0,
        })
    }

    fn failure(&self) -> Option<StateError> {
        self.rows.failure()
    }

    #[cfg(feature = "rocksdb")]
    fn column(&self) -> Option<&crate::rocksdb::FrozenColumn> {
        self.rows.column()
    }
}

/// Takes segments, and hands on what lives of them.
struct LivingSegments<'a> {
    sink: &'a mut dyn SegmentSink,
    filter: RowFilter,
    deadline: WallTime,
    kept: Vec<u8>,
    /// Rows of the segment at hand that are over.
    over: u64,
}

impl SegmentSink for LivingSegments<'_> {
    fn reaches(&self, segment: &WrittenSegment) -> bool {
        self.sink.reaches(segment)
    }

    fn refer(&mut self, segment: &WrittenSegment) -> Result<(), SnapshotError> {
        self.sink.refer(segment)
    }

    fn begin_segment(&mut self, keys: SegmentKeys, upon: Option<&WrittenSegment>) -> Result<(), SnapshotError> {
        self.over = 0;
        self.sink.begin_segment(keys, upon)
    }

    fn put(&mut self, key_group: u32, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        match living((self.filter, self.deadline), value, &mut self.kept) {
            Some(value) => self.sink.put(key_group, key, value),
            None => {
                self.over += 1;
                Ok(())
            }
        }
    }

    fn remove(&mut self, key_group: u32, key: &[u8]) -> Result<(), SnapshotError> {
        self.sink.remove(key_group, key)
    }

    fn end_segment(&mut self, rows: u64, earliest: Vec<i64>) -> Result<WrittenSegment, SnapshotError> {
        self.sink.end_segment(rows - self.over, earliest)
    }
}
