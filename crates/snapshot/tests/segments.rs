//! Segments over several checkpoints: what the latest layer says holds, whatever is damaged is refused, and what is needed is not deleted.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::{HashRange, KEY_HASH_VERSION, KeyGroupRange};
use streamd_core::row::DataType;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle, METADATA_VERSION, OperatorState, SnapshotMetadata};
use streamd_core::state::to_row;
use streamd_core::time::WallTime;
use streamd_snapshot::{
    KeyedStateSink, KeyedTable, Location, SegmentKeys, SnapshotError, SubtaskContext, SubtaskSnapshotWriter,
    WrittenSegment, check_objects, discard, dispose, publish, random_nonce, read_keyed_state, read_snapshot,
};
use tokio::runtime::Runtime;

const GROUPS: u32 = 8;

type Rows = BTreeMap<u64, (u32, u64)>;

struct Job {
    runtime: Runtime,
    folder: tempfile::TempDir,
    compression: Compression,
    latest: Vec<WrittenSegment>,
    rows: Rows,
}

fn operator() -> OperatorId {
    OperatorId::from_uid("segments")
}

fn keys(key_groups: KeyGroupRange) -> SegmentKeys {
    let hashes = Some(HashRange::of_groups(key_groups, GROUPS));
    SegmentKeys { key_groups, hashes }
}

/// Two segments: of the key groups below and above the middle.
fn halves() -> [KeyGroupRange; 2] {
    [
        KeyGroupRange { start: 0, end: 4 },
        KeyGroupRange { start: 4, end: GROUPS },
    ]
}

impl Job {
    fn new(compression: Compression) -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            compression,
            latest: Vec::new(),
            rows: Rows::new(),
        }
    }

    fn path(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("chk-{id}"))
    }

    fn location(&self, id: u64) -> Location {
        Location::open(self.path(id).to_str().unwrap()).unwrap()
    }

    /// A checkpoint with these changes to the first half, upon the last one; the second half is referred to.
    fn checkpoint(&mut self, id: u64, changes: &[(u64, Option<u64>)]) -> KeyedStateHandle {
        for (key, value) in changes {
            match value {
                Some(value) => self.rows.insert(*key, ((*key % u64::from(GROUPS)) as u32, *value)),
                None => self.rows.remove(key),
            };
        }
        let options = SnapshotOptions {
            kind: SnapshotKind::Checkpoint,
            location: self.location(id).uri(),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment: Increment::First,
            compression: self.compression,
        };
        let context = SubtaskContext {
            job: JobId::from_bytes([3; 16]),
            vertex: 0,
            subtask: 0,
            attempt: Attempt(1),
            nonce: random_nonce(),
        };
        let mut writer = SubtaskSnapshotWriter::new(&options, context, self.runtime.handle().clone()).unwrap();
        writer
            .begin(&KeyedTable {
                operator: operator(),
                label: "segments".to_owned(),
                state: "count".to_owned(),
                key: DataType::UInt64,
                namespace: None,
                value: DataType::UInt64,
                key_groups: KeyGroupRange::all(GROUPS),
            })
            .unwrap();
        let sink = writer.segments().unwrap();
        let of = |range: KeyGroupRange| self.rows.iter().filter(move |(_, (group, _))| range.contains(*group));
        let mut latest = Vec::new();
        for (index, range) in halves().into_iter().enumerate() {
            let count = of(range).count() as u64;
            match self.latest.get(index) {
                None => {
                    sink.begin_segment(keys(range), None).unwrap();
                    let mut rows: Vec<_> = of(range).collect();
                    rows.sort_by_key(|(_, (group, _))| *group);
                    for (key, (group, value)) in rows {
                        sink.put(*group, &to_row(key), &to_row(value)).unwrap();
                    }
                }
                Some(base) if index == 0 => {
                    sink.begin_segment(keys(range), Some(base)).unwrap();
                    for (key, value) in changes {
                        let group = (*key % u64::from(GROUPS)) as u32;
                        match value {
                            Some(value) => sink.put(group, &to_row(key), &to_row(value)).unwrap(),
                            None => sink.remove(group, &to_row(key)).unwrap(),
                        }
                    }
                }
                Some(base) => {
                    sink.refer(base).unwrap();
                    latest.push(base.clone());
                    continue;
                }
            }
            latest.push(sink.end_segment(count, vec![id as i64]).unwrap());
        }
        self.latest = latest;
        writer.end().unwrap();
        let mut handles = writer.finish().unwrap().remove(&operator()).unwrap();
        handles.pop().unwrap()
    }

    fn publish(&self, id: u64, handle: &KeyedStateHandle) {
        let metadata = SnapshotMetadata {
            version: METADATA_VERSION,
            key_hash_version: KEY_HASH_VERSION,
            kind: SnapshotKind::Checkpoint,
            job_id: JobId::from_bytes([3; 16]),
            checkpoint_id: CheckpointId(id),
            triggered_at: WallTime(0),
            leader_epoch: 1,
            attempt: Attempt(1),
            nonce: random_nonce(),
            graph: JobGraph::new("segments"),
            operators: vec![OperatorState {
                id: operator(),
                uid: None,
                name: "segments".to_owned(),
                parallelism: 1,
                max_parallelism: GROUPS,
                keyed: vec![handle.clone()],
                lists: Vec::new(),
            }],
        };
        self.runtime.block_on(publish(&self.location(id), &metadata)).unwrap();
    }

    fn read(&self, id: u64, handle: &KeyedStateHandle, range: KeyGroupRange) -> Result<Rows, SnapshotError> {
        read_from(&self.runtime, &self.path(id), handle, range)
    }

    fn expected(&self, range: KeyGroupRange) -> Rows {
        let rows = self.rows.iter().filter(|(_, (group, _))| range.contains(*group));
        rows.map(|(key, row)| (*key, *row)).collect()
    }
}

