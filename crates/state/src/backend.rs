//! The keyed state of one operator in one subtask: its tables by name.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::row::{DataType, MAX_TYPE_DEPTH, RowError};
use streamd_core::state::{Key, State, from_row};

use crate::error::StateError;
use crate::heap::{FrozenTable, HeapTable, RowVisitor};

/// Tables of fewer shards stay in the second-level cache by themselves: touching their keys first would cost more than it saves.
const TOUCHED_SHARDS: usize = 16;

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
}

/// The rows of a state as they were at a barrier.
pub trait FrozenRows: Send {
    /// How many there are.
    fn rows(&self) -> u64;

    /// Calls `visit` with key group, encoded key and encoded value of every row, in order of key group, until it breaks.
    fn try_for_each_row(&self, visit: &mut RowVisitor<'_>) -> ControlFlow<()>;
}

impl<K: Key, V: State> FrozenRows for FrozenTable<K, V> {
    fn rows(&self) -> u64 {
        Self::rows(self)
    }

    fn try_for_each_row(&self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        Self::try_for_each_row(self, visit)
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

/// The keyed states of one operator in one subtask, on the heap. All have the same keys: those of the subtask's key groups.
pub struct KeyedStateBackend<K: Key> {
    key_groups: KeyGroupRange,
    max_parallelism: u32,
    states: Vec<Registered<K>>,
}

struct Registered<K> {
    descriptor: StateDescriptor,
    table: Box<dyn StateTable<K>>,
}

impl<K: Key> KeyedStateBackend<K> {
    /// A backend without states, for the keys of these groups out of `max_parallelism`.
    pub fn new(key_groups: KeyGroupRange, max_parallelism: u32) -> Self {
        Self {
            key_groups,
            max_parallelism,
            states: Vec::new(),
        }
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
        };
        let depth = descriptor.key.depth().max(descriptor.value.depth());
        if depth > MAX_TYPE_DEPTH {
            return Err(StateError::TypeTooDeep {
                state: name.to_owned(),
                depth,
            });
        }
        let index = self.states.len();
        let table = HeapTable::<K, V>::new(self.key_groups, self.max_parallelism);
        self.states.push(Registered {
            descriptor,
            table: Box::new(table),
        });
        Ok(StateId {
            index,
            value: PhantomData,
        })
    }

    /// The table of a state. Look it up once for a batch, not for each record.
    ///
    /// # Panics
    /// If the id is another backend's.
    #[inline]
    pub fn table<V: State>(&self, id: StateId<V>) -> &HeapTable<K, V> {
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
    pub fn table_mut<V: State>(&mut self, id: StateId<V>) -> &mut HeapTable<K, V> {
        let table: &mut dyn Any = &mut *self.states[id.index].table;
        table
            .downcast_mut()
            .expect("a state id is used with the backend that gave it out")
    }

    /// Prepares the next accesses to a few dozen keys: the cache misses of all of them, in the tables that are too large for
    /// the cache, happen at once. See [`HeapTable::touch`].
    #[inline]
    pub fn touch(&self, keys: &[(u64, K)]) {
        for state in &self.states {
            state.table.touch(keys);
        }
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

    /// As [`restore_row`](Self::restore_row), by [`position`](Self::position). Errors as well if the row was `stored` in
    /// another key group than its own.
    pub(crate) fn restore_row_at(
        &mut self,
        index: usize,
        stored: Option<u32>,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StateError> {
        let (key_groups, max_parallelism) = (self.key_groups, self.max_parallelism);
        let Registered { descriptor, table } = &mut self.states[index];
        let state = || descriptor.name.clone();
        let malformed = |part| {
            move |source| StateError::MalformedRow {
                state: state(),
                part,
                source,
            }
        };
        let key: K = from_row(key).map_err(malformed("key"))?;
        let hash = key.stable_hash();
        let key_group = key_group_of(hash, max_parallelism);
        if !key_groups.contains(key_group) {
            return Err(StateError::ForeignKeyGroup {
                state: state(),
                key_group,
                key_groups,
            });
        }
        if let Some(stored) = stored.filter(|&stored| stored != key_group) {
            return Err(StateError::MisplacedRow {
                state: state(),
                stored,
                key_group,
            });
        }
        match table.insert_row(hash, key, value).map_err(malformed("value"))? {
            Inserted::New => Ok(()),
            Inserted::Replaced => Err(StateError::DuplicateKey {
                state: state(),
                key_group,
            }),
        }
    }

    /// Where a state is among [`descriptors`](Self::descriptors).
    pub(crate) fn position(&self, state: &str) -> Option<usize> {
        self.states
            .iter()
            .position(|registered| registered.descriptor.name == state)
    }

    /// All states as they are now, in the order of their registration: what is written later does not show in them.
    /// Takes a pointer for each shard of each table.
    pub fn freeze(&mut self) -> Vec<FrozenState> {
        let key_groups = self.key_groups;
        self.states
            .iter_mut()
            .map(|Registered { descriptor, table }| FrozenState {
                name: descriptor.name.clone(),
                key: descriptor.key.clone(),
                value: descriptor.value.clone(),
                key_groups,
                rows: table.freeze_rows(),
            })
            .collect()
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

/// What became of an inserted row.
enum Inserted {
    New,
    Replaced,
}

/// A table whose values have any type.
trait StateTable<K>: Any + Send {
    fn touch(&self, keys: &[(u64, K)]);
    fn reserve(&mut self, rows: u64);
    fn insert_row(&mut self, hash: u64, key: K, value: &[u8]) -> Result<Inserted, RowError>;
    fn freeze_rows(&mut self) -> Box<dyn FrozenRows>;
}

impl<K: Key, V: State> StateTable<K> for HeapTable<K, V> {
    fn touch(&self, keys: &[(u64, K)]) {
        if self.shard_count() >= TOUCHED_SHARDS {
            keys.iter().for_each(|(hash, key)| Self::touch(self, *hash, key));
        }
    }

    fn reserve(&mut self, rows: u64) {
        Self::reserve(self, rows);
    }

    fn insert_row(&mut self, hash: u64, key: K, value: &[u8]) -> Result<Inserted, RowError> {
        let value = from_row(value)?;
        Ok(match self.insert(hash, &key, value) {
            None => Inserted::New,
            Some(_) => Inserted::Replaced,
        })
    }

    fn freeze_rows(&mut self) -> Box<dyn FrozenRows> {
        Box::new(self.freeze())
    }
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
