//! A state as it was at a barrier, on its way to a snapshot.

use std::fmt;
use std::ops::ControlFlow;

use streamd_core::key_group::KeyGroupRange;
use streamd_core::row::DataType;
use streamd_core::state::{Key, State};
use streamd_snapshot::{RowBatch, SegmentSink, SnapshotError};

use crate::error::StateError;
use crate::heap::{BatchVisitor, FrozenIncrement, FrozenTable, RowVisitor, hand_on};

/// The rows of a state as they were at a barrier.
pub trait FrozenRows: Send {
    /// How many there are.
    fn rows(&self) -> u64;

    /// Does the part that records may have to wait for, before the thread gives way to those that work on them.
    fn prepare(&self) {}

    /// Calls `visit` with key group, encoded key and encoded value of every row, in order of key group, until it breaks.
    fn try_for_each_row(&self, visit: &mut RowVisitor<'_>) -> ControlFlow<()>;

    /// As [`try_for_each_row`](Self::try_for_each_row), letting go of the rows on the way.
    fn drain_rows(&mut self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        self.try_for_each_row(visit)
    }

    /// As [`drain_rows`](Self::drain_rows), many at a time.
    fn drain_batches(&mut self, visit: &mut BatchVisitor<'_>) -> ControlFlow<()> {
        let mut batch = RowBatch::default();
        self.drain_rows(&mut |key_group, key, value| {
            batch.push(key_group, key, value);
            match batch.is_full() {
                true => hand_on(&mut batch, visit),
                false => ControlFlow::Continue(()),
            }
        })?;
        hand_on(&mut batch, visit)
    }

    /// Whether they may be only what has changed since an earlier checkpoint.
    fn is_increment(&self) -> bool {
        false
    }

    /// Writes them as segments; of an increment what has changed, with references to the rest. Nothing where the rows are not kept so.
    fn write_segments(&mut self, _sink: &mut dyn SegmentSink) -> Option<Result<(), SnapshotError>> {
        None
    }

    /// Why not every row was there, if so: rows on disk can fail.
    fn failure(&self) -> Option<StateError> {
        None
    }

    /// The rows as files of a database, if they are in one.
    #[cfg(feature = "rocksdb")]
    fn column(&self) -> Option<&crate::rocksdb::FrozenColumn> {
        None
    }
}

impl<K: Key, V: State> FrozenRows for FrozenTable<K, V> {
    fn rows(&self) -> u64 {
        Self::rows(self)
    }

    fn try_for_each_row(&self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        Self::try_for_each_row(self, visit)
    }

    fn drain_rows(&mut self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        Self::drain_rows(self, visit)
    }

    fn drain_batches(&mut self, visit: &mut BatchVisitor<'_>) -> ControlFlow<()> {
        Self::drain_batches(self, visit)
    }

    fn write_segments(&mut self, sink: &mut dyn SegmentSink) -> Option<Result<(), SnapshotError>> {
        Some(self.write(sink))
    }
}

impl<K: Key, V: State> FrozenRows for FrozenIncrement<K, V> {
    fn rows(&self) -> u64 {
        Self::rows(self)
    }

    fn try_for_each_row(&self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        Self::try_for_each_row(self, visit)
    }

    fn is_increment(&self) -> bool {
        true
    }

    fn write_segments(&mut self, sink: &mut dyn SegmentSink) -> Option<Result<(), SnapshotError>> {
        Some(self.write(sink))
    }
}

/// Rows that could not be frozen.
pub(crate) struct NoRows(pub(crate) StateError);

impl FrozenRows for NoRows {
    fn rows(&self) -> u64 {
        0
    }

    fn try_for_each_row(&self, _visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn failure(&self) -> Option<StateError> {
        Some(self.0.clone())
    }
}

/// A state as it was at a barrier, ready to be written by another thread.
pub struct FrozenState {
    /// Its name within the operator.
    pub name: String,
    /// The schema of the keys.
    pub key: DataType,
    /// The schema of the values.
    pub value: DataType,
    /// The key groups of the subtask: all rows are in them, and no other subtask has rows in them.
    pub key_groups: KeyGroupRange,
    /// The rows.
    pub rows: Box<dyn FrozenRows>,
}

impl fmt::Debug for FrozenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenState")
            .field("name", &self.name)
            .field("key_groups", &self.key_groups)
            .field("rows", &self.rows.rows())
            .finish_non_exhaustive()
    }
}
