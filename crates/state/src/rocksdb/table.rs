//! The table of one state: decoded values of the keys in use, in front of the database.

use std::mem;
use std::sync::Arc;

use streamd_core::key_group::KeyGroupRange;
use streamd_core::row::RowError;
use streamd_core::state::{Key, State, from_row};

use super::cut::{Cut, FrozenColumn};
use super::database::{Database, DatabaseError};
use super::log::RowLog;
use super::memory::SlotMemory;
use super::slice::RowCount;
use super::working_set::{DirtySlots, Slot, UnwrittenRows, WorkingSet, group_of};
use crate::huge_pages;

/// A table of a slot that is over its budget keeps this part of the budget whatever the others hold: enough for some batches.
const KEPT_FRACTION: usize = 8;

/// How far below the budget an eviction goes, as a fraction of the budget: so that it does not follow every batch.
const EVICTED_FRACTION: usize = 16;

/// Bytes that a batch waits for to be evicted at most, unless the one before it brought more: writing them takes a few milliseconds.
/// What is over the budget after a cut goes with the batches that follow.
const EVICTED_AT_ONCE: usize = 512 << 10;

/// How far above its budget a slot may be while a cut waits to be written: beyond, the slot writes it itself.
const PENDING_FACTOR: usize = 2;

/// Why a table's rows cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A row that is no value of the state.
    #[error("a row cannot be decoded")]
    Row(#[from] RowError),
}

/// Values by key, for the keys of a range of key groups, of which most may be on disk.
///
/// A batch's keys are [touched](Self::touch) first: that is where rows are read and evicted, and what can fail. Between two
/// touches nothing is evicted, so that the other methods find what they need.
pub struct CachedTable<K, V> {
    column: String,
    max_parallelism: u32,
    key_groups: KeyGroupRange,
    set: WorkingSet<K, V>,
    /// About what the keys in memory take, as the slot's budget was told.
    told: usize,
    /// The same when the batch before was touched.
    told_before: usize,
    memory: SlotMemory,
    database: Option<Arc<Database>>,
    /// Keys with a value, wherever it is.
    rows: RowCount,
    /// Whether the database may have rows: in a fresh state no key need be looked for.
    is_below: bool,
    keys: KeyBuffer,
    missing: Vec<usize>,
    log: RowLog,
}

impl<K: Key, V: State> CachedTable<K, V> {
    /// An empty table for the keys of these groups, without a database yet.
    pub fn new(column: &str, key_groups: KeyGroupRange, max_parallelism: u32, memory: SlotMemory) -> Self {
        Self {
            column: column.to_owned(),
            max_parallelism,
            key_groups,
            set: WorkingSet::new(max_parallelism, memory.limit()),
            told: 0,
            told_before: 0,
            memory,
            database: None,
            rows: RowCount::default(),
            is_below: false,
            keys: KeyBuffer::default(),
            missing: Vec::new(),
            log: RowLog::default(),
        }
    }

    /// The database that holds the rows, and how many these are.
    pub fn attach(&mut self, database: Arc<Database>, rows: RowCount) {
        self.database = Some(database);
        self.is_below = rows.now() > 0;
        self.rows = rows;
    }

    /// Whether it has a database.
    pub fn is_attached(&self) -> bool {
        self.database.is_some()
    }

