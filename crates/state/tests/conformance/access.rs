//! Reading and writing, key by key.

use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::id::OperatorId;
use streamd_core::state::State;
use streamd_state::{BackendChoice, KeyedStateBackend, StatePlace, restore};

use crate::fixture::*;

#[test]
fn a_backend_is_a_map_however_little_memory_it_has() {
    for options in backends() {
        let world = World::new();
        let range = ranges(2)[1];
        let mut task = Task::open(&options, &world, range, &[]).unwrap();
        let mut model = Model::default();
        for round in 0..12 {
            let keys: Vec<u64> = (0..6_000).map(|n| mix(n + round * 1_000) % 20_000).collect();
            model.change(&mut task, &keys, round);
        }
        assert_eq!(task.all(), model, "{options:?}");
        // Walking over everything leaves it as it was.
        model.change(&mut task, &(0..20_000).collect::<Vec<_>>(), 99);
        assert_eq!(task.all(), model, "{options:?}");
    }
}

#[test]
fn a_key_that_is_twice_in_a_batch_has_one_value() {
    for options in backends() {
        let world = World::new();
        let mut task = Task::open(&options, &world, ranges(1)[0], &[]).unwrap();
        let counts = task.counts;
        task.each(&[7, 8, 7, 7], |task, hash, key| {
            *task.backend.table_mut(counts).get_or_insert_with(hash, &key, || 0) += 1;
        });
        let all = task.all().counts;
        assert_eq!((all[&7], all[&8], all.len()), (3, 1, 2), "{options:?}");
    }
}

#[test]
fn values_of_megabytes_and_empty_ones_are_values() {
    // What does not fit into metadata, `memory` refuses.
    let unbounded = |options: &StateBackendOptions| options.kind != StateBackendKind::Memory;
    for options in backends().into_iter().filter(unbounded) {
        let world = World::new();
        let mut task = Task::open(&options, &world, ranges(1)[0], &[]).unwrap();
        let lists = task.lists;
        let mut model = Model::default();
        for key in 0..6u64 {
            let value = match key {
                0 => Vec::new(),
                1 => vec![String::new()],
                _ => vec!["x".repeat(2 << 20); 2],
            };
            task.each(&[key], |task, hash, key| {
                task.backend.table_mut(lists).insert(hash, &key, value.clone());
            });
            model.lists.insert(key, value);
        }
        assert_eq!(task.all(), model, "{options:?}");
        let handles = checkpoint(&world, 1, std::slice::from_mut(&mut task));
        assert_eq!(restored(&options, &world, 3, &handles), model, "{options:?}");
    }
}

/// RS8: operators of one chain are told apart by their ids alone.
#[test]
fn operators_of_one_subtask_do_not_share_their_local_files() {
    for options in backends() {
        let world = World::new();
        let slot = BackendChoice::new(options.clone(), 1, world.local()).unwrap().slot();
        let open = |uid: &str| {
            let place = StatePlace {
                operator: OperatorId::from_uid(uid),
                subtask: (1, 0),
                nonce: "of the subtask".to_owned(),
            };
            let mut backend = KeyedStateBackend::<u64>::open(&slot, &place, ranges(1)[0], MAX_PARALLELISM).unwrap();
            let state = backend.register::<u64>("counts").unwrap();
            restore(&mut backend, &[], world.io.handle()).unwrap();
            (backend, state)
        };
        let mut operators = [open("first"), open("second")];
        for round in 0..3u64 {
            for (offset, (backend, state)) in (0u64..).zip(&mut operators) {
                for key in 0..500u64 {
                    backend.touch(&[(key.stable_hash(), key)]).unwrap();
                    let value = 10 * key + offset + round;
                    backend.table_mut(*state).insert(key.stable_hash(), &key, value);
                }
            }
            // What is in memory only goes to the disk.
            operators.iter_mut().for_each(|(backend, _)| drop(backend.freeze()));
        }
        for (offset, (backend, state)) in (0u64..).zip(&mut operators) {
            for key in 0..500u64 {
                backend.touch(&[(key.stable_hash(), key)]).unwrap();
                let found = backend.table(*state).get(key.stable_hash(), &key);
                assert_eq!(found, Some(&(10 * key + offset + 2)), "{options:?}");
            }
        }
    }
}

#[test]
fn nothing_local_is_left_behind() {
    for options in backends() {
        let world = World::new();
        let mut tasks: Vec<Task> = ranges(2)
            .into_iter()
            .map(|range| Task::open(&options, &world, range, &[]).unwrap())
            .collect();
        let mut model = Model::default();
        for task in &mut tasks {
            model.change(task, &(0..5_000).collect::<Vec<_>>(), 1);
        }
        let handles = checkpoint(&world, 1, &mut tasks);
        // A cut that nobody wrote, and one that is still held when its subtask has ended.
        drop(tasks[0].backend.freeze());
        let held = tasks[1].backend.freeze();
        drop(tasks);
        drop(held);
        drop(Task::open(&options, &world, ranges(1)[0], &handles).unwrap());
        let left: Vec<_> = std::fs::read_dir(world.local()).into_iter().flatten().collect();
        assert!(left.is_empty(), "{options:?}: {left:?}");
    }
}
