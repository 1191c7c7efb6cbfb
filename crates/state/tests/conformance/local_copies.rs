//! What stays on the local disk of checkpoints: a restart on the same machine needs nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use streamd_core::backend::StateBackendOptions;
use streamd_core::snapshot::{KeyedStateHandle, ObjectHandle};
use streamd_state::{RestoreError, StateError};

use crate::fixture::*;
use crate::increments::increment;

/// Every backend, with copies.
fn local() -> impl Iterator<Item = StateBackendOptions> {
    backends().into_iter().map(|options| StateBackendOptions {
        local_recovery: true,
        ..options
    })
}

/// The subtasks of a parallelism on one machine, which leave copies for the next and take those that are there.
fn recovering(
    options: &StateBackendOptions,
    world: &World,
    parallelism: u32,
    handles: &[KeyedStateHandle],
) -> Vec<Task> {
    let open = |range| Task::open_recovering(options, world, range, handles, Some(&directory(world))).unwrap();
    ranges(parallelism).into_iter().map(open).collect()
}

/// The same, once everything was read that a database was opened with.
fn try_recovering(
    options: &StateBackendOptions,
    world: &World,
    parallelism: u32,
    handles: &[KeyedStateHandle],
) -> Result<Vec<Task>, StateError> {
    let directory = directory(world);
    let open = |range| Task::open_recovering(options, world, range, handles, Some(&directory));
    let opened: Vec<_> = ranges(parallelism).into_iter().map(open).collect();
    // All of them, whatever becomes of the first.
    let read: Vec<_> = opened.into_iter().map(read).collect();
    read.into_iter().collect()
}

fn read(opened: Result<Task, RestoreError>) -> Result<Task, StateError> {
    let mut task = opened?;
    task.read_all()?;
    Ok(task)
}

fn directory(world: &World) -> PathBuf {
    world.folder.path().join("kept")
}

/// The copies that there are.
fn kept(world: &World) -> Vec<PathBuf> {
    let files = fs::read_dir(directory(world)).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn all(tasks: &mut [Task]) -> Model {
    let mut model = Model::default();
    tasks.iter_mut().for_each(|task| model.extend(task.all()));
    model
}

fn change(model: &mut Model, tasks: &mut [Task], keys: u64, seed: u64) {
    let keys: Vec<u64> = (0..keys).collect();
    tasks.iter_mut().for_each(|task| model.change(task, &keys, seed));
}

fn objects(handles: &[KeyedStateHandle]) -> impl Iterator<Item = &ObjectHandle> {
    handles.iter().flat_map(|handle| &handle.objects)
}

/// Two subtasks, of which a checkpoint and one upon it are written.
fn two_checkpoints(options: &StateBackendOptions, world: &World) -> (Vec<KeyedStateHandle>, Model) {
    let mut tasks = recovering(options, world, 2, &[]);
    let mut model = Model::default();
    change(&mut model, &mut tasks, 5_000, 1);
    checkpoint(world, 1, &mut tasks);
    world.complete(1);
    change(&mut model, &mut tasks, 200, 2);
    let handles = increment(world, 2, 1, &mut tasks);
    world.complete(2);
    (handles, model)
}

#[test]
fn a_restart_finds_its_state_on_the_disk_though_the_store_has_lost_it() {
    for options in local() {
        let world = World::new();
        let (handles, model) = two_checkpoints(&options, &world);
        let files: BTreeSet<PathBuf> = objects(&handles).map(file_of).collect();
        assert!(!files.is_empty());
        files.iter().for_each(|file| fs::remove_file(file).unwrap());
        assert_eq!(
            all(&mut recovering(&options, &world, 2, &handles)),
            model,
            "{options:?}"
        );
        // The copies are still there for the restart after this one, and for another parallelism.
        for parallelism in [2, 1, 3] {
            let mut again = recovering(&options, &world, parallelism, &handles);
            assert_eq!(all(&mut again), model, "{options:?} at {parallelism}");
        }
    }
}

#[test]
fn what_is_missing_or_damaged_on_the_disk_is_read_from_the_store() {
    for options in local() {
        for parallelism in [1, 2, 3] {
            let world = World::new();
            let (handles, model) = two_checkpoints(&options, &world);
            let copies = kept(&world);
            assert!(copies.len() > 1, "{options:?}");
            for (index, copy) in copies.iter().enumerate() {
                match index % 3 {
                    0 => fs::remove_file(copy).unwrap(),
                    1 => {
                        let mut bytes = fs::read(copy).unwrap();
                        let middle = bytes.len() / 2;
                        bytes[middle] ^= 1;
                        // Another file of the same name: a database that is still open may have the old one.
                        fs::remove_file(copy).unwrap();
                        fs::write(copy, bytes).unwrap();
                    }
                    _whole => {}
                }
            }
            // Copies that a database was opened with are read later: then the job restarts without them.
            drop(
                try_recovering(&options, &world, parallelism, &handles)
                    .inspect_err(|error| assert!(!error.is_damage())),
            );
            let mut tasks = try_recovering(&options, &world, parallelism, &handles).unwrap();
            assert_eq!(all(&mut tasks), model, "{options:?} at {parallelism}");
        }
    }
}

#[test]
fn only_copies_of_checkpoints_that_can_still_be_restored_are_kept() {
    for options in local() {
        let world = World::new();
        let mut tasks = recovering(&options, &world, 2, &[]);
        let mut model = Model::default();
        change(&mut model, &mut tasks, 2_000, 1);
        checkpoint(&world, 1, &mut tasks);
        world.complete(1);
        for id in 2..9 {
            change(&mut model, &mut tasks, 2_000, id);
            let handles = increment(&world, id, id - 1, &mut tasks);
            world.complete(id);
            let wanted: BTreeSet<&str> = objects(&handles).map(|object| object.digest.as_str()).collect();
            let names = kept(&world);
            assert!(!names.is_empty());
            let mut names = names.iter().map(|file| file.file_name().unwrap().to_str().unwrap());
            assert!(names.all(|name| wanted.contains(name)), "{options:?} checkpoint {id}");
        }
    }
}

#[test]
fn nothing_is_kept_unless_it_is_asked_for() {
    for options in backends() {
        let options = StateBackendOptions {
            local_recovery: false,
            ..options
        };
        let world = World::new();
        let mut tasks = recovering(&options, &world, 1, &[]);
        change(&mut Model::default(), &mut tasks, 100, 1);
        checkpoint(&world, 1, &mut tasks);
        assert!(!directory(&world).exists(), "{options:?}");
    }
}