    /// The number of keys with a value. An estimate until the rows were counted of a database that was written for more key groups.
    pub fn len(&self) -> u64 {
        self.rows.now()
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of keys that are held in memory, for tests and measurements.
    pub fn held(&self) -> usize {
        self.set.len()
    }

    /// Fetches what is not in memory of these keys, after making room.
    pub fn touch(&mut self, keys: &[(u64, K)]) -> Result<(), TableError> {
        self.set.measure_sample(&mut self.log);
        let grown = self.told.saturating_sub(self.told_before);
        self.make_room(grown)?;
        self.told_before = self.told;
        self.missing.clear();
        self.keys.clear();
        for (position, (hash, key)) in keys.iter().enumerate() {
            if !self.set.touch(*hash, key) {
                self.missing.push(position);
                self.keys.push(group_of(*hash, self.max_parallelism), key);
            }
        }
        if self.missing.is_empty() {
            return Ok(());
        }
        let (missing, buffer) = (mem::take(&mut self.missing), mem::take(&mut self.keys));
        let loaded = self.load(keys, &missing, &buffer);
        (self.missing, self.keys) = (missing, buffer);
        self.tell_budget();
        loaded
    }

    /// The value of a key that was touched.
    ///
    /// # Panics
    /// If the key was not touched: it must not seem absent.
    #[inline]
    pub fn get(&self, hash: u64, key: &K) -> Option<&V> {
        let slot = self.set.get(hash, key);
        slot.expect("the key of a record is touched before its state is read")
            .value
            .as_ref()
    }

    /// The value of a key that was touched, to change.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        self.get(hash, key)?;
        self.change(hash, key).as_mut()
    }

