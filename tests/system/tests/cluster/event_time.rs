//! Event time on a cluster: the results of a job that was killed, saved, cancelled and resumed at another parallelism are those of
//! an unbroken one.

use system::files::{binary, check_example, text};
use system::{Cluster, until};

use crate::{CHECKPOINTS, NEXMARK};

const EVENTS: u64 = 200_000;

/// Nexmark's query 5 (a window over sliding windows) or another, over these many events.
fn nexmark(query: &str, output: &str, rate: u64) -> Vec<String> {
    let numbers = [EVENTS.to_string(), rate.to_string()];
    let [events, rate] = numbers;
    let program = text(&binary(NEXMARK));
    [
        &program, "--query", query, "--events", &events, "--rate", &rate, "--output", output,
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn windows_over_windows_are_exact_after_a_kill_a_savepoint_and_another_parallelism() {
    for query in ["q5", "q8"] {
        let cluster = Cluster::start(2, 2);
        let output = text(&cluster.path("output"));
        // So slow that the end is minutes away.
        let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &nexmark(query, &output, 500));
        until("a checkpoint has window contents", || {
            let status = cluster.status(&id);
            let completed = status["checkpoints"]["completed"].as_u64().unwrap();
            (completed >= 2).then_some(())
        });
        cluster.worker_of(&id).kill();
        cluster.wait_for_restart(&id, 1);
        cluster.wait_for_records(&id, 500);
        let saved = text(&cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]));
        cluster.wait_for(&id, "CANCELED");
        let resumed = cluster.run(&["-s", &saved, "-p", "3"], &nexmark(query, &output, 0));
        resumed.succeeded();
        check_example("nexmark", &[query, &EVENTS.to_string(), &output]);
    }
}
