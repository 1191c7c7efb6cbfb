//! Deaths that come together, or in the midst of something: the job recovers from each, or ends as it was told to.

use system::wait::Stopwatch;
use system::{Cluster, ClusterBuilder, Torture, until};

use crate::CHECKPOINTS;

/// A cluster whose jobs restart as often as a test kills something, at once.
fn patient(task_managers: usize, slots: u32) -> Cluster {
    ClusterBuilder::new(task_managers, slots)
        .setting("restart-strategy.fixed-delay.attempts", "1000000")
        .start()
}

/// The name of the task manager that started the workers whose records say this id.
fn daemon_of(cluster: &Cluster, task_manager: &str) -> String {
    let announced = |name: &str| {
        let output = cluster.path("daemons").join(format!("{name}.out"));
        std::fs::read_to_string(output).is_ok_and(|text| text.contains(task_manager))
    };
    let mut names = (0..).map(|number| format!("taskmanager-{number}")).take(9);
    names.find(|name| announced(name)).expect("some daemon has this id")
}

#[test]
fn a_standby_takes_over_from_a_task_manager_that_dies() {
    // Flink's default: the first loss waits for nothing.
    let mut cluster = ClusterBuilder::new(2, 1)
        .setting("restart-strategy.type", "exponential-delay")
        .start();
    let (torture, gate) = Torture::held(&cluster, 9_000, 1_500);
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    let worker = cluster.worker_of(&id);
    let daemon = daemon_of(&cluster, &worker.task_manager);
    let standby = if daemon == "taskmanager-0" {
        "taskmanager-1"
    } else {
        "taskmanager-0"
    };
    until("the standby has the application", || {
        let log = cluster.daemon(standby).log();
        log.contains("fetched application").then_some(())
    });
    let watch = Stopwatch::start();
    // As a machine does that loses its power.
    worker.kill();
    cluster.daemon(&daemon).kill();
    cluster.wait_for_restart(&id, 1);
    println!("a task manager died, RUNNING again after {:?}", watch.elapsed());
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
    let history = cluster.status(&id)["failure_history"].clone();
    assert_eq!(history[0]["class"], "external", "{history}");
    assert_eq!(history[0]["restart_delay_ms"], 0, "{history}");
    cluster.wait_for_no_workers();
}

#[test]
fn workers_and_task_managers_that_die_together_cost_no_record() {
    let mut cluster = patient(3, 1);
    let (torture, gate) = Torture::held(&cluster, 9_000, 1_500);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    let restarts = |cluster: &Cluster| cluster.job(&id).restarts;

    // All workers of the job.
    let before = restarts(&cluster);
    cluster.workers_of(&id).iter().for_each(system::Worker::kill);
    cluster.wait_for_restart(&id, before + 1);

    // A worker, and the task manager of the other.
    let before = restarts(&cluster);
    let workers = cluster.workers_of(&id);
    let daemon = daemon_of(&cluster, &workers[1].task_manager);
    workers[0].kill();
    cluster.daemon(&daemon).kill();
    cluster.wait_for_restart(&id, before + 1);

    // A worker, and the task manager of the same, while there is no other room; a new one comes.
    let before = restarts(&cluster);
    let worker = cluster.worker_of(&id);
    let daemon = daemon_of(&cluster, &worker.task_manager);
    worker.kill();
    cluster.daemon(&daemon).kill();
    until("the job restarts", || {
        (restarts(&cluster) > before || cluster.job(&id).state != "RUNNING").then_some(())
    });
    cluster.add_task_manager();
    cluster.wait_for_restart(&id, before + 1);

    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
    cluster.wait_for_no_workers();
}

#[test]
fn a_worker_that_dies_while_its_job_restarts_costs_no_record() {
    let cluster = patient(2, 1);
    let (torture, gate) = Torture::held(&cluster, 9_000, 1_500);
    let settings = [
        "-p",
        "2",
        "-D",
        CHECKPOINTS,
        "-D",
        "restart-strategy.fixed-delay.delay=300 ms",
    ];
    let id = cluster.submit_and_wait(&settings, &torture.command());
    torture.wait_for_commits(0);
    let workers = cluster.workers_of(&id);
    workers[0].kill();
    cluster.wait_for(&id, "RESTARTING");
    workers[1].kill();
    cluster.wait_for_restart(&id, 1);
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
}

#[test]
fn a_worker_that_dies_during_a_savepoint_fails_the_savepoint_and_not_the_job() {
    let cluster = patient(2, 1);
    let (torture, gate) = Torture::held(&cluster, 9_000, 1_500);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    // It can neither write its part nor say so: the savepoint is under way until it dies.
    let stopped = cluster.worker_of(&id);
    stopped.pause();
    let folder = cluster.place("savepoints");
    let asked = cluster.start_streamctl(&["savepoint", &id, &folder]);
    until("the savepoint is under way", || {
        let listed = cluster
            .streamctl(&["savepoint", "list", "--output", "json"])
            .succeeded();
        (!listed.objects().is_empty()).then_some(())
    });
    stopped.kill();
    let told = asked.finish();
    assert_eq!(told.code, 1, "{told:#?}");
    assert!(told.stderr.contains("[SD-0509]"), "{told:#?}");
    cluster.wait_for_restart(&id, 1);
    cluster.savepoint(&id, &folder);
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(9_000);
}

#[test]
fn a_job_that_is_being_cancelled_is_cancelled_whatever_dies() {
    let mut cluster = patient(2, 1);
    for kills_task_manager in [false, true] {
        // Neither hears that it is cancelled: CANCELLING lasts.
        let id = cluster.submit_and_wait(&["-p", "2"], &Torture::new().rate(100).command());
        let workers = cluster.workers_of(&id);
        workers.iter().for_each(system::Worker::pause);
        let asked = cluster.start_streamctl(&["cancel", &id]);
        cluster.wait_for(&id, "CANCELLING");
        let daemon = daemon_of(&cluster, &workers[0].task_manager);
        workers.iter().for_each(system::Worker::kill);
        if kills_task_manager {
            cluster.daemon(&daemon).kill();
        }
        cluster.wait_for(&id, "CANCELED");
        asked.finish().succeeded();
        cluster.wait_for_no_workers();
    }
}
