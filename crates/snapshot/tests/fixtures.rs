//! Snapshots of every version ever written are read for ever.
//!
//! The folders below `tests/fixtures` were written by the version that their names say. With `STREAMD_WRITE_FIXTURES` set, the
//! test writes those of the present version anew instead; it never touches those of older ones.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::path::{Path, PathBuf};

use streamd_core::backend::Inlining;
use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::{HashRange, KEY_HASH_VERSION, KeyGroupRange, key_group_of};
use streamd_core::row::{DataType, Field, Variant};
use streamd_core::snapshot::{
    KeyedStateFormat, KeyedStateHandle, ListState, METADATA_VERSION, OperatorState, SnapshotMetadata,
};
use streamd_core::state::{State, to_row};
use streamd_core::time::WallTime;
use streamd_snapshot::{
    KeyedStateSink, KeyedTable, Location, SegmentKeys, SegmentSink, SubtaskContext, SubtaskSnapshotWriter,
    check_objects, discard, publish, read_keyed_state, read_snapshot, verify_objects,
};
use tokio::runtime::Runtime;

const UID: &str = "flights per airport";
const GROUPS: u32 = 128;
const SUBTASKS: u32 = 2;

fn folder(name: &str) -> PathBuf {
    servers::workspace().join("crates/snapshot/tests/fixtures").join(name)
}

/// A value of every kind of type.
fn value_type() -> DataType {
    let field = |name: &str, data_type| Field {
        name: name.to_owned(),
        data_type,
    };
    let variant = |name: &str, fields| Variant {
        name: name.to_owned(),
        fields,
    };
    let status = DataType::Enum {
        name: "Status".to_owned(),
        variants: vec![
            variant("Unknown", vec![]),
            variant(
                "Delayed",
                vec![field("minutes", DataType::Int32), field("why", DataType::String)],
            ),
        ],
    };
    let kind = DataType::Enum {
        name: "Kind".to_owned(),
        variants: vec![variant("Small", vec![]), variant("Hub", vec![])],
    };
    DataType::Struct {
        name: "Airport".to_owned(),
        fields: vec![
            field("flights", DataType::UInt64),
            field("mean_delay", DataType::Float64),
            field("worst", DataType::Option(Box::new(DataType::Int16))),
            field("hours", DataType::List(Box::new(DataType::UInt32))),
            field(
                "by_carrier",
                DataType::Map(Box::new(DataType::String), Box::new(DataType::Int64)),
            ),
            field("status", status),
            field("kind", kind),
            field("raw", DataType::Bytes),
            field("open", DataType::Bool),
            field("nothing", <()>::data_type()),
        ],
    }
}

fn value(number: u32) -> Vec<u8> {
    let mut row = to_row(&u64::from(number));
    (f64::from(number) / 4.0).encode(&mut row);
    (number % 2 == 1).then_some(-(number as i16)).encode(&mut row);
    (0..number % 4).collect::<Vec<u32>>().encode(&mut row);
    std::collections::BTreeMap::from([("AA".to_owned(), i64::from(number))]).encode(&mut row);
    if number.is_multiple_of(3) {
        0u32.encode(&mut row);
    } else {
        (1u32, (number as i32, "fog".to_owned())).encode(&mut row);
    }
    (number % 2).encode(&mut row);
    streamd_core::row::write_bytes(&mut row, &[number as u8; 3]);
    (number > 5).encode(&mut row);
    row
}

type Row = (u32, Vec<u8>, Vec<u8>);

/// Ten airports, by rising key group.
fn rows() -> Vec<Row> {
    let row = |number: u32| {
        let airport = format!("AP{number}");
        (
            key_group_of(airport.stable_hash(), GROUPS),
            to_row(&airport),
            value(number),
        )
    };
    let mut rows: Vec<Row> = (0..10).map(row).collect();
    rows.sort();
    rows
}

fn splits() -> ListState {
    ListState {
        name: "splits".to_owned(),
        data_type: <(String, u64)>::data_type(),
        items: vec![to_row(&("a.csv".to_owned(), 7u64)), to_row(&("b.csv".to_owned(), 0u64))],
    }
}

fn metadata(kind: SnapshotKind) -> SnapshotMetadata {
    SnapshotMetadata {
        version: METADATA_VERSION,
        key_hash_version: KEY_HASH_VERSION,
        kind,
        job_id: JobId::from_bytes(*b"the fixtures' id"),
        checkpoint_id: CheckpointId(42),
        triggered_at: WallTime(1_767_225_600_000),
        leader_epoch: 3,
        attempt: Attempt(2),
        nonce: "a nonce of the fixtures".to_owned(),
        graph: JobGraph::new("flights"),
        operators: vec![OperatorState {
            id: OperatorId::from_uid(UID),
            uid: Some(UID.to_owned()),
            name: "process".to_owned(),
            parallelism: SUBTASKS,
            max_parallelism: GROUPS,
            keyed: Vec::new(),
            lists: vec![splits()],
        }],
    }
}

fn rows_of(key_groups: KeyGroupRange) -> Vec<Row> {
    rows().into_iter().filter(|row| key_groups.contains(row.0)).collect()
}

/// A checkpoint whose segments say which hashes their keys have, and when their earliest moments are.
const SEGMENTED: &str = "segments/chk-42";

fn keys_of(key_groups: KeyGroupRange) -> SegmentKeys {
    SegmentKeys {
        key_groups,
        hashes: Some(HashRange::of_groups(key_groups, GROUPS)),
    }
}

