//! Checkpoints that build upon each other: whatever happens to the state and to the checkpoints, each complete one restores exactly
//! what the state was at its barrier, at any parallelism, from nothing but the folders that may not be deleted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle};
use streamd_core::state::{State, from_row};
use streamd_snapshot::{Location, SubtaskContext, SubtaskSnapshotWriter, absolute, random_nonce};
use streamd_state::{FrozenState, KeyedStateBackend, StateId, Table, restore, write_states};
use tokio::runtime::Runtime;

const MAX_PARALLELISM: u32 = 16;

/// So wide that a few hundred of them fill a shard.
#[derive(Debug, Clone, PartialEq)]
struct Wide {
    number: u64,
    padding: [u64; 127],
}

fn wide(number: u64) -> Wide {
    Wide {
        number,
        padding: [number; 127],
    }
}

impl State for Wide {
    fn data_type() -> DataType {
        DataType::UInt64
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.number.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        u64::decode(row).map(wide)
    }
}

type Rows = BTreeMap<u64, u64>;

fn operator() -> OperatorId {
    OperatorId::from_uid("incremental")
}

/// A checkpoint that was cut, and perhaps written.
struct Cut {
    base: Option<CheckpointId>,
    frozen: Option<Vec<FrozenState>>,
    handles: Vec<KeyedStateHandle>,
    rows: Rows,
}

/// One subtask, its checkpoints, and who may delete what.
struct World {
    runtime: Runtime,
    /// The folder of the job's checkpoints.
    place: String,
    compression: Compression,
    backend: KeyedStateBackend<u64>,
    state: StateId<Wide>,
    rows: Rows,
    next: u64,
    under_way: BTreeMap<CheckpointId, Cut>,
    /// Those that are kept, with what each refers to.
    complete: BTreeMap<CheckpointId, (Vec<KeyedStateHandle>, Rows)>,
    latest: Option<CheckpointId>,
    /// A savepoint that is being written.
    savepoint: Option<(Vec<FrozenState>, Rows)>,
    /// Bytes of the last checkpoint: written by it, and in all.
    bytes: (u64, u64),
}

fn backend() -> (KeyedStateBackend<u64>, StateId<Wide>) {
    let mut backend = KeyedStateBackend::new(KeyGroupRange::all(MAX_PARALLELISM), MAX_PARALLELISM);
    let state = backend.register::<Wide>("count").unwrap();
    (backend, state)
}

impl World {
    fn new(compression: Compression) -> Self {
        let (backend, state) = backend();
        Self {
            runtime: Runtime::new().unwrap(),
            place: format!("memory:///incremental/{}", random_nonce()),
            compression,
            backend,
            state,
            rows: Rows::new(),
            next: 1,
            under_way: BTreeMap::new(),
            complete: BTreeMap::new(),
            latest: None,
            savepoint: None,
            bytes: (0, 0),
        }
    }

    /// The table, for work on this key.
    fn table_of(&mut self, key: u64) -> &mut Table<u64, Wide> {
        self.backend.touch(&[(key.stable_hash(), key)]).unwrap();
        self.backend.table_mut(self.state)
    }

    fn put(&mut self, key: u64, value: u64) {
        let table = self.table_of(key);
        let before = table.insert(key.stable_hash(), &key, wide(value));
        assert_eq!(before.map(|wide| wide.number), self.rows.insert(key, value));
    }

    fn change(&mut self, key: u64) {
        let table = self.table_of(key);
        if let Some(value) = table.get_mut(key.stable_hash(), &key) {
            *value = wide(value.number + 1);
        }
        if let Some(value) = self.rows.get_mut(&key) {
            *value += 1;
        }
    }

    fn remove(&mut self, key: u64) {
        let removed = self.table_of(key).remove(key.stable_hash(), &key);
        assert_eq!(removed.map(|wide| wide.number), self.rows.remove(&key));
    }

    fn options(&self, id: CheckpointId, kind: SnapshotKind) -> SnapshotOptions {
        SnapshotOptions {
            kind,
            location: format!("{}/chk-{id}", self.place),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment: self.latest.map_or(Increment::First, Increment::Since),
            compression: self.compression,
        }
    }

