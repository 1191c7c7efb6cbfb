//! Checkpoints of databases: which files are written, and which are referred to.

use std::collections::BTreeSet;
use std::path::PathBuf;

use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::snapshot::KeyedStateHandle;

use crate::fixture::*;
use crate::increments::{increment, one};

/// RocksDB with room enough not to compact its files at once: what is compacted is written anew.
fn roomy() -> impl Iterator<Item = StateBackendOptions> {
    let is_roomy = |options: &StateBackendOptions| {
        options.kind == StateBackendKind::RocksDb && options.rocksdb_memory_per_slot > 1 << 20
    };
    backends().into_iter().filter(is_roomy)
}

/// Bytes of the files of a checkpoint's folder.
fn bytes_in(world: &World, id: u64) -> u64 {
    let files = std::fs::read_dir(world.checkpoint(id)).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn only_new_files_are_written_and_a_forgotten_base_makes_all_new() {
    for options in roomy() {
        let world = World::new();
        let mut tasks = one(&options, &world, &[]);
        let mut model = Model::default();
        model.change(&mut tasks[0], &(0..60_000).collect::<Vec<_>>(), 1);
        checkpoint(&world, 1, &mut tasks);
        model.change(&mut tasks[0], &(0..600).collect::<Vec<_>>(), 2);
        let handles = increment(&world, 2, 1, &mut tasks);
        let (full, new) = (bytes_in(&world, 1), bytes_in(&world, 2));
        assert!(new * 10 < full, "{options:?}: {new} of {full} bytes were written again");
        // A base that this subtask took no part in: nothing is known of it.
        increment(&world, 3, 77, &mut tasks);
        assert!(bytes_in(&world, 3) * 2 > full, "{options:?}");
        assert_eq!(restored(&options, &world, 1, &handles), model);
    }
}

#[test]
fn the_first_checkpoint_after_a_restore_builds_upon_what_was_restored() {
    for options in roomy() {
        let world = World::new();
        let mut tasks = one(&options, &world, &[]);
        let mut model = Model::default();
        model.change(&mut tasks[0], &(0..60_000).collect::<Vec<_>>(), 1);
        let handles = checkpoint(&world, 1, &mut tasks);
        drop(tasks);
        let mut tasks = one(&options, &world, &handles);
        model.change(&mut tasks[0], &(0..600).collect::<Vec<_>>(), 2);
        let handles = increment(&world, 2, 1, &mut tasks);
        assert!(bytes_in(&world, 2) * 10 < bytes_in(&world, 1), "{options:?}");
        assert_eq!(restored(&options, &world, 2, &handles), model);
    }
}

/// A subtask that leaves files for the next, and takes those that are there.
fn recovering(options: &StateBackendOptions, world: &World, handles: &[KeyedStateHandle]) -> Task {
    let kept = world.folder.path().join("kept");
    let range = ranges(1)[0];
    Task::open_recovering(options, world, range, handles, Some(&kept)).unwrap()
}

/// The files that are kept.
fn kept(world: &World) -> Vec<PathBuf> {
    let directories = std::fs::read_dir(world.folder.path().join("kept")).unwrap();
    let files = directories.flat_map(|directory| std::fs::read_dir(directory.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn a_restart_finds_its_files_on_the_disk_though_the_store_has_lost_them() {
    for options in roomy() {
        let world = World::new();
        let mut tasks = [recovering(&options, &world, &[])];
        let mut model = Model::default();
        model.change(&mut tasks[0], &(0..20_000).collect::<Vec<_>>(), 1);
        checkpoint(&world, 1, &mut tasks);
        model.change(&mut tasks[0], &(0..200).collect::<Vec<_>>(), 2);
        let handles = increment(&world, 2, 1, &mut tasks);
        drop(tasks);
        let objects = handles.iter().flat_map(|handle| &handle.objects);
        let tables = objects
            .map(file_of)
            .filter(|file| file.extension().is_some_and(|it| it == "sst"));
        for table in tables.collect::<BTreeSet<_>>() {
            std::fs::remove_file(table).unwrap();
        }
        let mut tasks = [recovering(&options, &world, &handles)];
        assert_eq!(tasks[0].all(), model);
        // What was kept is still there for the restart after this one, and for another parallelism.
        let mut again = recovering(&options, &world, &handles);
        assert_eq!(again.all(), model);
        let kept = world.folder.path().join("kept");
        let mut all = Model::default();
        for range in ranges(2) {
            all.extend(
                Task::open_recovering(&options, &world, range, &handles, Some(&kept))
                    .unwrap()
                    .all(),
            );
        }
        assert_eq!(all, model);
    }
}

#[test]
fn only_files_of_checkpoints_that_can_still_be_restored_are_kept() {
    for options in roomy() {
        let world = World::new();
        let mut tasks = [recovering(&options, &world, &[])];
        let mut model = Model::default();
        let keys: Vec<u64> = (0..20_000).collect();
        model.change(&mut tasks[0], &keys, 1);
        checkpoint(&world, 1, &mut tasks);
        let mut digests = BTreeSet::new();
        for id in 2..9 {
            // Everything changes, so that compaction replaces the files.
            model.change(&mut tasks[0], &keys, id);
            let handles = increment(&world, id, id - 1, &mut tasks);
            let objects = handles.into_iter().flat_map(|handle| handle.objects);
            let last_two: BTreeSet<String> = objects.map(|object| object.digest).collect();
            let wanted: BTreeSet<String> = digests.union(&last_two).cloned().collect();
            let names = kept(&world);
            let mut names = names.iter().map(|file| file.file_name().unwrap().to_str().unwrap());
            assert!(names.all(|name| wanted.contains(name)), "checkpoint {id}");
            digests = last_two;
        }
    }
}
