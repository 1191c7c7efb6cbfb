//! Jobs that start from a checkpoint of a job that goes on: invariant I9 across jobs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use system::files::{committed, number, text};
use system::{Cluster, ClusterBuilder, Gate, Torture, Worker, until};

use crate::CHECKPOINTS;

/// The job that is forked has read this many records, at least, when it is.
const BEFORE: u64 = 1_000;
/// Records altogether.
const RECORDS: u64 = 6_000;
const KEYS: u64 = 10;

/// Starts a job from the only checkpoint of another, which goes on. Returns the checkpoint and the id of the new job.
fn fork(cluster: &Cluster, id: &str, options: &[&str], application: &[String]) -> (PathBuf, String) {
    // It completes no checkpoint while the other job is submitted, which may take longer than a checkpoint lives.
    let workers = cluster.workers_of(id);
    workers.iter().for_each(Worker::pause);
    let forked = until("a checkpoint is still there when a job starts from it", || {
        let checkpoint = cluster.checkpoints(id).pop()?;
        let path = text(&checkpoint);
        let options: Vec<&str> = ["-d", "-s", &path].iter().chain(options).copied().collect();
        let ran = cluster.run(&options, application);
        if ran.code != 0 {
            // It was subsumed by one that was acknowledged already. Nothing else may be wrong.
            ran.refused(3, "SD-0501", "chk-");
            return None;
        }
        let forked = ran.stdout.trim_end().rsplit(' ').next().unwrap().to_owned();
        Some((checkpoint, forked))
    });
    workers.iter().for_each(Worker::resume);
    forked
}

/// What a job has written that began in the middle: from some record to the last, each once, numbered within its key as if one
/// job had seen all.
fn assert_complete_from_the_middle(output: &Path) {
    let mut numbers = Vec::new();
    let mut ordinals: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for line in committed(output) {
        numbers.push(number(&line, "number"));
        ordinals
            .entry(number(&line, "key"))
            .or_default()
            .push(number(&line, "ordinal"));
    }
    numbers.sort_unstable();
    let first = *numbers.first().expect("the job wrote something");
    assert!(
        first >= BEFORE,
        "it read again what its checkpoint had counted: {first}"
    );
    assert!(
        numbers.iter().copied().eq(first..RECORDS),
        "the records are not {first} to {RECORDS}"
    );
    for (key, mut ordinals) in ordinals {
        ordinals.sort_unstable();
        let all = RECORDS / KEYS;
        let expected = all - ordinals.len() as u64 + 1..=all;
        assert!(
            ordinals.iter().copied().eq(expected),
            "the records of key {key} are miscounted: {ordinals:?}"
        );
    }
}

