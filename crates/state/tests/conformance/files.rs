//! Checkpoints of databases: which files are written, and which are referred to.

use streamd_core::backend::StateBackendKind;
use streamd_core::snapshot::KeyedStateHandle;

use crate::fixture::*;
use crate::increments::{increment, one};

/// Bytes of the files of a checkpoint's folder.
fn bytes_in(world: &World, id: u64) -> u64 {
    let files = std::fs::read_dir(world.checkpoint(id)).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn only_new_files_are_written_and_a_forgotten_base_makes_all_new() {
    for options in backends()
        .into_iter()
        .filter(|options| options.kind == StateBackendKind::RocksDb)
    {
        let world = World::new();
        let mut tasks = one(&options, &world, &[]);
        let mut model = Model::default();
        model.change(&mut tasks[0], &(0..60_000).collect::<Vec<_>>(), 1);
        checkpoint(&world, 1, &mut tasks);
        model.change(&mut tasks[0], &(0..600).collect::<Vec<_>>(), 2);
        let handles = increment(&world, 2, 1, &mut tasks);
        let (full, new) = (bytes_in(&world, 1), bytes_in(&world, 2));
        assert!(new * 10 < full, "{options:?}: {new} of {full} bytes were written again");
        assert_eq!(
            handles
                .iter()
                .map(KeyedStateHandle::new_bytes)
                .filter(|bytes| *bytes > 0)
                .count(),
            3
        );
        // A base that this subtask took no part in: nothing is known of it.
        increment(&world, 3, 77, &mut tasks);
        assert!(bytes_in(&world, 3) * 2 > full, "{options:?}");
        assert_eq!(restored(&options, &world, 1, &handles), model);
    }
}

#[test]
fn the_first_checkpoint_after_a_restore_builds_upon_what_was_restored() {
    for options in backends()
        .into_iter()
        .filter(|options| options.kind == StateBackendKind::RocksDb)
    {
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
