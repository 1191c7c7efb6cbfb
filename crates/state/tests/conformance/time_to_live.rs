//! Values with a time to live: what goes, what stays, and what a snapshot holds of them.

use std::collections::BTreeMap;

use streamd_core::backend::StateBackendOptions;
use streamd_core::barrier::{Increment, SnapshotKind};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle};
use streamd_core::state::State;
use streamd_core::time::WallTime;
use streamd_snapshot::random_nonce;
use streamd_state::{
    BackendChoice, Expiring, ExpiringList, KeyedStateBackend, StateError, StateId, StatePlace, TimeToLive, restore,
};

use crate::fixture::*;

const TTL_MS: i64 = 1_000;

/// A value and a list for each key, which live for a second.
struct Mortal {
    backend: KeyedStateBackend<u64>,
    values: StateId<Expiring<u64>>,
    lists: StateId<ExpiringList<u64>>,
}

fn ttl(cleanup_size: usize, cleanup_in_full_snapshots: bool) -> TimeToLive {
    TimeToLive {
        millis: TTL_MS,
        cleanup_size,
        cleanup_in_full_snapshots,
    }
}

fn backend(options: &StateBackendOptions, world: &World, range: KeyGroupRange) -> KeyedStateBackend<u64> {
    let chosen = BackendChoice::new(options.clone(), 1, world.local()).unwrap();
    let place = StatePlace {
        operator: operator(),
        subtask: (1, range.start),
        nonce: random_nonce(),
    };
    KeyedStateBackend::open(&chosen.slot(), &place, range, MAX_PARALLELISM).unwrap()
}

impl Mortal {
    fn open(
        options: &StateBackendOptions,
        world: &World,
        (range, now): (KeyGroupRange, i64),
        handles: &[KeyedStateHandle],
        ttl: TimeToLive,
    ) -> Self {
        let mut backend = backend(options, world, range);
        let values = backend.register_expiring("values", ttl).unwrap();
        let lists = backend.register_expiring("lists", ttl).unwrap();
        backend.set_time(WallTime(now));
        restore(&mut backend, handles, world.io.handle()).unwrap();
        Self { backend, values, lists }
    }

    /// Writes these keys at this time.
    fn write(&mut self, now: i64, keys: impl Iterator<Item = u64>) {
        let now = WallTime(now);
        self.backend.set_time(now);
        let keys: Vec<_> = keys.map(|key| (key.stable_hash(), key)).collect();
        for batch in keys.chunks(64) {
            self.backend.touch(batch).unwrap();
            for (hash, key) in batch {
                self.backend
                    .table_mut(self.values)
                    .insert(*hash, key, Expiring::new(now, *key));
                let lists = self.backend.table_mut(self.lists);
                lists
                    .get_or_insert_with(*hash, key, ExpiringList::default)
                    .push(now, key + 1);
            }
        }
    }

    /// The keys that have a value, and the elements of all lists.
    fn all(&mut self) -> (Vec<u64>, Vec<u64>) {
        let (mut keys, mut elements) = (Vec::new(), Vec::new());
        let walk = self.backend.for_each(self.values, &mut |key, _| keys.push(*key));
        walk.unwrap();
        let mut walked = |_: &u64, list: &ExpiringList<u64>| elements.extend(list.all());
        self.backend.for_each(self.lists, &mut walked).unwrap();
        keys.sort_unstable();
        elements.sort_unstable();
        (keys, elements)
    }
}

