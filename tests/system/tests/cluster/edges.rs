//! The edges of a job's life: its first moments, its last, and many jobs at once.

use system::{Cluster, ClusterBuilder, Gate, Torture, until};

use crate::CHECKPOINTS;

#[test]
fn a_job_that_is_cancelled_while_it_starts_leaves_nothing() {
    let cluster = Cluster::start(2, 1);
    let application = Torture::new().rate(100).command();
    // The first time, the application has to be fetched too.
    for _ in 0..4 {
        let id = cluster.submit(&["-p", "2"], &application);
        cluster.streamctl(&["cancel", &id]).succeeded();
        cluster.wait_for(&id, "CANCELED");
        cluster.wait_for_no_workers();
        cluster.wait_for_free_slots(2);
    }
}

#[test]
fn subtasks_that_have_ended_stay_ended_through_failures_and_savepoints() {
    let cluster = Cluster::start(2, 2);
    let output = cluster.path("output");
    let records = 10_000;
    // Of the four splits, one stops half way: the others come to their ends, and with them two subtasks of three at least.
    let gate = Gate::closed(cluster.path("gate"));
    let paced = Torture::new().records(records).rate(2_500).output(output.clone());
    let paced = paced.held_at(records / 2, &gate).argument("--hold-split", "3");
    let id = cluster.submit_and_wait(&["-p", "3", "-D", CHECKPOINTS], &paced.command());
    until("two subtasks have come to their end", || {
        (paced.committed() == records * 7 / 8).then_some(())
    });
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    let saved = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]);
    cluster.wait_for(&id, "CANCELED");
    assert_eq!(paced.numbers().len() as u64, records * 7 / 8);
    let path = saved.to_str().unwrap();
    let unpaced = Torture::new().records(records).output(output);
    cluster.run(&["-p", "2", "-s", path], &unpaced.command()).succeeded();
    unpaced.assert_complete(records);
}

#[test]
fn a_death_after_the_last_commit_repeats_nothing() {
    let cluster = ClusterBuilder::new(2, 1)
        .setting("restart-strategy.fixed-delay.attempts", "100")
        .start();
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(1_000).rate(1_000).held_at(900, &gate);
    let torture = torture.output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    gate.open();
    until("everything is committed", || {
        (torture.committed() == 1_000).then_some(())
    });
    if let Some(worker) = cluster.workers().first() {
        worker.kill();
    }
    let job = cluster.wait_for(&id, "FINISHED");
    println!("{} restarts", job.restarts);
    torture.assert_complete(1_000);
}

#[test]
fn many_jobs_at_once_each_get_their_turn() {
    let cluster = Cluster::start(2, 2);
    let jobs: Vec<Torture> = (0..6)
        .map(|job| {
            Torture::new()
                .records(500)
                .output(cluster.path(&format!("output-{job}")))
        })
        .collect();
    let running: Vec<_> = jobs
        .iter()
        .map(|job| cluster.start_run(&["-p", "2", "-D", CHECKPOINTS], &job.command()))
        .collect();
    for running in running {
        running.finish().succeeded();
    }
    jobs.iter().for_each(|job| job.assert_complete(500));
    let listed = cluster.jobs();
    assert_eq!(listed.len(), 6);
    assert!(listed.iter().all(|(_, job)| job.state == "FINISHED"), "{listed:?}");
    cluster.wait_for_free_slots(4);
}
