//! Subtasks on a backend of any kind, each beside the maps that it must be equal to.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use streamd_core::backend::{Inlining, MAX_INLINE_BYTES, StateBackendKind, StateBackendOptions};
use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::{KEY_HASH_VERSION, KeyGroupRange, key_group_of};
use streamd_core::snapshot::{
    KeyedStateFormat, KeyedStateHandle, METADATA_VERSION, NativeSegment, ObjectHandle, OperatorState, SnapshotMetadata,
};
use streamd_core::state::State;
use streamd_core::time::WallTime;
use streamd_snapshot::{
    LocalCopies, Location, SubtaskContext, SubtaskSnapshotWriter, absolute, publish, random_nonce, read_snapshot,
};
use streamd_state::{
    BackendChoice, FrozenState, KeyedStateBackend, RestoreError, Restoring, StateError, StateId, StatePlace,
    restore_with, write_states,
};
use tokio::runtime::Runtime;

pub const MAX_PARALLELISM: u32 = 128;

/// What an application keeps: a value, a list and a map for each key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub counts: BTreeMap<u64, u64>,
    pub lists: BTreeMap<u64, Vec<String>>,
    pub maps: BTreeMap<u64, BTreeMap<String, u64>>,
}

/// Every backend that this build has; RocksDB with room for everything, and with so little that most of it is on disk.
pub fn backends() -> Vec<StateBackendOptions> {
    let memory = StateBackendOptions {
        kind: StateBackendKind::Memory,
        memory_max_state: MAX_INLINE_BYTES,
        ..StateBackendOptions::default()
    };
    let mut all = vec![StateBackendOptions::default(), memory];
    if cfg!(feature = "rocksdb") {
        for memory in [64 << 20, 1 << 20] {
            all.push(StateBackendOptions {
                kind: StateBackendKind::RocksDb,
                rocksdb_memory_per_slot: memory,
                ..StateBackendOptions::default()
            });
        }
    }
    all
}

/// A place for local files and snapshots, which goes with the test.
pub struct World {
    pub io: Runtime,
    pub folder: tempfile::TempDir,
    /// That of the backend that was opened last.
    inlining: Cell<Inlining>,
    /// Those of the backend that was opened last with a place for some.
    copies: RefCell<Option<LocalCopies>>,
    /// Stored bytes of each state that a restore reads before work begins.
    pub at_once: Cell<u64>,
}

impl World {
    pub fn new() -> Self {
        Self {
            io: Runtime::new().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            inlining: Cell::default(),
            copies: RefCell::default(),
            at_once: Cell::new(u64::MAX),
        }
    }

    pub fn local(&self) -> std::path::PathBuf {
        self.folder.path().join("local")
    }

    /// A checkpoint is complete.
    pub fn complete(&self, id: u64) {
        if let Some(copies) = &*self.copies.borrow() {
            copies.complete(CheckpointId(id));
        }
    }

    /// The folder of a checkpoint.
    pub fn checkpoint(&self, id: u64) -> std::path::PathBuf {
        self.folder.path().join(format!("job/chk-{id}"))
    }
}

/// A subtask that runs.
pub struct Task {
    pub backend: KeyedStateBackend<u64>,
    pub range: KeyGroupRange,
    pub counts: StateId<u64>,
    pub lists: StateId<Vec<String>>,
    pub maps: StateId<BTreeMap<String, u64>>,
}

pub fn operator() -> OperatorId {
    OperatorId::from_uid("conformance")
}

pub fn ranges(parallelism: u32) -> Vec<KeyGroupRange> {
    let range = |index| KeyGroupRange::of_subtask(index, parallelism, MAX_PARALLELISM);
    (0..parallelism).map(range).collect()
}

pub fn group(key: u64) -> u32 {
    key_group_of(key.stable_hash(), MAX_PARALLELISM)
}

impl Task {
    /// A subtask that restores these handles.
    pub fn open(
        options: &StateBackendOptions,
        world: &World,
        range: KeyGroupRange,
        handles: &[KeyedStateHandle],
    ) -> Result<Self, RestoreError> {
        Self::open_recovering(options, world, range, handles, None)
    }

    /// The same, with a directory where files stay for the next.
    pub fn open_recovering(
        options: &StateBackendOptions,
        world: &World,
        range: KeyGroupRange,
        handles: &[KeyedStateHandle],
        recovery: Option<&Path>,
    ) -> Result<Self, RestoreError> {
        world.inlining.set(options.inlining());
        let chosen = BackendChoice::new(options.clone(), 1, world.local()).unwrap();
        let chosen = chosen.recovering_from(recovery, handles.iter().flat_map(|handle| &handle.objects));
        if let Some(copies) = chosen.copies() {
            world.copies.replace(Some(copies.clone()));
        }
        let place = StatePlace {
            operator: operator(),
            subtask: (1, range.start),
            nonce: random_nonce(),
        };
        let mut backend = KeyedStateBackend::open(&chosen.slot(), &place, range, MAX_PARALLELISM).unwrap();
        let counts = backend.register("counts").unwrap();
        let lists = backend.register("lists").unwrap();
        let maps = backend.register("maps").unwrap();
        restore_with(&mut backend, handles, world.io.handle(), world.at_once.get())?;
        Ok(Self {
            backend,
            range,
            counts,
            lists,
            maps,
        })
    }

