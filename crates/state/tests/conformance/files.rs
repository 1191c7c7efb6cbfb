//! Checkpoints of databases: which files are written, and which are referred to.

use streamd_core::backend::{StateBackendKind, StateBackendOptions};

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
