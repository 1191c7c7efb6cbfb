//! The main job: flights, with everything that may happen to it on the way.

use std::fs;

use system::{Cluster, Flights, flights, until};

/// Waits until the job has committed more updates than `before`.
fn wait_for_progress(flights: &Flights, before: usize) -> usize {
    until("more updates are committed", || {
        let updates = flights.committed_updates();
        (updates > before).then_some(updates)
    })
}

#[test]
fn the_main_job_is_exact_through_a_kill_a_savepoint_a_move_and_two_changes_of_parallelism() {
    let cluster = Cluster::start(2, 2);
    let output = cluster.path("output");
    let paced = Flights {
        output: output.clone(),
        rate: 50,
    };

    let first = cluster.submit_and_wait(&["-p", "2"], &paced.command());
    wait_for_progress(&paced, 0);
    let workers = cluster.workers();
    assert!(
        workers.iter().all(|worker| worker.job_id == first) && !workers.is_empty(),
        "{workers:?}"
    );
    workers[0].kill();
    let recovered = cluster.wait_for_restart(&first, 1);
    assert!(recovered.last_failure.contains("SIGKILL"), "{recovered:?}");

    let kept = cluster.savepoint(&first, &cluster.place("savepoints"));
    let saved = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &first]);
    cluster.wait_for(&first, "CANCELED");
    cluster.wait_for_no_workers();
    assert!(kept != saved && kept.join("_metadata").is_file());
    let before = paced.committed_updates();
    assert!(
        before < flights::total() as usize,
        "the job was too fast to be interrupted"
    );

    // A savepoint is self-contained: where it lies does not matter.
    let moved = cluster.path("elsewhere/renamed");
    fs::create_dir(cluster.path("elsewhere")).unwrap();
    fs::rename(&saved, &moved).unwrap();
    let second = cluster.submit_and_wait(&["-p", "3", "-s", moved.to_str().unwrap()], &paced.command());
    wait_for_progress(&paced, before);
    let saved = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &second]);
    cluster.wait_for(&second, "CANCELED");
    assert!(
        paced.committed_updates() < flights::total() as usize,
        "the job was too fast"
    );

    let unpaced = Flights { output, rate: 0 };
    let ran = cluster
        .run(&["-p", "1", "-s", saved.to_str().unwrap()], &unpaced.command())
        .succeeded();
    assert!(ran.stdout.contains("\nProgram execution finished\n"), "{ran:#?}");
    unpaced.assert_complete();
    cluster.wait_for_no_workers();
    cluster.wait_for_free_slots(4);
}