    /// Waits until nothing of a restore is left to be read.
    pub fn read_all(&mut self) -> Result<(), StateError> {
        while self.backend.restore_more()? != Restoring::Done {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Works on these keys as an operator does: touched together, then one after the other. Keys of other subtasks are left out.
    pub fn each(&mut self, keys: &[u64], mut work: impl FnMut(&mut Self, u64, u64)) {
        let own: Vec<(u64, u64)> = keys
            .iter()
            .filter(|key| self.range.contains(group(**key)))
            .map(|key| (key.stable_hash(), *key))
            .collect();
        for batch in own.chunks(64) {
            self.backend.touch(batch).unwrap();
            batch.iter().for_each(|(hash, key)| work(self, *hash, *key));
        }
    }

    /// Everything that is in it.
    pub fn all(&mut self) -> Model {
        let mut model = Model::default();
        let (counts, lists, maps) = (self.counts, self.lists, self.maps);
        let walk = self.backend.for_each(counts, &mut |key, value| {
            assert!(model.counts.insert(*key, *value).is_none());
        });
        walk.unwrap();
        let walk = self.backend.for_each(lists, &mut |key, value| {
            assert!(model.lists.insert(*key, value.clone()).is_none());
        });
        walk.unwrap();
        let walk = self.backend.for_each(maps, &mut |key, value| {
            assert!(model.maps.insert(*key, value.clone()).is_none());
        });
        walk.unwrap();
        // Where files have rows of other subtasks too, these were counted now.
        self.read_all().unwrap();
        assert_eq!(self.backend.table(counts).len(), model.counts.len());
        model
    }
}

impl Model {
    /// Does to a subtask and to the model what `seed` says, key by key.
    pub fn change(&mut self, task: &mut Task, keys: &[u64], seed: u64) {
        let (counts, lists, maps) = (task.counts, task.lists, task.maps);
        task.each(keys, |task, hash, key| {
            let dice = mix(key ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let before = task.backend.table(counts).get(hash, &key).copied();
            assert_eq!(before, self.counts.get(&key).copied(), "key {key}");
            match dice % 8 {
                0 => {
                    let removed = task.backend.table_mut(counts).remove(hash, &key);
                    assert_eq!(removed, self.counts.remove(&key));
                    let removed = task.backend.table_mut(maps).remove(hash, &key);
                    assert_eq!(removed, self.maps.remove(&key));
                }
                1 => {
                    let replaced = task.backend.table_mut(counts).insert(hash, &key, dice);
                    assert_eq!(replaced, self.counts.insert(key, dice));
                }
                2 => {
                    let changed = task.backend.table_mut(lists).get_mut(hash, &key);
                    let expected = self.lists.get_mut(&key);
                    assert_eq!(changed, expected);
                    if let (Some(changed), Some(expected)) = (changed, expected) {
                        changed.push(dice.to_string());
                        expected.push(dice.to_string());
                    }
                }
                3 => {
                    let name = format!("entry {}", dice % 97);
                    let map = task
                        .backend
                        .table_mut(maps)
                        .get_or_insert_with(hash, &key, BTreeMap::new);
                    map.insert(name.clone(), dice);
                    self.maps.entry(key).or_default().insert(name, dice);
                }
                _ => {
                    *task.backend.table_mut(counts).get_or_insert_with(hash, &key, || 5) += 1;
                    *self.counts.entry(key).or_insert(5) += 1;
                    let list = task.backend.table_mut(lists).get_or_insert_with(hash, &key, Vec::new);
                    list.truncate(3);
                    list.push(format!("{dice} of key {key}"));
                    let list = self.lists.entry(key).or_default();
                    list.truncate(3);
                    list.push(format!("{dice} of key {key}"));
                }
            }
        });
    }

    pub fn extend(&mut self, other: Self) {
        self.counts.extend(other.counts);
        self.lists.extend(other.lists);
        self.maps.extend(other.maps);
    }
}

/// Well mixed bits.
pub fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// The parts of a snapshot with every segment changed so.
pub fn with_segments(mut handles: Vec<KeyedStateHandle>, change: impl Fn(&mut NativeSegment)) -> Vec<KeyedStateHandle> {
    for handle in &mut handles {
        if let KeyedStateFormat::Native { segments } = &mut handle.format {
            segments.iter_mut().for_each(&change);
        }
    }
    handles
}

/// Writes what subtasks have frozen, and returns the handles with absolute URIs.
pub fn write(
    world: &World,
    folder: &Path,
    kind: SnapshotKind,
    increment: Increment,
    parts: Vec<Vec<FrozenState>>,
) -> Vec<KeyedStateHandle> {
    let location = Location::open(folder.to_str().unwrap()).unwrap().uri();
    let options = SnapshotOptions {
        kind,
        location: location.clone(),
        sources: AfterBarrier::Continue,
        aligned: true,
        increment,
        compression: Compression::None,
    };
    let mut handles = Vec::new();
    for (subtask, states) in (0..).zip(parts) {
        let context = SubtaskContext {
            job: JobId::from_bytes([7; 16]),
            vertex: 1,
            subtask,
            attempt: Attempt(1),
            nonce: random_nonce(),
        };
        let writer = SubtaskSnapshotWriter::new(&options, context, world.io.handle().clone()).unwrap();
        let copies = world.copies.borrow().clone().map(|copies| copies.of(number_of(folder)));
        let mut writer = writer.inlining(world.inlining.get()).keeping(copies.clone());
        write_states(&mut writer, operator(), "conformance", states).unwrap();
        let written = writer.finish().unwrap().remove(&operator()).unwrap();
        if let Some(copies) = copies {
            copies.record(written.iter().flat_map(|handle| &handle.objects));
        }
        handles.extend(written);
    }
    let is_inlined = |handle: &KeyedStateHandle| handle.objects.iter().any(|object| object.inline.is_some());
    if handles.iter().any(is_inlined) {
        handles = published(world, &location, handles);
    }
    handles
        .iter()
        .map(|handle| absolute(handle, &location).unwrap())
        .collect()
}

/// The checkpoint whose folder this is.
fn number_of(folder: &Path) -> CheckpointId {
    let name = folder.file_name().unwrap().to_str().unwrap();
    CheckpointId(name.strip_prefix("chk-").unwrap().parse().unwrap())
}

/// The handles of a checkpoint as its metadata has them.
fn published(world: &World, location: &str, keyed: Vec<KeyedStateHandle>) -> Vec<KeyedStateHandle> {
    let folder = Location::open(location).unwrap();
    let name = folder.name().unwrap().to_owned();
    let metadata = SnapshotMetadata {
        version: METADATA_VERSION,
        key_hash_version: KEY_HASH_VERSION,
        kind: SnapshotKind::Checkpoint,
        job_id: JobId::from_bytes([7; 16]),
        checkpoint_id: CheckpointId(name.strip_prefix("chk-").unwrap().parse().unwrap()),
        triggered_at: WallTime(0),
        leader_epoch: 1,
        attempt: Attempt(1),
        nonce: random_nonce(),
        graph: JobGraph::new("conformance"),
        operators: vec![OperatorState {
            id: operator(),
            uid: Some("conformance".to_owned()),
            name: "conformance".to_owned(),
            parallelism: 1,
            max_parallelism: MAX_PARALLELISM,
            keyed,
            lists: Vec::new(),
        }],
    };
    world.io.block_on(publish(&folder, &metadata)).unwrap();
    let files = std::fs::read_dir(location.strip_prefix("file://").unwrap()).unwrap();
    assert_eq!(
        files.count(),
        1,
        "a checkpoint that is all inlined is its metadata alone"
    );
    let mut stored = world.io.block_on(read_snapshot(location)).unwrap();
    stored.metadata.operators.remove(0).keyed
}

/// The file that the bytes of an object are in.
pub fn file_of(object: &ObjectHandle) -> PathBuf {
    let path = PathBuf::from(object.path.strip_prefix("file://").unwrap());
    match object.inline {
        None => path,
        Some(_) => path.with_file_name("_metadata"),
    }
}

/// A full checkpoint of these subtasks.
pub fn checkpoint(world: &World, id: u64, tasks: &mut [Task]) -> Vec<KeyedStateHandle> {
    let parts = tasks.iter_mut().map(|task| task.backend.freeze()).collect();
    write(
        world,
        &world.checkpoint(id),
        SnapshotKind::Checkpoint,
        Increment::First,
        parts,
    )
}

pub fn since(id: u64) -> Increment {
    Increment::Since(CheckpointId(id))
}

/// What is restored from these handles at a parallelism.
pub fn restored(options: &StateBackendOptions, world: &World, parallelism: u32, handles: &[KeyedStateHandle]) -> Model {
    let mut all = Model::default();
    for range in ranges(parallelism) {
        let part = Task::open(options, world, range, handles).unwrap().all();
        let keys: BTreeSet<&u64> = part.counts.keys().chain(part.lists.keys()).collect();
        assert!(keys.iter().all(|key| range.contains(group(**key))));
        all.extend(part);
    }
    all
}

/// The barrier of a checkpoint.
pub fn barrier(world: &World, id: u64, increment: Increment) -> Barrier {
    let options = SnapshotOptions {
        kind: SnapshotKind::Checkpoint,
        location: format!("file://{}", world.checkpoint(id).display()),
        sources: AfterBarrier::Continue,
        aligned: true,
        increment,
        compression: Compression::None,
    };
    Barrier {
        checkpoint: CheckpointId(id),
        options: Arc::new(options),
    }
}
