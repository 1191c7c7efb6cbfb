//! What checkpoints of a large state cost: bytes, pause, time to write and to restore, by compression and share of keys touched.
//!
//! The state is that of the case *bigstate*: 10,000,000 `u64` keys with 100 bytes each, of which half repeat.
//!
//! ```text
//! cargo run --release -p streamd-state --example checkpoint_bench [KEYS] [FOLDER]
//! ```
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "a benchmark has no callers")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::State;
use streamd_snapshot::{Location, SubtaskContext, SubtaskSnapshotWriter, absolute, random_nonce};
use streamd_state::{KeyedStateBackend, StateId, restore, write_states};
use tokio::runtime::Runtime;

/// As task managers and applications do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MAX_PARALLELISM: u32 = 128;
const VALUE_BYTES: usize = 100;

struct Subtask {
    backend: KeyedStateBackend<u64>,
    state: StateId<Vec<u8>>,
}

fn subtask(range: KeyGroupRange) -> Subtask {
    let mut backend = KeyedStateBackend::new(range, MAX_PARALLELISM);
    let state = backend.register::<Vec<u8>>("payload").unwrap();
    Subtask { backend, state }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 52 bytes that look random, then 48 of text.
fn value(seed: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(VALUE_BYTES);
    for index in 0..6 {
        value.extend_from_slice(&mix(seed.wrapping_mul(31) + index).to_le_bytes());
    }
    value.resize(VALUE_BYTES - 48, 0);
    value.extend_from_slice(b"the quick brown fox jumps over the lazy dog, and");
    value
}

impl Subtask {
    fn put(&mut self, key: u64, seed: u64) {
        let hash = key.stable_hash();
        if self.backend.key_groups().contains(key_group_of(hash, MAX_PARALLELISM)) {
            self.backend.table_mut(self.state).insert(hash, &key, value(seed));
        }
    }
}

struct Taken {
    handles: Vec<KeyedStateHandle>,
    pause: Duration,
    written: Duration,
    new_bytes: u64,
}

struct Bench {
    runtime: Runtime,
    place: String,
    next: u64,
}

impl Bench {
    fn checkpoint(
        &mut self,
        subtask: &mut Subtask,
        increment: Increment,
        compression: Compression,
    ) -> (CheckpointId, Taken) {
        let checkpoint = CheckpointId(self.next);
        self.next += 1;
        let location = format!("{}/chk-{checkpoint}", self.place);
        let options = Arc::new(SnapshotOptions {
            kind: SnapshotKind::Checkpoint,
            location: location.clone(),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment,
            compression,
        });
        let barrier = Barrier {
            checkpoint,
            options: Arc::clone(&options),
        };
        let start = Instant::now();
        let frozen = subtask.backend.freeze_at(&barrier);
        let pause = start.elapsed();
        let start = Instant::now();
        let context = SubtaskContext {
            job: JobId::from_bytes([1; 16]),
            vertex: 0,
            subtask: 0,
            attempt: Attempt(1),
            nonce: random_nonce(),
        };
        let mut writer = SubtaskSnapshotWriter::new(&options, context, self.runtime.handle().clone()).unwrap();
        let operator = OperatorId::from_uid("bench");
        write_states(&mut writer, operator, "bench", frozen).unwrap();
        let handles = writer.finish().unwrap().remove(&operator).unwrap();
        let taken = Taken {
            new_bytes: handles.iter().map(KeyedStateHandle::new_bytes).sum(),
            handles: handles
                .iter()
                .map(|handle| absolute(handle, &location).unwrap())
                .collect(),
            pause,
            written: start.elapsed(),
        };
        (checkpoint, taken)
    }

    /// Restores on as many threads as there are parts.
    fn restore(&self, handles: &[KeyedStateHandle], parallelism: u32) -> (Duration, u64) {
        let start = Instant::now();
        let rows = std::thread::scope(|scope| {
            let parts: Vec<_> = (0..parallelism)
                .map(|index| {
                    let io = self.runtime.handle();
                    scope.spawn(move || {
                        let range = KeyGroupRange::of_subtask(index, parallelism, MAX_PARALLELISM);
                        let mut subtask = subtask(range);
                        let rows = restore(&mut subtask.backend, handles, io).unwrap();
                        // What the restore took is told; giving the memory back is not part of it.
                        std::mem::forget(subtask);
                        rows
                    })
                })
                .collect();
            parts.into_iter().map(|part| part.join().unwrap()).sum()
        });
        (start.elapsed(), rows)
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let keys: u64 = arguments.next().map_or(10_000_000, |keys| keys.parse().unwrap());
    let folder = arguments
        .next()
        .unwrap_or_else(|| std::env::temp_dir().join("checkpoint_bench").display().to_string());
    let place = Location::open(&folder).unwrap().uri();
    let mut bench = Bench {
        runtime: Runtime::new().unwrap(),
        place,
        next: 1,
    };
    let mut subtask = subtask(KeyGroupRange::all(MAX_PARALLELISM));
    subtask.backend.reserve("payload", keys);
    let start = Instant::now();
    (0..keys).for_each(|key| subtask.put(mix(key + 1), key));
    println!("{keys} keys of {VALUE_BYTES} bytes, made in {:.1?}", start.elapsed());

    let mut full = 0;
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let before = cpu_seconds();
        let (_, taken) = bench.checkpoint(&mut subtask, Increment::Off, compression);
        let cpu = cpu_seconds() - before;
        if compression == Compression::None {
            full = taken.new_bytes;
        }
        println!(
            "full, {compression:?}: {} MB ({:.0} %), pause {:.2?}, written in {:.2?}, {cpu:.2} s of processor",
            taken.new_bytes >> 20,
            taken.new_bytes as f64 * 100.0 / full as f64,
            taken.pause,
            taken.written
        );
        for parallelism in [1, 2] {
            let (time, rows) = bench.restore(&taken.handles, parallelism);
            println!("  {rows} rows restored by {parallelism} threads in {time:.2?}");
        }
    }

    let mut base = bench.checkpoint(&mut subtask, Increment::First, Compression::None).0;
    for percent in [0, 1, 1, 1, 10, 50] {
        let touched = keys * percent / 100;
        let start = Instant::now();
        (0..touched).for_each(|index| subtask.put(mix(mix(index + bench.next) % keys + 1), index));
        let touching = start.elapsed();
        let (id, taken) = bench.checkpoint(&mut subtask, Increment::Since(base), Compression::None);
        base = id;
        println!(
            "incremental, {percent} % touched (in {touching:.2?}): {} MB ({:.2} % of full), pause {:.2?}, written in {:.2?}",
            taken.new_bytes >> 20,
            taken.new_bytes as f64 * 100.0 / full as f64,
            taken.pause,
            taken.written
        );
        let (time, rows) = bench.restore(&taken.handles, 2);
        println!("  {rows} rows restored by 2 threads in {time:.2?}");
    }
}
