//! The keyed state of one operator in one subtask: its tables by name.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use streamd_core::barrier::{Barrier, Increment, SnapshotKind};
use streamd_core::evolution::Evolution;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::row::{DataType, MAX_TYPE_DEPTH};
use streamd_core::state::{Key, State};
use streamd_core::time::WallTime;
use streamd_snapshot::LocalCopies;

use crate::choice::{SlotBackend, StatePlace, Store};
use crate::error::StateError;
use crate::expiring::Expire;
use crate::frozen_state::{FrozenRows, FrozenState, NoRows};
use crate::lifetime::{Lifetime, TimeToLive};
#[cfg(feature = "rocksdb")]
use crate::rocksdb::CachedTable;
use crate::state_table::DecodedRows;
use crate::table::Table;

mod later;
mod registered;
mod timed;

pub use later::Restoring;
use registered::Registered;
pub(crate) use registered::{RowDecoder, StoredAt};

/// Names a state of a backend, with the type of its values. Valid only with the backend that gave it out.
pub struct StateId<V> {
    index: usize,
    value: PhantomData<fn() -> V>,
}

// By hand: a derive would ask `V: Copy`.
impl<V> Clone for StateId<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for StateId<V> {}

impl<V> fmt::Debug for StateId<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateId({})", self.index)
    }
}

/// A registered state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDescriptor {
    /// Its name within the operator.
    pub name: String,
    /// The schema of the keys.
    pub key: DataType,
    /// The schema of the values.
    pub value: DataType,
    /// What the types within the value say of their older versions.
    pub evolution: Evolution,
}

/// The keyed states of one operator in one subtask. All have the same keys: those of the subtask's key groups.
pub struct KeyedStateBackend<K: Key> {
    key_groups: KeyGroupRange,
    max_parallelism: u32,
    states: Vec<Registered<K>>,
    store: Store,
    /// What time it is for values with a time to live.
    now: WallTime,
    /// Whether there are any.
    expires: bool,
    /// Whether something of a restore is left: rows that are still to come, or files that nobody has read.
    is_restoring: bool,
}

impl<K: Key> KeyedStateBackend<K> {
    /// A backend on the heap, without states, for the keys of these groups out of `max_parallelism`.
    pub fn new(key_groups: KeyGroupRange, max_parallelism: u32) -> Self {
        Self::with_store(Store::Heap { copies: None }, key_groups, max_parallelism)
    }

    /// A backend of the kind that was chosen, without states. Errors if its local files cannot be made.
    pub fn open(
        chosen: &SlotBackend,
        place: &StatePlace,
        key_groups: KeyGroupRange,
        max_parallelism: u32,
    ) -> Result<Self, StateError> {
        Ok(Self::with_store(chosen.store(place)?, key_groups, max_parallelism))
    }

    fn with_store(store: Store, key_groups: KeyGroupRange, max_parallelism: u32) -> Self {
        Self {
            key_groups,
            max_parallelism,
            states: Vec::new(),
            store,
            now: WallTime(0),
            expires: false,
            is_restoring: false,
        }
    }

    /// Says what time it is: before a restore, before keys are [touched](Self::touch), and before a freeze. Only for values with
    /// a time to live.
    #[inline]
    pub fn set_time(&mut self, now: WallTime) {
        self.now = now;
    }

    /// What time it was when somebody said so last.
    #[inline]
    pub fn now(&self) -> WallTime {
        self.now
    }

    /// Whether a state has a time to live.
    #[inline]
    pub fn expires(&self) -> bool {
        self.expires
    }

    /// As [`register`](Self::register), for values that live only so long. Errors as well if that is no time.
    pub fn register_expiring<V: Expire>(&mut self, name: &str, ttl: TimeToLive) -> Result<StateId<V>, StateError> {
        if ttl.millis <= 0 {
            return Err(StateError::TimeToLive {
                state: name.to_owned(),
                millis: ttl.millis,
            });
        }
        let id = self.register(name)?;
        self.states[id.index].lifetime = Some(Lifetime::new::<K, V>(ttl));
        self.expires = true;
        Ok(id)
    }

    /// The key groups whose keys it holds.
    pub fn key_groups(&self) -> KeyGroupRange {
        self.key_groups
    }

    /// Adds an empty state. Errors if the name is taken or a type nests too deep for a snapshot.
    pub fn register<V: State>(&mut self, name: &str) -> Result<StateId<V>, StateError> {
        if self.position(name).is_some() {
            return Err(StateError::DuplicateState { state: name.to_owned() });
        }
        let descriptor = StateDescriptor {
            name: name.to_owned(),
            key: K::data_type(),
            value: V::data_type(),
            evolution: Evolution::of::<V>(),
        };
        let depth = descriptor.key.depth().max(descriptor.value.depth());
        if depth > MAX_TYPE_DEPTH {
            return Err(StateError::TypeTooDeep {
                state: name.to_owned(),
                depth,
            });
        }
        let index = self.states.len();
        let table = match &self.store {
            Store::Heap { .. } => Table::<K, V>::heap(self.key_groups, self.max_parallelism),
            #[cfg(feature = "rocksdb")]
            Store::RocksDb { memory, .. } => {
                let column = crate::rocksdb::column_name(name);
                let table = CachedTable::new(&column, self.key_groups, self.max_parallelism, memory.clone());
                Table::RocksDb(Box::new(table))
            }
        };
        self.states.push(Registered {
            descriptor,
            table: Box::new(table),
            lifetime: None,
            pending: None,
            arrived: Vec::new(),
            #[cfg(feature = "rocksdb")]
            search: None,
        });
        Ok(StateId {
            index,
            value: PhantomData,
        })
    }

