//! How much of the state of a database is held in memory.

use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::barrier::{Increment, SnapshotKind};
use streamd_state::Table;

use crate::fixture::*;

/// Of which half is for decoded values.
const PER_SLOT: u64 = 64 << 20;

fn task(world: &World) -> Task {
    let options = StateBackendOptions {
        kind: StateBackendKind::RocksDb,
        rocksdb_memory_per_slot: PER_SLOT,
        ..StateBackendOptions::default()
    };
    Task::open(&options, world, ranges(1)[0], &[]).unwrap()
}

/// Gives each of these keys a list of one text.
fn fill(task: &mut Task, keys: std::ops::Range<u64>, bytes: usize) {
    let lists = task.lists;
    task.each(&keys.collect::<Vec<_>>(), |task, hash, key| {
        let value = vec!["x".repeat(bytes)];
        task.backend.table_mut(lists).insert(hash, &key, value);
    });
}

/// How many lists are in memory.
fn held(task: &Task) -> usize {
    match task.backend.table(task.lists) {
        Table::RocksDb(table) => table.held(),
        Table::Heap(..) => panic!("the backend is RocksDB"),
    }
}

#[test]
fn new_values_count_against_the_budget_as_soon_as_they_are_there() {
    let world = World::new();
    let mut task = task(&world);
    fill(&mut task, 0..10_000, 10_000);
    let (bytes, budget) = (held(&task) * 10_000, PER_SLOT as usize / 2);
    assert!(bytes < budget + budget / 4, "{bytes} bytes are held");
    assert!(bytes > budget / 4, "{bytes} bytes alone are held");
}

#[test]
fn what_a_cut_has_held_up_is_evicted_by_and_by() {
    let world = World::new();
    let mut task = task(&world);
    fill(&mut task, 0..200_000, 100);
    let cut = task.backend.freeze();
    fill(&mut task, 200_000..280_000, 100);
    let before = held(&task);
    let folder = world.checkpoint(1);
    write(&world, &folder, SnapshotKind::Checkpoint, Increment::First, vec![cut]);
    let batch = |task: &mut Task| fill(task, 0..64, 100);
    batch(&mut task);
    let evicted = before - held(&task);
    assert!(
        (1..10_000).contains(&evicted),
        "one batch waits for {evicted} keys to go"
    );
    (0..200).for_each(|_| batch(&mut task));
    let all = before - held(&task);
    assert!(all > 10 * evicted, "{all} keys have gone");
}
