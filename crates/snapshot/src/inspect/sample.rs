//! Snapshots with known rows, for the tests of everything that looks into snapshots.

use std::path::PathBuf;
use std::sync::Arc;

use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::{KEY_HASH_VERSION, KeyGroupRange, key_group_of};
use streamd_core::row::DataType;
use streamd_core::snapshot::{KeyedStateHandle, ListState, METADATA_VERSION, OperatorState, SnapshotMetadata};
use streamd_core::state::to_row;
use streamd_core::time::WallTime;
use tokio::runtime::Runtime;
use xxhash_rust::xxh3::xxh3_64;

use crate::layout;
use crate::publish::{publish, random_nonce};
use crate::read::{StoredSnapshot, read_snapshot};
use crate::store::Location;
use crate::subtask::{KeyedStateSink, KeyedTable, SubtaskContext, SubtaskSnapshotWriter};

/// Key groups of the operator.
const GROUPS: u32 = 128;

/// Keys of its state, `key 0` and so on, each with its number as its value.
pub(crate) const KEYS: u64 = 100;

/// A folder of checkpoints.
pub(crate) struct Sample {
    pub runtime: Runtime,
    pub base: Location,
    directory: tempfile::TempDir,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            runtime: Runtime::new().unwrap(),
            base: Location::open(directory.path().to_str().unwrap()).unwrap(),
            directory,
        }
    }

    pub(crate) fn job() -> JobId {
        JobId::from_bytes([7; 16])
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A complete checkpoint of a job.
    pub(crate) fn checkpoint(&self, job: JobId, id: u64) -> Location {
        let folder = layout::checkpoint_folder(&self.base, job, CheckpointId(id)).unwrap();
        self.publish(&folder, &self.metadata(SnapshotKind::Checkpoint, &folder, (job, id)));
        folder
    }

    /// A checkpoint that has nothing of its own but what it refers to in another one of its job.
    pub(crate) fn checkpoint_on(&self, base: &Location, id: u64) -> Location {
        let stored = self.read(base);
        let folder = base.parent().unwrap().child(&format!("chk-{id}")).unwrap();
        let mut metadata = stored.metadata;
        metadata.checkpoint_id = CheckpointId(id);
        metadata.nonce = random_nonce();
        for handle in metadata.operators.iter_mut().flat_map(|operator| &mut operator.keyed) {
            for object in &mut handle.objects {
                object.path = format!("../{}/{}", base.name().unwrap(), object.path);
            }
        }
        self.publish(&folder, &metadata);
        folder
    }

    /// A complete savepoint.
    pub(crate) fn savepoint(&self, name: &str) -> Location {
        let folder = self.base.child(name).unwrap();
        self.publish(
            &folder,
            &self.metadata(SnapshotKind::Savepoint, &folder, (Self::job(), 17)),
        );
        folder
    }

    pub(crate) fn read(&self, folder: &Location) -> StoredSnapshot {
        self.run(read_snapshot(&folder.uri())).unwrap()
    }

    fn publish(&self, folder: &Location, metadata: &SnapshotMetadata) {
        self.run(publish(folder, metadata)).unwrap();
    }

    fn metadata(&self, kind: SnapshotKind, folder: &Location, (job_id, id): (JobId, u64)) -> SnapshotMetadata {
        let keyed = (0..2).flat_map(|subtask| self.keyed(kind, folder, subtask)).collect();
        let items = (0..3u64).map(|item| to_row(&item)).collect();
        SnapshotMetadata {
            version: METADATA_VERSION,
            key_hash_version: KEY_HASH_VERSION,
            kind,
            job_id,
            checkpoint_id: CheckpointId(id),
            triggered_at: WallTime(1_700_000_000_000),
            leader_epoch: 1,
            attempt: Attempt(1),
            nonce: random_nonce(),
            graph: JobGraph::new("flights"),
            operators: vec![OperatorState {
                id: OperatorId::from_uid("counts"),
                uid: Some("counts".to_owned()),
                name: "Count".to_owned(),
                parallelism: 2,
                max_parallelism: GROUPS,
                keyed,
                lists: vec![ListState {
                    name: "splits".to_owned(),
                    data_type: DataType::UInt64,
                    items,
                }],
            }],
        }
    }

    fn keyed(&self, kind: SnapshotKind, folder: &Location, subtask: u32) -> Vec<KeyedStateHandle> {
        let options = SnapshotOptions {
            kind,
            location: folder.uri(),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment: Increment::Off,
            compression: Compression::None,
        };
        let context = SubtaskContext {
            job: Self::job(),
            vertex: 0,
            subtask,
            attempt: Attempt(1),
            nonce: random_nonce(),
        };
        let runtime = self.runtime.handle().clone();
        let mut writer = SubtaskSnapshotWriter::new(&Arc::new(options), context, runtime).unwrap();
        let key_groups = KeyGroupRange::of_subtask(subtask, 2, GROUPS);
        writer
            .begin(&KeyedTable {
                operator: OperatorId::from_uid("counts"),
                label: "counts".to_owned(),
                state: "count".to_owned(),
                key: DataType::String,
                namespace: None,
                value: DataType::UInt64,
                key_groups,
            })
            .unwrap();
        let mut rows: Vec<(u32, Vec<u8>, u64)> = (0..KEYS)
            .map(|number| {
                let key = to_row(&format!("key {number}"));
                (key_group_of(xxh3_64(&key), GROUPS), key, number)
            })
            .filter(|(group, _key, _number)| key_groups.contains(*group))
            .collect();
        rows.sort();
        for (group, key, number) in rows {
            writer.row(group, &key, &to_row(&number)).unwrap();
        }
        writer.end().unwrap();
        writer.finish().unwrap().into_values().flatten().collect()
    }
}
