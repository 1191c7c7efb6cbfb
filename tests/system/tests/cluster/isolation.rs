//! Several clusters on one machine.

use system::files::text;
use system::{ClusterBuilder, Gate, Torture, Worker, until};

use crate::CHECKPOINTS;

#[test]
fn two_clusters_on_one_machine_do_not_disturb_each_other() {
    let (one, mut other) = ClusterBuilder::new(1, 1).start_two();
    assert_ne!(one.address(), other.address());
    let gate = Gate::closed(one.path("gate"));
    let torture = Torture::new().records(4_000).rate(2_000).held_at(3_000, &gate);
    let torture = torture.output(one.path("output"));
    let id = one.submit_and_wait(&["-D", CHECKPOINTS], &torture.command());
    let others = other.submit_and_wait(&["-D", CHECKPOINTS], &Torture::new().rate(10).command());
    assert_eq!((one.jobs().len(), other.jobs().len()), (1, 1));
    other.streamctl(&["cancel", &id]).refused(3, "SD-0401", &id);
    let address = other.address();
    let listed = one.streamctl(&["-m", &address, "list"]).succeeded();
    assert!(listed.stdout.contains(&others), "{listed:#?}");

    for daemon in ["taskmanager-0", "jobmanager"] {
        other.daemon(daemon).kill();
    }
    other.wait_for_no_workers();
    gate.open();
    let job = one.wait_for(&id, "FINISHED");
    assert_eq!(job.restarts, 0, "{job:?}");
    torture.assert_complete(4_000);
}

#[test]
fn a_cluster_in_one_process_runs_jobs_and_takes_them_with_it() {
    let mut cluster = ClusterBuilder::new(0, 2).unstarted();
    cluster.start_daemon("local", &["local"]);
    cluster.wait_until_ready(1);
    let torture = Torture::new().records(1_000).output(cluster.path("output"));
    cluster.run(&["-p", "2"], &torture.command()).succeeded();
    torture.assert_complete(1_000);
    cluster.submit_and_wait(&["-p", "2"], &Torture::new().rate(10).command());
    let status = cluster.daemon("local").terminate();
    assert!(status.success(), "{status}");
    assert!(cluster.workers().is_empty(), "{:?}", cluster.workers());
}

#[test]
fn a_second_cluster_never_writes_into_the_folder_of_checkpoints_of_the_first_unless_it_is_released() {
    let (mut one, mut other) = ClusterBuilder::new(1, 3).start_two();
    let folder = one.place("data/checkpoints");
    let setting = format!("execution.checkpointing.dir={folder}");
    let endless = Torture::new().rate(100).command();
    let id = one.submit_and_wait(&["-D", CHECKPOINTS], &endless);
    until("a checkpoint is complete", || one.checkpoints(&id).pop());

    // One job of the other cluster, then its job manager.
    let theirs = one.place("data/ha");
    let refused = other.run(&["-d", "-D", CHECKPOINTS, "-D", &setting], &endless);
    refused.refused(4, "SD-0521", &theirs);
    assert!(other.jobs().is_empty());
    // Without checkpoints nothing is written there.
    other.submit_and_wait(&["-D", &setting], &endless);
    // A third, that begins with it.
    let [data, pid] = ["process.working-dir", "env.pid.dir"].map(|key| format!("{key}={}", other.place("third")));
    let third = other.start_daemon("third", &["jobmanager", "-D", &setting, "-D", &data, "-D", &pid]);
    let status = third.ended();
    assert_eq!(status.code(), Some(4), "{}", third.log());
    assert!(third.log().contains("[SD-0521]"), "{}", third.log());

    // A fork over the border is told that it may come too late: not while the first job stands still.
    let workers = one.workers_of(&id);
    workers.iter().for_each(Worker::pause);
    let path = until("a checkpoint is there when a job starts from it", || {
        let path = text(&one.checkpoints(&id).pop()?);
        let ran = other.run(&["-d", "-s", &path], &endless);
        (ran.code == 0).then_some(ran)
    });
    workers.iter().for_each(Worker::resume);
    assert!(
        path.stderr.contains("warning: ") && path.stderr.contains(&theirs),
        "{path:#?}"
    );

    // The first comes back to what is its own.
    one.daemon("jobmanager").terminate();
    let again = one.start_daemon("jobmanager-again", &["jobmanager"]);
    assert!(!again.has_ended());
    one.wait_until_ready(1);
    one.submit_and_wait(&["-D", CHECKPOINTS], &endless);
    let listed = other.streamctl(&["fsck", &folder, "--older-than", "1ms", "--output", "json"]);
    assert_eq!(listed.objects().last().unwrap()["foreign"]["objects"], 0, "{listed:#?}");

    let ran = other.streamctl(&["checkpoint", "release", &folder]);
    assert_eq!(ran.code, 2, "it was not confirmed: {ran:#?}");
    let ran = other
        .streamctl(&["checkpoint", "release", &folder, "--yes"])
        .succeeded();
    assert!(ran.stdout.contains(&theirs), "{ran:#?}");
    other.submit_and_wait(&["-D", CHECKPOINTS, "-D", &setting], &endless);
}
