//! A keyed sum on a state backend: nanoseconds per event, the pause of a barrier, and the bytes of a full checkpoint and of one
//! after a hundredth of the keys has changed.
//!
//! ```text
//! cargo run --release -p streamd-state --features rocksdb --example backend_bench -- rocksdb [K [events [MB per slot [words per value]]]]
//! ```
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "a benchmark has no callers")]

use std::path::Path;
use std::time::{Duration, Instant};

use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::State;
use streamd_snapshot::{Location, SubtaskContext, SubtaskSnapshotWriter, absolute, random_nonce};
use streamd_state::{BackendChoice, FrozenState, KeyedStateBackend, StateId, StatePlace, restore, write_states};
use tokio::runtime::Runtime;

/// As task managers and applications do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MAX_PARALLELISM: u32 = 128;
const BATCH: usize = 64;

struct Bench {
    backend: KeyedStateBackend<u64>,
    sums: StateId<Vec<u64>>,
    io: Runtime,
    folder: tempfile::TempDir,
    /// Words of eight bytes in each value.
    words: u64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let kind = match arguments.next().as_deref() {
        Some("rocksdb") => StateBackendKind::RocksDb,
        _other => StateBackendKind::HashMap,
    };
    let mut number = |otherwise: u64| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (keys, events, megabytes, words) = (number(1_000_000), number(20_000_000), number(256), number(12));
    let options = StateBackendOptions {
        kind,
        rocksdb_memory_per_slot: megabytes << 20,
        ..StateBackendOptions::default()
    };
    println!("{} K = {keys}, {megabytes} MB", kind.name());
    let mut bench = Bench {
        words,
        ..open(&options, &[])
    };
    bench.report("first touch", keys, |bench| bench.run(0..keys, |index| index));
    bench.report("keyed sum", events, |bench| {
        bench.run(0..events, |index| mix(index) % keys)
    });
    let full = bench.checkpoint(1, Increment::First);
    bench.report("a hundredth of the keys", keys / 100, |bench| {
        bench.run(0..keys / 100, |index| mix(index ^ 0xABCD) % keys);
    });
    let handles = bench.checkpoint(2, Increment::Since(CheckpointId(1)));
    let began = Instant::now();
    let folder = &bench.folder;
    let restored = open_in(&options, &handles.0, folder.path());
    println!(
        "restore: {:.2} s, {} rows",
        began.elapsed().as_secs_f64(),
        restored.0.table(restored.1).len()
    );
    println!(
        "increment: {:.2} % of the full bytes; resident {} MB",
        handles.1 as f64 * 100.0 / full.1 as f64,
        resident() >> 20
    );
}

fn open(options: &StateBackendOptions, handles: &[KeyedStateHandle]) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let (backend, sums) = open_in(options, handles, folder.path());
    Bench {
        backend,
        sums,
        io: Runtime::new().unwrap(),
        folder,
        words: 12,
    }
}

fn open_in(
    options: &StateBackendOptions,
    handles: &[KeyedStateHandle],
    folder: &Path,
) -> (KeyedStateBackend<u64>, StateId<Vec<u64>>) {
    let io = Runtime::new().unwrap();
    let chosen = BackendChoice::new(options.clone(), 1, folder.join("local")).unwrap();
    let place = StatePlace {
        operator: OperatorId::from_uid("sums"),
        subtask: (0, 0),
        nonce: random_nonce(),
    };
    let range = KeyGroupRange::all(MAX_PARALLELISM);
    let mut backend = KeyedStateBackend::open(&chosen.slot(), &place, range, MAX_PARALLELISM).unwrap();
    let sums = backend.register("sums").unwrap();
    restore(&mut backend, handles, io.handle()).unwrap();
    (backend, sums)
}

impl Bench {
    fn report(&mut self, what: &str, events: u64, run: impl FnOnce(&mut Self)) {
        let (began, busy) = (Instant::now(), cpu());
        run(self);
        let (wall, busy) = (began.elapsed(), cpu().saturating_sub(busy));
        let per_event = |time: Duration| time.as_nanos() as f64 / events.max(1) as f64;
        println!(
            "{what}: {:.0} ns wall, {:.0} ns CPU per event",
            per_event(wall),
            per_event(busy)
        );
    }

    fn run(&mut self, events: std::ops::Range<u64>, key_of: impl Fn(u64) -> u64) {
        let mut batch = Vec::with_capacity(BATCH);
        for index in events {
            let key = key_of(index);
            batch.push((key.stable_hash(), key));
            if batch.len() == BATCH {
                self.work(&mut batch);
            }
        }
        self.work(&mut batch);
    }

    fn work(&mut self, batch: &mut Vec<(u64, u64)>) {
        self.backend.touch(batch).unwrap();
        let table = self.backend.table_mut(self.sums);
        let words = self.words;
        for (hash, key) in batch.drain(..) {
            // A hundred bytes unless told otherwise, of which most never change.
            let fresh = || {
                (0..words)
                    .map(|part| if part == 0 { 0 } else { mix(key + part) })
                    .collect()
            };
            table.get_or_insert_with(hash, &key, fresh)[0] += key;
        }
    }

    fn checkpoint(&mut self, id: u64, increment: Increment) -> (Vec<KeyedStateHandle>, u64) {
        let began = Instant::now();
        let frozen: Vec<FrozenState> = self.backend.freeze();
        let pause = began.elapsed();
        let folder = self.folder.path().join(format!("job/chk-{id}"));
        let location = Location::open(folder.to_str().unwrap()).unwrap().uri();
        let options = SnapshotOptions {
            kind: SnapshotKind::Checkpoint,
            location: location.clone(),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment,
            compression: Compression::None,
        };
        let context = SubtaskContext {
            job: JobId::from_bytes([7; 16]),
            vertex: 0,
            subtask: 0,
            attempt: Attempt(1),
            nonce: random_nonce(),
        };
        let mut writer = SubtaskSnapshotWriter::new(&options, context, self.io.handle().clone()).unwrap();
        let operator = OperatorId::from_uid("sums");
        write_states(&mut writer, operator, "sums", frozen).unwrap();
        let handles = writer.finish().unwrap().remove(&operator).unwrap();
        let new: u64 = handles.iter().map(KeyedStateHandle::new_bytes).sum();
        let took = began.elapsed().as_secs_f64();
        println!(
            "checkpoint {id}: pause {:.1} ms, {took:.2} s, {:.1} MB new",
            pause.as_secs_f64() * 1e3,
            new as f64 / 1e6
        );
        (
            handles
                .iter()
                .map(|handle| absolute(handle, &location).unwrap())
                .collect(),
            new,
        )
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Processor time of all threads so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    Duration::from_millis(
        ticks
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse::<u64>().ok())
            .sum::<u64>()
            * 10,
    )
}

/// Bytes in memory now.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4096
}
