use std::sync::Arc;

use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotOptions};
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::{KEY_HASH_VERSION, KeyGroupRange};
use streamd_core::row::DataType;
use streamd_core::snapshot::{KeyedStateHandle, ListState, OperatorState};
use streamd_core::state::to_row;
use streamd_core::time::WallTime;
use tokio::runtime::Runtime;

use super::*;
use crate::completed::list_completed;
use crate::discard::{discard, dispose, unpublish};
use crate::read::{check_objects, read_snapshot, verify_objects};
use crate::restore::read_keyed_state;
use crate::subtask::{KeyedStateSink, KeyedTable, SubtaskContext, SubtaskSnapshotWriter};

/// A snapshot with one keyed state of ten rows and two lists, whose objects are written.
struct Fixture {
    runtime: Runtime,
    _directory: tempfile::TempDir,
    base: Location,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let base = Location::open(directory.path().to_str().unwrap()).unwrap();
        Self {
            runtime: Runtime::new().unwrap(),
            _directory: directory,
            base,
        }
    }

    fn written(&self, kind: SnapshotKind, folder: &Location) -> SnapshotMetadata {
        let operator = OperatorId::from_uid("counts");
        let options = SnapshotOptions {
            kind,
            location: folder.uri(),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment: Increment::Off,
            compression: Compression::None,
        };
        let job_id = JobId::from_bytes([7; 16]);
        let context = SubtaskContext {
            job: job_id,
            vertex: 0,
            subtask: 0,
            attempt: Attempt(1),
            nonce: random_nonce(),
        };
        let mut writer =
            SubtaskSnapshotWriter::new(&Arc::new(options), context, self.runtime.handle().clone()).unwrap();
        let table = KeyedTable {
            operator,
            label: "counts".to_owned(),
            state: "count".to_owned(),
            key: DataType::UInt64,
            namespace: None,
            value: DataType::String,
            key_groups: KeyGroupRange::all(128),
        };
        writer.begin(&table).unwrap();
        for key in 0..10u64 {
            writer
                .row(key as u32, &to_row(&key), &to_row(&format!("value {key}")))
                .unwrap();
        }
        writer.end().unwrap();
        let keyed = writer.finish().unwrap().remove(&operator).unwrap();
        metadata(kind, job_id, keyed)
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn rows(&self, handle: &KeyedStateHandle, folder: &str) -> usize {
        let mut rows = 0;
        let all = KeyGroupRange::all(128);
        read_keyed_state(
            handle,
            folder,
            all,
            self.runtime.handle(),
            &mut |_group, _key, _value| {
                rows += 1;
                Ok(())
            },
        )
        .unwrap();
        rows
    }
}

fn empty_graph() -> JobGraph {
    JobGraph::new("counts")
}

fn metadata(kind: SnapshotKind, job_id: JobId, keyed: Vec<KeyedStateHandle>) -> SnapshotMetadata {
    let list = |name: &str, count: u64| ListState {
        name: name.to_owned(),
        data_type: DataType::UInt64,
        items: (0..count).map(|item| to_row(&item)).collect(),
    };
    SnapshotMetadata {
        version: METADATA_VERSION,
        key_hash_version: KEY_HASH_VERSION,
        kind,
        job_id,
        checkpoint_id: CheckpointId(17),
        triggered_at: WallTime(1_700_000_000_000),
        leader_epoch: 1,
        attempt: Attempt(1),
        nonce: random_nonce(),
        graph: empty_graph(),
        operators: vec![OperatorState {
            id: OperatorId::from_uid("counts"),
            uid: Some("counts".to_owned()),
            name: "count".to_owned(),
            parallelism: 1,
            max_parallelism: 128,
            keyed,
            lists: vec![list("splits", 3), list("nothing", 0)],
        }],
    }
}

