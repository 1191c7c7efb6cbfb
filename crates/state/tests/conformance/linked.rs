//! Databases that are opened with the very files of a checkpoint, which are read while they are used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::barrier::{Increment, SnapshotKind};
use streamd_core::error::ErrorCode;
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::State;
use streamd_state::StateError;

use crate::fixture::*;
use crate::increments::{increment, one};

fn databases() -> impl Iterator<Item = StateBackendOptions> {
    let all = backends().into_iter();
    all.filter(|options| options.kind == StateBackendKind::RocksDb)
}

/// A checkpoint of one subtask, which is gone.
fn taken(options: &StateBackendOptions, world: &World) -> (Vec<KeyedStateHandle>, Model) {
    taken_by(1, options, world)
}

/// The same of several.
fn taken_by(parallelism: u32, options: &StateBackendOptions, world: &World) -> (Vec<KeyedStateHandle>, Model) {
    let mut tasks = several(parallelism, options, world, &[]);
    let mut model = Model::default();
    tasks
        .iter_mut()
        .for_each(|task| model.change(task, &(0..12_000).collect::<Vec<_>>(), 1));
    (checkpoint(world, 1, &mut tasks), model)
}

fn several(parallelism: u32, options: &StateBackendOptions, world: &World, handles: &[KeyedStateHandle]) -> Vec<Task> {
    let open = |range| Task::open(options, world, range, handles).unwrap();
    ranges(parallelism).into_iter().map(open).collect()
}

fn tables_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(tables_below(&path)),
            false => found.extend(Some(path).filter(|path| path.extension().is_some_and(|it| it == "sst"))),
        }
    }
    found
}

/// The table files of a checkpoint, by what they are on the disk.
fn tables_of(handles: &[KeyedStateHandle]) -> BTreeMap<u64, PathBuf> {
    let objects = handles.iter().flat_map(|handle| &handle.objects).map(file_of);
    let tables = objects.filter(|path| path.extension().is_some_and(|it| it == "sst"));
    tables.map(|path| (fs::metadata(&path).unwrap().ino(), path)).collect()
}

fn contents(handles: &[KeyedStateHandle]) -> Vec<Vec<u8>> {
    let tables = tables_of(handles).into_values();
    tables.map(|path| fs::read(path).unwrap()).collect()
}

/// Whether it is a name that files have only until they are read.
fn is_unread(path: &Path) -> bool {
    path.iter().any(|part| part == "unread")
}

#[test]
fn the_files_of_a_checkpoint_are_linked_and_the_second_name_goes_when_they_were_read() {
    for options in databases() {
        let world = World::new();
        let (handles, model) = taken(&options, &world);
        let wanted: BTreeSet<u64> = tables_of(&handles).into_keys().collect();
        assert!(!wanted.is_empty());
        let mut task = one(&options, &world, &handles).remove(0);
        let here = |unread: bool| -> BTreeSet<u64> {
            let tables = tables_below(&world.local()).into_iter();
            let tables = tables.filter(|path| is_unread(path) == unread);
            tables.map(|path| fs::metadata(path).unwrap().ino()).collect()
        };
        // Compaction may have replaced some.
        assert!(!here(false).is_disjoint(&wanted), "{options:?}: nothing was linked");
        task.read_all().unwrap();
        assert!(here(true).is_empty());
        assert_eq!(task.all(), model, "{options:?}");
    }
}

#[test]
fn forks_of_forks_run_side_by_side_and_leave_the_checkpoint_as_it_was() {
    for options in databases() {
        let world = World::new();
        let (handles, model) = taken(&options, &world);
        let before = contents(&handles);
        let mut forks: Vec<(Task, Model)> = (0..2)
            .map(|_| (one(&options, &world, &handles).remove(0), model.clone()))
            .collect();
        for (seed, (task, model)) in (2..).zip(&mut forks) {
            // Enough for files to be compacted, and keys that are new as well as keys that were there.
            for round in 0..3 {
                model.change(task, &(0..14_000).collect::<Vec<_>>(), seed * 10 + round);
            }
        }
        for (id, (task, model)) in (2..).zip(forks) {
            let mut tasks = vec![task];
            let forked = checkpoint(&world, id, &mut tasks);
            drop(tasks);
            let mut again = one(&options, &world, &forked);
            assert_eq!(again[0].all(), model);
            let third = increment(&world, id + 10, id, &mut again);
            assert_eq!(restored(&options, &world, 1, &third), model, "{options:?}");
        }
        assert_eq!(contents(&handles), before);
        assert_eq!(restored(&options, &world, 3, &handles), model);
    }
}

