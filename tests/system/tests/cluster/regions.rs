//! Pipelined regions: what has no channel to the part that failed goes on, and what comes out is exact.

use serde_json::Value;
use system::files::{number, string};
use system::{Cluster, ClusterBuilder, Torture, until};

use crate::CHECKPOINTS;

/// A cluster in which a restart takes its time, so that what goes on meanwhile can be seen.
fn slow_to_restart(task_managers: usize, slots: u32) -> Cluster {
    ClusterBuilder::new(task_managers, slots)
        .setting("restart-strategy.fixed-delay.attempts", "1000000")
        .setting("restart-strategy.fixed-delay.delay", "2 s")
        .start()
}

/// The state of each subtask of the source, and how many records it has read since it began.
fn sources(cluster: &Cluster, id: &str) -> Vec<(String, u64)> {
    let status = cluster.status(id);
    let subtasks = status["vertices"][0]["subtasks"]
        .as_array()
        .expect("the subtasks are a list");
    let read = |subtask: &Value| (string(subtask, "state").to_owned(), number(subtask, "records_in"));
    subtasks.iter().map(read).collect()
}

/// Waits until one of two subtasks does not run, and the other has read 100 more records meanwhile. Which it is, and how many it has read.
fn wait_for_survivor(cluster: &Cluster, id: &str) -> (usize, u64) {
    let survivor = until("one subtask goes on without the other", || {
        let sources = sources(cluster, id);
        let running = sources.iter().enumerate().filter(|(_, (state, _))| state == "RUNNING");
        // Before the failure is known, both run.
        match running.collect::<Vec<_>>()[..] {
            [(survivor, (_, read))] => Some((survivor, *read)),
            _ => None,
        }
    });
    let read = until("what goes on reads while the rest restarts", || {
        let sources = sources(cluster, id);
        let (state, read) = &sources[survivor.0];
        assert_eq!(state, "RUNNING", "{sources:?}");
        (*read > survivor.1 + 100).then_some(*read)
    });
    (survivor.0, read)
}

#[test]
fn a_worker_that_dies_leaves_the_other_regions_alone() {
    let cluster = slow_to_restart(2, 1);
    let (torture, gate) = Torture::held(&cluster, 13_000, 800);
    let torture = torture.flag("--apart");
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    cluster.worker_of(&id).kill();
    let (survivor, read) = wait_for_survivor(&cluster, &id);
    let process = cluster.worker_of(&id).process_id;
    cluster.wait_for_restart(&id, 1);
    // Who restarts begins to count anew.
    let after = sources(&cluster, &id);
    assert!(after[survivor].1 >= read, "{after:?}, and it had read {read}");
    assert!(after[1 - survivor].1 < read, "{after:?}, and the other had read {read}");
    let workers = cluster.workers_of(&id);
    assert!(
        workers.iter().any(|worker| worker.process_id == process),
        "the survivor has another process"
    );

    // Checkpoints go on, and all of the job restores from one.
    torture.wait_for_commits(torture.committed());
    cluster.workers_of(&id).iter().for_each(system::Worker::kill);
    cluster.wait_for_restart(&id, 2);
    torture.wait_for_commits(torture.committed());

    // Another region restart, and a savepoint to go on from.
    cluster.worker_of(&id).kill();
    wait_for_survivor(&cluster, &id);
    cluster.wait_for_restart(&id, 3);
    let folder = cluster.place("savepoints");
    let savepoint = cluster.savepoint_of(&["stop", "-p", &folder, &id]);
    cluster.wait_for(&id, "FINISHED");
    gate.open();
    let again = cluster.submit(&["-p", "2", "-s", &system::files::text(&savepoint)], &torture.command());
    cluster.wait_for(&again, "FINISHED");
    torture.assert_complete(13_000);
}

#[test]
fn a_record_that_poisons_one_slot_leaves_the_other_slots_of_its_worker_alone() {
    let cluster = slow_to_restart(1, 2);
    let (torture, gate) = Torture::held(&cluster, 13_000, 800);
    let poison = cluster.path("poison");
    std::fs::write(&poison, "").unwrap();
    // The second subtask meets it again and again.
    let torture = torture
        .flag("--apart")
        .argument("--panic-at", "2001")
        .argument("--misbehave-while", &system::files::text(&poison));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    let (survivor, read) = wait_for_survivor(&cluster, &id);
    assert_eq!(survivor, 0);
    let process = cluster.worker_of(&id).process_id;
    until("it restarts in vain", || (cluster.job(&id).restarts >= 2).then_some(()));
    std::fs::remove_file(&poison).unwrap();
    cluster.wait_for_restart(&id, 2);
    let after = sources(&cluster, &id);
    assert!(after[0].1 >= read, "{after:?}, and it had read {read}");
    assert_eq!(cluster.worker_of(&id).process_id, process);
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(13_000);
}
