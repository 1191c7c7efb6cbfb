//! Keyed state through real snapshots: written at one parallelism, read at another.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::error::ErrorCode;
use streamd_core::id::{Attempt, JobId, OperatorId};
use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::State;
use streamd_macros::State;
use streamd_snapshot::{Location, SubtaskContext, SubtaskSnapshotWriter, absolute};
use streamd_state::{FrozenState, KeyedStateBackend, RestoreError, StateError, restore_with, write_states};
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
        increment: Increment::Off,
        compression: Compression::None,
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
        let read = restore_with(&mut backend, handles, io, u64::MAX).unwrap();
        assert_eq!(read, backend.table(delays).len() as u64);
        backend
            .for_each(delays, &mut |key, value| {
                assert!(range.contains(key_group_of(key.stable_hash(), MAX_PARALLELISM)));
                let twice = rows.insert(*key, value.clone());
                assert!(twice.is_none(), "a key is in one subtask");
            })
            .unwrap();
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
        restore_with(&mut backend, &self.handles, self.runtime.handle(), u64::MAX).unwrap_err()
    }
}

#[test]
fn a_state_of_another_schema_is_refused_with_both_schemas_named() {
    let error = Fixture::new().refused::<u64>();
    assert_eq!(error.code(), ErrorCode::IncompatibleState);
    assert_eq!(
        error.to_string(),
        "state `delays` does not fit the application: the value is \
         `Delay { flights: uint64, airports: list<string> }` in the snapshot and `uint64` in the application"
    );
}

/// What became of `Delay`: renamed, its fields in another order, one of them renamed and wider, one new, one gone.
#[derive(Debug, Clone, PartialEq, State)]
#[state(crate = "streamd_core")]
struct AirportDelay {
    #[state(default = "unknown")]
    region: String,
    #[state(alias = "flights")]
    departures: Option<u64>,
    last: Option<i32>,
}

/// Made out of `Delay` by a function.
#[derive(Debug, Clone, PartialEq, State)]
#[state(crate = "streamd_core", migrate = airports_of)]
struct Airports(String);

fn airports_of(old: Delay) -> Airports {
    Airports(old.airports.join("+"))
}

/// The same, with the changes where the whole value is one of many.
#[derive(Debug, Clone, PartialEq, State)]
#[state(crate = "streamd_core")]
enum Either {
    Neither,
    #[state(alias = "Some")]
    Delay(Delay),
}

fn migrated<V: State>(handles: &[KeyedStateHandle], io: &Handle) -> BTreeMap<u64, V> {
    let all = KeyGroupRange::all(MAX_PARALLELISM);
    let mut backend = KeyedStateBackend::<u64>::new(all, MAX_PARALLELISM);
    let delays = backend.register::<V>("delays").unwrap();
    backend.register::<bool>("flags").unwrap();
    restore_with(&mut backend, handles, io, u64::MAX).unwrap();
    let mut values = BTreeMap::new();
    for key in 0..2_000u64 {
        if let Some(value) = backend.table(delays).get(key.stable_hash(), &key) {
            values.insert(key, value.clone());
        }
    }
    values
}

#[test]
fn values_of_an_older_type_are_migrated_from_savepoints_and_checkpoints() {
    let runtime = Runtime::new().unwrap();
    for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
        let folder = tempfile::tempdir().unwrap();
        let handles = written(1_000, 2, kind, folder.path(), runtime.handle());
        let later: BTreeMap<u64, AirportDelay> = migrated(&handles, runtime.handle());
        assert_eq!(later.len(), 1_000);
        for (key, value) in later {
            let expected = AirportDelay {
                region: "unknown".to_owned(),
                departures: Some(delay(key).flights),
                last: None,
            };
            assert_eq!(value, expected);
        }
        let airports: BTreeMap<u64, Airports> = migrated(&handles, runtime.handle());
        assert_eq!(airports.len(), 1_000);
        assert!(
            airports
                .iter()
                .all(|(key, value)| value.0 == delay(*key).airports.join("+"))
        );
    }
}

#[test]
fn a_struct_does_not_become_an_enum_by_itself() {
    assert_ne!(Either::Neither, Either::Delay(delay(1)));
    let error = Fixture::new().refused::<Either>();
    assert!(
        matches!(error, RestoreError::State(StateError::IncompatibleSchema { .. })),
        "{error}"
    );
}

#[test]
fn a_type_may_change_its_name() {
    mod later {
        #[derive(Clone, streamd_macros::State)]
        #[state(crate = "streamd_core")]
        pub struct AirportDelay {
            pub flights: u64,
            pub airports: Vec<String>,
        }
    }
    let fixture = Fixture::new();
    let renamed: BTreeMap<u64, later::AirportDelay> = migrated(&fixture.handles, fixture.runtime.handle());
    assert_eq!(renamed.len(), 1_000);
    assert!(
        renamed
            .iter()
            .all(|(key, value)| value.airports == delay(*key).airports)
    );
}

#[test]
fn a_state_that_nobody_registers_is_not_dropped_in_silence() {
    let fixture = Fixture::new();
    let mut backend = KeyedStateBackend::<u64>::new(KeyGroupRange::all(MAX_PARALLELISM), MAX_PARALLELISM);
    backend.register::<Delay>("delays").unwrap();
    let error = restore_with(&mut backend, &fixture.handles, fixture.runtime.handle(), u64::MAX).unwrap_err();
    assert_eq!(error.to_string(), "state `flags` is not registered by the operator");
    assert_eq!(error.code(), ErrorCode::UnclaimedState);
}

#[test]
fn a_missing_or_doubled_part_is_noticed_before_a_row_is_read() {
    let mut fixture = Fixture::new();
    let part = fixture.handles.remove(0);
    assert_eq!(
        fixture.refused::<Delay>().to_string(),
        "state `delays` of the snapshot has key groups [0, 64) in no part"
    );
    fixture.handles.extend([part.clone(), part]);
    assert_eq!(
        fixture.refused::<Delay>().to_string(),
        "state `delays` of the snapshot has key groups [0, 64) in 2 parts"
    );
}
