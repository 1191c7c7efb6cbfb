//! Checkpoints that build upon earlier ones.

use streamd_core::backend::StateBackendOptions;
use streamd_core::barrier::SnapshotKind;
use streamd_core::snapshot::KeyedStateHandle;

use crate::fixture::*;

pub fn increment(world: &World, id: u64, base: u64, tasks: &mut [Task]) -> Vec<KeyedStateHandle> {
    let parts = tasks.iter_mut().map(|task| task.backend.freeze()).collect();
    write(
        world,
        &world.checkpoint(id),
        SnapshotKind::Checkpoint,
        since(base),
        parts,
    )
}

pub fn one(options: &StateBackendOptions, world: &World, handles: &[KeyedStateHandle]) -> Vec<Task> {
    vec![Task::open(options, world, ranges(1)[0], handles).unwrap()]
}

#[test]
fn a_chain_with_gaps_aborts_and_restores_is_whole_at_every_link() {
    for options in backends() {
        let world = World::new();
        let mut tasks = one(&options, &world, &[]);
        let mut model = Model::default();
        model.change(&mut tasks[0], &(0..10_000).collect::<Vec<_>>(), 1);
        let mut handles = checkpoint(&world, 1, &mut tasks);
        let mut base = 1;
        for id in 2..16u64 {
            let first = mix(id) % 9_000;
            model.change(&mut tasks[0], &(first..first + 700).collect::<Vec<_>>(), id);
            let taken = increment(&world, id, base, &mut tasks);
            match id % 5 {
                // Aborted after it was written: its folder is gone, and nobody says so.
                2 => std::fs::remove_dir_all(world.checkpoint(id)).unwrap(),
                // The job fails, and goes on from the last complete one.
                4 => {
                    std::fs::remove_dir_all(world.checkpoint(id)).unwrap();
                    tasks = one(&options, &world, &handles);
                    model = tasks[0].all();
                }
                _ => {
                    (handles, base) = (taken, id);
                    assert_eq!(
                        restored(&options, &world, 1, &handles),
                        model,
                        "{options:?} checkpoint {id}"
                    );
                    assert_eq!(
                        restored(&options, &world, 2, &handles),
                        model,
                        "{options:?} checkpoint {id}"
                    );
                }
            }
        }
    }
}
