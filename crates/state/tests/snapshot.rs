//! Keyed state through real snapshots: written at one parallelism, read at another.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use streamd_core::barrier::{AfterBarrier, SnapshotKind, SnapshotOptions};
use streamd_core::error::ErrorCode;
use streamd_core::id::{Attempt, JobId, OperatorId};
use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::{State, from_row};
use streamd_macros::State;
use streamd_snapshot::{Location, SubtaskContext, SubtaskSnapshotWriter, absolute};
use streamd_state::{FrozenState, KeyedStateBackend, RestoreError, StateError, restore, write_states};
use tokio::runtime::{Handle, Runtime};

const MAX_PARALLELISM: u32 = 128;

#[derive(Debug, Clone, PartialEq, State)]
#[state(crate = "streamd_core")]
struct Delay {
    flights: u64,
    airports: Vec<String>,
}

fn delay(key: u64) -> Delay {
    Delay {
        flights: key * 3,
        airports: (0..key % 4).map(|n| format!("airport {n}")).collect(),
    }
}

fn ranges(parallelism: u32) -> impl Iterator<Item = KeyGroupRange> {
    (0..parallelism).map(move |index| KeyGroupRange::of_subtask(index, parallelism, MAX_PARALLELISM))
}

fn operator() -> OperatorId {
    OperatorId::from_uid("delays")
}

/// What every subtask freezes: `delays` of each key, and `flags` of none.
fn frozen(keys: u64, range: KeyGroupRange) -> Vec<FrozenState> {
    let mut backend = KeyedStateBackend::<u64>::new(range, MAX_PARALLELISM);
    let delays = backend.register::<Delay>("delays").unwrap();
    backend.register::<bool>("flags").unwrap();
    for key in 0..keys {
        let hash = key.stable_hash();
        if range.contains(key_group_of(hash, MAX_PARALLELISM)) {
            backend.table_mut(delays).insert(hash, &key, delay(key));
        }
    }
    backend.freeze()
}

/// Writes the state of all subtasks and returns its handles, with absolute URIs.
fn written(keys: u64, parallelism: u32, kind: SnapshotKind, folder: &Path, io: &Handle) -> Vec<KeyedStateHandle> {
    let location = Location::open(folder.to_str().unwrap()).unwrap().uri();
    let options = SnapshotOptions {
        kind,
        location: location.clone(),
        sources: AfterBarrier::Continue,
        aligned: true,
    };
    let mut handles = Vec::new();
    for (subtask, range) in (0..).zip(ranges(parallelism)) {
        let context = SubtaskContext {
            job: JobId::from_bytes([7; 16]),
            vertex: 1,
            subtask,
            attempt: Attempt(1),
            nonce: format!("nonce{subtask}"),
        };
        let mut writer = SubtaskSnapshotWriter::new(&options, context, io.clone()).unwrap();
        write_states(&mut writer, operator(), "delays", frozen(keys, range)).unwrap();
        handles.extend(writer.finish().unwrap().remove(&operator()).unwrap());
    }
    handles
        .iter()
        .map(|handle| absolute(handle, &location).unwrap())
        .collect()
}

