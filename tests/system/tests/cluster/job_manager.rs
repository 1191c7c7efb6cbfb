//! Job managers that die, end or come back: their jobs go on, those that have ended never do.

use system::wait::Stopwatch;
use system::{Cluster, ClusterBuilder, Torture, Worker, until};

use crate::CHECKPOINTS;

/// Records of the jobs here, of which the last thousand wait at a gate.
const RECORDS: u64 = 9_000;

/// Starts the job manager again where it was, and waits until this many task managers are back.
fn restart(cluster: &mut Cluster, task_managers: usize) {
    cluster.start_job_manager_again();
    cluster.wait_until_ready(task_managers);
}

/// The workers of a job, as they are called and where they run.
fn identities(cluster: &Cluster, id: &str) -> Vec<Worker> {
    let mut workers = cluster.workers_of(id);
    workers.sort_by_key(|worker| worker.process_id);
    workers
}

#[test]
fn a_job_goes_on_with_its_workers_when_its_job_manager_is_killed() {
    let mut cluster = Cluster::start(2, 1);
    let (torture, gate) = Torture::held(&cluster, RECORDS, 1_500);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    let before = torture.wait_for_commits(0);
    let workers = identities(&cluster, &id);
    assert_eq!(workers.len(), 2);
    cluster.daemon("jobmanager").kill();
    let watch = Stopwatch::start();
    restart(&mut cluster, 2);
    torture.wait_for_commits(before);
    println!("from a killed job manager to the next commit: {:?}", watch.elapsed());
    let job = cluster.wait_for_restart(&id, 0);
    assert_eq!((job.state.as_str(), job.restarts), ("RUNNING", 0), "{job:?}");
    assert_eq!(identities(&cluster, &id), workers);
    assert_eq!(cluster.free_slots(), 0);
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
    assert_eq!(cluster.job(&id).restarts, 0);
    cluster.wait_for_no_workers();
    cluster.wait_for_free_slots(2);
}

#[test]
fn a_job_survives_the_death_of_its_job_manager_and_of_a_worker_at_once() {
    let mut cluster = ClusterBuilder::new(2, 1)
        .setting("high-availability.reconciliation-timeout", "2 s")
        .start();
    let (torture, gate) = Torture::held(&cluster, RECORDS, 1_500);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    let worker = cluster.worker_of(&id);
    cluster.daemon("jobmanager").kill();
    worker.kill();
    restart(&mut cluster, 2);
    let job = cluster.wait_for_restart(&id, 1);
    assert_eq!(job.state, "RUNNING", "{job:?}");
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
    cluster.wait_for_no_workers();
    cluster.wait_for_free_slots(2);
}

#[test]
fn a_job_goes_on_from_its_last_checkpoint_when_its_job_manager_was_stopped_and_started() {
    let mut cluster = Cluster::start(1, 2);
    let (torture, gate) = Torture::held(&cluster, RECORDS, 1_500);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    let status = cluster.daemon("jobmanager").terminate();
    assert!(status.success(), "{status}");
    cluster.wait_for_no_workers();
    cluster.start_daemon("jobmanager-again", &["jobmanager"]);
    cluster.wait_until_ready(1);
    let job = cluster.wait_for_restart(&id, 1);
    assert_eq!(job.last_failure, "", "{job:?}");
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
}

/// I13: never from an older one, never without a word.
#[test]
fn a_job_whose_last_checkpoint_cannot_be_read_says_so_and_goes_on_once_it_can() {
    let mut cluster = Cluster::start(1, 2);
    let (torture, gate) = Torture::held(&cluster, RECORDS, 1_500);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    cluster.daemon("jobmanager").kill();
    let checkpoint = cluster.checkpoints(&id).pop().expect("a complete checkpoint");
    let (metadata, aside) = (checkpoint.join("_metadata"), checkpoint.join("aside"));
    std::fs::rename(&metadata, &aside).unwrap();
    restart(&mut cluster, 1);
    let status = cluster.status(&id);
    assert_eq!(status["state"], "INITIALIZING", "{status:#}");
    let told = status["failure_history"][0]["message"].as_str().unwrap_or_default();
    assert!(told.contains(checkpoint.to_str().unwrap()), "{status:#}");
    std::fs::rename(&aside, &metadata).unwrap();
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
}

/// RS26, RS27.
#[test]
fn a_job_that_has_ended_is_known_to_the_next_job_manager_and_does_not_run_again() {
    let mut cluster = Cluster::start(1, 2);
    let finished = cluster.submit(&["-D", CHECKPOINTS], &Torture::new().records(10).command());
    cluster.wait_for(&finished, "FINISHED");
    let canceled = cluster.submit_and_wait(&[], &Torture::new().rate(10).command());
    cluster.streamctl(&["cancel", &canceled]).succeeded();
    cluster.wait_for(&canceled, "CANCELED");
    let bad = Torture::new().argument("--panic-at", "2").command();
    let failed = cluster.submit(&["-D", "restart-strategy=none"], &bad);
    until("the job has failed", || {
        (cluster.job(&failed).state == "FAILED").then_some(())
    });
    let before = cluster.jobs();
    cluster.daemon("jobmanager").kill();
    restart(&mut cluster, 1);
    let after = cluster.jobs();
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert_eq!(after.len(), 3);
    assert!(cluster.workers().is_empty());
    let status = cluster.status(&failed);
    assert_eq!(status["state"], "FAILED", "{status:#}");
    cluster.wait_for_free_slots(2);
}

/// I11, I15: what follows a savepoint under way when its job manager dies is told by whoever comes next.
#[test]
fn a_savepoint_whose_job_manager_was_killed_is_followed_by_its_id() {
    let mut cluster = Cluster::start(1, 2);
    let (torture, gate) = Torture::held(&cluster, RECORDS, 1_500);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    let worker = cluster.worker_of(&id);
    // It cannot be complete while a worker stands still.
    worker.pause();
    let request = "0123456789abcdef0123456789abcdef";
    let place = cluster.place("savepoints");
    let detached = ["savepoint", &id, &place, "--request-id", request, "--detached"];
    cluster.streamctl(&detached).succeeded();
    cluster.daemon("jobmanager").kill();
    restart(&mut cluster, 1);
    worker.resume();
    let followed = cluster.streamctl(&["savepoint", "status", "--wait", request]);
    followed.refused(1, "SD-0509", "the job manager ended before it was complete");
    let job = cluster.wait_for_restart(&id, 0);
    assert_eq!(job.restarts, 0, "{job:?}");
    // The job takes savepoints as before.
    let savepoint = cluster.savepoint(&id, &place);
    assert!(savepoint.join("_metadata").is_file());
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
}

/// E25: whoever leads next goes on with it.
#[test]
fn a_cancellation_that_is_accepted_outlives_the_job_manager() {
    let mut cluster = Cluster::start(2, 1);
    let torture = Torture::new().rate(100);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    let workers = cluster.workers_of(&id);
    // It cannot end while its workers stand still.
    workers.iter().for_each(Worker::pause);
    cluster.streamctl(&["cancel", &id]).succeeded();
    assert_eq!(cluster.job(&id).state, "CANCELLING");
    cluster.daemon("jobmanager").kill();
    workers.iter().for_each(Worker::resume);
    restart(&mut cluster, 2);
    cluster.wait_for(&id, "CANCELED");
    assert_eq!(cluster.job(&id).restarts, 0);
    cluster.wait_for_no_workers();
    cluster.wait_for_free_slots(2);
}
