//! Several clusters on one machine.

use system::{ClusterBuilder, Gate, Torture};

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
