//! `profile`: where the processor time of a job goes, seen by the kernel.

use std::fs;

use system::files::{everything_below, number, string};
use system::{Cluster, ClusterBuilder, Torture, until};

use crate::NO_JOB;

/// Whether a task manager holds anything of a profile.
fn is_looking(cluster: &Cluster) -> bool {
    everything_below(&cluster.path("data"))
        .iter()
        .any(|path| path.ends_with("perf.data"))
}

#[test]
fn the_functions_of_a_busy_job_are_seen_on_each_of_its_workers() {
    let cluster = Cluster::start(2, 1);
    let id = cluster.submit_and_wait(&["-p", "2"], &Torture::new().command());
    let file = cluster.place("job.svg");
    let profile = ["profile", &id, "--duration", "1s", "--file", &file, "--output", "json"];
    let profiled = until("both workers were seen at work", || {
        let profiled = cluster.streamctl(&profile).succeeded().objects().remove(0);
        let workers = profiled["workers"].as_array().unwrap();
        assert_eq!(workers.len(), 2, "{profiled}");
        let all = workers.iter().all(|worker| number(worker, "samples") > 0);
        all.then_some(profiled)
    });
    let svg = fs::read_to_string(&file).unwrap();
    for worker in profiled["workers"].as_array().unwrap() {
        let base = format!("{} on {}", string(worker, "worker"), string(worker, "task_manager"));
        assert!(svg.contains(&base), "{base} is not in {file}");
    }
    assert!(svg.contains("slot-0") && svg.contains("streamd_runtime::"), "{svg}");

    // One of them, as text.
    let task_manager = string(&profiled["workers"][0], "task_manager");
    let one = [
        "profile",
        &id,
        "--duration",
        "1s",
        "--taskmanager",
        task_manager,
        "--folded",
        "--file",
        "-",
    ];
    let stacks = until("it was seen at work", || {
        let ran = cluster.streamctl(&one);
        (ran.code == 0).then_some(ran.stdout)
    });
    assert!(stacks.lines().any(|line| line.starts_with("slot-0;")), "{stacks}");
    assert!(!is_looking(&cluster));
    assert_eq!(cluster.job(&id).restarts, 0);
}

#[test]
fn a_worker_is_looked_at_once_at_a_time_and_no_longer_than_somebody_waits() {
    let cluster = Cluster::start(1, 1);
    let id = cluster.submit_and_wait(&[], &Torture::new().command());
    let file = cluster.place("job.svg");
    let first = cluster.start_streamctl(&["profile", &id, "--duration", "5min", "--file", &file]);
    until("the worker is looked at", || is_looking(&cluster).then_some(()));
    let second = cluster.streamctl(&["profile", &id, "--duration", "1s", "--file", &file]);
    second.refused(4, "SD-0428", "is being looked at already");
    first.interrupt();
    first.finish();
    until("nobody looks at it any more", || (!is_looking(&cluster)).then_some(()));
    until("it can be looked at again", || {
        let third = cluster.streamctl(&["profile", &id, "--duration", "1s", "--file", &file]);
        (third.code == 0).then_some(())
    });
}

#[test]
fn a_drained_task_manager_ends_its_profiles() {
    let cluster = Cluster::start(2, 1);
    let id = cluster.submit_and_wait(&[], &Torture::new().command());
    let file = cluster.place("job.svg");
    let looking = cluster.start_streamctl(&["profile", &id, "--duration", "5min", "--file", &file]);
    until("the worker is looked at", || is_looking(&cluster).then_some(()));
    let status = cluster.status(&id);
    let task_manager = string(&status["workers"][0], "task_manager");
    cluster.streamctl(&["taskmanager", "drain", task_manager]).succeeded();
    looking.finish().refused(1, "SD-0430", "is being drained");
    until("nothing is left of it", || (!is_looking(&cluster)).then_some(()));
}

#[test]
fn without_a_profiler_or_a_running_job_it_is_refused() {
    let cluster = ClusterBuilder::new(1, 1).variable("PATH", "/nonexistent").start();
    let id = cluster.submit_and_wait(&[], &Torture::new().command());
    cluster
        .streamctl(&["profile", &id])
        .refused(1, "SD-0426", "`perf` is not installed");
    cluster
        .streamctl(&["profile", &id, "--taskmanager", "nobody"])
        .refused(3, "SD-0424", "`nobody`");
    cluster
        .streamctl(&["profile", &id, "--duration", "1h"])
        .refused(2, "SD-0101", "5 min");
    cluster.streamctl(&["profile", NO_JOB]).refused(3, "SD-0401", NO_JOB);
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster
        .streamctl(&["profile", &id])
        .refused(4, "SD-0403", "is not running");
}
