//! State that is looked for by time, while it comes out of a snapshot: what is due is there when its time comes, and nothing is read for it
//! that is not.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::barrier::{Increment, SnapshotKind};
use streamd_core::error::ErrorCode;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle};
use streamd_core::state::State;
use streamd_snapshot::random_nonce;
use streamd_state::{BackendChoice, KeyedStateBackend, Restoring, StateId, StatePlace, restore_with};

use crate::fixture::*;

/// Keys in state, each with its timers.
type Timers = BTreeMap<u64, Vec<i64>>;

/// Timers fall between 0 and this.
const END: i64 = 1_000;

/// A subtask with timers by key, and what it knows of them by time.
struct Clock {
    backend: KeyedStateBackend<u64>,
    timers: StateId<Vec<i64>>,
    range: KeyGroupRange,
    queue: BTreeSet<(i64, u64)>,
}

impl Clock {
    fn open(options: &StateBackendOptions, world: &World, range: KeyGroupRange, handles: &[KeyedStateHandle]) -> Self {
        let chosen = BackendChoice::new(options.clone(), 1, world.local()).unwrap();
        let place = StatePlace {
            operator: operator(),
            subtask: (1, range.start),
            nonce: random_nonce(),
        };
        let mut backend = KeyedStateBackend::open(&chosen.slot(), &place, range, MAX_PARALLELISM).unwrap();
        let timers = backend.register_timed("timers").unwrap();
        restore_with(&mut backend, handles, world.io.handle(), world.at_once.get()).unwrap();
        let mut clock = Self {
            backend,
            timers,
            range,
            queue: BTreeSet::new(),
        };
        clock.bring(i64::MIN);
        clock
    }

    /// Has what is due come out of the snapshot. Returns when something is due that is left there.
    fn bring(&mut self, until: i64) -> i64 {
        let left = self.backend.restore_due(self.timers, until, &|_, time| time).unwrap();
        assert!(left > until || left == i64::MAX);
        let arrived = self.backend.take_arrived(self.timers);
        self.queue
            .extend(arrived.iter().map(|moment| (moment.time, moment.key)));
        left
    }

    fn owns(&self, key: u64) -> bool {
        self.range.contains(group(key))
    }

    /// Sets a timer for each of these keys that are the subtask's.
    fn set(&mut self, keys: impl Iterator<Item = u64>, time_of: impl Fn(u64) -> i64, model: &mut Timers) {
        let own = keys.filter(|key| self.owns(*key));
        let own: Vec<(u64, u64)> = own.map(|key| (key.stable_hash(), key)).collect();
        for batch in own.chunks(64) {
            self.backend.touch(batch).unwrap();
            for (hash, key) in batch {
                let table = self.backend.table_mut(self.timers);
                assert_eq!(table.get(*hash, key), model.get(key));
                let times = table.get_or_insert_with(*hash, key, Vec::new);
                let time = time_of(*key);
                if let Err(position) = times.binary_search(&time) {
                    times.insert(position, time);
                    self.queue.insert((time, *key));
                }
                model.insert(*key, times.clone());
            }
        }
    }

    /// The time comes to here: everything that is due fires, and is gone.
    fn come_to(&mut self, until: i64) -> BTreeSet<(i64, u64)> {
        self.bring(until);
        let mut fired = BTreeSet::new();
        while let Some((time, key)) = self.queue.first().copied().filter(|(time, _)| *time <= until) {
            self.queue.pop_first();
            let hash = key.stable_hash();
            self.backend.touch(&[(hash, key)]).unwrap();
            let table = self.backend.table_mut(self.timers);
            let Some(times) = table.get_mut(hash, &key) else {
                continue;
            };
            if let Ok(position) = times.binary_search(&time) {
                times.remove(position);
                fired.insert((time, key));
                if times.is_empty() {
                    table.remove(hash, &key);
                }
            }
        }
        fired
    }

    fn rows(&self) -> usize {
        self.backend.table(self.timers).len()
    }
}

/// A timer that is the later, the higher the hash of its key is: segments differ in what is due in them.
fn rising(key: u64) -> i64 {
    (((key.stable_hash() >> 32) * END as u64) >> 32) as i64
}

