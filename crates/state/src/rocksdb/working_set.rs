//! Decoded values of the keys in use, in shards that a cut freezes: what a barrier takes is a pointer for each shard.
//!
//! ```text
//!   slots ── changed since the last cut? ──▶ dirty: evicted, or cut, into the database
//!     │
//!     └─ cut ─▶ frozen: whoever settles the cut reads the dirty slots; a write meanwhile copies its own slot, and puts it beside
//! ```

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use hashbrown::HashTable;
use streamd_core::key_group::key_group_of;
use streamd_core::state::{Key, State};

use super::database::DatabaseError;
use super::log::RowLog;

/// Slots that a shard is meant to hold: so few that making room for more of them holds no record up for long.
const SHARD_SLOTS: usize = 256;

/// Shards at most: their headers take a few megabytes then.
const MAX_SHARDS: usize = 1 << 16;

/// Bytes that the key and value of a slot are expected to own, for the number of shards.
const EXPECTED_BYTES: usize = 64;

/// What the allocator takes for a piece of memory beside its bytes, on average.
const ALLOCATION_BYTES: usize = 16;

/// One in so many new keys is measured once it has a value.
const SAMPLED_EVERY: u32 = 64;

/// How many rows the average of their bytes goes back.
const AVERAGED_ROWS: usize = 64;

/// Bytes of rows that are handed on at once while a cut is written: sorted, they are many for each part of the write buffer.
const CHUNK_BYTES: usize = 8 << 20;

/// A key that is known: with its value, or without one.
#[derive(Debug)]
pub(super) struct Slot<K, V> {
    hash: u64,
    key: K,
    pub(super) value: Option<V>,
    /// About what it takes, the table's own part included. Measured anew whenever it is written down.
    bytes: AtomicIsize,
    /// The generation in which it was changed; 0 where it is what the database has.
    changed: u32,
    /// The database has a row, which goes if there is no value. As it was before the change.
    stored: bool,
    /// Used since the hand of the clock was here.
    used: bool,
}

impl<K: Clone, V: Clone> Clone for Slot<K, V> {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            key: self.key.clone(),
            value: self.value.clone(),
            bytes: AtomicIsize::new(self.bytes.load(Ordering::Relaxed)),
            changed: self.changed,
            stored: self.stored,
            used: self.used,
        }
    }
}

impl<K: Key, V: State> Slot<K, V> {
    /// What a slot takes beside what its key and value own. Tables double when seven eighths are taken: on average two thirds are.
    const BYTES: usize = size_of::<Self>() * 3 / 2 + 1;

    /// Whether key or value own memory outside of the slot: about as much as their row has bytes, and what an allocation costs.
    const OWNS: bool = mem::needs_drop::<K>() || mem::needs_drop::<V>();

    fn bytes_of(encoded: usize) -> isize {
        let owned = if Self::OWNS { encoded + ALLOCATION_BYTES } else { 0 };
        (Self::BYTES + owned).cast_signed()
    }

    /// A key whose row, of so many bytes, was just read; or which has none, and may get one of so many.
    pub(super) fn new((hash, key): (u64, K), value: Option<V>, encoded: usize) -> Self {
        Self {
            hash,
            key,
            stored: value.is_some(),
            value,
            bytes: AtomicIsize::new(Self::bytes_of(encoded)),
            changed: 0,
            used: true,
        }
    }

    fn bytes(&self) -> isize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the database has to be told of it.
    fn is_dirty(&self, generation: u32) -> bool {
        self.changed == generation && (self.value.is_some() || self.stored)
    }

    /// Its value, to change in this generation.
    pub(super) fn change(&mut self, generation: u32) -> &mut Option<V> {
        self.changed = generation;
        &mut self.value
    }

    /// What was changed in an earlier generation was cut since, and so is in the database.
    fn clean(&mut self, generation: u32) {
        if self.changed != 0 && self.changed != generation {
            self.stored = self.value.is_some();
            self.changed = 0;
        }
    }

    /// Adds what the database has to be told. Returns how many bytes its row has; none if it has no row.
    fn append(&self, log: &mut RowLog, max_parallelism: u32) -> usize {
        let group = group_of(self.hash, max_parallelism).to_be_bytes();
        let key = |row: &mut Vec<u8>| {
            row.extend_from_slice(&group);
            self.key.encode(row);
        };
        match &self.value {
            Some(value) => log.put(key, |row| value.encode(row)),
            None => {
                log.delete(key);
                0
            }
        }
    }