    fn cut(&mut self) -> CheckpointId {
        let id = CheckpointId(self.next);
        self.next += 1;
        let frozen = self.backend.freeze_at(&Barrier {
            checkpoint: id,
            options: Arc::new(self.options(id, SnapshotKind::Checkpoint)),
        });
        let cut = Cut {
            base: self.latest,
            frozen: Some(frozen),
            handles: Vec::new(),
            rows: self.rows.clone(),
        };
        self.under_way.insert(id, cut);
        id
    }

    /// Begins a savepoint or ends the one that is being written; it must leave no trace.
    fn savepoint(&mut self) {
        if let Some((frozen, expected)) = self.savepoint.take() {
            assert_eq!(
                rows_of(&frozen),
                expected,
                "a savepoint is what the state was at its barrier"
            );
            return;
        }
        let id = CheckpointId(self.next);
        self.next += 1;
        let frozen = self.backend.freeze_at(&Barrier {
            checkpoint: id,
            options: Arc::new(self.options(id, SnapshotKind::Savepoint)),
        });
        assert_eq!(frozen[0].rows.rows(), self.rows.len() as u64);
        self.savepoint = Some((frozen, self.rows.clone()));
    }

    fn write(&mut self, id: CheckpointId) {
        let base = self.under_way[&id].base;
        let mut options = self.options(id, SnapshotKind::Checkpoint);
        options.increment = base.map_or(Increment::First, Increment::Since);
        let context = SubtaskContext {
            job: JobId::from_bytes([7; 16]),
            vertex: 0,
            subtask: 0,
            attempt: Attempt(1),
            nonce: random_nonce(),
        };
        let cut = self.under_way.get_mut(&id).unwrap();
        let Some(frozen) = cut.frozen.take() else { return };
        let mut writer = SubtaskSnapshotWriter::new(&options, context, self.runtime.handle().clone()).unwrap();
        write_states(&mut writer, operator(), "incremental", frozen).unwrap();
        cut.handles = writer.finish().unwrap().remove(&operator()).unwrap();
    }

    fn complete(&mut self, id: CheckpointId) {
        self.write(id);
        let cut = self.under_way.remove(&id).unwrap();
        self.bytes = (cut.handles[0].new_bytes(), cut.handles[0].bytes);
        self.complete.insert(id, (cut.handles, cut.rows));
        self.latest = self.latest.max(Some(id));
        self.sweep();
        self.check(self.latest.unwrap());
    }

    fn abort(&mut self, id: CheckpointId, after_writing: bool) {
        if after_writing {
            self.write(id);
        }
        self.under_way.remove(&id);
        self.delete(id);
    }

    fn delete(&self, id: CheckpointId) {
        let folder = Location::open(&format!("{}/chk-{id}", self.place)).unwrap();
        self.runtime.block_on(folder.delete_folder()).unwrap();
    }

    /// As the job master does it: the latest is kept, those that snapshots under way build upon, and what either refers into.
    fn sweep(&mut self) {
        let bases = self.under_way.values().filter_map(|cut| cut.base);
        let roots: BTreeSet<CheckpointId> = bases.chain(self.latest).collect();
        let mut needed: BTreeSet<String> = roots.iter().map(|id| format!("chk-{id}")).collect();
        for root in &roots {
            let objects = self.complete[root].0.iter().flat_map(|handle| &handle.objects);
            needed.extend(
                objects.filter_map(|object| Some(object.path.strip_prefix("../")?.split_once('/')?.0.to_owned())),
            );
        }
        self.complete.retain(|id, _| roots.contains(id));
        for id in (1..self.next).map(CheckpointId) {
            if !needed.contains(&format!("chk-{id}")) && !self.under_way.contains_key(&id) {
                self.delete(id);
            }
        }
    }

    fn restored(&self, id: CheckpointId, parallelism: u32) -> Rows {
        let folder = format!("{}/chk-{id}", self.place);
        let handles = &self.complete[&id].0;
        let handles: Vec<_> = handles
            .iter()
            .map(|handle| absolute(handle, &folder).unwrap())
            .collect();
        let mut rows = Rows::new();
        for index in 0..parallelism {
            let range = KeyGroupRange::of_subtask(index, parallelism, MAX_PARALLELISM);
            let mut backend = KeyedStateBackend::<u64>::new(range, MAX_PARALLELISM);
            backend.register::<Wide>("count").unwrap();
            restore(&mut backend, &handles, self.runtime.handle()).unwrap();
            let _always_continued = backend.freeze()[0].rows.try_for_each_row(&mut |group, key, value| {
                assert!(range.contains(group));
                let key: u64 = from_row(key).unwrap();
                assert_eq!(group, key_group_of(key.stable_hash(), MAX_PARALLELISM));
                assert!(rows.insert(key, from_row(value).unwrap()).is_none());
                std::ops::ControlFlow::Continue(())
            });
        }
        rows
    }

