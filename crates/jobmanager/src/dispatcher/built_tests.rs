use std::sync::Arc;

use streamd_core::barrier::SnapshotKind;
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::{KEY_HASH_VERSION, KeyGroupRange};
use streamd_core::row::DataType;
use streamd_core::snapshot::{KeyedStateHandle, METADATA_VERSION, OperatorState};
use streamd_core::time::WallTime;

use super::*;
use crate::options::{JobDefaults, JobOptionsInputs, job_options};

fn graph() -> JobGraph {
    JobGraph::new("job")
}

/// Those of a job that takes checkpoints to this place.
fn options(checkpoints: &str, savepoints: Option<&str>) -> JobOptions {
    let mut inputs = JobOptionsInputs {
        checkpoint_directory: Some(checkpoints.to_owned()),
        savepoint_directory: savepoints.map(str::to_owned),
        ..JobOptionsInputs::default()
    };
    inputs.checkpointing.interval_ms = Some(1_000);
    job_options(&graph(), &inputs, &JobDefaults::default(), 1).unwrap()
}

fn built(backends: &[&str], schemes: &[&str]) -> BuiltWith {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    BuiltWith {
        state_backends: owned(backends),
        storage_schemes: owned(schemes),
    }
}

fn plain() -> BuiltWith {
    built(&["hashmap", "memory"], &["file", "memory"])
}

fn restored(uri: &str, format: KeyedStateFormat) -> RestorePoint {
    let keyed = KeyedStateHandle {
        state: "count".to_owned(),
        key: DataType::String,
        namespace: None,
        value: DataType::UInt64,
        key_groups: KeyGroupRange::all(128),
        format,
        objects: Vec::new(),
        rows: 0,
        bytes: 0,
    };
    RestorePoint {
        uri: uri.to_owned(),
        metadata: Arc::new(SnapshotMetadata {
            version: METADATA_VERSION,
            key_hash_version: KEY_HASH_VERSION,
            kind: SnapshotKind::Checkpoint,
            job_id: JobId::from_bytes([7; 16]),
            checkpoint_id: CheckpointId(1),
            triggered_at: WallTime(0),
            leader_epoch: 1,
            attempt: Attempt(1),
            nonce: "n".to_owned(),
            graph: graph(),
            operators: vec![OperatorState {
                id: OperatorId::from_uid("u"),
                uid: Some("u".to_owned()),
                name: "count".to_owned(),
                parallelism: 1,
                max_parallelism: 128,
                keyed: vec![keyed],
                lists: Vec::new(),
            }],
        }),
    }
}

#[test]
fn a_program_without_the_backend_of_its_job_is_refused() {
    let mut options = options("file:///c", None);
    assert_eq!(check_built("app", Some(&plain()), &options, None), Ok(Vec::new()));
    options.state_backend.kind = StateBackendKind::RocksDb;
    let refused = check_built("app", Some(&plain()), &options, None).unwrap_err();
    assert_eq!(refused.code, ErrorCode::BackendNotBuilt);
    assert!(
        refused.message.contains("application `app`") && refused.message.contains("`rocksdb`"),
        "{refused}"
    );
    let with = built(&["rocksdb"], &["file"]);
    assert_eq!(check_built("app", Some(&with), &options, None), Ok(Vec::new()));
    assert_eq!(
        check_built("app", None, &options, None),
        Ok(Vec::new()),
        "an older program does not say"
    );
}

#[test]
fn a_program_that_cannot_write_its_checkpoints_is_refused() {
    let refused = check_built("app", Some(&plain()), &options("s3a://bucket/c", None), None).unwrap_err();
    assert_eq!(refused.code, ErrorCode::StorageSchemeNotBuilt);
    assert!(refused.message.contains("the feature `s3`"), "{refused}");
    let with = built(&["hashmap"], &["s3"]);
    assert_eq!(
        check_built("app", Some(&with), &options("s3a://bucket/c", None), None),
        Ok(Vec::new())
    );
    let mut without = options("s3://bucket/c", None);
    without.checkpointing.interval_ms = None;
    assert_eq!(
        check_built("app", Some(&plain()), &without, None),
        Ok(Vec::new()),
        "it takes none"
    );
}

#[test]
fn where_only_savepoints_cannot_be_written_the_user_is_told() {
    let warned = check_built(
        "app",
        Some(&plain()),
        &options("file:///c", Some("gs://bucket/s")),
        None,
    )
    .unwrap();
    assert!(
        matches!(&warned[..], [one] if one.contains("`gs://bucket/s`") && one.contains("`gcs`")),
        "{warned:?}"
    );
}

#[test]
fn a_program_that_cannot_read_its_snapshot_is_refused() {
    let options = options("file:///c", None);
    let check = |point: RestorePoint| check_built("app", Some(&plain()), &options, Some(&point));
    let native = || KeyedStateFormat::Native { segments: Vec::new() };
    assert_eq!(check(restored("file:///c/chk-1", native())), Ok(Vec::new()));
    let far = check(restored("hdfs://name/c/chk-1", native())).unwrap_err();
    assert_eq!(far.code, ErrorCode::StorageSchemeNotBuilt);
    let database = check(restored(
        "file:///c/chk-1",
        KeyedStateFormat::RocksDb { files: Vec::new() },
    ))
    .unwrap_err();
    assert_eq!(database.code, ErrorCode::BackendNotBuilt);
    assert!(database.message.contains("`file:///c/chk-1`"), "{database}");
}
