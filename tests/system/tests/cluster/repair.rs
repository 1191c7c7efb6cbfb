//! Looking into snapshots of running jobs, and restoring what was repaired.

use system::files::{committed, number, text};
use system::{Cluster, Torture, until};

use crate::CHECKPOINTS;

/// Far above any number that a job of this test reaches by itself.
const RAISED: u64 = 1_000_000_000;

#[test]
fn a_job_goes_on_from_an_edited_savepoint_with_the_changes() {
    let cluster = Cluster::start(1, 2);
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS, "-p", "2"], &Torture::new().rate(200).command());
    cluster.wait_for_records(&id, 100);
    let stopped = text(&cluster.savepoint_of(&["stop", "-p", &cluster.place("savepoints"), &id]));
    let (old, new) = (stopped.as_str(), cluster.place("repaired"));
    cluster.streamctl(&["savepoint", "verify", old]).succeeded();
    let rows = cluster
        .streamctl(&["state", "show", old, "ordinals", "ordinal", "--output", "json"])
        .succeeded()
        .objects();
    assert_eq!(rows.len(), 10, "one row for each key");
    let raised = format!("3={RAISED}");
    let arguments = [
        "state", "edit", old, "ordinals", "ordinal", "--set", &raised, "--remove", "4", "--to", &new,
    ];
    cluster.streamctl(&arguments).succeeded();

    let output = cluster.path("output");
    let torture = Torture::new().rate(200).output(output.clone());
    // All of its checkpoints stay, so that one of them can be named.
    let retained = "execution.checkpointing.num-retained=10000";
    let arguments = ["-D", CHECKPOINTS, "-D", retained, "-p", "1", "-s", &new];
    let id = cluster.submit_and_wait(&arguments, &torture.command());
    let ordinals = |key: u64| -> Vec<u64> {
        let lines = committed(&output).into_iter().filter(|line| number(line, "key") == key);
        lines.map(|line| number(&line, "ordinal")).collect()
    };
    for (key, first) in [(3, RAISED + 1), (4, 1)] {
        until(&format!("key {key} goes on from what was written"), || {
            ordinals(key).contains(&first).then_some(())
        });
    }
    // A key that nobody touched goes on where it was.
    let untouched = rows
        .iter()
        .find(|row| number(row, "key") == 5)
        .map(|row| number(row, "value"))
        .unwrap();
    until("key 5 goes on where it was", || {
        ordinals(5).contains(&(untouched + 1)).then_some(())
    });
    assert!(ordinals(5).iter().all(|ordinal| *ordinal > untouched));

    let place = cluster.place("data/checkpoints");
    let report = cluster
        .streamctl(&["fsck", &place, "--output", "json"])
        .succeeded()
        .objects();
    let summary = report.last().unwrap();
    assert_eq!((number(summary, "missing"), number(summary, "unreadable")), (0, 0));
    let checkpoint = until("a checkpoint is complete", || {
        let last = &cluster.status(&id)["last_checkpoint"]["uri"];
        last.as_str().map(str::to_owned)
    });
    cluster
        .streamctl(&["checkpoint", "dispose", &checkpoint, "--yes"])
        .refused(4, "SD-0515", &id);
}