    /// The value of a key that was touched, which becomes `default()` if there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, hash: u64, key: &K, default: impl FnOnce() -> V) -> &mut V {
        let generation = self.set.generation();
        let value = touched(&mut self.set, hash, key).change(generation);
        if value.is_none() {
            self.rows.add();
        }
        value.get_or_insert_with(default)
    }

    /// Sets the value of a key that was touched, and returns the one it had.
    #[inline]
    pub fn insert(&mut self, hash: u64, key: &K, value: V) -> Option<V> {
        let before = self.change(hash, key).replace(value);
        if before.is_none() {
            self.rows.add();
        }
        before
    }

    /// Forgets the value of a key that was touched, and returns it.
    #[inline]
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        let before = self.change(hash, key).take();
        self.rows.remove(u64::from(before.is_some()));
        before
    }

    /// The value of a key that was touched, which counts as changed.
    #[inline]
    fn change(&mut self, hash: u64, key: &K) -> &mut Option<V> {
        let generation = self.set.generation();
        touched(&mut self.set, hash, key).change(generation)
    }

    /// Calls `visit` with every key and value.
    pub fn for_each(&mut self, visit: &mut dyn FnMut(&K, &V)) -> Result<(), TableError> {
        self.write_down()?;
        let Some(database) = &self.database else {
            return Ok(());
        };
        let mut malformed = None;
        database.for_each(&self.column, &mut |key, value| {
            let row = decode_key::<K>(key).and_then(|key| Ok((key, from_row::<V>(value)?)));
            match row {
                Ok((key, value)) => visit(&key, &value),
                Err(error) => malformed = Some(error),
            }
            malformed.is_none()
        })?;
        malformed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The rows that the database does not have yet. The values stay, and count as written: the rows go to
    /// [`Database::cut`].
    pub(super) fn cut(&mut self) -> (String, DirtySlots<K, V>) {
        let dirty = self.set.cut();
        self.is_below |= !dirty.is_empty();
        (self.column.clone(), dirty)
    }

    /// The state in a cut that was just taken.
    pub(super) fn frozen(&self, cut: Arc<Cut>) -> FrozenColumn {
        FrozenColumn::new(cut, self.column.clone(), self.rows.clone())
    }

    /// Writes everything that the database does not have.
    fn write_down(&mut self) -> Result<(), DatabaseError> {
        let Some(database) = self.database.clone() else {
            return Ok(());
        };
        database.settle()?;
        let (column, mut dirty) = self.cut();
        dirty.drain(&mut |log| database.write(&column, log))
    }

    /// The database, if it may have rows and no cut waits to be written into it.
    pub(super) fn settled_database(&self) -> Option<Arc<Database>> {
        let database = self.database.as_ref().filter(|_| self.is_below)?;
        (!database.is_cut_pending()).then(|| Arc::clone(database))
    }

    /// The name of its rows in the database.
    pub(super) fn column(&self) -> &str {
        &self.column
    }

    /// Whether the working set has the key, with or without a value.
    pub(super) fn is_in_memory(&self, key: &K) -> bool {
        self.set.get(key.stable_hash(), key).is_some()
    }

    /// So many rows were removed from the database.
    pub(super) fn forget_rows(&mut self, count: u64) {
        self.rows.remove(count);
    }

    fn load(&mut self, keys: &[(u64, K)], missing: &[usize], buffer: &KeyBuffer) -> Result<(), TableError> {
        let database = self.database.clone().filter(|_| self.is_below);
        let Some(database) = database else {
            return self.add_absent(keys, missing);
        };
        let column = mem::take(&mut self.column);
        let mut malformed = None;
        let read = database.get_all(&column, buffer.keys(), |position, value| {
            let (hash, key) = &keys[missing[position]];
            match value.map(from_row::<V>).transpose() {
                Ok(decoded) => {
                    let encoded = buffer.length(position) + value.map_or(0, <[u8]>::len);
                    self.add(*hash, key, decoded.map(|decoded| (decoded, encoded)));
                }
                Err(error) => malformed = Some(error),
            }
        });
        self.column = column;
        read?;
        malformed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn add_absent(&mut self, keys: &[(u64, K)], missing: &[usize]) -> Result<(), TableError> {
        for &position in missing {
            let (hash, key) = &keys[position];
            self.add(*hash, key, None);
        }
        Ok(())
    }

    /// Adds a key, with the value and the bytes of its row if it has one.
    fn add(&mut self, hash: u64, key: &K, row: Option<(V, usize)>) {
        // One key may be several times in a batch.
        if self.set.touch(hash, key) {
            return;
        }
        let group = group_of(hash, self.max_parallelism);
        assert!(
            self.key_groups.contains(u32::from(group)),
            "a record of key group {group} was sent to the owner of the key groups {}",
            self.key_groups
        );
        match row {
            Some(row) => self.set.insert_read(hash, key.clone(), row),
            None => self.set.insert_new(hash, key.clone()),
        }
    }

    /// Evicts where the slot is over its budget; more than the table has `grown` since it last did.
    fn make_room(&mut self, grown: usize) -> Result<(), DatabaseError> {
        let limit = self.memory.limit();
        if self.memory.used() <= limit || self.told <= limit / KEPT_FRACTION {
            return Ok(());
        }
        let Some(database) = self.database.clone() else {
            return Ok(());
        };
        if database.is_cut_pending() && self.memory.used() <= limit.saturating_mul(PENDING_FACTOR) {
            return Ok(());
        }
        database.settle()?;
        let surplus = self.memory.used().saturating_sub(limit) + limit / EVICTED_FRACTION;
        let evicted = surplus.min(EVICTED_AT_ONCE.max(grown * 2));
        let target = self.set.bytes().saturating_sub(evicted).max(limit / KEPT_FRACTION);
        let mut log = mem::take(&mut self.log);
        self.set.evict(target, &mut log);
        self.is_below |= !log.is_empty();
        let written = database.write(&self.column, &log);
        log.clear();
        self.log = log;
        self.tell_budget();
        written
    }

    fn tell_budget(&mut self) {
        let bytes = self.set.bytes();
        huge_pages::take_for(bytes);
        self.memory.resized(self.told, bytes);
        self.told = bytes;
    }
}

impl<K, V> Drop for CachedTable<K, V> {
    fn drop(&mut self) {
        self.memory.resized(self.told, 0);
    }
}

#[inline]
fn touched<'a, K: Key, V: State>(set: &'a mut WorkingSet<K, V>, hash: u64, key: &K) -> &'a mut Slot<K, V> {
    set.get_mut(hash, key)
        .expect("the key of a record is touched before its state is written")
}

/// The key behind its key group.
pub(super) fn decode_key<K: State>(stored: &[u8]) -> Result<K, RowError> {
    from_row(stored.get(2..).unwrap_or_default())
}

/// Encoded keys, one behind the other.
#[derive(Debug, Default)]
struct KeyBuffer {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl KeyBuffer {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push<K: State>(&mut self, group: u16, key: &K) {
        self.bytes.extend_from_slice(&group.to_be_bytes());
        key.encode(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Bytes of one of them.
    fn length(&self, position: usize) -> usize {
        let start = position.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.ends[position] - start
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }
}