#[test]
fn the_first_checkpoint_of_a_fork_has_links_of_its_own_unless_it_is_to_be_full() {
    // The one whose buffers hold everything, so that no file is compacted.
    for options in databases().take(1) {
        let world = World::new();
        let (handles, mut model) = taken(&options, &world);
        let mut tasks = one(&options, &world, &handles);
        model.change(&mut tasks[0], &(0..100).collect::<Vec<_>>(), 2);
        let shared = |increment, tasks: &mut [Task]| {
            let folder = world.folder.path().join("fork/chk-2");
            let parts = tasks.iter_mut().map(|task| task.backend.freeze()).collect();
            let forked = write(&world, &folder, SnapshotKind::Checkpoint, increment, parts);
            let objects = forked.iter().flat_map(|handle| &handle.objects);
            assert!(objects.map(file_of).all(|path| path.starts_with(&folder)));
            let donors = tables_of(&handles);
            let shared = tables_of(&forked)
                .keys()
                .filter(|file| donors.contains_key(file))
                .count();
            (forked, shared)
        };
        assert_eq!(shared(Increment::Off, &mut tasks).1, 0, "{options:?}");
        let (forked, links) = shared(Increment::First, &mut tasks);
        assert!(links > 0, "{options:?}");
        drop(tasks);
        fs::remove_dir_all(world.checkpoint(1)).unwrap();
        assert_eq!(restored(&options, &world, 1, &forked), model, "{options:?}");
    }
}

#[test]
fn a_checkpoint_may_go_once_its_files_are_linked() {
    for options in databases() {
        let world = World::new();
        let (handles, mut model) = taken(&options, &world);
        let mut tasks = one(&options, &world, &handles);
        fs::remove_dir_all(world.checkpoint(1)).unwrap();
        model.change(&mut tasks[0], &(100..8_100).collect::<Vec<_>>(), 2);
        let handles = checkpoint(&world, 2, &mut tasks);
        assert_eq!(tasks[0].all(), model);
        drop(tasks);
        assert_eq!(restored(&options, &world, 1, &handles), model, "{options:?}");
    }
}

#[test]
fn files_that_cannot_be_linked_come_while_they_are_used() {
    for options in databases() {
        let world = World::new();
        let (handles, model) = taken(&options, &world);
        let tables = tables_of(&handles);
        for (number, path) in tables.values().enumerate() {
            let real = path.with_file_name(format!("real-{number}"));
            fs::rename(path, &real).unwrap();
            symlink(&real, path).unwrap();
        }
        let mut task = one(&options, &world, &handles).remove(0);
        let here = tables_below(&world.local()).into_iter();
        let mut here = here.map(|path| fs::symlink_metadata(path).unwrap());
        assert!(here.all(|found| found.is_file() && !tables.contains_key(&found.ino())));
        assert_eq!(task.all(), model, "{options:?}");
    }
}

#[test]
fn files_of_another_file_system_come_while_they_are_used() {
    for options in databases() {
        let world = World::new();
        let (handles, model) = taken(&options, &world);
        let other = tempfile::tempdir_in("/dev/shm").unwrap();
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        if device(other.path()) == device(world.folder.path()) {
            let told = b"not tested: links across file systems: `/dev/shm` is that of temporary files\n";
            drop(std::io::stderr().write_all(told));
            return;
        }
        fs::remove_dir_all(world.local()).unwrap();
        symlink(other.path(), world.local()).unwrap();
        for parallelism in [1, 2, 3] {
            assert_eq!(restored(&options, &world, parallelism, &handles), model, "{options:?}");
        }
        let mut task = one(&options, &world, &handles).remove(0);
        assert!(!tables_below(other.path()).is_empty());
        task.read_all().unwrap();
        assert!(tables_below(other.path()).iter().all(|path| !is_unread(path)));
    }
}

/// Damages a table of a checkpoint there; the file keeps its length. Returns its name.
fn damage(handles: &[KeyedStateHandle], place: impl Fn(usize) -> usize) -> (PathBuf, Vec<u8>) {
    let path = tables_of(handles).into_values().next().unwrap();
    let intact = fs::read(&path).unwrap();
    let mut damaged = intact.clone();
    damaged[place(intact.len())] ^= 4;
    fs::write(&path, damaged).unwrap();
    (path, intact)
}

fn assert_damage(error: &StateError, path: &Path) {
    assert!(error.is_damage(), "{error}");
    assert_eq!(error.code(), ErrorCode::SnapshotCorrupt);
    assert!(
        error.to_string().contains(path.file_name().unwrap().to_str().unwrap()),
        "{error}"
    );
}