/// Whether the rows of a key can be found in native form.
fn names_hashes(handle: &KeyedStateHandle) -> bool {
    match &handle.format {
        KeyedStateFormat::Native { segments } => segments.iter().all(|segment| segment.hashes.is_some()),
        KeyedStateFormat::Parquet | KeyedStateFormat::RocksDb { .. } => true,
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn snapshots_that_are_written_whole_leave_out_what_is_over_where_that_is_wanted() {
    for options in backends() {
        for (kind, wanted) in [
            (SnapshotKind::Savepoint, true),
            (SnapshotKind::Savepoint, false),
            (SnapshotKind::Checkpoint, true),
        ] {
            let world = World::new();
            let all = KeyGroupRange::all(MAX_PARALLELISM);
            let mut task = Mortal::open(&options, &world, (all, 0), &[], ttl(0, wanted));
            task.write(0, 0..500);
            task.write(900, 400..1_000);
            task.backend.set_time(WallTime(TTL_MS));
            let parts = vec![task.backend.freeze()];
            let handles = write(&world, &world.checkpoint(1), kind, Increment::First, parts);
            let (keys, elements) = Mortal::open(&options, &world, (all, TTL_MS), &handles, ttl(0, false)).all();
            // The files of a database are taken as they are.
            let in_files = cfg!(feature = "rocksdb")
                && kind == SnapshotKind::Checkpoint
                && options.kind == streamd_core::backend::StateBackendKind::RocksDb;
            if wanted && !in_files {
                assert_eq!(keys, numbers(400..1_000), "{options:?} {kind:?}");
                assert_eq!(elements, numbers(401..1_001), "{options:?} {kind:?}");
                assert!(handles.iter().all(names_hashes), "{options:?} {kind:?}");
            } else {
                assert_eq!((keys.len(), elements.len()), (1_000, 1_100), "{options:?} {kind:?}");
            }
        }
    }
}

#[test]
fn a_time_to_live_is_given_and_taken_at_a_restore_and_counts_from_it() {
    for options in backends() {
        for kind in [SnapshotKind::Savepoint, SnapshotKind::Checkpoint] {
            let world = World::new();
            let all = KeyGroupRange::all(MAX_PARALLELISM);
            // Written by a version without a time to live, in the year 1970.
            let mut before = backend(&options, &world, all);
            let values = before.register::<u32>("values").unwrap();
            let lists = before.register::<Vec<u64>>("lists").unwrap();
            restore(&mut before, &[], world.io.handle()).unwrap();
            for key in 0..100u64 {
                before.touch(&[(key.stable_hash(), key)]).unwrap();
                before.table_mut(values).insert(key.stable_hash(), &key, key as u32);
                before.table_mut(lists).insert(key.stable_hash(), &key, vec![key, key]);
            }
            let handles = write(
                &world,
                &world.checkpoint(1),
                kind,
                Increment::First,
                vec![before.freeze()],
            );
            drop(before);
            let now = 1_700_000_000_000;
            let mut mortal = Mortal::open(&options, &world, (all, now), &handles, ttl(0, true));
            mortal.write(now + 600, 0..30);
            assert_eq!(mortal.all().0, numbers(0..100), "{options:?}: nothing is over at once");
            mortal.backend.set_time(WallTime(now + TTL_MS));
            let parts = vec![mortal.backend.freeze()];
            let handles = write(
                &world,
                &world.checkpoint(2),
                SnapshotKind::Savepoint,
                Increment::First,
                parts,
            );
            drop(mortal);
            // And a version after it has none again.
            let mut after = backend(&options, &world, all);
            let values = after.register::<u64>("values").unwrap();
            let lists = after.register::<Vec<u64>>("lists").unwrap();
            restore(&mut after, &handles, world.io.handle()).unwrap();
            let (mut keys, mut elements) = (BTreeMap::new(), Vec::new());
            let walk = after.for_each(values, &mut |key, value| {
                keys.insert(*key, *value);
            });
            walk.unwrap();
            let walk = after.for_each(lists, &mut |_, list| elements.extend(list.clone()));
            walk.unwrap();
            elements.sort_unstable();
            assert_eq!(keys, (0..30).map(|key| (key, key)).collect(), "{options:?} {kind:?}");
            assert_eq!(elements, numbers(1..31), "{options:?} {kind:?}");
        }
    }
}

#[test]
fn what_is_over_goes_while_other_keys_are_worked_on_between_snapshots_too() {
    let options = StateBackendOptions::default();
    let world = World::new();
    let all = KeyGroupRange::all(MAX_PARALLELISM);
    let mut task = Mortal::open(&options, &world, (all, 0), &[], ttl(5, false));
    task.write(0, 0..20_000);
    // A snapshot has held every shard, and nobody has written to most of them since.
    drop(task.backend.freeze());
    let mut now = TTL_MS;
    for round in 0..40 {
        now += 1;
        let held = (round % 2 == 0).then(|| task.backend.freeze());
        for _ in 0..50 {
            task.write(now, 100_000..100_064);
        }
        drop(held);
    }
    assert_eq!(task.all().0, numbers(100_000..100_064));
    assert_eq!(task.backend.table(task.lists).len(), 64);
}

/// Nobody reads what is over, and no snapshot filters it: it goes from the files by itself.
#[test]
fn what_is_over_is_gone_from_the_files_of_checkpoints_without_having_been_read() {
    for options in backends() {
        let world = World::new();
        let all = KeyGroupRange::all(MAX_PARALLELISM);
        let mut task = Mortal::open(&options, &world, (all, 0), &[], ttl(5, false));
        let mut now = 0;
        for round in 0..30 {
            // New keys all the time, as of sessions that never come back.
            now += TTL_MS / 4;
            task.write(now, round * 1_000..round * 1_000 + 1_000);
            let parts = vec![task.backend.freeze()];
            let kind = SnapshotKind::Checkpoint;
            let handles = write(&world, &world.checkpoint(round + 1), kind, Increment::Off, parts);
            let rows: u64 = handles.iter().map(|handle| handle.rows).sum();
            let written = task.backend.table(task.values).len() + task.backend.table(task.lists).len();
            assert_eq!(rows, written as u64, "{options:?} round {round}");
            // Four thousand live at a time, in each of two states; looking through all takes a while.
            assert!(rows <= 2 * 14_000, "{options:?} round {round}: {rows} rows");
            if round == 29 {
                let restored = Mortal::open(&options, &world, (all, now), &handles, ttl(0, false)).all();
                assert_eq!((restored.0.len() + restored.1.len()) as u64, rows, "{options:?}");
            }
        }
    }
}

#[test]
fn a_time_to_live_of_nothing_is_refused() {
    let mut backend = KeyedStateBackend::<u64>::new(KeyGroupRange::all(1), 1);
    let nothing = TimeToLive {
        millis: 0,
        ..ttl(5, false)
    };
    let refused = backend
        .register_expiring::<Expiring<u64>>("values", nothing)
        .unwrap_err();
    assert_eq!(
        refused,
        StateError::TimeToLive {
            state: "values".to_owned(),
            millis: 0
        }
    );
}

/// What goes in the background is a change like any other: a checkpoint that builds upon another has it.
#[test]
fn what_went_in_the_background_is_gone_from_checkpoints_that_build_upon_others() {
    for options in backends() {
        let world = World::new();
        let all = KeyGroupRange::all(MAX_PARALLELISM);
        let mut task = Mortal::open(&options, &world, (all, 0), &[], ttl(5, false));
        let mut now = 0;
        task.write(now, 0..3_000);
        let handles = write(
            &world,
            &world.checkpoint(1),
            SnapshotKind::Checkpoint,
            Increment::First,
            vec![task.backend.freeze_at(&barrier(&world, 1, Increment::First))],
        );
        drop(handles);
        for id in 2..8 {
            now += TTL_MS / 2;
            for _ in 0..20 {
                task.write(now, id * 10_000..id * 10_000 + 500);
            }
            let increment = since(id - 1);
            let parts = vec![task.backend.freeze_at(&barrier(&world, id, increment))];
            let kind = SnapshotKind::Checkpoint;
            let handles = write(&world, &world.checkpoint(id), kind, increment, parts);
            let mut restored = Mortal::open(&options, &world, (all, now), &handles, ttl(0, false));
            assert_eq!(restored.all(), task.all(), "{options:?} checkpoint {id}");
            let fresh = numbers(id * 10_000..id * 10_000 + 500);
            assert!(task.all().0.ends_with(&fresh));
        }
    }
}