/// Subtasks whose keys have such timers, of which a checkpoint is taken, and then one upon it.
fn chain(options: &StateBackendOptions, world: &World, parallelism: u32) -> (Vec<KeyedStateHandle>, Timers) {
    let mut model = Timers::new();
    let open = |range| Clock::open(options, world, range, &[]);
    let mut clocks: Vec<Clock> = ranges(parallelism).into_iter().map(open).collect();
    for clock in &mut clocks {
        clock.set(0..20_000, rising, &mut model);
    }
    snapshot(world, (1, None), &mut clocks);
    for clock in &mut clocks {
        // Those that are due first go, so that others are; and some that are due later have earlier ones.
        fire(&mut model, clock.come_to(30));
        let soon = (0..20_000).filter(|key| (80..90).contains(&rising(*key)));
        clock.set(soon, |_| 40, &mut model);
    }
    (snapshot(world, (2, Some(1)), &mut clocks), model)
}

fn fire(model: &mut Timers, fired: BTreeSet<(i64, u64)>) {
    for (time, key) in fired {
        let times = model.get_mut(&key).unwrap();
        times.retain(|known| *known != time);
        if times.is_empty() {
            model.remove(&key);
        }
    }
}

fn due(model: &Timers, until: i64) -> BTreeSet<(i64, u64)> {
    let all = model
        .iter()
        .flat_map(|(key, times)| times.iter().map(|time| (*time, *key)));
    all.filter(|(time, _)| *time <= until).collect()
}

fn snapshot(world: &World, (id, base): (u64, Option<u64>), clocks: &mut [Clock]) -> Vec<KeyedStateHandle> {
    let increment = base.map_or(Increment::First, since);
    let parts = clocks.iter_mut().map(|clock| {
        let barrier = barrier(world, id, increment);
        clock.backend.freeze_at(&barrier)
    });
    let parts = parts.collect();
    let kind = SnapshotKind::Checkpoint;
    write(world, &world.checkpoint(id), kind, increment, parts)
}

/// What a subtask does while its state comes.
#[derive(Debug, Clone)]
enum Step {
    Set { first: u64, keys: u64, time: i64 },
    ComeTo(i64),
    Idle(usize),
    Checkpoint,
    RestoreAgain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let set = (0u64..21_000, 1u64..100, 0i64..END).prop_map(|(first, keys, time)| Step::Set { first, keys, time });
    let step = prop_oneof![
        4 => set,
        4 => (0i64..END / 4).prop_map(Step::ComeTo),
        2 => (1usize..6).prop_map(Step::Idle),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::RestoreAgain),
    ];
    proptest::collection::vec(step, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_due_is_there_when_its_time_comes(
        steps in steps(),
        parallelism in (1u32..4, 1u32..4),
        is_old in any::<bool>(),
    ) {
        for options in backends() {
            let world = World::new();
            let (handles, model) = chain(&options, &world, parallelism.0);
            let handles = match is_old {
                true => with_segments(handles, |segment| segment.earliest.clear()),
                false => handles,
            };
            world.at_once.set(0);
            let open = |handles: &[KeyedStateHandle]| -> Vec<Clock> {
                let ranges = ranges(parallelism.1).into_iter();
                ranges.map(|range| Clock::open(&options, &world, range, handles)).collect()
            };
            let (mut clocks, mut model) = (open(&handles), model);
            let mut safe = (handles, model.clone());
            let mut now = 30;
            for (id, step) in (3u64..).zip(&steps) {
                match step {
                    Step::Set { first, keys, time } => {
                        let keys = *first..first + keys;
                        clocks.iter_mut().for_each(|clock| clock.set(keys.clone(), |_| now + time, &mut model));
                    }
                    Step::ComeTo(passed) => {
                        now += passed;
                        let fired: BTreeSet<_> = clocks.iter_mut().flat_map(|clock| clock.come_to(now)).collect();
                        prop_assert_eq!(&fired, &due(&model, now));
                        fire(&mut model, fired);
                    }
                    Step::Idle(times) => {
                        for clock in &mut clocks {
                            for _ in 0..*times {
                                clock.backend.restore_more().unwrap();
                            }
                        }
                    }
                    Step::Checkpoint => safe = (snapshot(&world, (id, None), &mut clocks), model.clone()),
                    Step::RestoreAgain => (clocks, model) = (open(&safe.0), safe.1.clone()),
                }
            }
            let all: BTreeSet<_> = clocks.iter_mut().flat_map(|clock| clock.come_to(i64::MAX)).collect();
            prop_assert_eq!(all, due(&model, i64::MAX));
            prop_assert!(clocks.iter().all(|clock| clock.rows() == 0));
        }
    }
}

