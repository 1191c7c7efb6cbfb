//! Processes that die: the job goes on from its last checkpoint, and no record is lost or counted twice.

use system::wait::Stopwatch;
use system::{Cluster, Torture, until};

use crate::CHECKPOINTS;

#[test]
fn a_job_survives_the_death_of_each_of_its_workers() {
    let cluster = Cluster::start(2, 1);
    let torture = Torture::new()
        .records(12_000)
        .rate(1_500)
        .output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    for restarts in 1..=2 {
        let before = torture.committed();
        until("more records are committed", || {
            (torture.committed() > before).then_some(())
        });
        let workers = cluster.workers();
        let watch = Stopwatch::start();
        workers[restarts as usize % workers.len()].kill();
        cluster.wait_for_restart(&id, restarts);
        println!("from a killed worker to RUNNING again: {:?}", watch.elapsed());
    }
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(12_000);
    cluster.wait_for_no_workers();
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
