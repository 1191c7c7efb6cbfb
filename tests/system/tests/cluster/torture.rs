//! Every topology of the example `torture` is killed, saved, cancelled and resumed at another parallelism, and comes out exact by a
//! checker in another language.

use system::files::{binary, check_example, text};
use system::{Cluster, until};

use crate::CHECKPOINTS;

const RECORDS: &str = "60000";

fn torture(topology: &str, output: &str, rate: &str) -> Vec<String> {
    let program = text(&binary("torture"));
    [
        &program,
        "--topology",
        topology,
        "--records",
        RECORDS,
        "--rate",
        rate,
        "--state-bytes",
        "200",
        "--compress",
        "--output",
        output,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn completed(cluster: &Cluster, id: &str) -> u64 {
    cluster.status(id)["checkpoints"]["completed"].as_u64().unwrap()
}

fn wait_for_checkpoints(cluster: &Cluster, id: &str, count: u64) {
    until(&format!("{count} checkpoints of job `{id}` are complete"), || {
        (completed(cluster, id) >= count).then_some(())
    });
}

fn survives(topologies: &[&str]) {
    let cluster = Cluster::start(2, 2);
    for topology in topologies {
        let output = text(&cluster.path(topology));
        // So slow that the end is minutes away.
        let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture(topology, &output, "250"));
        wait_for_checkpoints(&cluster, &id, 2);
        cluster.worker_of(&id).kill();
        cluster.wait_for_restart(&id, 1);
        wait_for_checkpoints(&cluster, &id, completed(&cluster, &id) + 2);
        if ["count", "twosinks", "chain2"].contains(topology) {
            check_example("torture", &[topology, "--records", RECORDS, "--so-far", &output]);
        }
        let saved = text(&cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]));
        cluster.wait_for(&id, "CANCELED");
        let resumed = cluster.run(&["-s", &saved, "-p", "3"], &torture(topology, &output, "0"));
        resumed.succeeded();
        check_example("torture", &[topology, "--records", RECORDS, &output]);
        if *topology == "twosinks" {
            check_example("torture", &[topology, "--records", RECORDS, &(output + "-again")]);
        }
    }
}

#[test]
fn numbered_records_are_exact_over_kills_savepoints_and_rescales() {
    survives(&["count", "twosinks", "chain2", "liststate"]);
}

#[test]
fn windows_timers_joins_and_broadcast_state_are_exact_over_kills_savepoints_and_rescales() {
    survives(&["window", "timers", "join", "broadcast"]);
}
