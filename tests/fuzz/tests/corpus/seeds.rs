//! Inputs that are made by the code that writes them in earnest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuzz::rows::Nested;
use prost::Message;
use streamd_connectors::file::source::FileSplit;
use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::key_group::{KEY_HASH_VERSION, KeyGroupRange};
use streamd_core::protocol::*;
use streamd_core::row::DataType;
use streamd_core::snapshot::*;
use streamd_core::state::{State, to_row};
use streamd_core::time::{EventTime, WallTime};
use streamd_exchange::Batch;
use streamd_rpc::{proto, status};
use streamd_snapshot::{KeyedStateSink, KeyedTable, Location, SubtaskContext, SubtaskSnapshotWriter, publish};
use tokio::runtime::Runtime;

/// Target, name, bytes.
type Seed = (&'static str, &'static str, Vec<u8>);

pub fn all() -> Vec<Seed> {
    let mut seeds = messages();
    seeds.extend(values());
    seeds.extend(tables());
    seeds
}

fn nested() -> Nested {
    (
        "text".to_owned(),
        Some(Some(-7)),
        vec![(u64::MAX, vec![0, 255]), (0, vec![])],
        BTreeMap::from([("a".to_owned(), vec![true, false]), ("b".to_owned(), vec![])]),
        BTreeMap::from([(None, f64::NAN), (Some(3), -0.5)]),
        vec![(), ()],
    )
}

fn values() -> Vec<Seed> {
    let split = FileSplit {
        path: "/in/a.csv".to_owned(),
        length: 7,
        head: 1,
        start: 0,
        end: 7,
        position: 3,
    };
    let batch = |bytes: Result<Vec<u8>, bitcode::Error>| bytes.unwrap();
    let timed = Batch::with_timestamps(vec![1_u64, 2], vec![EventTime(1), EventTime(-1)]);
    let options = vec![("a".to_owned(), Some(vec![1_i64, -1])), (String::new(), None)];
    let maps = vec![BTreeMap::from([("k".to_owned(), (true, 0.5))])];
    let none: Vec<EventTime> = Vec::new();
    vec![
        ("row", "nested", to_row(&nested())),
        ("row", "split", to_row(&split)),
        (
            "batch",
            "numbers",
            batch(bitcode::serialize(&(timed.records(), timed.timestamps()))),
        ),
        ("batch", "options", batch(bitcode::serialize(&(&options, &none)))),
        ("batch", "maps", batch(bitcode::serialize(&(&maps, &none)))),
    ]
}

fn state() -> BTreeMap<OperatorId, OperatorSubtaskState> {
    let handle = |format| KeyedStateHandle {
        state: "count".to_owned(),
        key: DataType::String,
        namespace: Some(DataType::UInt64),
        value: Nested::data_type(),
        key_groups: KeyGroupRange { start: 3, end: 9 },
        format,
        objects: vec![ObjectHandle {
            path: "file:///chk-4/state".to_owned(),
            length: 100,
            digest: "0".repeat(32),
            inline: None,
        }],
        rows: 12,
        bytes: 99,
    };
    let block = NativeBlock {
        object: 0,
        layer: 0,
        offset: 16,
        length: 84,
    };
    let segment = NativeSegment {
        key_groups: KeyGroupRange { start: 3, end: 9 },
        hashes: None,
        earliest: Vec::new(),
        blocks: vec![block],
    };
    let files = vec!["MANIFEST-000004".to_owned()];
    let keyed = vec![
        handle(KeyedStateFormat::Native {
            segments: vec![segment],
        }),
        handle(KeyedStateFormat::Parquet),
        handle(KeyedStateFormat::RocksDb { files }),
    ];
    let lists = vec![ListState::of("splits", &[nested()])];
    BTreeMap::from([(OperatorId::from_uid("u"), OperatorSubtaskState { keyed, lists })])
}

