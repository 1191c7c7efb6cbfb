//! Looking into checkpoints that are the files of databases, with a `streamctl` that has RocksDB.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::{KEY_HASH_VERSION, KeyGroupRange, key_group_of};
use streamd_core::snapshot::{KeyedStateHandle, METADATA_VERSION, OperatorState, SnapshotMetadata};
use streamd_core::state::State;
use streamd_core::time::WallTime;
use streamd_snapshot::{Location, SubtaskContext, SubtaskSnapshotWriter, publish, random_nonce};
use streamd_state::{BackendChoice, KeyedStateBackend, StatePlace, restore, write_states};
use tokio::runtime::Runtime;

const PARALLELISM: u32 = 2;
const GROUPS: u32 = 16;
const KEYS: u64 = 500;

/// A checkpoint of an operator with the states `counts` and `names`, in a database for each of two subtasks.
struct Sample {
    folder: tempfile::TempDir,
    io: Runtime,
}

impl Sample {
    fn written() -> Self {
        let sample = Self {
            folder: tempfile::tempdir().unwrap(),
            io: Runtime::new().unwrap(),
        };
        std::fs::write(sample.folder.path().join("streamd.yaml"), "").unwrap();
        let keyed = (0..PARALLELISM).flat_map(|subtask| sample.part(subtask)).collect();
        let metadata = SnapshotMetadata {
            version: METADATA_VERSION,
            key_hash_version: KEY_HASH_VERSION,
            kind: SnapshotKind::Checkpoint,
            job_id: JobId::from_bytes([7; 16]),
            checkpoint_id: CheckpointId(1),
            triggered_at: WallTime(0),
            leader_epoch: 1,
            attempt: Attempt(1),
            nonce: random_nonce(),
            graph: JobGraph::new("counting"),
            operators: vec![OperatorState {
                id: operator(),
                uid: Some("counting".to_owned()),
                name: "Count".to_owned(),
                parallelism: PARALLELISM,
                max_parallelism: GROUPS,
                keyed,
                lists: Vec::new(),
            }],
        };
        let folder = Location::open(sample.checkpoint().to_str().unwrap()).unwrap();
        sample.io.block_on(publish(&folder, &metadata)).unwrap();
        sample
    }

    fn checkpoint(&self) -> PathBuf {
        self.folder.path().join("job/chk-1")
    }

    /// What a subtask writes.
    fn part(&self, subtask: u32) -> Vec<KeyedStateHandle> {
        let options = StateBackendOptions {
            kind: StateBackendKind::RocksDb,
            ..StateBackendOptions::default()
        };
        let chosen = BackendChoice::new(options, 1, self.folder.path().join("local")).unwrap();
        let place = StatePlace {
            operator: operator(),
            subtask: (0, subtask),
            nonce: random_nonce(),
        };
        let range = KeyGroupRange::of_subtask(subtask, PARALLELISM, GROUPS);
        let mut backend = KeyedStateBackend::open(&chosen.slot(), &place, range, GROUPS).unwrap();
        let counts = backend.register::<u64>("counts").unwrap();
        let names = backend.register::<String>("names").unwrap();
        restore(&mut backend, &[], self.io.handle()).unwrap();
        for key in (0..KEYS).filter(|key| range.contains(key_group_of(key.stable_hash(), GROUPS))) {
            let hash = key.stable_hash();
            backend.touch(&[(hash, key)]).unwrap();
            backend.table_mut(counts).insert(hash, &key, key * 3);
            backend.table_mut(names).insert(hash, &key, format!("name of {key}"));
        }
        let options = SnapshotOptions {
            kind: SnapshotKind::Checkpoint,
            location: Location::open(self.checkpoint().to_str().unwrap()).unwrap().uri(),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment: Increment::First,
            compression: Compression::None,
        };
        let context = SubtaskContext {
            job: JobId::from_bytes([7; 16]),
            vertex: 0,
            subtask,
            attempt: Attempt(1),
            nonce: random_nonce(),
        };
        let mut writer = SubtaskSnapshotWriter::new(&options, context, self.io.handle().clone()).unwrap();
        write_states(&mut writer, operator(), "counting", backend.freeze()).unwrap();
        writer.finish().unwrap().remove(&operator()).unwrap()
    }