fn read_from(
    runtime: &Runtime,
    folder: &Path,
    handle: &KeyedStateHandle,
    range: KeyGroupRange,
) -> Result<Rows, SnapshotError> {
    let (mut rows, mut last) = (Rows::new(), 0);
    let folder = Location::open(folder.to_str().unwrap()).unwrap().uri();
    read_keyed_state(handle, &folder, range, runtime.handle(), &mut |group, key, value| {
        assert!(group >= last, "rows come by rising key group");
        last = group;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        assert!(
            rows.insert(number(key), (group, number(value))).is_none(),
            "no key comes twice"
        );
        Ok(())
    })?;
    Ok(rows)
}

fn three_checkpoints(compression: Compression) -> (Job, KeyedStateHandle) {
    let mut job = Job::new(compression);
    let all: Vec<_> = (0..64).map(|key| (key, Some(key * 10))).collect();
    job.checkpoint(1, &all);
    // Below the middle of the groups only.
    job.checkpoint(2, &[(3, Some(1)), (11, None), (1, None), (64 + 2, Some(7))]);
    let handle = job.checkpoint(3, &[(3, None), (1, Some(5)), (64 + 2, Some(8)), (16, None)]);
    (job, handle)
}

#[test]
fn the_latest_layer_holds_at_any_range_of_key_groups() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let (job, handle) = three_checkpoints(compression);
        assert_eq!(handle.objects.len(), 3);
        assert!(handle.new_bytes() < handle.bytes);
        for start in 0..GROUPS {
            for end in start + 1..=GROUPS {
                let range = KeyGroupRange { start, end };
                assert_eq!(job.read(3, &handle, range).unwrap(), job.expected(range), "{range}");
            }
        }
    }
}

