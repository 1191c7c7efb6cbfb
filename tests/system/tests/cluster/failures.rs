//! Processes that die: the job goes on from its last checkpoint, and no record is lost or counted twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use system::files::files_below;
use system::wait::Stopwatch;
use system::{Cluster, ClusterBuilder, Torture, Worker, until};

use crate::CHECKPOINTS;

/// How often a worker is killed in the longest test; more, from the variable, to look for rare faults.
fn kills() -> u64 {
    let more = std::env::var("STREAMD_TEST_KILLS").ok();
    more.map_or(2, |kills| kills.parse().unwrap())
}

#[test]
fn a_job_survives_the_death_of_each_of_its_workers() {
    let cluster = ClusterBuilder::new(2, 1)
        .setting("restart-strategy.fixed-delay.attempts", "1000000")
        .start();
    let records = 5_000 + 1_500 * kills();
    let torture = Torture::new()
        .records(records)
        .rate(1_500)
        .output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    for restarts in 1..=kills() {
        let moment = wait_for_a_moment(restarts, &torture, &cluster.path("data/checkpoints").join(&id));
        let workers = cluster.workers();
        let watch = Stopwatch::start();
        workers[restarts as usize % workers.len()].kill();
        cluster.wait_for_restart(&id, restarts);
        println!("killed {moment}, RUNNING again after {:?}", watch.elapsed());
    }
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(records);
    cluster.wait_for_no_workers();
}

/// Waits for one of the moments at which a death hurts, in turn.
fn wait_for_a_moment(turn: u64, torture: &Torture, checkpoints: &Path) -> &'static str {
    match turn % 3 {
        0 => {
            let before = torture.committed();
            until("more records are committed", || {
                (torture.committed() > before).then_some("after a commit")
            })
        }
        1 => {
            let before = files_below(checkpoints);
            until("a checkpoint is begun", || {
                (files_below(checkpoints) != before).then_some("in the midst of a checkpoint")
            })
        }
        _two => {
            let complete = || latest_checkpoint(checkpoints);
            let before = complete();
            until("a checkpoint is complete", || {
                (complete() != before).then_some("before a commit")
            })
        }
    }
}

#[test]
fn a_worker_that_hangs_is_replaced_and_cannot_come_back() {
    let cluster = impatient(2, 1);
    let torture = Torture::new().records(9_000).rate(1_500).output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    until("records are committed", || (torture.committed() > 0).then_some(()));
    let workers = cluster.workers();
    let hanging = &workers[0];
    hanging.pause();
    cluster.wait_for_restart(&id, 1);
    until("the worker that hangs is gone", || {
        (!cluster.workers().contains(hanging)).then_some(())
    });
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
}

#[test]
fn a_task_manager_that_hangs_is_given_up_and_welcome_when_it_comes_back() {
    let mut cluster = impatient(2, 1);
    let torture = Torture::new().records(9_000).rate(1_500).output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &torture.command());
    until("records are committed", || (torture.committed() > 0).then_some(()));
    let hanging = cluster.workers().remove(0);
    let host = host_of(&cluster, &hanging);
    // Both hang, as all processes of a machine do.
    cluster.daemon(&host).pause();
    hanging.pause();
    cluster.wait_for_restart(&id, 1);
    cluster.daemon(&host).resume();
    hanging.resume();
    until("the worker that came back is gone", || {
        (!cluster.workers().contains(&hanging)).then_some(())
    });
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
    cluster.wait_for_free_slots(2);
}

#[test]
fn a_job_manager_that_hangs_for_long_costs_a_restart_at_most() {
    let mut cluster = impatient(1, 2);
    let torture = Torture::new().records(9_000).rate(1_500).output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    until("records are committed", || (torture.committed() > 0).then_some(()));
    cluster.daemon("jobmanager").pause();
    let watch = Stopwatch::start();
    let list = cluster.streamctl(&["list", "--timeout", "2s"]);
    assert_eq!(list.code, 6, "{list:#?}");
    assert!(watch.elapsed() < Duration::from_secs(10), "{:?}", watch.elapsed());
    cluster.daemon("jobmanager").resume();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
}

/// A cluster that misses who hangs after a second.
fn impatient(task_managers: usize, slots: u32) -> Cluster {
    ClusterBuilder::new(task_managers, slots)
        .setting("heartbeat.interval", "100 ms")
        .setting("heartbeat.timeout", "1 s")
        .start()
}

