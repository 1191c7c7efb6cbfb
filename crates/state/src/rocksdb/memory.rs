//! What the databases and working sets of a worker may take of its memory, and how a database is set up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, Env, LogLevel, LruCacheOptions, Options, WriteBufferManager,
};

/// The part of a slot's memory that holds decoded values: what is in it costs no decoding and no search.
const WORKING_SET_PERCENT: usize = 50;

/// The part for write buffers; the block cache gets the rest.
const WRITE_BUFFER_PERCENT: usize = 25;

/// The largest write buffer of one state: larger ones make a barrier wait longer for their last flush.
const MAX_WRITE_BUFFER: usize = 64 << 20;

/// The smallest: below, files become so small that compaction does nothing but open them.
const MIN_WRITE_BUFFER: usize = 1 << 20;

/// The size of a block on disk, before compression: a page. A record that is not in memory costs the reading, the checksum and the
/// unpacking of a whole block, which at four pages was a third of the time of an update; the index takes half a percent of the state.
const BLOCK_BYTES: usize = 4 << 10;

/// The part of a write buffer that its Bloom filter takes: a key that is not in a buffer is not searched for there.
const BUFFER_BLOOM_SHARE: f64 = 0.02;

/// The memory for reading files row by row: they are read once, from the first to the last.
pub(super) const READING_MEMORY: u64 = 32 << 20;

/// Bytes of a part of the block cache, which threads lock on their own.
const CACHE_PART_BYTES: usize = 32 << 20;

/// 64 parts at most.
const MAX_CACHE_BITS: u32 = 6;

/// Bits of the Bloom filter for each key: one look in a hundred at a file is in vain.
const BLOOM_BITS: f64 = 10.0;

/// The size at which files are cut: few objects in a checkpoint, and little written again when one changes.
const FILE_BYTES: u64 = 64 << 20;

/// Write buffers of a state: one is filled while others are written to files. Were there two, whoever writes would wait for a file
/// whenever rows come in a rush, as they do at a barrier.
const WRITE_BUFFERS: usize = 3;

/// Files that one database keeps open: a slot with 32 GB of state.
const OPEN_FILES: i32 = 512;

/// The cache and the write buffers of all databases of a worker.
#[derive(Clone)]
pub struct SharedMemory {
    cache: Cache,
    buffers: WriteBufferManager,
    write_buffer: usize,
    working_set: usize,
    /// Through which files are read of which some are not all here.
    environment: Option<Env>,
}

impl SharedMemory {
    /// Divides `per_slot` bytes for each of `slots`.
    pub fn new(per_slot: u64, slots: usize) -> Self {
        let per_slot = usize::try_from(per_slot).unwrap_or(usize::MAX);
        let slots = slots.max(1);
        let buffers = per_slot / 100 * WRITE_BUFFER_PERCENT;
        let working_set = per_slot / 100 * WORKING_SET_PERCENT;
        let cache = per_slot.saturating_sub(buffers + working_set);
        Self {
            cache: block_cache(cache.saturating_mul(slots)),
            // Writers are not stalled: their own budget bounds what they bring.
            buffers: WriteBufferManager::new_write_buffer_manager(buffers.saturating_mul(slots), false),
            write_buffer: (buffers / WRITE_BUFFERS).clamp(MIN_WRITE_BUFFER, MAX_WRITE_BUFFER),
            working_set,
            environment: None,
        }
    }

    /// For a database whose files are read through this environment, if it is one of its own.
    pub(super) fn reading_through(self, environment: Option<Env>) -> Self {
        Self { environment, ..self }
    }

    /// Whether files are read through an environment of the database's own.
    pub(super) fn is_reading_through(&self) -> bool {
        self.environment.is_some()
    }

    /// The budget of one slot's working sets.
    pub fn slot(&self) -> SlotMemory {
        SlotMemory {
            used: Arc::default(),
            limit: self.working_set,
        }
    }

    /// How a database is opened.
    pub(super) fn database_options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_write_buffer_manager(&self.buffers);
        options.set_max_open_files(OPEN_FILES);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(1);
        options.set_stats_dump_period_sec(0);
        options.set_manifest_preallocation_size(64 << 10);
        if let Some(environment) = &self.environment {
            options.set_env(environment);
        }
        options
    }

    /// How a state is kept.
    pub(super) fn column_options(&self) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_block_size(BLOCK_BYTES);
        table.set_bloom_filter(BLOOM_BITS, false);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_format_version(5);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        // The last level holds nine tenths of the bytes. What is above is soon written again.
        options.set_compression_type(DBCompressionType::None);
        options.set_bottommost_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(self.write_buffer);
        options.set_max_write_buffer_number(i32::try_from(WRITE_BUFFERS).expect("a small number"));
        options.set_memtable_prefix_bloom_ratio(BUFFER_BLOOM_SHARE);
        options.set_memtable_whole_key_filtering(true);
        options.set_target_file_size_base(FILE_BYTES);
        options.set_level_compaction_dynamic_level_bytes(true);
        // All databases of a process share the thread that compacts: it is not to wait for a store.
        options.set_disable_auto_compactions(self.is_reading_through());
        options
    }
}

/// A cache in parts that are each large enough for many a filter of a file, which takes most of a megabyte: RocksDB's own choice, of
/// half a megabyte for a part, has filters push each other out.
fn block_cache(bytes: usize) -> Cache {
    let parts = (bytes / CACHE_PART_BYTES).max(1).ilog2().min(MAX_CACHE_BITS);
    let mut options = LruCacheOptions::default();
    options.set_capacity(bytes);
    options.set_num_shard_bits(i32::try_from(parts).expect("bounded above"));
    Cache::new_lru_cache_opts(&options)
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory")
            .field("write_buffer", &self.write_buffer)
            .field("working_set", &self.working_set)
            .finish_non_exhaustive()
    }
}

/// What the working sets of one slot hold together, and may hold.
#[derive(Debug, Clone)]
pub struct SlotMemory {
    used: Arc<AtomicUsize>,
    limit: usize,
}

impl SlotMemory {
    /// What they may hold.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What they hold.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// One of them has grown or shrunk.
    pub(super) fn resized(&self, before: usize, after: usize) {
        if after >= before {
            self.used.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}
