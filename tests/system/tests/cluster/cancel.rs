//! `cancel`: it ends a job and leaves nothing of it.

use system::{Cluster, ClusterBuilder, Torture, until};

use crate::NO_JOB;

#[test]
fn a_cancelled_job_leaves_no_process_and_takes_no_slot() {
    let cluster = Cluster::start(2, 1);
    let id = cluster.submit_and_wait(&["-p", "2"], &Torture::new().rate(100).command());
    assert_eq!((cluster.workers().len(), cluster.free_slots()), (2, 0));
    let ran = cluster.streamctl(&["cancel", &id]).succeeded();
    assert_eq!(ran.stdout, format!("Cancelling job {id}.\nCancelled job {id}.\n"));
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();
    cluster.wait_for_free_slots(2);
    // A second time it is what the user wants already.
    cluster.streamctl(&["cancel", &id]).succeeded();
    assert_eq!(cluster.job(&id).state, "CANCELED");
}

#[test]
fn a_job_that_cannot_be_cancelled_is_an_error_by_its_reason() {
    let cluster = Cluster::start(1, 1);
    cluster.streamctl(&["cancel", NO_JOB]).refused(3, "SD-0401", NO_JOB);
    cluster.streamctl(&["savepoint", NO_JOB]).refused(3, "SD-0401", NO_JOB);
    cluster.streamctl(&["stop", NO_JOB]).refused(3, "SD-0401", NO_JOB);
    cluster.streamctl(&["logs", NO_JOB]).refused(3, "SD-0401", NO_JOB);
    for malformed in ["0123", "xyz", "../../etc/passwd", &NO_JOB[1..]] {
        let ran = cluster.streamctl(&["cancel", malformed]);
        assert_eq!(ran.code, 2, "{ran:#?}");
        assert!(ran.stderr.starts_with("error: "), "{ran:#?}");
    }
    let id = cluster.submit(&[], &Torture::new().records(10).command());
    cluster.wait_for(&id, "FINISHED");
    cluster.streamctl(&["cancel", &id]).refused(4, "SD-0402", "FINISHED");
    cluster
        .streamctl(&["savepoint", &id, "/tmp"])
        .refused(4, "SD-0402", "FINISHED");
}

#[test]
fn a_job_that_is_restarting_can_be_cancelled() {
    let cluster = Cluster::start(1, 1);
    let bad = Torture::new().argument("--panic-at", "10").command();
    let settings = [
        "-D",
        "restart-strategy=fixed-delay",
        "-D",
        "restart-strategy.fixed-delay.delay=1 h",
    ];
    let id = cluster.submit(&settings, &bad);
    cluster.wait_for(&id, "RESTARTING");
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();
    cluster.wait_for_free_slots(1);
}

#[test]
fn user_code_that_never_returns_and_ignores_sigterm_is_killed_when_its_job_is_cancelled() {
    let cluster = ClusterBuilder::new(1, 1)
        .setting("task.cancellation.timeout", "200 ms")
        .start();
    for misdeed in ["--block-at", "--spin-at"] {
        let stuck = Torture::new().argument(misdeed, "7").flag("--ignore-sigterm");
        let id = cluster.submit_and_wait(&[], &stuck.command());
        until("the application is stuck", || {
            let logs = cluster.streamctl(&["logs", &id]).succeeded();
            logs.stdout.contains("record 7 takes for ever").then_some(())
        });
        cluster.streamctl(&["cancel", &id]).succeeded();
        cluster.wait_for(&id, "CANCELED");
        cluster.wait_for_no_workers();
        cluster.wait_for_free_slots(1);
    }
}