fn a_fork_is_exact_whatever_becomes_of_the_job(settings: &[&str]) {
    let cluster = ClusterBuilder::new(1, 2)
        .setting("restart-strategy.fixed-delay.attempts", "1000000")
        .start();
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["-D", setting]).collect();
    // It goes on taking checkpoints at its gate.
    let gate = Gate::closed(cluster.path("gate"));
    let origin = Torture::new().records(RECORDS).held_at(BEFORE, &gate);
    let options: Vec<&str> = ["-D", CHECKPOINTS].iter().chain(&settings).copied().collect();
    let id = cluster.submit_and_wait(&options, &origin.command());
    cluster.wait_for_records(&id, BEFORE);
    let completed = || number(&cluster.status(&id)["checkpoints"], "completed");
    // One that began after the last record before the gate has counted all of them.
    let before = completed();
    until("a checkpoint has counted what is before the gate", || {
        (completed() >= before + 2).then_some(())
    });

    let forks_gate = Gate::closed(cluster.path("forks-gate"));
    let output = cluster.path("output");
    let forked = Torture::new()
        .records(RECORDS)
        .held_at(RECORDS - 500, &forks_gate)
        .output(output.clone());
    let never = ["-D", "execution.checkpointing.interval=1 h"];
    let (checkpoint, fork) = fork(&cluster, &id, &never, &forked.command());
    cluster.wait_for_restart(&fork, 0);
    let before = completed();
    until("the first job has newer checkpoints", || {
        (completed() >= before + 5).then_some(())
    });
    let path = text(&checkpoint);
    cluster.streamctl(&["checkpoint", "verify", &path]).succeeded();
    for deletion in [
        vec!["savepoint", "-d", &path],
        vec!["checkpoint", "dispose", &path, "--yes"],
    ] {
        cluster.streamctl(&deletion).refused(4, "SD-0515", "chk-");
    }

    // The end of the first job deletes its checkpoints: this one has to wait.
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    let log = cluster.path("daemons/jobmanager.err");
    until("the deletion of the checkpoint waits", || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.contains("deletion waits").then_some(())
    });
    cluster.streamctl(&["checkpoint", "verify", &path]).succeeded();
    for restarts in 1..=2 {
        cluster.wait_for_records(&fork, 100);
        cluster.worker_of(&fork).kill();
        cluster.wait_for_restart(&fork, restarts);
    }
    cluster.streamctl(&["checkpoint", "verify", &path]).succeeded();
    forks_gate.open();
    cluster.wait_for(&fork, "FINISHED");
    assert_complete_from_the_middle(&output);
    // Nobody needs it any more.
    let folder = checkpoint.parent().unwrap();
    until("nothing is left of the first job", || (!folder.exists()).then_some(()));
    drop(gate);
}

#[test]
fn a_job_started_from_the_only_checkpoint_of_a_live_job_is_exact() {
    a_fork_is_exact_whatever_becomes_of_the_job(&[]);
}

#[test]
fn a_job_started_from_an_incremental_checkpoint_of_a_live_job_is_exact() {
    a_fork_is_exact_whatever_becomes_of_the_job(&[
        "execution.checkpointing.incremental=true",
        "execution.checkpointing.data-inline-threshold=0",
    ]);
}

#[test]
fn several_jobs_start_from_one_checkpoint_and_the_first_to_have_its_own_takes_it_from_none() {
    let cluster = Cluster::start(1, 3);
    let gate = Gate::closed(cluster.path("gate"));
    let origin = Torture::new().records(RECORDS).held_at(BEFORE, &gate);
    let retain = "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION";
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS, "-D", retain], &origin.command());
    until("a checkpoint is complete", || cluster.checkpoints(&id).pop());
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();
    let checkpoint = until("one checkpoint is left", || {
        let mut left = cluster.checkpoints(&id);
        left.pop().filter(|_| left.is_empty())
    });
    let path = text(&checkpoint);
    let never = "execution.checkpointing.interval=1 h";
    let slow = cluster.submit_and_wait(&["-s", &path, "-D", never], &Torture::new().rate(500).command());

    // Two cannot own it.
    let claim = ["-d", "--claimMode", "CLAIM", "-s", &path, "-D", CHECKPOINTS];
    let ran = cluster.run(&claim, &Torture::new().rate(500).command());
    ran.refused(4, "SD-0515", &slow);
    let quick = cluster.submit_and_wait(&["-s", &path, "-D", CHECKPOINTS], &Torture::new().rate(500).command());
    until("the second job has checkpoints of its own", || {
        (number(&cluster.status(&quick)["checkpoints"], "completed") >= 2).then_some(())
    });
    cluster
        .streamctl(&["savepoint", "-d", &path])
        .refused(4, "SD-0515", &slow);
    cluster.worker_of(&slow).kill();
    cluster.wait_for_restart(&slow, 1);
    cluster.streamctl(&["cancel", &slow]).succeeded();
    cluster.wait_for(&slow, "CANCELED");
    // The second does not need it any more, and the first has ended: now it may go.
    cluster.streamctl(&["savepoint", "-d", &path]).succeeded();
    assert!(!checkpoint.exists());
}
