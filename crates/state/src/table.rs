//! The table of one state, wherever its rows are: one interface for all backends.

use streamd_core::key_group::KeyGroupRange;
use streamd_core::state::{Key, State};

use crate::error::StateError;
use crate::heap::HeapTable;
use crate::missing::Missing;
#[cfg(feature = "rocksdb")]
use crate::rocksdb::CachedTable;

/// Tables with fewer bytes of entries stay in the second-level cache by themselves: asking for their keys first would cost more than it
/// saves.
const PREFETCHED_BYTES: usize = 256 << 10;

/// Values by key.
///
/// The keys of a batch are [touched](super::KeyedStateBackend::touch) before their values are read or written: that is when rows
/// come from disk or out of a snapshot, and what can fail.
///
/// # Panics
/// Reading or writing the value of a key panics if that is still in a snapshot: it was not touched.
pub enum Table<K, V> {
    /// Native values on the heap, and what of them is still in a snapshot.
    Heap(HeapTable<K, V>, Option<Box<Missing>>),
    /// A working set in front of RocksDB.
    #[cfg(feature = "rocksdb")]
    RocksDb(Box<CachedTable<K, V>>),
}

/// Calls the same method, for the key with this hash, on whichever table it is.
macro_rules! each {
    ($self:ident, $hash:ident, $table:ident => $call:expr) => {
        match $self {
            Self::Heap($table, missing) => {
                if let Some(missing) = missing {
                    missing.assert_none($hash);
                }
                $call
            }
            #[cfg(feature = "rocksdb")]
            Self::RocksDb($table) => $call,
        }
    };
}

impl<K: Key, V: State> Table<K, V> {
    /// A table on the heap.
    pub(crate) fn heap(key_groups: KeyGroupRange, max_parallelism: u32) -> Self {
        Self::Heap(HeapTable::new(key_groups, max_parallelism), None)
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, hash: u64, key: &K) -> Option<&V> {
        each!(self, hash, table => table.get(hash, key))
    }

    /// The value of a key, to change.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        each!(self, hash, table => table.get_mut(hash, key))
    }

    /// The value of a key, which becomes `default()` if there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, hash: u64, key: &K, default: impl FnOnce() -> V) -> &mut V {
        each!(self, hash, table => table.get_or_insert_with(hash, key, default))
    }

    /// Sets the value of a key and returns the one it had.
    #[inline]
    pub fn insert(&mut self, hash: u64, key: &K, value: V) -> Option<V> {
        each!(self, hash, table => table.insert(hash, key, value))
    }

    /// Forgets a key and returns the value it had.
    #[inline]
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        each!(self, hash, table => table.remove(hash, key))
    }

    /// The number of keys that are there. Not for every record.
    pub fn len(&self) -> usize {
        match self {
            Self::Heap(table, _) => table.len(),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(table) => usize::try_from(table.len()).unwrap_or(usize::MAX),
        }
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit` with every key and value that is there, in no particular order.
    pub(crate) fn for_each(&mut self, visit: &mut dyn FnMut(&K, &V)) -> Result<(), StateError> {
        match self {
            Self::Heap(table, _) => {
                table.for_each(visit);
                Ok(())
            }
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(table) => Ok(table.for_each(visit)?),
        }
    }

    /// Prepares the next accesses to these keys.
    #[inline]
    pub(crate) fn touch(&mut self, keys: &[(u64, K)]) -> Result<(), StateError> {
        match self {
            Self::Heap(table, _) => {
                if table.has_bytes(PREFETCHED_BYTES) {
                    table.prefetch(keys);
                }
                Ok(())
            }
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(table) => Ok(table.touch(keys)?),
        }
    }
}