    /// Calls `visit` with every key and value of a state, in no particular order. Errors if they cannot be read where they are, or
    /// where they are to be restored from.
    pub fn for_each<V: State>(&mut self, id: StateId<V>, visit: &mut dyn FnMut(&K, &V)) -> Result<(), StateError> {
        self.restore_rest_of(id.index)?;
        self.table_mut(id).for_each(visit)
    }

    /// The table of a state. Look it up once for a batch, not for each record.
    ///
    /// # Panics
    /// If the id is another backend's.
    #[inline]
    pub fn table<V: State>(&self, id: StateId<V>) -> &Table<K, V> {
        let table: &dyn Any = &*self.states[id.index].table;
        table
            .downcast_ref()
            .expect("a state id is used with the backend that gave it out")
    }

    /// The table of a state, to write. Look it up once for a batch, not for each record.
    ///
    /// # Panics
    /// If the id is another backend's.
    #[inline]
    pub fn table_mut<V: State>(&mut self, id: StateId<V>) -> &mut Table<K, V> {
        let table: &mut dyn Any = &mut *self.states[id.index].table;
        table
            .downcast_mut()
            .expect("a state id is used with the backend that gave it out")
    }

    /// Prepares the next accesses to a few dozen keys. On the heap the cache misses of all of them, in the tables that are too
    /// large for the cache, happen at once (see [`HeapTable::prefetch`](crate::HeapTable::prefetch)); from RocksDB their rows are fetched together,
    /// and from a snapshot those that are not restored yet. Call it before the state of a key is read or written; errors if the local
    /// database or the restore fails.
    #[inline]
    pub fn touch(&mut self, keys: &[(u64, K)]) -> Result<(), StateError> {
        if self.is_restoring {
            self.restore_keys(keys)?;
        }
        if self.expires {
            self.sweep(keys.len())?;
        }
        self.states.iter_mut().try_for_each(|state| state.table.touch(keys))
    }

    /// Removes some of what is over, now that so many keys are to be worked on.
    fn sweep(&mut self, keys: usize) -> Result<(), StateError> {
        for Registered { table, lifetime, .. } in &mut self.states {
            if let Some(lifetime) = lifetime {
                lifetime.sweep(&mut **table, keys, self.now)?;
            }
        }
        Ok(())
    }

    /// Prepares an empty state for about this many rows. A hint: unknown names are ignored.
    pub fn reserve(&mut self, state: &str, rows: u64) {
        if let Some(index) = self.position(state) {
            self.states[index].table.reserve(rows);
        }
    }

    /// Adds a row of a snapshot. Errors if the state is unknown, the bytes are no key and value of its types, the key
    /// belongs to another subtask, or the key is already there.
    pub fn restore_row(&mut self, state: &str, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let unknown = || StateError::UnknownState {
            state: state.to_owned(),
        };
        let index = self.position(state).ok_or_else(unknown)?;
        self.restore_row_at(index, None, key, value)
    }

