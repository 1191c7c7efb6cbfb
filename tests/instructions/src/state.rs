//! A checkpoint of keyed state on the heap, written and read back, in memory. What other threads do for it is not counted: they
//! check and unpack the blocks that are read.

use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, JobId, OperatorId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::State;
use streamd_snapshot::{SubtaskContext, SubtaskSnapshotWriter, absolute};
use streamd_state::{FrozenState, KeyedStateBackend, StateId, restore, write_states};
use tokio::runtime::{Builder, Runtime};

use crate::counted::{counted, mix};

const KEY_GROUPS: u32 = 128;

/// Fewer than are written by a thread of their own.
const ROWS: u64 = 60_000;

/// Keys that are worked on together.
const BATCH: u64 = 64;

/// What a key has: an account, so to say.
type Row = (i64, String, Vec<u64>);

/// Writes all rows. The freeze is counted as well.
pub fn write_checkpoint() -> u64 {
    let io = io();
    let mut backend = loaded();
    let mut handles = Vec::new();
    counted(&mut || {
        let frozen = backend.freeze();
        handles = write(frozen, &io);
    });
    assert_eq!(handles.iter().map(|handle| handle.rows).sum::<u64>(), ROWS);
    ROWS
}

/// Reads all rows into an empty backend: a release build leaves none of so small a state for later.
pub fn restore_checkpoint() -> u64 {
    let io = io();
    let handles = write(loaded().freeze(), &io);
    let (mut backend, _) = empty();
    let mut rows = 0;
    counted(&mut || rows = restore(&mut backend, &handles, io.handle()).expect("what was written can be read"));
    assert_eq!(rows, ROWS, "some rows are left for later");
    rows
}

fn io() -> Runtime {
    let io = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    io.expect("a thread can be started")
}

fn empty() -> (KeyedStateBackend<u64>, StateId<Row>) {
    let mut backend = KeyedStateBackend::new(KeyGroupRange::all(KEY_GROUPS), KEY_GROUPS);
    let state = backend.register("rows").expect("the name is not taken");
    (backend, state)
}

fn loaded() -> KeyedStateBackend<u64> {
    let (mut backend, state) = empty();
    for first in (0..ROWS).step_by(BATCH as usize) {
        let keys: Vec<(u64, u64)> = (first..ROWS.min(first + BATCH))
            .map(|index| (mix(index).stable_hash(), mix(index)))
            .collect();
        backend.touch(&keys).expect("the heap does not fail");
        let table = backend.table_mut(state);
        for (hash, key) in keys {
            let row = (
                key as i64,
                format!("account {}", key % 1000),
                vec![key; (key % 4) as usize],
            );
            table.insert(hash, &key, row);
        }
    }
    backend
}

fn write(frozen: Vec<FrozenState>, io: &Runtime) -> Vec<KeyedStateHandle> {
    let location = "memory:///counted/chk-1";
    let options = SnapshotOptions {
        kind: SnapshotKind::Checkpoint,
        location: location.to_owned(),
        sources: AfterBarrier::Continue,
        aligned: true,
        increment: Increment::Off,
        compression: Compression::None,
    };
    let context = SubtaskContext {
        job: JobId::from_bytes([0; 16]),
        vertex: 0,
        subtask: 0,
        attempt: Attempt(1),
        nonce: "counted".to_owned(),
    };
    let operator = OperatorId::from_uid("counted");
    let writer = SubtaskSnapshotWriter::new(&options, context, io.handle().clone());
    let mut writer = writer.expect("memory can be written to");
    write_states(&mut writer, operator, "counted", frozen).expect("memory can be written to");
    let mut written = writer.finish().expect("memory can be written to");
    let handles = written.remove(&operator).unwrap_or_default();
    let absolute = handles.iter().map(|handle| absolute(handle, location));
    absolute.collect::<Result<_, _>>().expect("the location is well-formed")
}
