//! Processes that die: the job goes on from its last checkpoint, and no record is lost or counted twice.

use std::fs;
use std::time::Duration;

use system::files::files_below;
use system::wait::{Stopwatch, at_once};
use system::{Cluster, ClusterBuilder, Gate, Torture, until};

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
    let held = 4_000 + 1_500 * kills();
    let records = held + 1_000;
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(records).rate(1_500).held_at(held, &gate);
    let torture = torture.output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    for restarts in 1..=kills() {
        let moment = wait_for_a_moment(&cluster, &id, restarts, || torture.committed() == held);
        let workers = cluster.workers_of(&id);
        let watch = Stopwatch::start();
        workers[restarts as usize % workers.len()].kill();
        cluster.wait_for_restart(&id, restarts);
        println!("killed {moment}, RUNNING again after {:?}", watch.elapsed());
    }
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(records);
    cluster.wait_for_no_workers();
}

/// Waits for one of the moments at which a death hurts, in turn. Commits end when all that is free is committed.
fn wait_for_a_moment(cluster: &Cluster, id: &str, turn: u64, all_is_committed: impl Fn() -> bool) -> &'static str {
    match turn % 3 {
        0 => {
            let files = || files_below(&cluster.path("output"));
            let before = files();
            until("more records are committed", || {
                (files() != before || all_is_committed()).then_some("after a commit")
            })
        }
        1 => {
            let files = || files_below(&cluster.path("data/checkpoints").join(id));
            let before = files();
            until("a checkpoint is begun", || {
                (files() != before).then_some("in the midst of a checkpoint")
            })
        }
        _two => {
            let latest = || cluster.checkpoints(id).pop();
            let before = latest();
            until("a checkpoint is complete", || {
                (latest() != before).then_some("before a commit")
            })
        }
    }
}

#[test]
fn a_worker_that_hangs_is_replaced_and_cannot_come_back() {
    let cluster = impatient(2, 1);
    let (torture, gate) = Torture::held(&cluster, 9_000, 1_500);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    let hanging = cluster.worker_of(&id);
    hanging.pause();
    cluster.wait_for_restart(&id, 1);
    until("the worker that hangs is gone", || {
        (!cluster.workers().contains(&hanging)).then_some(())
    });
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
}

#[test]
fn a_task_manager_that_hangs_is_given_up_and_welcome_when_it_comes_back() {
    let mut cluster = impatient(2, 1);
    let (torture, gate) = Torture::held(&cluster, 9_000, 1_500);
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    let hanging = cluster.worker_of(&id);
    let host = cluster.name_of(&hanging.task_manager);
    // Both hang, as all processes of a machine do.
    cluster.daemon(&host).pause();
    hanging.pause();
    cluster.wait_for_restart(&id, 1);
    cluster.daemon(&host).resume();
    hanging.resume();
    until("the worker that came back is gone", || {
        (!cluster.workers().contains(&hanging)).then_some(())
    });
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
    cluster.wait_for_free_slots(2);
}

#[test]
fn a_job_manager_that_hangs_for_long_costs_a_restart_at_most() {
    let mut cluster = impatient(1, 2);
    let (torture, gate) = Torture::held(&cluster, 9_000, 1_500);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    cluster.daemon("jobmanager").pause();
    let list = at_once("`list` gives up", Duration::from_secs(10), || {
        cluster.streamctl(&["list", "--timeout", "2s"])
    });
    assert_eq!(list.code, 6, "{list:#?}");
    cluster.daemon("jobmanager").resume();
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
}

/// A cluster that misses who hangs after a second. On a machine that hangs as a whole it may miss anybody, any number of times.
fn impatient(task_managers: usize, slots: u32) -> Cluster {
    ClusterBuilder::new(task_managers, slots)
        .setting("heartbeat.interval", "100 ms")
        .setting("heartbeat.timeout", "1 s")
        // Who hangs does not hear that it is cancelled either.
        .setting("task.cancellation.timeout", "1 s")
        .setting("restart-strategy.fixed-delay.attempts", "1000000")
        .start()
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
    until("only the good job has a worker", || {
        (cluster.workers().len() == 1).then_some(())
    });
}

#[test]
fn the_last_checkpoint_of_a_job_whose_records_are_lost_can_be_resumed() {
    let mut cluster = Cluster::start(1, 2);
    let (paced, _gate) = Torture::held(&cluster, 9_000, 1_500);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &paced.command());
    paced.wait_for_commits(0);
    cluster.daemon("jobmanager").kill();
    fs::remove_dir_all(cluster.path("data/ha/jobs")).unwrap();
    cluster.start_job_manager_again();
    cluster.wait_until_ready(1);
    // Workers of a job that nobody knows are ended.
    cluster.wait_for_no_workers();
    let checkpoint = cluster.checkpoints(&id).pop().unwrap();
    let unpaced = Torture::new().records(9_000).output(cluster.path("output"));
    let arguments = ["-p", "2", "-s", checkpoint.to_str().unwrap()];
    cluster.run(&arguments, &unpaced.command()).succeeded();
    unpaced.assert_complete(9_000);
}

#[test]
fn a_task_manager_that_is_asked_to_end_hands_its_job_over() {
    let mut cluster = Cluster::start(2, 1);
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(6_000).rate(1_500).held_at(5_000, &gate);
    let torture = torture.output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    let host = cluster.name_of(&cluster.worker_of(&id).task_manager);
    let status = cluster.daemon(&host).terminate();
    assert!(status.success(), "{status}");
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(6_000);
    assert_eq!(cluster.job(&id).restarts, 1);
}

#[test]
fn a_job_without_checkpoints_is_not_restarted_unless_it_wants_to() {
    let cluster = Cluster::start(1, 1);
    let id = cluster.submit_and_wait(&["-D", "restart-strategy=none"], &Torture::new().rate(100).command());
    cluster.worker_of(&id).kill();
    let job = cluster.wait_for(&id, "FAILED");
    assert!(job.last_failure.contains("SIGKILL"), "{job:?}");
}

#[test]
fn a_job_moves_to_a_standby_when_its_task_manager_dies() {
    let mut cluster = Cluster::start(1, 2);
    let (torture, gate) = Torture::held(&cluster, 9_000, 1_500);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
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
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
    assert_eq!(cluster.job(&id).restarts, 1);
}