    fn check(&self, id: CheckpointId) {
        for parallelism in [1, 3] {
            assert!(
                self.restored(id, parallelism) == self.complete[&id].1,
                "checkpoint {id} at {parallelism}"
            );
        }
    }

    /// A failure: everything under way is lost, and the job begins again with the latest checkpoint.
    fn restart(&mut self) {
        let lost: Vec<CheckpointId> = self.under_way.keys().copied().collect();
        lost.into_iter().for_each(|id| self.abort(id, false));
        (self.backend, self.state) = backend();
        self.rows.clear();
        let Some(latest) = self.latest else { return };
        let folder = format!("{}/chk-{latest}", self.place);
        let (handles, rows) = &self.complete[&latest];
        let handles: Vec<_> = handles
            .iter()
            .map(|handle| absolute(handle, &folder).unwrap())
            .collect();
        restore(&mut self.backend, &handles, self.runtime.handle()).unwrap();
        self.rows = rows.clone();
    }
}

fn rows_of(frozen: &[FrozenState]) -> Rows {
    let mut rows = Rows::new();
    let _always_continued = frozen[0].rows.try_for_each_row(&mut |_group, key, value| {
        assert!(rows.insert(from_row(key).unwrap(), from_row(value).unwrap()).is_none());
        std::ops::ControlFlow::Continue(())
    });
    rows
}

#[derive(Debug, Clone)]
enum Step {
    PutMany(u64, u64),
    Change(u64, u64),
    RemoveMany(u64, u64),
    Cut,
    Write(usize),
    Complete(usize),
    Abort(usize, bool),
    Savepoint,
    Restart,
}

const KEYS: u64 = 1_500;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..KEYS, prop_oneof![Just(1u64), 1..20u64, Just(700)]).prop_map(|(key, count)| Step::PutMany(key, count)),
        3 => (0..KEYS, 1..40u64).prop_map(|(key, count)| Step::Change(key, count)),
        2 => (0..KEYS, prop_oneof![Just(1u64), 1..20u64, Just(400)]).prop_map(|(key, count)| Step::RemoveMany(key, count)),
        4 => Just(Step::Cut),
        1 => (0..2usize).prop_map(Step::Write),
        4 => (0..2usize).prop_map(Step::Complete),
        1 => (0..2usize, any::<bool>()).prop_map(|(which, written)| Step::Abort(which, written)),
        2 => Just(Step::Savepoint),
        1 => Just(Step::Restart),
    ]
}