    /// Its row has so many bytes. Returns how much more it takes than was known.
    fn measured(&self, encoded: usize) -> isize {
        let bytes = Self::bytes_of(encoded);
        bytes - self.bytes.swap(bytes, Ordering::Relaxed)
    }
}

type Slots<K, V> = HashTable<Slot<K, V>>;

/// The slots of a part of the keys.
#[derive(Debug)]
enum Shard<K, V> {
    Owned {
        slots: Slots<K, V>,
        /// The last generation in which one of them changed.
        changed: u32,
    },
    /// Read by whoever writes a cut, or was until it was written.
    Frozen {
        base: Arc<Slots<K, V>>,
        /// Slots that are new or were changed since.
        beside: Slots<K, V>,
    },
}

/// The keys that are held in memory.
#[derive(Debug)]
pub(super) struct WorkingSet<K, V> {
    shards: Vec<Shard<K, V>>,
    max_parallelism: u32,
    /// Cuts so far, and one.
    generation: u32,
    /// The shard and the bucket that the clock looks at next.
    hand: (usize, usize),
    slots: usize,
    bytes: isize,
    /// What is to be added to the bytes: found by those who write cuts.
    remeasured: Arc<AtomicIsize>,
    /// What a row has in bytes, on average: new ones are expected to have as many.
    expected: usize,
    /// New keys since one was looked at again.
    unsampled: u32,
    /// A new key whose value is measured once its record is done.
    sample: Option<(u64, K)>,
}

impl<K: Key, V: State> WorkingSet<K, V> {
    /// An empty set, for so many bytes.
    pub(super) fn new(max_parallelism: u32, limit: usize) -> Self {
        let shards = limit / (Slot::<K, V>::BYTES + EXPECTED_BYTES) / SHARD_SLOTS;
        let shards = shards.clamp(1, MAX_SHARDS).next_power_of_two();
        let empty = || Shard::Owned {
            slots: HashTable::new(),
            changed: 0,
        };
        Self {
            shards: std::iter::repeat_with(empty).take(shards).collect(),
            max_parallelism,
            generation: 1,
            hand: (0, 0),
            slots: 0,
            bytes: 0,
            remeasured: Arc::default(),
            expected: 0,
            unsampled: SAMPLED_EVERY,
            sample: None,
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.slots
    }

    /// About what they take.
    pub(super) fn bytes(&mut self) -> usize {
        self.bytes += self.remeasured.swap(0, Ordering::Relaxed);
        usize::try_from(self.bytes).unwrap_or(0)
    }

    /// The generation that slots are changed in.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn get(&self, hash: u64, key: &K) -> Option<&Slot<K, V>> {
        let is_key = |slot: &Slot<K, V>| slot.key == *key;
        match &self.shards[self.shard_of(hash)] {
            Shard::Owned { slots, .. } => slots.find(slot_hash(hash), is_key),
            Shard::Frozen { base, beside } => {
                let written = beside.find(slot_hash(hash), is_key);
                written.or_else(|| base.find(slot_hash(hash), is_key))
            }
        }
    }

    /// Marks a key as used. False if it is not there.
    pub(super) fn touch(&mut self, hash: u64, key: &K) -> bool {
        let is_key = |slot: &Slot<K, V>| slot.key == *key;
        let shard = self.shard_of(hash);
        let slot = match &mut self.shards[shard] {
            Shard::Owned { slots, .. } => slots.find_mut(slot_hash(hash), is_key),
            Shard::Frozen { base, beside } => match beside.find_mut(slot_hash(hash), is_key) {
                Some(slot) => Some(slot),
                // Nothing is evicted while it is frozen: the mark would be of no use.
                None => return base.find(slot_hash(hash), is_key).is_some(),
            },
        };
        slot.map(|slot| slot.used = true).is_some()
    }