    /// As [`restore_row`](Self::restore_row), by [`position`](Self::position). Errors as well if the row was `stored` where it does
    /// not belong.
    pub(crate) fn restore_row_at(
        &mut self,
        index: usize,
        stored: Option<StoredAt>,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StateError> {
        let place = (self.key_groups, self.max_parallelism);
        self.states[index].restore_row(place, stored, key, value)
    }

    /// Makes keys and values of the rows of a state, by [`position`](Self::position).
    pub(crate) fn decoder(&self, index: usize) -> RowDecoder<K> {
        self.states[index].decoder((self.key_groups, self.max_parallelism))
    }

    /// Adds rows that the decoder of this state has made. Errors if a key is there already.
    pub(crate) fn restore_decoded(&mut self, index: usize, rows: Box<dyn DecodedRows<K>>) -> Result<(), StateError> {
        self.states[index].restore_decoded(self.max_parallelism, rows)
    }

    /// Where a state is among [`descriptors`](Self::descriptors).
    pub(crate) fn position(&self, state: &str) -> Option<usize> {
        self.states
            .iter()
            .position(|registered| registered.descriptor.name == state)
    }

    /// All states as they are now, in the order of their registration: what is written later does not show in them.
    /// Takes a pointer for each shard of each table.
    ///
    /// State in a database is cut, which the writing of it completes; what fails then, the rows tell. So they do if what is left of a
    /// restore cannot be read: it is, before anything is frozen.
    pub fn freeze(&mut self) -> Vec<FrozenState> {
        if let Err(error) = self.restore_rest() {
            return self.failed(&error);
        }
        let rows = self.freeze_rows();
        self.described(rows)
    }

    /// As [`freeze`](Self::freeze), as this barrier wants it: for an incremental checkpoint, without what its base has. A savepoint
    /// changes nothing for the checkpoints before and after it.
    pub fn freeze_at(&mut self, barrier: &Barrier) -> Vec<FrozenState> {
        let options = &barrier.options;
        let base = match (options.kind, options.increment) {
            (SnapshotKind::Savepoint, _) => return self.freeze(),
            (SnapshotKind::Checkpoint, Increment::Off) => {
                self.states.iter_mut().for_each(|state| state.table.stop_tracking());
                return self.freeze();
            }
            (SnapshotKind::Checkpoint, Increment::First) => None,
            (SnapshotKind::Checkpoint, Increment::Since(base)) => Some(base),
        };
        if let Err(error) = self.restore_rest() {
            return self.failed(&error);
        }
        let place = options.location.rsplit_once('/').map_or("", |(place, _)| place);
        let cut = |state: &mut Registered<K>| state.table.freeze_increment((barrier.checkpoint, base), place);
        let rows: Vec<_> = self.states.iter_mut().filter_map(cut).collect();
        if rows.len() == self.states.len() {
            return self.described(rows);
        }
        // Tables that track no changes themselves: those of a database.
        self.freeze()
    }

    /// What cannot be frozen.
    fn failed(&self, error: &StateError) -> Vec<FrozenState> {
        let rows = |_: &Registered<K>| -> Box<dyn FrozenRows> { Box::new(NoRows(error.clone())) };
        self.described(self.states.iter().map(rows).collect())
    }

    fn described(&self, rows: Vec<Box<dyn FrozenRows>>) -> Vec<FrozenState> {
        let key_groups = self.key_groups;
        let mut rows = rows.into_iter();
        self.states
            .iter()
            .filter_map(
                |Registered {
                     descriptor, lifetime, ..
                 }| {
                    let rows = rows.next()?;
                    let rows = match lifetime {
                        Some(lifetime) => lifetime.filtered(rows, self.now),
                        None => rows,
                    };
                    Some(FrozenState {
                        name: descriptor.name.clone(),
                        key: descriptor.key.clone(),
                        value: descriptor.value.clone(),
                        key_groups,
                        rows,
                    })
                },
            )
            .collect()
    }

    /// The rows of each state, in the order of their registration.
    fn freeze_rows(&mut self) -> Vec<Box<dyn FrozenRows>> {
        #[cfg(feature = "rocksdb")]
        if let Some(mut columns) = self.columns() {
            let states = columns.tables.len();
            return match columns.cut() {
                Ok(cut) => cut.into_iter().map(|column| frozen(Ok(column))).collect(),
                Err(error) => (0..states).map(|_| frozen(Err(error.clone()))).collect(),
            };
        }
        self.states
            .iter_mut()
            .filter_map(|state| state.table.freeze_rows())
            .collect()
    }

    /// What has its local files, if it has any.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn instance(&self) -> Option<&crate::rocksdb::Instance> {
        match &self.store {
            Store::Heap { .. } => None,
            Store::RocksDb { instance, .. } => Some(instance),
        }
    }

    /// Where objects of checkpoints are that are on the local disk already.
    pub(crate) fn copies(&self) -> Option<&LocalCopies> {
        match &self.store {
            Store::Heap { copies } => copies.as_ref(),
            // Its files are taken as they are.
            #[cfg(feature = "rocksdb")]
            Store::RocksDb { .. } => None,
        }
    }

    /// Adds a row of a restore to the files of a state, where the tables are in a database.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn load_row(&mut self, column: &str, row: (u32, &[u8], &[u8])) -> Result<(), StateError> {
        match &mut self.store {
            Store::Heap { .. } => Ok(()),
            Store::RocksDb { instance, .. } => Ok(instance.load(column, row)?),
        }
    }

    /// The tables with their database, where they are in one.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn columns(&mut self) -> Option<crate::rocksdb::Columns<'_>> {
        let Store::RocksDb { instance, .. } = &mut self.store else {
            return None;
        };
        let tables = self.states.iter_mut();
        let tables = tables.filter_map(|state| Some((state.descriptor.name.clone(), state.table.column()?)));
        Some(crate::rocksdb::Columns {
            instance,
            tables: tables.collect(),
        })
    }

    /// The registered states, in the order of their registration.
    pub fn descriptors(&self) -> Vec<StateDescriptor> {
        self.states
            .iter()
            .map(|registered| registered.descriptor.clone())
            .collect()
    }
}

impl<K: Key> fmt::Debug for KeyedStateBackend<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.states.iter().map(|registered| &registered.descriptor.name);
        f.debug_struct("KeyedStateBackend")
            .field("key_groups", &self.key_groups)
            .field("states", &names.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "rocksdb")]
fn frozen(column: Result<crate::rocksdb::FrozenColumn, crate::rocksdb::DatabaseError>) -> Box<dyn FrozenRows> {
    Box::new(crate::rocksdb::FrozenDatabase::new(column))
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