fn apply(world: &mut World, step: &Step) {
    let nth = |world: &World, which: usize| world.under_way.keys().nth(which).copied();
    match *step {
        Step::PutMany(first, count) => (first..first + count).for_each(|key| world.put(key % KEYS, first)),
        Step::Change(first, count) => (0..count).for_each(|index| world.change((first + index * 37) % KEYS)),
        Step::RemoveMany(first, count) => (first..first + count).for_each(|key| world.remove(key % KEYS)),
        Step::Cut if world.under_way.len() < 2 => drop(world.cut()),
        Step::Cut => {}
        Step::Write(which) => nth(world, which).into_iter().for_each(|id| world.write(id)),
        Step::Complete(which) => nth(world, which).into_iter().for_each(|id| world.complete(id)),
        Step::Abort(which, written) => nth(world, which).into_iter().for_each(|id| world.abort(id, written)),
        Step::Savepoint => world.savepoint(),
        Step::Restart => world.restart(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_complete_checkpoint_is_the_state_at_its_barrier(
        filled in 0..KEYS,
        compression in prop::sample::select(vec![Compression::None, Compression::Lz4, Compression::Zstd]),
        steps in prop::collection::vec(step(), 1..50),
    ) {
        let mut world = World::new(compression);
        (0..filled).for_each(|key| world.put(key, key));
        steps.iter().for_each(|step| apply(&mut world, step));
        let last = world.cut();
        world.complete(last);
    }
}

#[test]
fn a_small_change_is_a_small_checkpoint_and_no_change_is_none() {
    let mut world = World::new(Compression::None);
    (0..KEYS).for_each(|key| world.put(key, key));
    let first = world.cut();
    world.complete(first);
    assert_eq!(world.bytes.0, world.bytes.1);
    let full = world.bytes.1;

    // Neither the first one after the start, which is full, nor a savepoint in between makes a difference.
    (0..15).for_each(|index| world.change(index * 100));
    world.savepoint();
    let second = world.cut();
    world.complete(second);
    assert!(
        world.bytes.0 > 0 && world.bytes.0 * 20 < full,
        "{} of {full}",
        world.bytes.0
    );

    let third = world.cut();
    world.complete(third);
    assert_eq!(world.bytes.0, 0);
    assert!(
        world.complete[&third].0[0]
            .objects
            .iter()
            .all(|object| object.is_elsewhere())
    );
}

#[test]
fn after_a_restart_everything_is_written_once() {
    let mut world = World::new(Compression::Lz4);
    (0..KEYS).for_each(|key| world.put(key, key));
    let first = world.cut();
    world.complete(first);
    world.restart();
    let second = world.cut();
    world.complete(second);
    assert_eq!(world.bytes.0, world.bytes.1);
    let third = world.cut();
    world.complete(third);
    assert_eq!(world.bytes.0, 0);
}

#[test]
fn what_an_aborted_checkpoint_would_have_held_is_in_the_next() {
    let mut world = World::new(Compression::None);
    (0..KEYS).for_each(|key| world.put(key, key));
    let first = world.cut();
    world.complete(first);
    for written in [false, true] {
        world.change(7);
        world.remove(8 + u64::from(written));
        let aborted = world.cut();
        world.abort(aborted, written);
    }
    world.put(8, 1);
    let next = world.cut();
    world.complete(next);
    assert!(world.bytes.0 > 0);
}

#[test]
fn a_confirmation_that_comes_late_only_makes_the_next_one_larger() {
    let mut world = World::new(Compression::None);
    (0..KEYS).for_each(|key| world.put(key, key));
    let first = world.cut();
    world.complete(first);
    world.change(1);
    let second = world.cut();
    world.change(2);
    // The third is cut before the second is complete: it builds upon the first as well.
    let third = world.cut();
    world.complete(third);
    world.complete(second);
    assert_eq!(
        world.latest,
        Some(third),
        "the greatest is the latest, whenever it was complete"
    );
    world.change(3);
    let fourth = world.cut();
    world.complete(fourth);
}

#[test]
fn what_is_stored_stays_below_twice_the_state_however_long_it_goes_on() {
    const MANY: u64 = 8_000;
    let mut world = World::new(Compression::None);
    (0..MANY).for_each(|key| world.put(key, key));
    let first = world.cut();
    world.complete(first);
    let full = world.bytes.1;
    // An eighth of the state never changes: it alone would hold on to the first object.
    let is_warm = |key: &u64| key_group_of(key.stable_hash(), MAX_PARALLELISM) < 14;
    let warm: Vec<u64> = (0..MANY).filter(is_warm).collect();
    let (mut most, mut written) = (0, 0);
    for round in 0..120usize {
        (0..80).for_each(|index| world.change(warm[(round * 7 + index * 97) % warm.len()]));
        let id = world.cut();
        world.complete(id);
        written += world.bytes.0;
        let handle = &world.complete[&id].0[0];
        most = most.max(handle.objects.iter().map(|object| object.length).sum());
        let KeyedStateFormat::Native { segments } = &handle.format else {
            panic!("a checkpoint is native")
        };
        assert!(
            segments.iter().all(|segment| segment.blocks.len() <= 41),
            "a chain is bounded"
        );
        assert!(handle.objects.len() <= 64, "so is the number of objects");
    }
    assert!(most < 2 * full, "{most} bytes are stored for {full}");
    assert!(
        written < 120 * full / 5,
        "{written} bytes were written for a state of {full}"
    );
}