fn names(location: &Location) -> Vec<String> {
    let path = location.local_path().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_published_checkpoint_is_read_back_recorded_and_discarded_without_a_trace() {
    let fixture = Fixture::new();
    let job_folder = fixture.base.child("job").unwrap();
    let folder = job_folder.child("chk-17").unwrap();
    let metadata = fixture.written(SnapshotKind::Checkpoint, &folder);
    let published = fixture.run(publish(&folder, &metadata)).unwrap();
    let stored = fixture.run(read_snapshot(&published.uri)).unwrap();
    assert_eq!(stored.metadata, metadata);
    assert_eq!(stored.bytes, published.bytes);
    assert_eq!(fixture.rows(&stored.metadata.operators[0].keyed[0], &stored.folder), 10);
    let records = fixture.run(list_completed(&job_folder)).unwrap();
    assert_eq!(
        records.iter().map(|r| (r.checkpoint_id, &r.nonce)).collect::<Vec<_>>(),
        [(CheckpointId(17), &metadata.nonce)]
    );

    fixture.run(unpublish(&folder)).unwrap();
    fixture.run(unpublish(&folder)).unwrap();
    assert_eq!(fixture.run(list_completed(&job_folder)).unwrap(), []);
    assert!(!names(&folder).is_empty());
    assert!(!names(&folder).contains(&"_metadata".to_owned()));

    fixture.run(discard(&folder)).unwrap();
    fixture.run(discard(&folder)).unwrap();
    assert_eq!(names(&fixture.base), Vec::<String>::new());
}

#[test]
fn a_savepoint_is_read_where_it_was_moved_to_with_its_lists() {
    let fixture = Fixture::new();
    let folder = fixture.base.child("savepoint-070707-0123456789ab").unwrap();
    let metadata = fixture.written(SnapshotKind::Savepoint, &folder);
    fixture.run(publish(&folder, &metadata)).unwrap();
    let moved = fixture.base.child("my folder").unwrap();
    std::fs::rename(folder.local_path().unwrap(), moved.local_path().unwrap()).unwrap();
    for pointer in [
        moved.uri(),
        moved.local_path().unwrap().to_str().unwrap().to_owned() + "/_metadata",
    ] {
        let stored = fixture.run(read_snapshot(&pointer)).unwrap();
        assert_eq!(stored.metadata, metadata);
        assert_eq!(stored.folder, moved.uri());
        assert_eq!(fixture.rows(&stored.metadata.operators[0].keyed[0], &stored.folder), 10);
        fixture.run(check_objects(&stored.metadata, &stored.folder)).unwrap();
        fixture.run(verify_objects(&stored.metadata, &stored.folder)).unwrap();
    }
}

#[test]
fn a_complete_savepoint_is_deleted_by_its_owner_alone_and_what_is_not_its_own_stays() {
    let fixture = Fixture::new();
    let folder = fixture.base.child("savepoint-070707-0123456789ab").unwrap();
    let metadata = fixture.written(SnapshotKind::Savepoint, &folder);
    fixture.run(publish(&folder, &metadata)).unwrap();
    let refused = fixture.run(discard(&folder)).unwrap_err();
    assert!(matches!(refused, SnapshotError::NotOurs { .. }));
    std::fs::write(folder.local_path().unwrap().join("notes.txt"), "mine").unwrap();
    fixture.run(dispose(&folder.uri())).unwrap();
    assert_eq!(names(&folder), ["notes.txt"]);
}

#[test]
fn a_checkpoint_that_was_given_to_a_job_is_deleted_without_a_trace_and_once_more() {
    let fixture = Fixture::new();
    let folder = fixture.base.child("job").unwrap().child("chk-17").unwrap();
    let metadata = fixture.written(SnapshotKind::Checkpoint, &folder);
    fixture.run(publish(&folder, &metadata)).unwrap();
    fixture.run(crate::discard::discard_claimed(&folder.uri())).unwrap();
    assert_eq!(names(&fixture.base), Vec::<String>::new());
    fixture.run(crate::discard::discard_claimed(&folder.uri())).unwrap();
}

#[test]
fn a_savepoint_that_was_given_up_is_discarded_with_all_that_is_left_of_it() {
    let fixture = Fixture::new();
    let folder = fixture.base.child("savepoint-070707-0123456789ab").unwrap();
    fixture.written(SnapshotKind::Savepoint, &folder);
    let elsewhere = fixture.base.child("elsewhere").unwrap().local_path().unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("precious"), "x").unwrap();
    let here = folder.local_path().unwrap();
    std::os::unix::fs::symlink(&elsewhere, here.join("link")).unwrap();
    std::fs::write(here.join("half.parquet#1"), "staged by a writer that was killed").unwrap();
    fixture.run(discard(&folder)).unwrap();
    assert_eq!(names(&fixture.base), ["elsewhere"]);
    assert!(elsewhere.join("precious").exists());
}

#[test]
fn publishing_the_same_writing_twice_succeeds_and_another_one_loses() {
    let fixture = Fixture::new();
    let folder = fixture.base.child("job/chk-17").unwrap();
    let metadata = fixture.written(SnapshotKind::Checkpoint, &folder);
    fixture.run(publish(&folder, &metadata)).unwrap();
    fixture.run(publish(&folder, &metadata)).unwrap();
    let stale = SnapshotMetadata {
        nonce: random_nonce(),
        ..metadata.clone()
    };
    let lost = fixture.run(publish(&folder, &stale)).unwrap_err();
    assert!(matches!(lost, PublishError::NotCreated(CreateError::Lost { .. })) && lost.outcome_unknown());
    assert_eq!(
        fixture.run(read_snapshot(&folder.uri())).unwrap().metadata.nonce,
        metadata.nonce
    );
}

