//! Copies of checkpoints on the disks of task managers, for state on the heap: a restart reads these, not the store.

use std::fs;
use std::path::PathBuf;

use system::files::{everything_below, files_below};
use system::{Cluster, Gate, Torture, until};

use crate::CHECKPOINTS;

const LOCAL: &str = "state.backend.local-recovery=true";

/// The state is in objects of its own, which do not change for as long as it does not.
const ON_THE_HEAP: [&str; 4] = [
    CHECKPOINTS,
    "state.backend.type=hashmap",
    "execution.checkpointing.incremental=true",
    "execution.checkpointing.data-inline-threshold=0",
];

/// Records before the gate, and all.
const HELD_AT: u64 = RECORDS - 1_000;
const RECORDS: u64 = 3_000;

/// A job of two subtasks whose state does not change for as long as the gate is closed, and is in a checkpoint.
fn held_job(cluster: &Cluster, settings: &[&str]) -> (String, Torture, Gate) {
    let (torture, gate) = Torture::held(cluster, RECORDS, 4_000);
    let settings = ON_THE_HEAP.iter().chain(settings);
    let options: Vec<&str> = ["-p", "2"]
        .into_iter()
        .chain(settings.flat_map(|it| ["-D", it]))
        .collect();
    let id = cluster.submit_and_wait(&options, &torture.command());
    until("everything before the gate is committed", || {
        (torture.committed() == HELD_AT).then_some(())
    });
    (id, torture, gate)
}

/// The copies that there are, on all task managers.
fn copies(cluster: &Cluster) -> Vec<PathBuf> {
    let files = files_below(&cluster.path("data")).into_iter();
    files
        .filter(|file| file.iter().any(|part| part == "local-state"))
        .collect()
}

/// Makes the content of a file another one of the same length.
fn damage(file: &PathBuf) {
    if let Ok(bytes) = fs::read(file) {
        fs::write(file, vec![0; bytes.len()]).unwrap();
    }
}

/// The store has all objects of the job's checkpoints, and what is in them is worth nothing.
fn damage_store(cluster: &Cluster, id: &str) {
    let objects = files_below(&cluster.path("data/checkpoints").join(id));
    let is_state = |file: &&PathBuf| {
        let name = file.file_name().unwrap().to_str().unwrap();
        file.parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("chk-")
            && !name.starts_with('_')
    };
    let objects: Vec<&PathBuf> = objects.iter().filter(is_state).collect();
    assert!(!objects.is_empty(), "no state is in an object");
    objects.into_iter().for_each(damage);
}

#[test]
fn a_restart_reads_nothing_from_the_store_that_is_on_the_disk_and_nothing_is_left_after_the_job() {
    let cluster = Cluster::start(2, 1);
    let (id, torture, gate) = held_job(&cluster, &[LOCAL]);
    assert!(!copies(&cluster).is_empty(), "nothing is kept");
    damage_store(&cluster, &id);
    let [first, second] = cluster.workers_of(&id).try_into().unwrap();
    first.kill();
    cluster.wait_for_restart(&id, 1);
    assert!(
        cluster
            .workers_of(&id)
            .iter()
            .any(|it| it.process_id == second.process_id),
        "the other worker did not live on"
    );
    gate.open();
    let ended = cluster.wait_for(&id, "FINISHED");
    assert_eq!(ended.restarts, 1, "{ended:?}");
    torture.assert_complete(RECORDS);
    // Invariant I21: no remains.
    until("nothing local is left of the job", || {
        let left = everything_below(&cluster.path("data"));
        let is_local = |path: &PathBuf| path.iter().any(|part| part == "local-state");
        (!left.iter().any(is_local)).then_some(())
    });
}

#[test]
fn a_copy_that_is_damaged_or_gone_is_read_from_the_store() {
    let cluster = Cluster::start(2, 1);
    let (id, torture, gate) = held_job(&cluster, &[LOCAL]);
    let copies = copies(&cluster);
    assert!(!copies.is_empty(), "nothing is kept");
    for (number, copy) in copies.iter().enumerate() {
        match number % 2 {
            0 => damage(copy),
            _ => drop(fs::remove_file(copy)),
        }
    }
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    let log = cluster.streamctl(&["logs", &id]).succeeded().stdout;
    assert!(log.contains("a local file is damaged"), "{log}");
    gate.open();
    let ended = cluster.wait_for(&id, "FINISHED");
    assert_eq!(ended.restarts, 1, "{ended:?}");
    torture.assert_complete(RECORDS);
}

#[test]
fn nothing_is_kept_of_state_on_the_heap_unless_the_job_says_so() {
    let cluster = Cluster::start(2, 1);
    let (id, torture, gate) = held_job(&cluster, &[]);
    assert!(copies(&cluster).is_empty());
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
}