    /// The slot of a key, to change: the caller says in which [generation](Self::generation). A copy of it where a cut is being read.
    pub(super) fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut Slot<K, V>> {
        let is_key = |slot: &Slot<K, V>| slot.key == *key;
        let (shard, generation) = (self.take_back(hash), self.generation);
        let slot = match &mut self.shards[shard] {
            Shard::Owned { slots, changed } => {
                *changed = generation;
                slots.find_mut(slot_hash(hash), is_key)?
            }
            Shard::Frozen { base, beside } => {
                if beside.find(slot_hash(hash), is_key).is_none() {
                    let copy = base.find(slot_hash(hash), is_key)?.clone();
                    self.bytes += copy.bytes();
                    beside.insert_unique(slot_hash(hash), copy, rehash);
                }
                beside.find_mut(slot_hash(hash), is_key)?
            }
        };
        slot.clean(generation);
        Some(slot)
    }

    /// Adds a key that is not there, and has no row in the database.
    pub(super) fn insert_new(&mut self, hash: u64, key: K) {
        self.unsampled += 1;
        if Slot::<K, V>::OWNS && self.unsampled >= SAMPLED_EVERY && self.sample.is_none() {
            self.sample = Some((hash, key.clone()));
            self.unsampled = 0;
        }
        self.insert(Slot::new((hash, key), None, self.expected));
    }

    /// Adds a key that is not there, whose row in the database is this value and has so many bytes.
    pub(super) fn insert_read(&mut self, hash: u64, key: K, (value, encoded): (V, usize)) {
        self.expect(encoded);
        self.insert(Slot::new((hash, key), Some(value), encoded));
    }

    /// Looks at a key that was new: only now it has what its record has made of it.
    pub(super) fn measure_sample(&mut self, log: &mut RowLog) {
        let Some((hash, key)) = self.sample.take() else {
            return;
        };
        let max_parallelism = self.max_parallelism;
        let measured = self.get(hash, &key).and_then(|slot| {
            slot.value.as_ref()?;
            let encoded = slot.append(log, max_parallelism);
            Some((encoded, slot.measured(encoded)))
        });
        log.clear();
        if let Some((encoded, more)) = measured {
            self.bytes += more;
            self.expect(encoded);
        }
    }

    /// Takes one more row into the average.
    fn expect(&mut self, encoded: usize) {
        self.expected = match self.expected {
            0 => encoded,
            expected => (expected * (AVERAGED_ROWS - 1) + encoded).div_ceil(AVERAGED_ROWS),
        };
    }

    fn insert(&mut self, slot: Slot<K, V>) {
        let shard = self.take_back(slot.hash);
        self.slots += 1;
        self.bytes += slot.bytes();
        let (Shard::Owned { slots, .. } | Shard::Frozen { beside: slots, .. }) = &mut self.shards[shard];
        slots.insert_unique(slot_hash(slot.hash), slot, rehash);
    }

    /// Takes slots out that were not used for a turn of the clock, until the rest takes no more than `target`. What the database
    /// has to be told goes to the log. Shards that a cut is read from stay as they are.
    pub(super) fn evict(&mut self, target: usize, log: &mut RowLog) {
        // Two turns at most: after the first no slot counts as used.
        let mut shards = self.shards.len() * 2 + 1;
        while self.bytes() > target && shards > 0 {
            shards -= 1;
            self.evict_from(self.hand.0, target, log);
        }
    }

    /// Goes on in one shard, to its end unless the target is reached before.
    fn evict_from(&mut self, number: usize, target: usize, log: &mut RowLog) {
        self.take_back_at(number);
        let Shard::Owned { slots, .. } = &mut self.shards[number] else {
            self.hand = ((number + 1) % self.shards.len(), 0);
            return;
        };
        let target = isize::try_from(target).unwrap_or(isize::MAX);
        let mut bucket = self.hand.1;
        let mut sample = None;
        while bucket < slots.num_buckets() && self.bytes > target {
            if let Ok(mut slot) = slots.get_bucket_entry(bucket)
                && !mem::replace(&mut slot.get_mut().used, false)
            {
                let (slot, _) = slot.remove();
                self.bytes -= slot.bytes();
                self.slots -= 1;
                if slot.is_dirty(self.generation) {
                    let encoded = slot.append(log, self.max_parallelism);
                    sample = slot.value.is_some().then_some(encoded).or(sample);
                }
            }
            bucket += 1;
        }
        self.hand = match bucket < slots.num_buckets() {
            true => (number, bucket),
            false => ((number + 1) % self.shards.len(), 0),
        };
        if let Some(encoded) = sample {
            self.expect(encoded);
        }
    }

