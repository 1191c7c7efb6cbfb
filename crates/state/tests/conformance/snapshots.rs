//! Snapshots: what is in them, who reads them, and what a damaged one does.

use streamd_core::barrier::{Increment, SnapshotKind};
use streamd_core::error::ErrorCode;
use streamd_state::StateError;

use crate::fixture::*;

fn filled(options: &streamd_core::backend::StateBackendOptions, world: &World, parallelism: u32) -> (Vec<Task>, Model) {
    let mut model = Model::default();
    let mut tasks = Vec::new();
    for range in ranges(parallelism) {
        let mut task = Task::open(options, world, range, &[]).unwrap();
        for round in 0..3 {
            model.change(&mut task, &(0..8_000).collect::<Vec<_>>(), round);
        }
        tasks.push(task);
    }
    (tasks, model)
}

#[test]
fn what_is_written_after_the_barrier_is_not_in_the_snapshot() {
    for options in backends() {
        for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
            let world = World::new();
            let (mut tasks, mut model) = filled(&options, &world, 1);
            let (first, then) = (tasks[0].backend.freeze(), model.clone());
            model.change(&mut tasks[0], &(0..9_000).collect::<Vec<_>>(), 7);
            // A second barrier before the first is written: both are under way.
            let (second, later) = (tasks[0].backend.freeze(), model.clone());
            model.change(&mut tasks[0], &(4_000..12_000).collect::<Vec<_>>(), 8);
            let later_handles = write(&world, &world.checkpoint(2), kind, Increment::First, vec![second]);
            let handles = write(&world, &world.checkpoint(1), kind, Increment::First, vec![first]);
            assert_eq!(restored(&options, &world, 1, &handles), then, "{options:?} {kind:?}");
            assert_eq!(
                restored(&options, &world, 2, &later_handles),
                later,
                "{options:?} {kind:?}"
            );
            assert_eq!(tasks[0].all(), model, "{options:?} {kind:?}");
        }
    }
}

#[test]
fn a_checkpoint_is_restored_at_any_parallelism_and_can_be_worked_on() {
    for options in backends() {
        let world = World::new();
        let (mut tasks, model) = filled(&options, &world, 3);
        let handles = checkpoint(&world, 1, &mut tasks);
        drop(tasks);
        for parallelism in [1, 2, 3, 5] {
            let mut expected = model.clone();
            let mut all = Model::default();
            for range in ranges(parallelism) {
                let mut task = Task::open(&options, &world, range, &handles).unwrap();
                expected.change(&mut task, &(3_000..10_000).collect::<Vec<_>>(), 4);
                all.extend(task.all());
            }
            assert_eq!(all, expected, "{options:?} at {parallelism}");
        }
    }
}

#[test]
fn every_backend_restores_the_savepoint_of_every_other() {
    for writer in backends() {
        let world = World::new();
        let (mut tasks, model) = filled(&writer, &world, 2);
        let parts = tasks.iter_mut().map(|task| task.backend.freeze()).collect();
        let folder = world.folder.path().join("savepoint-x");
        let handles = write(&world, &folder, SnapshotKind::Savepoint, Increment::Off, parts);
        for reader in backends() {
            for parallelism in [1, 2, 3] {
                assert_eq!(
                    restored(&reader, &world, parallelism, &handles),
                    model,
                    "{writer:?} to {reader:?}"
                );
            }
        }
    }
}

#[test]
fn every_backend_restores_the_checkpoint_of_every_other() {
    for writer in backends() {
        let world = World::new();
        let (mut tasks, model) = filled(&writer, &world, 2);
        let handles = checkpoint(&world, 1, &mut tasks);
        for reader in backends() {
            assert_eq!(
                restored(&reader, &world, 3, &handles),
                model,
                "{writer:?} to {reader:?}"
            );
        }
    }
}

#[test]
fn states_without_rows_survive() {
    for options in backends() {
        for kind in [SnapshotKind::Checkpoint, SnapshotKind::Savepoint] {
            let world = World::new();
            let mut task = Task::open(&options, &world, ranges(1)[0], &[]).unwrap();
            let frozen = task.backend.freeze();
            let handles = write(&world, &world.checkpoint(1), kind, Increment::First, vec![frozen]);
            assert_eq!(handles.len(), 3, "nothing is missing");
            assert!(handles.iter().all(|handle| handle.rows == 0));
            for parallelism in [1, 2] {
                assert_eq!(
                    restored(&options, &world, parallelism, &handles),
                    Model::default(),
                    "{options:?}"
                );
            }
        }
    }
}

#[test]
fn a_damaged_object_is_refused_by_name() {
    for options in backends() {
        let world = World::new();
        let (mut tasks, model) = filled(&options, &world, 1);
        let handles = checkpoint(&world, 1, &mut tasks);
        let objects: std::collections::BTreeSet<std::path::PathBuf> =
            handles.iter().flat_map(|handle| &handle.objects).map(file_of).collect();
        for path in &objects {
            let uri = path.display();
            let intact = std::fs::read(path).unwrap();
            for damage in 0..4 {
                let mut bytes = intact.clone();
                match damage {
                    0 => bytes[intact.len() / 2] ^= 1,
                    1 => bytes.truncate(intact.len() - 1),
                    2 => bytes.push(0),
                    _ => {}
                }
                std::fs::remove_file(path).unwrap();
                if damage < 3 {
                    std::fs::write(path, &bytes).unwrap();
                }
                for parallelism in [1, 2] {
                    let opened: Vec<Result<(), StateError>> = ranges(parallelism)
                        .into_iter()
                        .map(|range| Task::open(&options, &world, range, &handles)?.read_all())
                        .collect();
                    let refused = opened.into_iter().find_map(Result::err);
                    let refused =
                        refused.unwrap_or_else(|| panic!("{options:?}: damage {damage} of `{uri}` was not noticed"));
                    assert_eq!(refused.code(), ErrorCode::SnapshotCorrupt, "{refused:?}");
                }
                std::fs::write(path, &intact).unwrap();
            }
        }
        assert_eq!(restored(&options, &world, 1, &handles), model, "{options:?}");
    }
}