/// The name of the task manager that started a worker.
fn host_of(cluster: &Cluster, worker: &Worker) -> String {
    let mut names = ["taskmanager-0", "taskmanager-1"].into_iter();
    let host = names.find(|name| {
        let announced = fs::read_to_string(cluster.path("daemons").join(format!("{name}.out"))).unwrap();
        announced.contains(&worker.task_manager)
    });
    host.unwrap().to_owned()
}

#[test]
fn one_job_that_fails_does_not_disturb_another() {
    let cluster = Cluster::start(1, 2);
    let good = cluster.submit_and_wait(&[], &Torture::new().rate(100).command());
    for misdeed in ["--panic-at", "--fail-at", "--exit-at", "--abort-at"] {
        let bad = Torture::new().argument(misdeed, "20").command();
        let ran = cluster.run(&["-D", "restart-strategy=none"], &bad);
        ran.refused(1, "SD-0405", "");
    }
    let job = cluster.job(&good);
    assert_eq!((job.state.as_str(), job.restarts), ("RUNNING", 0), "{job:?}");
    cluster.wait_for_free_slots(1);
    assert_eq!(cluster.workers().len(), 1);
}

#[test]
fn the_last_checkpoint_of_a_job_whose_job_manager_died_can_be_resumed() {
    let mut cluster = Cluster::start(1, 2);
    let output = cluster.path("output");
    let paced = Torture::new().records(20_000).rate(1_500).output(output.clone());
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &paced.command());
    until("records are committed", || (paced.committed() > 0).then_some(()));
    let port = format!("jobmanager.rpc.port={}", cluster.address().rsplit(':').next().unwrap());
    cluster.daemon("jobmanager").kill();
    // Without their job manager the workers cannot commit any more, and end.
    cluster.wait_for_no_workers();
    cluster.start_daemon("jobmanager-again", &["jobmanager", "-D", &port]);
    cluster.wait_until_ready(1);
    let checkpoint = latest_checkpoint(&cluster.path("data/checkpoints").join(&id)).unwrap();
    let unpaced = Torture::new().records(20_000).output(output);
    let arguments = ["-p", "2", "-s", checkpoint.to_str().unwrap()];
    cluster.run(&arguments, &unpaced.command()).succeeded();
    unpaced.assert_complete(20_000);
}

/// The checkpoint with the greatest number that is complete.
fn latest_checkpoint(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let numbered = entries.map(|entry| entry.path()).filter_map(|path| {
        let number: u64 = path.file_name()?.to_str()?.strip_prefix("chk-")?.parse().ok()?;
        path.join("_metadata").is_file().then_some((number, path))
    });
    numbered.max().map(|(_, path)| path)
}

#[test]
fn a_task_manager_that_is_asked_to_end_hands_its_job_over() {
    let mut cluster = Cluster::start(2, 1);
    let torture = Torture::new().records(6_000).rate(1_500).output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &torture.command());
    until("records are committed", || (torture.committed() > 0).then_some(()));
    let host = host_of(&cluster, &cluster.workers()[0]);
    let status = cluster.daemon(&host).terminate();
    assert!(status.success(), "{status}");
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(6_000);
    assert_eq!(cluster.job(&id).restarts, 1);
}

#[test]
fn a_job_without_checkpoints_is_not_restarted_unless_it_wants_to() {
    let cluster = Cluster::start(1, 1);
    let id = cluster.submit_and_wait(&["-D", "restart-strategy=none"], &Torture::new().rate(100).command());
    cluster.workers()[0].kill();
    let job = cluster.wait_for(&id, "FAILED");
    assert!(job.last_failure.contains("SIGKILL"), "{job:?}");
}

#[test]
fn a_job_moves_to_a_standby_when_its_task_manager_dies() {
    let mut cluster = Cluster::start(1, 2);
    let torture = Torture::new()
        .records(12_000)
        .rate(1_500)
        .output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    until("records are committed", || (torture.committed() > 0).then_some(()));
    cluster.add_task_manager();
    cluster.wait_until_ready(2);
    let before = cluster.workers();
    let watch = Stopwatch::start();
    cluster.daemon("taskmanager-0").kill();
    cluster.wait_for_restart(&id, 1);
    println!("from a killed task manager to RUNNING again: {:?}", watch.elapsed());
    // The workers of the dead do not live on.
    until("the workers of the dead task manager are gone", || {
        let now = cluster.workers();
        before.iter().all(|worker| !now.contains(worker)).then_some(())
    });
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(12_000);
    assert_eq!(cluster.job(&id).restarts, 1);
}
