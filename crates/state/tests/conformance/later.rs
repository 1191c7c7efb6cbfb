//! State that comes out of a snapshot while it is worked on already. On the heap: the other backends restore everything at once, and are
//! held to the same.

use proptest::prelude::*;
use streamd_core::backend::StateBackendOptions;
use streamd_core::error::ErrorCode;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle};
use streamd_core::state::State;
use streamd_state::{FrozenState, Restoring};

use crate::fixture::*;
use crate::increments::increment;

/// A chain of two checkpoints: rows, and changes upon some of them.
fn chain(options: &StateBackendOptions, world: &World, parallelism: u32) -> (Vec<KeyedStateHandle>, Model) {
    let mut model = Model::default();
    let open = |range| Task::open(options, world, range, &[]).unwrap();
    let mut tasks: Vec<Task> = ranges(parallelism).into_iter().map(open).collect();
    for task in &mut tasks {
        model.change(task, &(0..20_000).collect::<Vec<_>>(), 1);
    }
    checkpoint(world, 1, &mut tasks);
    for task in &mut tasks {
        model.change(task, &(500..900).collect::<Vec<_>>(), 2);
    }
    (increment(world, 2, 1, &mut tasks), model)
}

/// The same without a word on hashes, as older versions wrote it.
fn as_of_old(handles: Vec<KeyedStateHandle>) -> Vec<KeyedStateHandle> {
    with_segments(handles, |segment| segment.hashes = None)
}

/// What a subtask does while its state comes.
#[derive(Debug, Clone)]
enum Step {
    Work { first: u64, keys: u64, seed: u64 },
    Idle(usize),
    Checkpoint,
    RestoreAgain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let work = (0u64..21_000, 1u64..300, any::<u64>()).prop_map(|(first, keys, seed)| Step::Work { first, keys, seed });
    let step = prop_oneof![
        6 => work,
        3 => (1usize..6).prop_map(Step::Idle),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::RestoreAgain),
    ];
    proptest::collection::vec(step, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn state_that_is_worked_on_while_it_comes_is_what_it_would_be(
        steps in steps(),
        parallelism in (1u32..4, 1u32..4),
        is_old in any::<bool>(),
    ) {
        for options in backends() {
            let world = World::new();
            let (handles, model) = chain(&options, &world, parallelism.0);
            let handles = if is_old { as_of_old(handles) } else { handles };
            world.at_once.set(0);
            let open = |handles: &[KeyedStateHandle]| -> Vec<Task> {
                let ranges = ranges(parallelism.1).into_iter();
                ranges.map(|range| Task::open(&options, &world, range, handles).unwrap()).collect()
            };
            let (mut tasks, mut expected) = (open(&handles), model.clone());
            // What a failure leads back to.
            let mut safe = (handles, model);
            for (id, step) in (3u64..).zip(&steps) {
                match step {
                    Step::Work { first, keys, seed } => {
                        let keys: Vec<u64> = (*first..first + keys).collect();
                        tasks.iter_mut().for_each(|task| expected.change(task, &keys, *seed));
                    }
                    Step::Idle(times) => {
                        for task in &mut tasks {
                            for _ in 0..*times {
                                task.backend.restore_more().unwrap();
                            }
                        }
                    }
                    Step::Checkpoint => safe = (checkpoint(&world, id, &mut tasks), expected.clone()),
                    Step::RestoreAgain => (tasks, expected) = (open(&safe.0), safe.1.clone()),
                }
            }
            let mut all = Model::default();
            tasks.iter_mut().for_each(|task| all.extend(task.all()));
            prop_assert_eq!(all, expected);
        }
    }
}

fn frozen_rows(frozen: &[FrozenState]) -> u64 {
    frozen.iter().map(|state| state.rows.rows()).sum()
}