    /// The slots that the database has to be told of. From here on they count as told: whatever is written now is of the next
    /// generation.
    ///
    /// An earlier cut is to be settled before.
    pub(super) fn cut(&mut self) -> DirtySlots<K, V> {
        let mut shards = Vec::new();
        for number in 0..self.shards.len() {
            self.take_back_at(number);
            let Shard::Owned { slots, changed } = &mut self.shards[number] else {
                continue;
            };
            if *changed == self.generation {
                let base = Arc::new(mem::take(slots));
                shards.push(Arc::clone(&base));
                self.shards[number] = Shard::Frozen {
                    base,
                    beside: HashTable::new(),
                };
            }
        }
        let generation = self.generation;
        self.generation += 1;
        DirtySlots {
            shards,
            generation,
            max_parallelism: self.max_parallelism,
            remeasured: Arc::clone(&self.remeasured),
        }
    }

    fn shard_of(&self, hash: u64) -> usize {
        // Bits that choose neither the key group nor, in a shard of the usual size, the bucket.
        (hash >> 16) as usize & (self.shards.len() - 1)
    }

    /// The shard of this hash, taken back from its cut if that is written.
    #[inline]
    fn take_back(&mut self, hash: u64) -> usize {
        let number = self.shard_of(hash);
        if let Shard::Frozen { .. } = self.shards[number] {
            self.take_back_at(number);
        }
        number
    }

    #[cold]
    #[inline(never)]
    fn take_back_at(&mut self, number: usize) {
        let Shard::Frozen { base, .. } = &mut self.shards[number] else {
            return;
        };
        if Arc::strong_count(base) > 1 {
            return;
        }
        let fresh = Shard::Owned {
            slots: HashTable::new(),
            changed: self.generation,
        };
        let Shard::Frozen { base, beside } = mem::replace(&mut self.shards[number], fresh) else {
            unreachable!("it was frozen above")
        };
        let mut slots = Arc::unwrap_or_clone(base);
        for slot in beside {
            match slots.find_mut(slot_hash(slot.hash), |known| known.key == slot.key) {
                Some(known) => {
                    self.bytes -= known.bytes();
                    *known = slot;
                }
                None => drop(slots.insert_unique(slot_hash(slot.hash), slot, rehash)),
            }
        }
        if let Shard::Owned { slots: place, .. } = &mut self.shards[number] {
            *place = slots;
        }
    }
}

/// What hashbrown is given as the hash within a shard. (It takes a tag of 7 bits from the top, which may be the same in all keys of a
/// subtask: they choose the key group.)
#[inline]
fn slot_hash(hash: u64) -> u64 {
    (hash & 0xFFFF_FFFF) | (hash >> 9) << 57
}

fn rehash<K, V>(slot: &Slot<K, V>) -> u64 {
    slot_hash(slot.hash)
}

/// The key group that a key is stored under.
pub(super) fn group_of(hash: u64, max_parallelism: u32) -> u16 {
    u16::try_from(key_group_of(hash, max_parallelism)).expect("there are at most 32768 key groups")
}

/// Rows of a state that a cut has to write down before its files are linked.
pub trait UnwrittenRows: Send {
    /// Hands all rows on, some megabytes at a time, letting go of them on the way.
    fn drain(&mut self, write: &mut dyn FnMut(&RowLog) -> Result<(), DatabaseError>) -> Result<(), DatabaseError>;
}

/// Slots as they were at a cut.
pub(super) struct DirtySlots<K, V> {
    shards: Vec<Arc<Slots<K, V>>>,
    generation: u32,
    max_parallelism: u32,
    remeasured: Arc<AtomicIsize>,
}

impl<K, V> DirtySlots<K, V> {
    /// Whether there is certainly none.
    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }
}

impl<K: Key, V: State> UnwrittenRows for DirtySlots<K, V> {
    fn drain(&mut self, write: &mut dyn FnMut(&RowLog) -> Result<(), DatabaseError>) -> Result<(), DatabaseError> {
        let mut log = RowLog::default();
        for shard in self.shards.drain(..) {
            let dirty = shard.iter().filter(|slot| slot.is_dirty(self.generation));
            let more = dirty
                .map(|slot| slot.measured(slot.append(&mut log, self.max_parallelism)))
                .sum();
            self.remeasured.fetch_add(more, Ordering::Relaxed);
            drop(shard);
            if log.len() >= CHUNK_BYTES {
                write(&log)?;
                log.clear();
            }
        }
        write(&log)
    }
}