fn earliest_of(key_groups: KeyGroupRange) -> Vec<i64> {
    vec![1_767_225_600_000 - i64::from(key_groups.start), -1, i64::MAX]
}

fn write_segment(sink: &mut dyn SegmentSink, key_groups: KeyGroupRange) {
    sink.begin_segment(keys_of(key_groups), None).unwrap();
    let rows = rows_of(key_groups);
    for (group, key, value) in &rows {
        sink.put(*group, key, value).unwrap();
    }
    sink.end_segment(rows.len() as u64, earliest_of(key_groups)).unwrap();
}

fn write(kind: SnapshotKind, path: &Path, runtime: &Runtime) {
    let location = Location::open(path.to_str().unwrap()).unwrap();
    match kind {
        SnapshotKind::Checkpoint => runtime.block_on(discard(&location)).unwrap(),
        SnapshotKind::Savepoint => runtime.block_on(location.delete_folder()).unwrap(),
    }
    let options = SnapshotOptions {
        kind,
        location: location.uri(),
        sources: AfterBarrier::Continue,
        aligned: true,
        increment: Increment::Off,
        compression: Compression::Zstd,
    };
    let mut metadata = metadata(kind);
    for subtask in 0..SUBTASKS {
        let (job, nonce) = (metadata.job_id, "fixture".to_owned());
        let context = SubtaskContext {
            job,
            vertex: 1,
            subtask,
            attempt: Attempt(2),
            nonce,
        };
        let writer = SubtaskSnapshotWriter::new(&options, context, runtime.handle().clone()).unwrap();
        // One subtask's rows are in the metadata, those of the other in a file.
        let inlining = [Inlining::UpTo(1 << 20), Inlining::Off][subtask as usize];
        let mut writer = writer.inlining(inlining);
        let key_groups = KeyGroupRange::of_subtask(subtask, SUBTASKS, GROUPS);
        let table = KeyedTable {
            operator: OperatorId::from_uid(UID),
            label: UID.to_owned(),
            state: "airport".to_owned(),
            key: DataType::String,
            namespace: None,
            value: value_type(),
            key_groups,
        };
        writer.begin(&table).unwrap();
        match path.ends_with(SEGMENTED) {
            true => write_segment(writer.segments().unwrap(), key_groups),
            false => rows_of(key_groups)
                .iter()
                .for_each(|(group, key, value)| writer.row(*group, key, value).unwrap()),
        }
        writer.end().unwrap();
        metadata.operators[0]
            .keyed
            .extend(writer.finish().unwrap().into_values().flatten());
    }
    runtime.block_on(publish(&location, &metadata)).unwrap();
}

/// Returns the states that it has.
fn check(kind: SnapshotKind, name: &str) -> Vec<KeyedStateHandle> {
    let (path, runtime) = (folder(name), Runtime::new().unwrap());
    let is_present = name.starts_with(&format!("v{METADATA_VERSION}/"));
    if is_present && std::env::var_os("STREAMD_WRITE_FIXTURES").is_some() {
        write(kind, &path, &runtime);
    }
    let stored = runtime.block_on(read_snapshot(path.to_str().unwrap())).unwrap();
    assert!(name.starts_with(&format!("v{}/", stored.version)), "{}", stored.version);
    runtime
        .block_on(check_objects(&stored.metadata, &stored.folder))
        .unwrap();
    runtime
        .block_on(verify_objects(&stored.metadata, &stored.folder))
        .unwrap();
    let keyed = stored.metadata.operators[0].keyed.clone();
    let mut bare = stored.metadata;
    bare.operators[0].keyed.clear();
    assert_eq!(bare, metadata(kind));
    let mut restored: Vec<Row> = Vec::new();
    for handle in &keyed {
        assert_eq!((&handle.key, &handle.value), (&DataType::String, &value_type()));
        read_keyed_state(
            handle,
            &stored.folder,
            KeyGroupRange::all(GROUPS),
            runtime.handle(),
            &mut |group, key, value| {
                restored.push((group, key.to_vec(), value.to_vec()));
                Ok(())
            },
        )
        .unwrap();
    }
    restored.sort();
    assert_eq!(restored, rows());
    keyed
}

#[test]
fn a_checkpoint_of_version_1_is_read() {
    check(SnapshotKind::Checkpoint, "v1/chk-42");
}

#[test]
fn a_checkpoint_of_version_2_is_read() {
    check(SnapshotKind::Checkpoint, "v2/chk-42");
}

#[test]
fn a_checkpoint_of_version_3_is_read() {
    check(SnapshotKind::Checkpoint, "v3/chk-42");
}

#[test]
fn what_a_checkpoint_says_of_its_segments_is_read() {
    for handle in check(SnapshotKind::Checkpoint, &format!("v3/{SEGMENTED}")) {
        let KeyedStateFormat::Native { segments } = &handle.format else {
            panic!("a checkpoint is in native form");
        };
        let keys = keys_of(handle.key_groups);
        let said: Vec<_> = segments
            .iter()
            .map(|segment| (segment.key_groups, segment.hashes, segment.earliest.clone()))
            .collect();
        assert_eq!(said, [(keys.key_groups, keys.hashes, earliest_of(keys.key_groups))]);
    }
}

#[test]
fn a_savepoint_of_version_3_is_read() {
    check(SnapshotKind::Savepoint, "v3/savepoint");
}

#[test]
fn a_savepoint_of_version_1_is_read() {
    check(SnapshotKind::Savepoint, "v1/savepoint");
}

#[test]
fn a_savepoint_of_version_2_is_read() {
    check(SnapshotKind::Savepoint, "v2/savepoint");
}
