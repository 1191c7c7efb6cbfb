//! The table of a state without the type of its values: what a backend asks of it.

use std::any::Any;

use streamd_core::id::CheckpointId;
use streamd_core::row::RowError;
use streamd_core::state::{Key, State, from_row};

use crate::error::StateError;
use crate::frozen_state::FrozenRows;
use crate::missing::Missing;
use crate::table::Table;
use crate::timed::Moment;

/// What became of an inserted row.
pub(crate) enum Inserted {
    New,
    Replaced,
}

/// Rows of a snapshot as keys and values: made by any thread, to be put into the table by its own.
pub(crate) trait DecodedRows<K>: Any + Send {
    fn push(&mut self, hash: u64, key: K, value: &[u8]) -> Result<(), RowError>;
}

impl<K: Key, V: State> DecodedRows<K> for Vec<(u64, K, V)> {
    fn push(&mut self, hash: u64, key: K, value: &[u8]) -> Result<(), RowError> {
        Vec::push(self, (hash, key, from_row(value)?));
        Ok(())
    }
}

/// Makes room for so many rows.
pub(crate) type RoomForRows<K> = fn(usize) -> Box<dyn DecodedRows<K>>;

/// A table whose values have any type.
pub(crate) trait StateTable<K>: Any + Send {
    fn touch(&mut self, keys: &[(u64, K)]) -> Result<(), StateError>;
    fn reserve(&mut self, rows: u64);
    /// Puts in a row of a snapshot; where the operator looks for it by time, its moments are added to those that have `arrived`.
    fn insert_row(
        &mut self,
        hash: u64,
        key: K,
        value: &[u8],
        arrived: &mut Vec<Moment<K>>,
    ) -> Result<Inserted, RowError>;
    /// Where its rows are decoded into.
    fn room_for_rows(&self) -> RoomForRows<K>;
    /// Puts in rows of a snapshot that were decoded into such room. Errors with the hash of a key that is there already.
    fn insert_decoded(&mut self, rows: Box<dyn DecodedRows<K>>, arrived: &mut Vec<Moment<K>>) -> Result<(), u64>;
    /// What of its rows is still in a snapshot.
    fn missing(&self) -> Option<&Missing>;
    /// The same from now on; returns what it was. Only of a table on the heap.
    fn set_missing(&mut self, missing: Option<Box<Missing>>) -> Option<Box<Missing>>;
    /// Frozen rows of the heap.
    fn freeze_rows(&mut self) -> Option<Box<dyn FrozenRows>>;
    /// Frozen rows of the heap, for a checkpoint that builds upon another.
    fn freeze_increment(
        &mut self,
        checkpoint: (CheckpointId, Option<CheckpointId>),
        place: &str,
    ) -> Option<Box<dyn FrozenRows>>;
    /// Checkpoints build upon no others any more.
    fn stop_tracking(&mut self);
    /// The table, if its rows are in a database.
    #[cfg(feature = "rocksdb")]
    fn column(&mut self) -> Option<&mut dyn crate::rocksdb::Column>;
}

impl<K: Key, V: State> StateTable<K> for Table<K, V> {
    fn touch(&mut self, keys: &[(u64, K)]) -> Result<(), StateError> {
        Self::touch(self, keys)
    }

    fn reserve(&mut self, rows: u64) {
        match self {
            Self::Heap(table, _) => table.reserve(rows),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => {}
        }
    }

    fn insert_row(
        &mut self,
        hash: u64,
        key: K,
        value: &[u8],
        arrived: &mut Vec<Moment<K>>,
    ) -> Result<Inserted, RowError> {
        Ok(self.restore(hash, key, from_row(value)?, arrived))
    }

    fn room_for_rows(&self) -> RoomForRows<K> {
        |rows| Box::new(Vec::<(u64, K, V)>::with_capacity(rows))
    }

    fn insert_decoded(&mut self, rows: Box<dyn DecodedRows<K>>, arrived: &mut Vec<Moment<K>>) -> Result<(), u64> {
        let rows: Box<dyn Any> = rows;
        let rows = rows.downcast::<Vec<(u64, K, V)>>();
        for (hash, key, value) in *rows.expect("rows are put into the table that they were decoded for") {
            if let Inserted::Replaced = self.restore(hash, key, value, arrived) {
                return Err(hash);
            }
        }
        Ok(())
    }

    fn missing(&self) -> Option<&Missing> {
        match self {
            Self::Heap(_, missing) => missing.as_deref(),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => None,
        }
    }

    fn set_missing(&mut self, missing: Option<Box<Missing>>) -> Option<Box<Missing>> {
        match self {
            Self::Heap(_, present) => std::mem::replace(present, missing),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => None,
        }
    }

    fn freeze_rows(&mut self) -> Option<Box<dyn FrozenRows>> {
        match self {
            Self::Heap(table, _) => Some(Box::new(table.freeze())),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => None,
        }
    }

    fn freeze_increment(
        &mut self,
        (checkpoint, base): (CheckpointId, Option<CheckpointId>),
        place: &str,
    ) -> Option<Box<dyn FrozenRows>> {
        match self {
            Self::Heap(table, _) => Some(Box::new(table.freeze_increment(checkpoint, base, place))),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => None,
        }
    }

    fn stop_tracking(&mut self) {
        match self {
            Self::Heap(table, _) => table.stop_tracking(),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => {}
        }
    }

    #[cfg(feature = "rocksdb")]
    fn column(&mut self) -> Option<&mut dyn crate::rocksdb::Column> {
        match self {
            Self::Heap(..) => None,
            Self::RocksDb(table) => Some(&mut **table),
        }
    }
}

impl<K: Key, V: State> Table<K, V> {
    fn restore(&mut self, hash: u64, key: K, value: V, arrived: &mut Vec<Moment<K>>) -> Inserted {
        match self {
            Self::Heap(table, _) => {
                table.moments_of(&value, &mut |kind, time| {
                    arrived.push(Moment {
                        kind,
                        time,
                        hash,
                        key: key.clone(),
                    });
                });
                match table.insert(hash, &key, value) {
                    None => Inserted::New,
                    Some(_) => Inserted::Replaced,
                }
            }
            // Its rows are loaded by files; that they are values of the state was the question.
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => Inserted::New,
        }
    }
}