#[test]
fn a_snapshot_with_a_missing_or_damaged_object_is_never_published() {
    let fixture = Fixture::new();
    let folder = fixture.base.child("job/chk-17").unwrap();
    let metadata = fixture.written(SnapshotKind::Checkpoint, &folder);
    let object = folder
        .local_path()
        .unwrap()
        .join(&metadata.operators[0].keyed[0].objects[0].path);
    let bytes = std::fs::read(&object).unwrap();
    std::fs::write(&object, &bytes[1..]).unwrap();
    let failed = fixture.run(publish(&folder, &metadata)).unwrap_err();
    assert!(matches!(&failed, PublishError::Failed(SnapshotError::Truncated { .. })) && !failed.outcome_unknown());
    std::fs::remove_file(&object).unwrap();
    let failed = fixture.run(publish(&folder, &metadata)).unwrap_err();
    assert!(matches!(
        failed,
        PublishError::Failed(SnapshotError::MissingObject { .. })
    ));
    let absent = fixture.run(read_snapshot(&folder.uri())).unwrap_err();
    assert!(
        matches!(
            absent,
            SnapshotError::NoMetadata { .. } | SnapshotError::NotFound { .. }
        ),
        "{absent}"
    );
}

#[test]
fn an_object_that_is_a_link_to_itself_is_a_missing_one_and_no_outage() {
    let fixture = Fixture::new();
    let folder = fixture.base.child("job/chk-17").unwrap();
    let metadata = fixture.written(SnapshotKind::Checkpoint, &folder);
    fixture.run(publish(&folder, &metadata)).unwrap();
    let object = folder
        .local_path()
        .unwrap()
        .join(&metadata.operators[0].keyed[0].objects[0].path);
    std::fs::remove_file(&object).unwrap();
    std::os::unix::fs::symlink(&object, &object).unwrap();
    for outcome in [
        fixture.run(check_objects(&metadata, &folder.uri())),
        fixture.run(verify_objects(&metadata, &folder.uri())),
    ] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, SnapshotError::MissingObject { .. }), "{error}");
    }
}

#[test]
fn a_table_of_a_list_that_was_damaged_is_refused() {
    let fixture = Fixture::new();
    let folder = fixture.base.child("savepoint-070707-0123456789ab").unwrap();
    let metadata = fixture.written(SnapshotKind::Savepoint, &folder);
    fixture.run(publish(&folder, &metadata)).unwrap();
    let tables = fixture.run(folder.list()).unwrap();
    let list = tables
        .iter()
        .find(|entry| entry.name.ends_with("splits.list.parquet"))
        .unwrap();
    let path = folder.local_path().unwrap().join(&list.name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = fixture.run(read_snapshot(&folder.uri())).unwrap_err();
    assert!(matches!(error, SnapshotError::DigestMismatch { .. }), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = fixture.run(read_snapshot(&folder.uri())).unwrap_err();
    assert!(matches!(error, SnapshotError::MissingObject { .. }), "{error}");
}

#[test]
fn what_is_no_snapshot_is_told_apart() {
    let fixture = Fixture::new();
    let path = |name: &str| fixture.base.child(name).unwrap().local_path().unwrap();
    let read = |name: &str| fixture.run(read_snapshot(path(name).to_str().unwrap())).unwrap_err();
    assert!(matches!(read("nowhere"), SnapshotError::NotFound { .. }));
    assert!(matches!(read("nowhere/_metadata"), SnapshotError::NotFound { .. }));
    std::fs::create_dir(path("empty")).unwrap();
    assert!(matches!(read("empty"), SnapshotError::NoMetadata { entries, .. } if entries.is_empty()));
    std::fs::create_dir_all(path("parent/chk-3")).unwrap();
    std::fs::write(path("parent/notes"), "x").unwrap();
    assert!(matches!(read("parent"), SnapshotError::NoMetadata { entries, .. } if entries == ["chk-3/", "notes"]));
    assert!(matches!(read("parent/notes"), SnapshotError::NotMetadata { .. }));
    std::fs::create_dir_all(path("folder/_metadata")).unwrap();
    assert!(matches!(read("folder"), SnapshotError::NoMetadata { .. }));
}

#[tokio::test]
async fn an_uncertain_create_is_resolved_by_reading_back() {
    use crate::store::faulty::{Fault, faulty};
    let outcome = async |fault| {
        let metadata = metadata(SnapshotKind::Savepoint, JobId::from_bytes([7; 16]), Vec::new());
        let metadata = SnapshotMetadata {
            operators: Vec::new(),
            ..metadata
        };
        let (folder, faults) = faulty();
        faults.plan(0..usize::MAX, fault);
        publish(&folder, &metadata).await
    };
    for applied in [Fault::AppliedTwice, Fault::SyncFailed] {
        assert!(outcome(applied).await.is_ok(), "{applied:?}");
    }
    // It was refused, or nobody knows: what was on its way may still arrive.
    for unknown in [
        Fault::NotApplied,
        Fault::Refused,
        Fault::Phantom,
        Fault::AppliedThenError,
        Fault::Denied,
    ] {
        let error = outcome(unknown).await.unwrap_err();
        assert!(error.outcome_unknown(), "{unknown:?}: {error:?}");
    }
}

#[path = "fault_tests.rs"]
mod faults;
