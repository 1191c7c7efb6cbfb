//! `taskmanager drain`: jobs move off a task manager before somebody stops it, and no record is lost or repeated.

use system::{Cluster, ClusterBuilder, Gate, Torture, until};

use crate::CHECKPOINTS;

/// 9,000 records, of which the last 1,000 wait at a gate.
fn held(cluster: &Cluster) -> (Torture, Gate) {
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(9_000).rate(1_500).held_at(8_000, &gate);
    (torture.output(cluster.path("output")), gate)
}

#[test]
fn a_job_moves_off_a_task_manager_that_is_drained_and_nothing_is_repeated() {
    // A move is no failure: none would be allowed.
    let mut cluster = ClusterBuilder::new(2, 2)
        .setting("restart-strategy.type", "none")
        .start();
    let (torture, gate) = held(&cluster);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    until("records are committed", || (torture.committed() > 0).then_some(()));
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
    let name = ["taskmanager-0", "taskmanager-1"].into_iter().find(|name| {
        let output = cluster.path("daemons").join(format!("{name}.out"));
        std::fs::read_to_string(output).unwrap().contains(&leaving)
    });
    cluster.daemon(name.unwrap()).terminate();
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
    let listed = cluster
        .streamctl(&["taskmanager", "list", "--output", "json"])
        .succeeded();
    let rows = listed.objects();
    let row = rows.iter().find(|row| row["id"] == task_manager.as_str()).unwrap();
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