#[test]
fn only_what_is_due_is_read_before_its_time_comes() {
    let options = StateBackendOptions::default();
    let world = World::new();
    let (handles, model) = chain(&options, &world, 1);
    world.at_once.set(0);
    let mut clock = Clock::open(&options, &world, ranges(1)[0], &handles);
    assert_eq!((clock.rows(), clock.queue.len()), (0, 0));
    // What has gone since the first checkpoint is known to be gone.
    let left = clock.bring(30);
    assert_eq!((clock.rows(), left), (0, 31));
    // Other keys come with them: those of the same segments.
    clock.bring(END / 10);
    assert!(clock.rows() < model.len() / 2, "{} of {}", clock.rows(), model.len());
    let fired = clock.come_to(END / 10);
    assert_eq!(fired, due(&model, END / 10));
    // Whoever has time brings the rest.
    while clock.backend.restore_more().unwrap() != Restoring::Done {
        std::thread::yield_now();
    }
    assert_eq!(clock.bring(i64::MIN), i64::MAX);
    let rest: BTreeSet<_> = due(&model, i64::MAX).difference(&fired).copied().collect();
    assert!(clock.queue.is_superset(&rest));
    assert_eq!(clock.come_to(i64::MAX), rest);
}

#[test]
fn damage_that_is_met_when_something_is_due_is_refused_by_name() {
    let options = StateBackendOptions::default();
    let world = World::new();
    let (handles, _) = chain(&options, &world, 1);
    world.at_once.set(0);
    let largest = handles[0].objects.iter().max_by_key(|object| object.length);
    let object = file_of(largest.unwrap());
    let mut bytes = std::fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&object, &bytes).unwrap();
    let mut clock = Clock::open(&options, &world, ranges(1)[0], &handles);
    assert!(clock.bring(31) > 31, "what is due first is intact");
    let refused = clock.backend.restore_due(clock.timers, END, &|_, time| time);
    let refused = refused.unwrap_err();
    assert!(refused.is_damage());
    assert_eq!(refused.code(), ErrorCode::SnapshotCorrupt);
    let name = object.file_name().unwrap().to_str().unwrap();
    assert!(refused.to_string().contains(name), "{refused}");
}

#[test]
fn a_row_that_is_due_before_its_segment_says_is_refused() {
    let options = StateBackendOptions::default();
    let world = World::new();
    let (handles, _) = chain(&options, &world, 1);
    world.at_once.set(0);
    let handles = with_segments(handles, |segment| segment.earliest[0] += 1);
    let mut clock = Clock::open(&options, &world, ranges(1)[0], &handles);
    let refused = clock.backend.restore_due(clock.timers, END, &|_, time| time);
    assert!(refused.unwrap_err().is_damage());
}

#[test]
fn every_form_of_a_snapshot_says_what_is_due() {
    for options in backends() {
        let world = World::new();
        let (handles, model) = chain(&options, &world, 2);
        world.at_once.set(u64::MAX);
        let mut clock = Clock::open(&options, &world, ranges(1)[0], &handles);
        assert_eq!(clock.queue, due(&model, i64::MAX), "{options:?}");
        let parts = vec![clock.backend.freeze()];
        let kind = SnapshotKind::Savepoint;
        let increment = Increment::Off;
        let savepoint = write(&world, &world.checkpoint(9), kind, increment, parts);
        let again = Clock::open(&options, &world, ranges(1)[0], &savepoint);
        assert_eq!(again.queue, clock.queue, "{options:?}");
        if options.kind != StateBackendKind::RocksDb {
            let is_told = |handle: &KeyedStateHandle| match &handle.format {
                KeyedStateFormat::Native { segments } => segments.iter().all(|segment| segment.earliest.len() == 1),
                KeyedStateFormat::Parquet | KeyedStateFormat::RocksDb { .. } => false,
            };
            assert!(handles.iter().all(is_told), "{options:?}");
        }
    }
}
