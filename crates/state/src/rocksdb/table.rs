//! The table of one state: decoded values of the keys in use, in front of the database.

use std::mem;
use std::sync::Arc;

use hashbrown::HashTable;
use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::row::RowError;
use streamd_core::state::{Key, State, from_row};

use super::cut::{Cut, FrozenColumn};
use super::database::{Database, DatabaseError};
use super::log::RowLog;
use super::memory::SlotMemory;

/// A table of a slot that is over its budget keeps this part of the budget whatever the others hold: enough for some batches.
const KEPT_FRACTION: usize = 8;

/// How far below the budget an eviction goes, as a fraction of the budget: so that it does not follow every batch.
const EVICTED_FRACTION: usize = 16;

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

/// A key that is known: with its value, or without one.
struct Slot<K, V> {
    hash: u64,
    key: K,
    value: Option<V>,
    /// About what it takes, the table's own part included.
    bytes: usize,
    /// Used since the hand of the clock was here.
    used: bool,
    /// The value is not what the database has.
    dirty: bool,
    /// The database has a row, which goes if there is no value.
    stored: bool,
}

/// Values by key, for the keys of a range of key groups, of which most may be on disk.
///
/// A batch's keys are [touched](Self::touch) first: that is where rows are read and evicted, and what can fail. Between two
/// touches nothing is evicted, so that the other methods find what they need.
pub struct CachedTable<K, V> {
    column: String,
    max_parallelism: u32,
    key_groups: KeyGroupRange,
    slots: HashTable<Slot<K, V>>,
    /// The bucket that the clock looks at next.
    hand: usize,
    /// About what the slots take.
    bytes: usize,
    /// What of it the slot's budget was told.
    told: usize,
    memory: SlotMemory,
    database: Option<Arc<Database>>,
    /// Keys with a value, wherever it is.
    rows: u64,
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
            slots: HashTable::new(),
            hand: 0,
            bytes: 0,
            told: 0,
            memory,
            database: None,
            rows: 0,
            keys: KeyBuffer::default(),
            missing: Vec::new(),
            log: RowLog::default(),
        }
    }

    /// The database that holds the rows, and how many these are.
    pub fn attach(&mut self, database: Arc<Database>, rows: u64) {
        self.database = Some(database);
        self.rows = rows;
    }

    /// Whether it has a database.
    pub fn is_attached(&self) -> bool {
        self.database.is_some()
    }

    /// The number of keys with a value.
    pub fn len(&self) -> u64 {
        self.rows
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The number of keys that are held in memory, for tests and measurements.
    pub fn held(&self) -> usize {
        self.slots.len()
    }

    /// Fetches what is not in memory of these keys, after making room.
    pub fn touch(&mut self, keys: &[(u64, K)]) -> Result<(), TableError> {
        self.make_room()?;
        self.missing.clear();
        self.keys.clear();
        for (position, (hash, key)) in keys.iter().enumerate() {
            match self.slots.find_mut(*hash, |slot| slot.key == *key) {
                Some(slot) => slot.used = true,
                None => {
                    self.missing.push(position);
                    self.keys.push(group_of(*hash, self.max_parallelism), key);
                }
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
        let slot = self.slots.find(hash, |slot| slot.key == *key);
        slot.expect("the key of a record is touched before its state is read")
            .value
            .as_ref()
    }

    /// The value of a key that was touched, to change.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        let slot = touched(&mut self.slots, hash, key);
        slot.dirty |= slot.value.is_some();
        slot.value.as_mut()
    }

    /// The value of a key that was touched, which becomes `default()` if there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, hash: u64, key: &K, default: impl FnOnce() -> V) -> &mut V {
        let slot = touched(&mut self.slots, hash, key);
        slot.dirty = true;
        self.rows += u64::from(slot.value.is_none());
        slot.value.get_or_insert_with(default)
    }

    /// Sets the value of a key that was touched, and returns the one it had.
    #[inline]
    pub fn insert(&mut self, hash: u64, key: &K, value: V) -> Option<V> {
        let slot = touched(&mut self.slots, hash, key);
        slot.dirty = true;
        let before = slot.value.replace(value);
        self.rows += u64::from(before.is_none());
        before
    }

    /// Forgets the value of a key that was touched, and returns it.
    #[inline]
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        let slot = touched(&mut self.slots, hash, key);
        let before = slot.value.take();
        slot.dirty = slot.stored;
        self.rows -= u64::from(before.is_some());
        before
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
    pub(super) fn take_dirty(&mut self) -> (String, RowLog) {
        let mut log = RowLog::default();
        let max_parallelism = self.max_parallelism;
        let mut bytes = self.bytes;
        for slot in &mut self.slots {
            if slot.dirty {
                bytes -= slot.bytes;
                append(&mut log, slot, max_parallelism);
                bytes += slot.bytes;
            }
        }
        self.bytes = bytes;
        self.tell_budget();
        (self.column.clone(), log)
    }

    /// The state in a cut that was just taken.
    pub(super) fn frozen(&self, cut: Arc<Cut>) -> FrozenColumn {
        FrozenColumn::new(cut, self.column.clone(), self.rows)
    }

    /// Writes everything that the database does not have.
    fn write_down(&mut self) -> Result<(), DatabaseError> {
        let (column, log) = self.take_dirty();
        match &self.database {
            Some(database) => database.write(&column, &log),
            None => Ok(()),
        }
    }

    fn load(&mut self, keys: &[(u64, K)], missing: &[usize], buffer: &KeyBuffer) -> Result<(), TableError> {
        if self.rows == 0 && self.slots.is_empty() {
            // A fresh state: nothing is below, and nothing was removed that could be.
            return self.add_absent(keys, missing);
        }
        let database = self.database.clone();
        let Some(database) = database else {
            return self.add_absent(keys, missing);
        };
        let column = mem::take(&mut self.column);
        let mut malformed = None;
        let read = database.get_all(&column, buffer.keys(), |position, value| {
            let (hash, key) = &keys[missing[position]];
            match value.map(from_row::<V>).transpose() {
                Ok(decoded) => self.add(*hash, key, decoded, value.map_or(0, <[u8]>::len)),
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
            self.add(*hash, key, None, 0);
        }
        Ok(())
    }

    fn add(&mut self, hash: u64, key: &K, value: Option<V>, encoded: usize) {
        // One key may be several times in a batch.
        if self.slots.find(hash, |slot| slot.key == *key).is_some() {
            return;
        }
        let group = group_of(hash, self.max_parallelism);
        assert!(
            self.key_groups.contains(u32::from(group)),
            "a record of key group {group} was sent to the owner of the key groups {}",
            self.key_groups
        );
        let slot = Slot {
            hash,
            key: key.clone(),
            stored: value.is_some(),
            value,
            bytes: Self::slot_bytes() + encoded,
            used: true,
            dirty: false,
        };
        self.bytes += slot.bytes;
        self.slots.insert_unique(hash, slot, |slot| slot.hash);
    }

    /// Evicts where the slot is over its budget.
    fn make_room(&mut self) -> Result<(), DatabaseError> {
        let limit = self.memory.limit();
        if self.memory.used() <= limit || self.bytes <= limit / KEPT_FRACTION {
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
        self.evict(self.bytes.saturating_sub(surplus).max(limit / KEPT_FRACTION));
        let log = mem::take(&mut self.log);
        let written = database.write(&self.column, &log);
        self.log = log;
        self.log.clear();
        self.tell_budget();
        written
    }

    /// Takes slots out that were not used for a turn of the clock, until the rest takes no more than `target`. What the database
    /// has to be told is in the log then.
    fn evict(&mut self, target: usize) {
        // Two turns at most: after the first no slot counts as used.
        let mut steps = self.slots.num_buckets().saturating_mul(2);
        while self.bytes > target && steps > 0 {
            steps -= 1;
            if self.hand >= self.slots.num_buckets() {
                self.hand = 0;
            }
            let bucket = self.hand;
            self.hand += 1;
            let Some(slot) = self.slots.get_bucket_mut(bucket) else {
                continue;
            };
            if mem::replace(&mut slot.used, false) {
                continue;
            }
            self.bytes -= slot.bytes;
            if slot.dirty {
                append(&mut self.log, slot, self.max_parallelism);
            }
            if let Ok(entry) = self.slots.get_bucket_entry(bucket) {
                entry.remove();
            }
        }
    }

    fn tell_budget(&mut self) {
        self.memory.resized(self.told, self.bytes);
        self.told = self.bytes;
    }
}

impl<K, V> Drop for CachedTable<K, V> {
    fn drop(&mut self) {
        self.memory.resized(self.told, 0);
    }
}

#[inline]
fn touched<'a, K: Key, V>(slots: &'a mut HashTable<Slot<K, V>>, hash: u64, key: &K) -> &'a mut Slot<K, V> {
    slots
        .find_mut(hash, |slot| slot.key == *key)
        .expect("the key of a record is touched before its state is written")
}

/// Adds what the database has to be told of a slot, which then counts as written.
fn append<K: State, V: State>(log: &mut RowLog, slot: &mut Slot<K, V>, max_parallelism: u32) {
    let group = group_of(slot.hash, max_parallelism).to_be_bytes();
    let key = |row: &mut Vec<u8>| {
        row.extend_from_slice(&group);
        slot.key.encode(row);
    };
    match &slot.value {
        Some(value) => {
            let encoded = log.put(key, |row| value.encode(row));
            slot.bytes = CachedTable::<K, V>::slot_bytes() + encoded;
        }
        None if slot.stored => log.delete(key),
        None => {}
    }
    slot.stored = slot.value.is_some();
    slot.dirty = false;
}

impl<K, V> CachedTable<K, V> {
    /// What a slot takes beside what its key and value own.
    const fn slot_bytes() -> usize {
        size_of::<Slot<K, V>>() * 8 / 7 + 1
    }
}

fn group_of(hash: u64, max_parallelism: u32) -> u16 {
    u16::try_from(key_group_of(hash, max_parallelism)).expect("there are at most 32768 key groups")
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

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }
}
