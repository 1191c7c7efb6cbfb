//! What a savepoint of a large state costs, without a cluster around it: pause, time, processor seconds; and its restore.
//!
//! The state is that of the case *bigstate*: 10,000,000 `u64` keys with 100 bytes each, which do not compress.
//!
//! ```text
//! cargo run --release -p streamd-state --example savepoint_bench [keys=10000000] [bytes=100] [folder=…] [runs=3] [restores=2]
//! cargo run --release -p streamd-state --features rocksdb --example savepoint_bench backend=rocksdb [megabytes=512]
//! ```
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "a benchmark has no callers")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, JobId, OperatorId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::State;
use streamd_snapshot::{SubtaskContext, SubtaskSnapshotWriter, absolute, random_nonce};
use streamd_state::{BackendChoice, FrozenState, KeyedStateBackend, StateId, StatePlace, restore, write_states};
use tokio::runtime::Handle;

/// As task managers and applications do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MAX_PARALLELISM: u32 = 128;

/// Keys that are worked on together.
const BATCH: u64 = 64;

fn backend(options: &StateBackendOptions, folder: &Path) -> KeyedStateBackend<u64> {
    let chosen = BackendChoice::new(options.clone(), 1, folder.join("local")).unwrap();
    let place = StatePlace {
        operator: OperatorId::from_uid("bench"),
        subtask: (0, 0),
        nonce: random_nonce(),
    };
    let range = KeyGroupRange::all(MAX_PARALLELISM);
    KeyedStateBackend::open(&chosen.slot(), &place, range, MAX_PARALLELISM).unwrap()
}

fn load(backend: &mut KeyedStateBackend<u64>, state: StateId<Vec<u8>>, (keys, bytes): (u64, usize)) {
    for first in (0..keys).step_by(BATCH as usize) {
        let batch: Vec<(u64, u64)> = (first..keys.min(first + BATCH))
            .map(|index| (mix(index).stable_hash(), mix(index)))
            .collect();
        backend.touch(&batch).unwrap();
        let table = backend.table_mut(state);
        for (hash, key) in batch {
            table.insert(hash, &key, value(key, bytes));
        }
    }
}

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn value(key: u64, bytes: usize) -> Vec<u8> {
    let blocks = (0..).map(|index| mix(key.wrapping_mul(31).wrapping_add(index)).to_le_bytes());
    blocks.flatten().take(bytes).collect()
}

/// User and system seconds of this process so far.
fn processor() -> (f64, f64) {
    let line = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = line.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let seconds = |index: usize| fields[index].parse::<f64>().unwrap() / 100.0;
    (seconds(11), seconds(12))
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let ((user, system), start) = (processor(), Instant::now());
    let done = work();
    let (wall, (user_then, system_then)) = (start.elapsed().as_secs_f64(), processor());
    let (user, system) = (user_then - user, system_then - system);
    println!(
        "{what:<10} wall {wall:.2} s   processor {:.2} s ({user:.2} user, {system:.2} system)",
        user + system
    );
    done
}

fn savepoint(location: &str, frozen: Vec<FrozenState>, io: &Handle) -> Vec<KeyedStateHandle> {
    let options = Arc::new(SnapshotOptions {
        kind: SnapshotKind::Savepoint,
        location: location.to_owned(),
        sources: AfterBarrier::Continue,
        aligned: true,
        increment: Increment::Off,
        compression: Compression::Lz4,
    });
    let context = SubtaskContext {
        job: JobId::from_bytes([1; 16]),
        vertex: 0,
        subtask: 0,
        attempt: Attempt(1),
        nonce: random_nonce(),
    };
    let mut writer = SubtaskSnapshotWriter::new(&options, context, io.clone()).unwrap();
    let operator = OperatorId::from_uid("bench");
    write_states(&mut writer, operator, "bench", frozen).unwrap();
    let handles = writer.finish().unwrap().remove(&operator).unwrap();
    handles
        .iter()
        .map(|handle| absolute(handle, location).unwrap())
        .collect()
}

fn main() {
    let options: BTreeMap<String, String> = std::env::args()
        .skip(1)
        .filter_map(|option| {
            option
                .split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect();
    let number = |name: &str, default: u64| options.get(name).map_or(default, |text| text.parse().unwrap());
    let (keys, bytes) = (number("keys", 10_000_000), number("bytes", 100) as usize);
    let parent = options.get("folder").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(parent).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kind = match options.get("backend").map(String::as_str) {
        Some("rocksdb") => StateBackendKind::RocksDb,
        _other => StateBackendKind::HashMap,
    };
    let chosen = StateBackendOptions {
        kind,
        rocksdb_memory_per_slot: number("megabytes", 512) << 20,
        ..StateBackendOptions::default()
    };
    let mut loaded = backend(&chosen, folder.path());
    let state = loaded.register::<Vec<u8>>("value").unwrap();
    timed("load", || load(&mut loaded, state, (keys, bytes)));
    let mut handles = Vec::new();
    for run in 0..number("runs", 3) {
        let location = format!("{}/savepoint-{run}", folder.path().display());
        let start = Instant::now();
        let frozen = loaded.freeze();
        println!("pause      {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
        handles = timed("savepoint", || savepoint(&location, frozen, runtime.handle()));
        if run + 1 < number("runs", 3) {
            std::fs::remove_dir_all(location).unwrap();
        }
    }
    drop(loaded);
    for _ in 0..number("restores", 2) {
        let mut restored = backend(&chosen, folder.path());
        restored.register::<Vec<u8>>("value").unwrap();
        let rows = timed("restore", || {
            restore(&mut restored, &handles, runtime.handle()).unwrap()
        });
        assert_eq!(rows, keys);
    }
}