#[test]
fn whatever_is_damaged_in_any_of_the_objects_is_refused() {
    let (job, handle) = three_checkpoints(Compression::Zstd);
    let all = KeyGroupRange::all(GROUPS);
    for object in &handle.objects {
        let path = job.path(3).join(&object.path);
        let intact = std::fs::read(&path).unwrap();
        // The footer is for people who look at an object without its metadata.
        for at in 0..intact.len() - 32 {
            let mut damaged = intact.clone();
            damaged[at] ^= 0x41;
            std::fs::write(&path, &damaged).unwrap();
            assert!(job.read(3, &handle, all).is_err(), "byte {at} of {}", object.path);
        }
        for length in 0..intact.len() {
            std::fs::write(&path, &intact[..length]).unwrap();
            let error = job.read(3, &handle, all).unwrap_err();
            assert!(matches!(error, SnapshotError::Truncated { .. }), "{length}: {error}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = job.read(3, &handle, all).unwrap_err();
        assert!(matches!(error, SnapshotError::MissingObject { .. }), "{error}");
        assert!(error.to_string().contains(&object.path), "{error}");
        std::fs::write(&path, &intact).unwrap();
    }
    assert_eq!(job.read(3, &handle, all).unwrap(), job.expected(all));
}

#[test]
fn forged_segments_are_refused_without_a_panic() {
    let (job, handle) = three_checkpoints(Compression::Lz4);
    let KeyedStateFormat::Native { segments } = &handle.format else {
        panic!("a checkpoint is native")
    };
    let changed = |change: &dyn Fn(&mut Vec<streamd_core::snapshot::NativeSegment>)| {
        let mut segments = segments.clone();
        change(&mut segments);
        KeyedStateHandle {
            format: KeyedStateFormat::Native { segments },
            ..handle.clone()
        }
    };
    let forged = [
        changed(&|s| s[0].blocks.clear()),
        changed(&|s| {
            s[0].blocks.remove(0);
        }),
        changed(&|s| {
            s[0].blocks.remove(1);
        }),
        changed(&|s| {
            s.remove(1);
        }),
        changed(&|s| s.swap(0, 1)),
        changed(&|s| s[0].blocks.swap(0, 1)),
        changed(&|s| s[0].blocks[1].layer = 0),
        changed(&|s| s[0].blocks[2].layer = u32::MAX),
        changed(&|s| s[0].blocks[0].object = u32::MAX),
        changed(&|s| s[0].blocks[0].object = 1),
        changed(&|s| s[0].blocks[0].offset = u64::MAX),
        changed(&|s| s[0].blocks[0].length = u64::MAX),
        changed(&|s| s[0].key_groups.end = u32::MAX),
        changed(&|s| s[0].key_groups.end = 5),
        KeyedStateHandle {
            objects: Vec::new(),
            ..handle.clone()
        },
        KeyedStateHandle {
            rows: handle.rows + 1,
            ..handle.clone()
        },
        KeyedStateHandle {
            state: "other".to_owned(),
            ..handle.clone()
        },
    ];
    for (index, forged) in forged.iter().enumerate() {
        let read = job.read(3, forged, KeyGroupRange::all(GROUPS));
        // Layers that rise by more than one are odd, but say nothing wrong.
        assert_eq!(read.is_err(), index != 7, "{index}");
    }
}

#[test]
fn the_folder_of_a_job_can_be_moved_as_a_whole() {
    let (job, handle) = three_checkpoints(Compression::None);
    job.publish(3, &handle);
    let elsewhere = job.folder.path().with_extension("moved");
    std::fs::rename(job.folder.path(), &elsewhere).unwrap();
    let moved = elsewhere.join("chk-3");
    let stored = job.runtime.block_on(read_snapshot(moved.to_str().unwrap())).unwrap();
    job.runtime
        .block_on(check_objects(&stored.metadata, &stored.folder))
        .unwrap();
    let all = KeyGroupRange::all(GROUPS);
    let keyed = &stored.metadata.operators[0].keyed[0];
    assert_eq!(read_from(&job.runtime, &moved, keyed, all).unwrap(), job.expected(all));
    std::fs::rename(&elsewhere, job.folder.path()).unwrap();
}

#[test]
fn a_checkpoint_whose_earlier_objects_are_gone_is_never_published() {
    let (job, handle) = three_checkpoints(Compression::None);
    job.runtime.block_on(discard(&job.location(1))).unwrap();
    let published = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.publish(3, &handle)));
    assert!(published.is_err());
    assert!(!job.path(3).join("_metadata").exists());
}

#[test]
fn what_a_person_disposes_of_takes_nothing_from_other_checkpoints() {
    let mut job = Job::new(Compression::None);
    let all: Vec<_> = (0..64).map(|key| (key, Some(key))).collect();
    let first = job.checkpoint(1, &all);
    job.publish(1, &first);
    let second = job.checkpoint(2, &[(3, Some(1))]);
    job.publish(2, &second);
    job.runtime.block_on(dispose(job.path(1).to_str().unwrap())).unwrap();
    assert!(!job.path(1).join("_metadata").exists());
    let range = KeyGroupRange::all(GROUPS);
    assert_eq!(job.read(2, &second, range).unwrap(), job.expected(range));
    // The last one takes its own objects, and those of the first that it alone still used.
    assert!(job.path(1).join(&first.objects[0].path).exists());
    job.runtime.block_on(dispose(job.path(2).to_str().unwrap())).unwrap();
    assert!(!job.path(2).exists() && !job.path(1).exists());
}