    /// Runs a command whose temporary files go to a directory that must be empty at the end.
    fn streamctl(&self, arguments: &[&str]) -> Output {
        let temporary = self.folder.path().join("tmp");
        std::fs::create_dir_all(&temporary).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_streamctl"))
            .args(arguments)
            .env("TMPDIR", &temporary)
            .env("STREAMD_CONF_DIR", self.folder.path())
            .output()
            .unwrap();
        let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().collect();
        assert!(left.is_empty(), "{arguments:?} leaves {left:?}");
        output
    }

    /// The objects that a command prints.
    fn objects(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.streamctl(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn operator() -> OperatorId {
    OperatorId::from_uid("counting")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn counts(rows: &[Value]) -> BTreeMap<u64, u64> {
    let number = |row: &Value, field: &str| row[field].as_u64().unwrap();
    rows.iter()
        .map(|row| (number(row, "key"), number(row, "value")))
        .collect()
}

#[test]
fn the_rows_of_every_subtask_and_state_are_shown_typed() {
    let sample = Sample::written();
    let path = sample.checkpoint();
    let rows = sample.objects(&["state", "show", text(&path), "counting", "counts", "--limit", "100000"]);
    assert_eq!(rows.len() as u64, KEYS);
    assert_eq!(counts(&rows), (0..KEYS).map(|key| (key, key * 3)).collect());
    let row = sample.objects(&["state", "query", text(&path), "counting", "names", "--key", "77"]);
    assert_eq!(row[0]["value"], "name of 77");
    let none = sample.streamctl(&["state", "query", text(&path), "counting", "names", "--key", "900"]);
    assert_eq!(none.status.code(), Some(3), "{none:?}");
}

#[test]
fn every_state_is_exported_and_verified() {
    let sample = Sample::written();
    let (path, to) = (sample.checkpoint(), sample.folder.path().join("exported"));
    let exported = sample.objects(&["state", "export", text(&path), "--format", "parquet", "--to", text(&to)]);
    let states: BTreeSet<&str> = exported.iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, BTreeSet::from(["counts", "names"]));
    assert!(exported.iter().all(|one| one["rows"] == KEYS), "{exported:?}");
    let verified = sample.objects(&["checkpoint", "verify", text(&path)]);
    assert_eq!(verified[0]["rows"], 2 * KEYS);
    assert_eq!(verified[0]["undecoded_states"], Value::Array(Vec::new()));
}

#[test]
fn a_checkpoint_of_databases_is_edited_into_a_savepoint() {
    let sample = Sample::written();
    let (path, to) = (sample.checkpoint(), sample.folder.path().join("edited"));
    let edit = ["--set", "77=5", "--remove", "78", "--to", text(&to)];
    sample.objects(&[["state", "edit", text(&path), "counting", "counts"].as_slice(), &edit].concat());
    let rows = sample.objects(&["state", "show", text(&to), "counting", "counts", "--limit", "100000"]);
    let mut expected: BTreeMap<u64, u64> = (0..KEYS).map(|key| (key, key * 3)).collect();
    expected.insert(77, 5);
    expected.remove(&78);
    assert_eq!(counts(&rows), expected);
}

#[test]
fn damaged_files_are_told_and_nothing_of_them_is_shown() {
    let sample = Sample::written();
    let path = sample.checkpoint();
    let files = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
    for file in files.filter(|file| file.extension().is_some_and(|it| it == "sst")) {
        let whole = std::fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let verified = sample.streamctl(&["checkpoint", "verify", text(&path)]);
        assert_eq!(verified.status.code(), Some(7), "{verified:?}");
        let shown = sample.streamctl(&["state", "show", text(&path), "counting", "counts", "--limit", "100000"]);
        assert_eq!(shown.status.code(), Some(7), "{shown:?}");
        std::fs::write(&file, &whole).unwrap();
    }
}
