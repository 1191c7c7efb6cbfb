//! Jobs move off a task manager before somebody stops it, or when somebody does, and no record is lost or repeated.

use std::time::Duration;

use serde_json::Value;
use system::wait::within;
use system::{Cluster, ClusterBuilder, Gate, Torture, until};

use crate::CHECKPOINTS;

/// What `taskmanager list` says of a task manager.
fn listed(cluster: &Cluster, id: &str) -> Value {
    let listed = cluster
        .streamctl(&["taskmanager", "list", "--output", "json"])
        .succeeded();
    let found = listed.objects().into_iter().find(|row| row["id"] == id);
    found.unwrap_or_else(|| panic!("task manager `{id}` is not listed"))
}

/// Task managers that wait longer for their jobs to move than any test waits for them to end.
fn patient(task_managers: usize, slots: u32) -> ClusterBuilder {
    ClusterBuilder::new(task_managers, slots)
        .setting("taskmanager.shutdown.drain-timeout", "1 h")
        .setting("restart-strategy.type", "none")
}

/// A job with some records committed.
fn running(cluster: &Cluster, parallelism: &str) -> (String, Torture, Gate) {
    let (torture, gate) = Torture::held(cluster, 9_000, 1_500);
    let id = cluster.submit_and_wait(&["-p", parallelism, "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    (id, torture, gate)
}

/// Starts the job manager again where it was, and waits until this many task managers are back.
fn restart_job_manager(cluster: &mut Cluster, task_managers: usize) {
    cluster.daemon("jobmanager").kill();
    cluster.start_job_manager_again();
    let count = task_managers.to_string();
    // Slots of a drained one are not free, and are slots all the same.
    cluster
        .streamctl(&["cluster", "wait", "--task-managers", &count, "--timeout", "5min"])
        .succeeded();
}

/// No worker is left, and with one more task manager the job ends as it should.
fn assert_goes_on_elsewhere(cluster: &mut Cluster, id: &str, (torture, gate): (Torture, Gate)) {
    cluster.wait_for_no_workers();
    cluster.add_task_manager();
    cluster.wait_for_restart(id, 1);
    gate.open();
    cluster.wait_for(id, "FINISHED");
    torture.assert_complete(9_000);
}

#[test]
fn the_jobs_of_a_task_manager_that_is_asked_to_end_move_before_it_does() {
    let mut cluster = patient(2, 2).start();
    let (id, torture, gate) = running(&cluster, "2");
    let leaving = cluster.worker_of(&id).task_manager;
    let name = cluster.name_of(&leaving);
    let status = cluster.daemon(&name).terminate();
    assert!(status.success(), "{status}");
    let log = cluster.daemon(&name).log();
    assert!(log.contains("no job is left here"), "{log}");
    cluster.wait_for_restart(&id, 1);
    assert_ne!(cluster.worker_of(&id).task_manager, leaving);
    gate.open();
    let ended = cluster.wait_for(&id, "FINISHED");
    // No failure: none was allowed.
    assert_eq!((ended.restarts, ended.last_failure.as_str()), (1, ""), "{ended:?}");
    torture.assert_complete(9_000);
    cluster.wait_for_no_workers();
}

#[test]
fn a_task_manager_whose_jobs_have_nowhere_to_go_ends_with_them() {
    let mut cluster = patient(1, 1).setting("restart-strategy.type", "fixed-delay").start();
    let (id, torture, gate) = running(&cluster, "1");
    let status = cluster.daemon("taskmanager-0").terminate();
    assert!(status.success(), "{status}");
    let log = cluster.daemon("taskmanager-0").log();
    assert!(
        log.contains("do not move") && log.contains("0 are free elsewhere"),
        "{log}"
    );
    assert_goes_on_elsewhere(&mut cluster, &id, (torture, gate));
}

#[test]
fn task_managers_that_are_asked_to_end_together_do_not_wait_for_each_other() {
    let mut cluster = patient(2, 1).setting("restart-strategy.type", "fixed-delay").start();
    let (id, torture, gate) = running(&cluster, "1");
    let names = ["taskmanager-0", "taskmanager-1"];
    names.iter().for_each(|name| cluster.daemon(name).ask_to_end());
    for name in names {
        let status = cluster.daemon(name).ended();
        assert!(status.success(), "{name}: {status}");
    }
    assert_goes_on_elsewhere(&mut cluster, &id, (torture, gate));
}

#[test]
fn a_second_request_ends_the_wait_for_jobs_that_do_not_move() {
    let mut cluster = patient(2, 1).setting("restart-strategy.type", "fixed-delay").start();
    let (id, torture, gate) = running(&cluster, "1");
    let worker = cluster.worker_of(&id);
    let name = cluster.name_of(&worker.task_manager);
    // It takes no checkpoint to move with.
    worker.pause();
    cluster.daemon(&name).ask_to_end();
    until("the task manager waits", || {
        let row = listed(&cluster, &worker.task_manager);
        (row["stopping"].as_bool(), row["drained"].as_bool())
            .eq(&(Some(true), Some(true)))
            .then_some(())
    });
    let refused = cluster.streamctl(&["taskmanager", "undrain", &worker.task_manager]);
    refused.refused(4, "SD-0423", "it is stopping");
    // One that comes too soon after the first counts as the same.
    until("the task manager waits no longer", || {
        cluster.daemon(&name).ask_to_end();
        within(Duration::from_secs(5), || {
            let log = cluster.daemon(&name).log();
            log.contains("not waiting any longer").then_some(())
        })
    });
    let status = cluster.daemon(&name).ended();
    assert!(status.success(), "{status}");
    cluster.wait_for_restart(&id, 1);
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
    cluster.wait_for_no_workers();
}

#[test]
fn a_drain_is_not_forgotten_when_the_job_manager_dies_before_the_job_has_moved() {
    let mut cluster = ClusterBuilder::new(2, 1).start();
    let (id, torture, gate) = running(&cluster, "1");
    let worker = cluster.worker_of(&id);
    let leaving = worker.task_manager.clone();
    // No checkpoint is complete while it stands still.
    worker.pause();
    let drain = cluster.start_streamctl(&["taskmanager", "drain", &leaving]);
    let name = cluster.name_of(&leaving);
    until("the task manager knows that it is drained", || {
        let log = cluster.daemon(&name).log();
        log.contains("is_drained=true").then_some(())
    });
    restart_job_manager(&mut cluster, 2);
    // It had asked the job manager that is gone.
    drain.interrupt();
    drain.finish();
    worker.resume();
    cluster.wait_for_restart(&id, 1);
    assert_ne!(cluster.worker_of(&id).task_manager, leaving);
    let row = listed(&cluster, &leaving);
    assert_eq!(
        (row["drained"].as_bool(), row["free_slots"].as_u64()),
        (Some(true), Some(0)),
        "{row}"
    );
    cluster.streamctl(&["taskmanager", "undrain", &leaving]).succeeded();
    cluster.wait_for_free_slots(1);
    gate.open();
    let ended = cluster.wait_for(&id, "FINISHED");
    assert_eq!((ended.restarts, ended.last_failure.as_str()), (1, ""), "{ended:?}");
    torture.assert_complete(9_000);
}

#[test]
fn nobody_gets_a_slot_of_a_drained_task_manager_from_the_next_job_manager() {
    let mut cluster = Cluster::start(1, 1);
    let id = cluster
        .streamctl(&["taskmanager", "list", "--output", "json"])
        .succeeded()
        .objects()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    cluster.streamctl(&["taskmanager", "drain", &id]).succeeded();
    until("the task manager knows that it is drained", || {
        let log = cluster.daemon("taskmanager-0").log();
        log.contains("is_drained=true").then_some(())
    });
    restart_job_manager(&mut cluster, 1);
    let job = cluster.submit(&["-D", "slot.request.timeout=1 h"], &Torture::new().rate(100).command());
    cluster.wait_for(&job, "RUNNING");
    assert!(cluster.workers_of(&job).is_empty());
    cluster.streamctl(&["taskmanager", "undrain", &id]).succeeded();
    cluster.wait_for_restart(&job, 0);
}

#[test]
fn a_job_moves_off_a_task_manager_that_is_drained_and_nothing_is_repeated() {
    // A move is no failure: none would be allowed.
    let mut cluster = ClusterBuilder::new(2, 2)
        .setting("restart-strategy.type", "none")
        .start();
    let (id, torture, gate) = running(&cluster, "2");
    let leaving = cluster.worker_of(&id).task_manager;
    let drained = cluster.streamctl(&["taskmanager", "drain", &leaving]).succeeded();
    assert!(
        drained.stdout.ends_with(&format!("Drained task manager {leaving}.\n")),
        "{drained:#?}"
    );
    cluster.wait_for_restart(&id, 1);
    let workers = cluster.workers_of(&id);
    assert!(
        workers.iter().all(|worker| worker.task_manager != leaving),
        "{workers:?}"
    );
    // It can go now: nobody notices.
    let name = cluster.name_of(&leaving);
    cluster.daemon(&name).terminate();
    gate.open();
    let ended = cluster.wait_for(&id, "FINISHED");
    assert_eq!((ended.restarts, ended.last_failure.as_str()), (1, ""), "{ended:?}");
    torture.assert_complete(9_000);
    cluster.wait_for_no_workers();
}

#[test]
fn a_task_manager_whose_jobs_have_nowhere_to_go_is_not_drained() {
    let mut cluster = Cluster::start(2, 1);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &Torture::new().rate(100).command());
    let task_manager = cluster.worker_of(&id).task_manager;
    let drain = ["taskmanager", "drain", task_manager.as_str()];
    cluster
        .streamctl(&drain)
        .refused(4, "SD-0423", "1 slots there, and 0 are free elsewhere");
    assert_eq!(
        (cluster.job(&id).state.as_str(), cluster.job(&id).restarts),
        ("RUNNING", 0)
    );
    cluster
        .streamctl(&["taskmanager", "drain", "nobody"])
        .refused(3, "SD-0424", "nobody");
    // With room elsewhere, it is.
    cluster.add_task_manager();
    cluster.wait_until_ready(3);
    cluster.streamctl(&drain).succeeded();
    let row = listed(&cluster, &task_manager);
    assert_eq!(
        (row["drained"].as_bool(), row["free_slots"].as_u64()),
        (Some(true), Some(0)),
        "{row}"
    );
    // Nobody gets a slot there before it is in use again.
    let other = cluster.submit(&["-D", "slot.request.timeout=1 h"], &Torture::new().rate(100).command());
    cluster.wait_for(&other, "RUNNING");
    assert!(cluster.workers_of(&other).is_empty());
    cluster
        .streamctl(&["taskmanager", "undrain", &task_manager])
        .succeeded();
    cluster.wait_for_restart(&other, 0);
    assert_eq!(cluster.worker_of(&other).task_manager, task_manager);
}