#[test]
fn damage_is_told_whoever_meets_it_first() {
    for options in databases() {
        let world = World::new();
        let (handles, model) = taken(&options, &world);
        let keys: Vec<(u64, u64)> = (0..12_000u64).map(|key| (key.stable_hash(), key)).collect();
        let places: [fn(usize) -> usize; 4] = [|_| 3, |length| length / 3, |length| length / 2, |length| length - 9];
        for place in places {
            let (path, intact) = damage(&handles, place);
            let open = || Task::open(&options, &world, ranges(1)[0], &handles).map_err(StateError::from);

            // An idle subtask.
            let refused = open().and_then(|mut task| task.read_all()).unwrap_err();
            assert_damage(&refused, &path);

            // One that has its hands full.
            let refused = open().map_or_else(
                |refused| refused,
                |mut task| {
                    let batches = keys.chunks(64).cycle();
                    let mut refused = batches.filter_map(|keys| task.backend.touch(keys).err());
                    refused.next().unwrap()
                },
            );
            assert_damage(&refused, &path);

            // A snapshot of what is damaged is none, of whatever kind.
            if let Ok(mut task) = open() {
                for state in task.backend.freeze() {
                    let column = state.rows.column().unwrap();
                    assert_damage(&column.table(None).unwrap_err().into(), &path);
                    let walked = state.rows.try_for_each_row(&mut |_, _, _| ControlFlow::Continue(()));
                    assert!(walked.is_break());
                    assert_damage(&state.rows.failure().unwrap(), &path);
                }
            }

            // One of more subtasks, which has a part of the file.
            let part = Task::open(&options, &world, ranges(2)[1], &handles).map_err(StateError::from);
            assert_damage(&part.and_then(|mut task| task.read_all()).unwrap_err(), &path);

            fs::write(&path, intact).unwrap();
        }
        assert_eq!(restored(&options, &world, 1, &handles), model, "{options:?}");
    }
}

#[test]
fn nothing_is_begun_with_damaged_rows_of_one_database_among_several() {
    for options in databases() {
        let world = World::new();
        let (handles, _) = taken_by(2, &options, &world);
        let (path, _) = damage(&handles, |length| length / 2);
        let refused = Task::open(&options, &world, ranges(1)[0], &handles).err().unwrap();
        assert_damage(&refused.into(), &path);
    }
}

#[test]
fn each_of_more_subtasks_takes_its_part_of_the_same_files() {
    for options in databases() {
        let world = World::new();
        let (handles, mut model) = taken(&options, &world);
        let (wanted, before) = (tables_of(&handles), contents(&handles));
        let mut tasks = several(2, &options, &world, &handles);
        // Before anything is written: compaction may replace them all.
        let here = tables_below(&world.local()).into_iter();
        let mut here = here.map(|path| fs::metadata(path).unwrap().ino());
        assert!(here.any(|file| wanted.contains_key(&file)), "{options:?}");
        for task in &mut tasks {
            // Keys that are there, and others.
            model.change(task, &(6_000..14_000).collect::<Vec<_>>(), 2);
        }
        let second = checkpoint(&world, 2, &mut tasks);
        let rows = second
            .iter()
            .filter(|handle| handle.state == "counts")
            .map(|it| it.rows);
        assert_eq!(rows.sum::<u64>(), model.counts.len() as u64);
        assert!(tables_below(&world.local()).iter().all(|path| !is_unread(path)));
        tasks
            .iter_mut()
            .for_each(|task| model.change(task, &(0..2_000).collect::<Vec<_>>(), 3));
        let third = increment(&world, 3, 2, &mut tasks);
        drop(tasks);
        // As they are, as rows of several, as both, and as parts of parts.
        for parallelism in [2, 1, 3, 4] {
            assert_eq!(restored(&options, &world, parallelism, &third), model, "{options:?}");
        }
        let mut tasks = several(8, &options, &world, &third);
        tasks
            .iter_mut()
            .for_each(|task| model.change(task, &(1_000..3_000).collect::<Vec<_>>(), 4));
        let fourth = increment(&world, 4, 3, &mut tasks);
        let parts = tasks.iter_mut().map(|task| task.backend.freeze()).collect();
        let folder = world.folder.path().join("savepoint-x");
        let savepoint = write(&world, &folder, SnapshotKind::Savepoint, Increment::Off, parts);
        for handles in [fourth, savepoint] {
            assert_eq!(restored(&options, &world, 8, &handles), model, "{options:?}");
            assert_eq!(restored(&options, &world, 3, &handles), model, "{options:?}");
        }
        assert_eq!(contents(&handles), before);
    }
}

#[test]
fn files_that_are_missing_or_shorter_are_refused_at_once() {
    for options in databases() {
        let world = World::new();
        let (handles, _) = taken(&options, &world);
        let path = tables_of(&handles).into_values().next().unwrap();
        let intact = fs::read(&path).unwrap();
        fs::write(&path, &intact[..intact.len() - 1]).unwrap();
        let open = || Task::open(&options, &world, ranges(1)[0], &handles).err().unwrap();
        assert_damage(&open().into(), &path);
        fs::remove_file(&path).unwrap();
        assert_eq!(open().code(), ErrorCode::SnapshotCorrupt);
    }
}