#[test]
fn only_what_is_needed_is_read_before_work_begins() {
    let options = StateBackendOptions::default();
    let world = World::new();
    let (handles, model) = chain(&options, &world, 1);
    world.at_once.set(0);
    let mut task = Task::open(&options, &world, ranges(1)[0], &handles).unwrap();
    let counts = task.counts;
    assert!(task.backend.table(counts).is_empty());
    let key = 700u64;
    task.backend.touch(&[(key.stable_hash(), key)]).unwrap();
    assert_eq!(
        task.backend.table(counts).get(key.stable_hash(), &key),
        model.counts.get(&key)
    );
    let there = task.backend.table(counts).len();
    assert!(there < model.counts.len() / 2, "{there} of {}", model.counts.len());
    // Whoever has time brings the rest.
    task.read_all().unwrap();
    assert_eq!(task.backend.table(counts).len(), model.counts.len());
    assert_eq!(task.all(), model);
}

#[test]
fn a_snapshot_has_what_had_not_come_yet() {
    for options in backends() {
        let world = World::new();
        let (handles, model) = chain(&options, &world, 2);
        world.at_once.set(0);
        let mut tasks: Vec<Task> = ranges(1)
            .into_iter()
            .map(|range| Task::open(&options, &world, range, &handles).unwrap())
            .collect();
        let again = checkpoint(&world, 3, &mut tasks);
        assert_eq!(restored(&options, &world, 3, &again), model, "{options:?}");
    }
}

#[test]
#[should_panic(expected = "used before the key was touched")]
fn a_key_that_was_not_touched_is_not_taken_for_absent() {
    let options = StateBackendOptions::default();
    let world = World::new();
    let (handles, _) = chain(&options, &world, 1);
    world.at_once.set(0);
    let task = Task::open(&options, &world, ranges(1)[0], &handles).unwrap();
    let key = 700u64;
    task.backend.table(task.counts).get(key.stable_hash(), &key);
}

#[test]
fn damage_that_is_met_later_is_refused_as_it_is_at_once() {
    let options = StateBackendOptions::default();
    let world = World::new();
    let (handles, model) = chain(&options, &world, 1);
    world.at_once.set(0);
    let object = file_of(&handles[0].objects[0]);
    let intact = std::fs::read(&object).unwrap();
    let keys: Vec<(u64, u64)> = (0..20_000u64).map(|key| (key.stable_hash(), key)).collect();
    for at in [intact.len() / 3, intact.len() / 2] {
        let mut damaged = intact.clone();
        damaged[at] ^= 4;
        std::fs::write(&object, &damaged).unwrap();
        let open = || Task::open(&options, &world, ranges(1)[0], &handles).unwrap();

        let mut task = open();
        let refused = keys.chunks(64).find_map(|keys| task.backend.touch(keys).err());
        let refused = refused.expect("damage was not noticed");
        assert!(refused.is_damage());
        assert_eq!(refused.code(), ErrorCode::SnapshotCorrupt);
        assert!(
            refused
                .to_string()
                .contains(object.file_name().unwrap().to_str().unwrap()),
            "{refused}"
        );

        // A snapshot of what cannot be read is none.
        let frozen = open().backend.freeze();
        assert_eq!(frozen_rows(&frozen), 0);
        assert!(
            frozen
                .iter()
                .all(|state| state.rows.failure().is_some_and(|error| error.is_damage()))
        );
    }
    std::fs::write(&object, &intact).unwrap();
    assert_eq!(restored(&options, &world, 1, &handles), model);
}

#[test]
fn rows_of_other_hashes_than_their_segment_says_are_refused() {
    let options = StateBackendOptions::default();
    let world = World::new();
    let (mut handles, _) = chain(&options, &world, 1);
    world.at_once.set(0);
    for handle in &mut handles {
        if let KeyedStateFormat::Native { segments } = &mut handle.format {
            let last = segments.last_mut().unwrap();
            let hashes = last.hashes.as_mut().unwrap();
            hashes.start = hashes.end - (hashes.end - hashes.start) / 2;
        }
    }
    let mut task = Task::open(&options, &world, ranges(1)[0], &handles).unwrap();
    let refused = loop {
        match task.backend.restore_more() {
            Ok(Restoring::Done) => panic!("it was not noticed"),
            Ok(_) => {}
            Err(refused) => break refused,
        }
    };
    assert!(refused.is_damage(), "{refused}");
}