/// The rows of `delays` over all subtasks that restore the handles at this parallelism.
fn restored(handles: &[KeyedStateHandle], parallelism: u32, io: &Handle) -> BTreeMap<u64, Delay> {
    let mut rows = BTreeMap::new();
    for range in ranges(parallelism) {
        let mut backend = KeyedStateBackend::<u64>::new(range, MAX_PARALLELISM);
        backend.register::<bool>("flags").unwrap();
        let delays = backend.register::<Delay>("delays").unwrap();
        let read = restore(&mut backend, handles, io).unwrap();
        assert_eq!(read, backend.table(delays).len() as u64);
        backend
            .table_mut(delays)
            .freeze()
            .for_each_row(&mut |group, key, value| {
                assert!(range.contains(group));
                let twice = rows.insert(from_row(key).unwrap(), from_row(value).unwrap());
                assert!(twice.is_none(), "a key is in one subtask");
            });
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn state_written_at_one_parallelism_is_whole_at_another(keys in 0u64..3_000, p in 1u32..6, q in 1u32..6, savepoint: bool) {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kind = if savepoint { SnapshotKind::Savepoint } else { SnapshotKind::Checkpoint };
        let handles = written(keys, p, kind, folder.path(), runtime.handle());
        let expected: BTreeMap<u64, Delay> = (0..keys).map(|key| (key, delay(key))).collect();
        prop_assert_eq!(restored(&handles, q, runtime.handle()), expected);
    }
}

struct Fixture {
    runtime: Runtime,
    handles: Vec<KeyedStateHandle>,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let handles = written(1_000, 2, SnapshotKind::Checkpoint, folder.path(), runtime.handle());
        Self {
            runtime,
            handles,
            _folder: folder,
        }
    }

    fn refused<V: State>(&self) -> RestoreError {
        let mut backend = KeyedStateBackend::<u64>::new(KeyGroupRange::all(MAX_PARALLELISM), MAX_PARALLELISM);
        backend.register::<V>("delays").unwrap();
        backend.register::<bool>("flags").unwrap();
        restore(&mut backend, &self.handles, self.runtime.handle()).unwrap_err()
    }
}

#[test]
fn a_state_of_another_schema_is_refused_with_both_schemas_named() {
    let error = Fixture::new().refused::<u64>();
    assert_eq!(error.code(), ErrorCode::IncompatibleState);
    assert_eq!(
        error.to_string(),
        "state `delays` was written with the value type Delay { flights: uint64, airports: list<string> } \
         but the application declares uint64"
    );
}

#[test]
fn a_type_may_change_its_name_but_not_the_order_of_its_fields() {
    mod later {
        #[derive(Clone, streamd_macros::State)]
        #[state(crate = "streamd_core")]
        pub struct AirportDelay {
            pub flights: u64,
            pub airports: Vec<String>,
        }

        #[derive(Clone, streamd_macros::State)]
        #[state(crate = "streamd_core")]
        pub struct Swapped {
            pub airports: Vec<String>,
            pub flights: u64,
        }
    }
    let fixture = Fixture::new();
    let mut backend = KeyedStateBackend::<u64>::new(KeyGroupRange::all(MAX_PARALLELISM), MAX_PARALLELISM);
    backend.register::<later::AirportDelay>("delays").unwrap();
    backend.register::<bool>("flags").unwrap();
    assert_eq!(
        restore(&mut backend, &fixture.handles, fixture.runtime.handle()).unwrap(),
        1_000
    );

    let error = fixture.refused::<later::Swapped>();
    assert!(
        matches!(
            error,
            RestoreError::State(StateError::IncompatibleSchema { part: "value", .. })
        ),
        "{error}"
    );
}

#[test]
fn a_state_that_nobody_registers_is_not_dropped_in_silence() {
    let fixture = Fixture::new();
    let mut backend = KeyedStateBackend::<u64>::new(KeyGroupRange::all(MAX_PARALLELISM), MAX_PARALLELISM);
    backend.register::<Delay>("delays").unwrap();
    let error = restore(&mut backend, &fixture.handles, fixture.runtime.handle()).unwrap_err();
    assert_eq!(error.to_string(), "state `flags` is not registered by the operator");
    assert_eq!(error.code(), ErrorCode::UnclaimedState);
}

#[test]
fn a_missing_or_doubled_part_is_noticed_before_a_row_is_read() {
    let mut fixture = Fixture::new();
    let part = fixture.handles.remove(0);
    assert_eq!(
        fixture.refused::<Delay>().to_string(),
        "the snapshot holds the key groups [0, 64) of state `delays` nowhere"
    );
    fixture.handles.extend([part.clone(), part]);
    assert_eq!(
        fixture.refused::<Delay>().to_string(),
        "the snapshot holds the key groups [0, 64) of state `delays` 2 times"
    );
}