fn messages() -> Vec<Seed> {
    let (attempt, checkpoint, job_id) = (Attempt(3), CheckpointId(17), JobId::from_bytes([7; 16]));
    let subtask = SubtaskId { vertex: 1, index: 2 };
    let worker = WorkerId(8);
    let command = |command: WorkerCommand| proto::WorkerCommand::from(command).encode_to_vec();
    let event = |event: WorkerEvent| proto::WorkerEvent::from(event).encode_to_vec();
    let placement = vec![WorkerPlacement {
        worker,
        data_address: "127.0.0.1:4000".to_owned(),
        subtasks: vec![subtask],
    }];
    let deployment = Deployment {
        job_id,
        attempt,
        slots: vec![SlotDeployment {
            slot: 1,
            subtasks: vec![SubtaskDeployment {
                subtask,
                key_groups: KeyGroupRange { start: 3, end: 9 },
                state: state(),
            }],
        }],
        kept: Vec::new(),
        placement: placement.clone(),
        max_parallelism: vec![128, 256],
        restored: Some(CheckpointId(4)),
        state_backend: streamd_core::backend::StateBackendOptions::default(),
    };
    let options = options(SnapshotKind::Checkpoint, "file:///chk-17");
    let barrier = Barrier {
        checkpoint,
        options: Arc::new(options),
    };
    let registration = WorkerRegistration {
        job_id,
        worker,
        task_manager: TaskManagerId("tm-1".to_owned()),
        data_address: "127.0.0.1:4000".to_owned(),
        fingerprint: "abc".to_owned(),
        graph_outline: "Source: x".to_owned(),
        process_id: 77,
    };
    let failed = Failure::new(FaultDomain::User, "line 7 has 3 fields");
    let returned = WorkerReturn {
        registration: registration.clone(),
        attempt,
        placement,
        slots: vec![1],
        subtasks: vec![SubtaskReport {
            subtask,
            state: ExecutionState::Failed,
            failure: Some(failed),
            end_of_data: true,
        }],
        last_snapshot: Some(checkpoint),
        open_snapshots: vec![checkpoint],
        is_drained: false,
    };
    let metrics = SubtaskMetrics {
        watermark: Some(-1),
        alignment: BTreeMap::from([("clocks".to_owned(), EventTime(-9))]),
        ..SubtaskMetrics::default()
    };
    let acknowledged = WorkerEvent::Acknowledge {
        attempt,
        checkpoint,
        subtask,
        snapshot: SubtaskSnapshot { operators: state() },
    };
    let heartbeat = WorkerEvent::Heartbeat {
        attempt,
        subtasks: vec![metrics],
    };
    let error = CodedError::new(ErrorCode::InvalidJobGraph, "job has no name").with_hint("name it");
    vec![
        (
            "worker_command",
            "deploy",
            command(WorkerCommand::Deploy(Box::new(deployment))),
        ),
        (
            "worker_command",
            "trigger",
            command(WorkerCommand::TriggerCheckpoint { attempt, barrier }),
        ),
        (
            "worker_event",
            "registered",
            event(WorkerEvent::Registered(registration)),
        ),
        (
            "worker_event",
            "returned",
            event(WorkerEvent::Returned(Box::new(returned))),
        ),
        ("worker_event", "acknowledge", event(acknowledged)),
        ("worker_event", "heartbeat", event(heartbeat)),
        ("rpc_error", "refused", status::to_proto(&error).encode_to_vec()),
    ]
}

fn options(kind: SnapshotKind, location: &str) -> SnapshotOptions {
    SnapshotOptions {
        kind,
        location: location.to_owned(),
        sources: AfterBarrier::Continue,
        aligned: true,
        increment: Increment::Off,
        compression: Compression::Zstd,
    }
}

/// The tables of a savepoint whose states hold nested values.
fn tables() -> Vec<Seed> {
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let location = Location::open(folder.path().to_str().unwrap())
        .unwrap()
        .child("sp")
        .unwrap();
    let (job, operator) = (JobId::from_bytes([7; 16]), OperatorId::from_uid("u"));
    let context = SubtaskContext {
        job,
        vertex: 0,
        subtask: 0,
        attempt: Attempt(1),
        nonce: "seed".to_owned(),
    };
    let table = KeyedTable {
        operator,
        label: "u".to_owned(),
        state: "nested".to_owned(),
        key: DataType::String,
        namespace: None,
        value: Nested::data_type(),
        key_groups: KeyGroupRange::all(128),
    };
    let options = options(SnapshotKind::Savepoint, &location.uri());
    let mut writer = SubtaskSnapshotWriter::new(&options, context, runtime.handle().clone()).unwrap();
    writer.begin(&table).unwrap();
    for group in [3, 9] {
        writer
            .row(group, &to_row(&format!("key {group}")), &to_row(&nested()))
            .unwrap();
    }
    writer.end().unwrap();
    let metadata = SnapshotMetadata {
        version: METADATA_VERSION,
        key_hash_version: KEY_HASH_VERSION,
        kind: SnapshotKind::Savepoint,
        job_id: job,
        checkpoint_id: CheckpointId(1),
        triggered_at: WallTime(0),
        leader_epoch: 1,
        attempt: Attempt(1),
        nonce: "seed".to_owned(),
        graph: JobGraph::new("seeds"),
        operators: vec![OperatorState {
            id: operator,
            uid: Some("u".to_owned()),
            name: "process".to_owned(),
            parallelism: 1,
            max_parallelism: 128,
            keyed: writer.finish().unwrap().into_values().flatten().collect(),
            lists: vec![ListState::of("list", &[nested(), nested()])],
        }],
    };
    runtime.block_on(publish(&location, &metadata)).unwrap();
    let files = files_below(&folder.path().join("sp"));
    let read = |end: &str| {
        let path = files.iter().find(|path| path.to_str().unwrap().ends_with(end)).unwrap();
        std::fs::read(path).unwrap()
    };
    vec![
        ("keyed_table", "nested", read("0-seed.parquet")),
        ("list_table", "nested", read("list.list.parquet")),
        ("metadata", "nested", read("_metadata")),
    ]
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .collect()
}
