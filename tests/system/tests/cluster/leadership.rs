//! Several job managers: one leads, the others wait and say who it is, and whoever led before can do nothing any more.

use servers::moto;
use system::wait::Stopwatch;
use system::{Cluster, ClusterBuilder, Gate, Torture, until};

use crate::CHECKPOINTS;

/// Records of the jobs here, of which the last thousand wait at a gate.
const RECORDS: u64 = 9_000;

/// A cluster whose job managers find out by themselves who leads.
fn elected(task_managers: usize) -> ClusterBuilder {
    ClusterBuilder::new(task_managers, 1)
        .setting("high-availability.type", "object-store")
        .setting("high-availability.object-store.leader-election.lease-duration", "2 s")
        .setting(
            "high-availability.object-store.leader-election.renew-deadline",
            "1500 ms",
        )
        .setting("high-availability.object-store.leader-election.retry-period", "200 ms")
        // A leader that hangs is missed by those who talk to it.
        .setting("heartbeat.interval", "100 ms")
        .setting("heartbeat.timeout", "2 s")
        .setting("restart-strategy.fixed-delay.attempts", "1000000")
}

fn held(cluster: &Cluster) -> (Torture, Gate) {
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new()
        .records(RECORDS)
        .rate(1_000)
        .held_at(RECORDS - 1_000, &gate);
    (torture.output(cluster.path("output")), gate)
}

fn committed(torture: &Torture, more_than: u64) -> u64 {
    until("more records are committed", || {
        Some(torture.committed()).filter(|committed| *committed > more_than)
    })
}

/// Starts one more job manager, and waits until it knows that it is a standby. Returns its address.
fn add_standby(cluster: &mut Cluster, name: &str) -> String {
    cluster.start_daemon(name, &["jobmanager"]);
    let log = |cluster: &mut Cluster| cluster.daemon(name).log();
    until("the job manager waits", || {
        let log = log(cluster);
        let (_, rest) = log.split_once("waits as a standby unless it is elected address=\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    })
}

/// Waits until another job manager leads than the one at this address.
fn another_leads(cluster: &Cluster, than: &str) -> String {
    until("another job manager leads", || {
        Some(cluster.address()).filter(|address| address != than)
    })
}

fn epoch(cluster: &Cluster, id: &str) -> u64 {
    cluster.status(id)["leader_epoch"].as_u64().unwrap()
}

#[test]
fn a_standby_takes_the_jobs_over_when_the_leader_is_killed_and_they_run_on() {
    let mut cluster = elected(2).start();
    let standby = add_standby(&mut cluster, "standby");
    let (torture, gate) = held(&cluster);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    let before = committed(&torture, 0);
    // Whoever asks the standby is sent on.
    let leader = cluster.address();
    let listed = cluster.streamctl(&["list", "-m", &standby]).succeeded();
    assert!(listed.stdout.contains(&id), "{listed:#?}");
    let workers = cluster.workers_of(&id).len();
    cluster.daemon("jobmanager").kill();
    let watch = Stopwatch::start();
    assert_eq!(another_leads(&cluster, &leader), standby);
    committed(&torture, before);
    println!("from a killed leader to the next commit: {:?}", watch.elapsed());
    let job = cluster.wait_for_restart(&id, 0);
    assert_eq!((job.restarts, epoch(&cluster, &id)), (0, 2), "{job:?}");
    assert_eq!(cluster.workers_of(&id).len(), workers);
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
    assert_eq!(cluster.job(&id).restarts, 0);
}

/// I6.
#[test]
fn a_leader_that_was_stopped_and_goes_on_does_nothing_any_more() {
    let mut cluster = elected(2).start();
    let standby = add_standby(&mut cluster, "standby");
    let (torture, gate) = held(&cluster);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    let before = committed(&torture, 0);
    let leader = cluster.address();
    cluster.daemon("jobmanager").pause();
    assert_eq!(another_leads(&cluster, &leader), standby);
    let job = cluster.wait_for_restart(&id, 0);
    assert_eq!(job.state, "RUNNING", "{job:?}");
    let before = committed(&torture, before);
    cluster.daemon("jobmanager").resume();
    let status = cluster.daemon("jobmanager").ended();
    assert_eq!(status.code(), Some(6), "{}", cluster.daemon("jobmanager").log());
    assert!(before < RECORDS);
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
    assert_eq!(epoch(&cluster, &id), 2);
}

#[test]
fn a_leader_that_is_asked_to_end_hands_its_jobs_over() {
    let mut cluster = elected(1).start();
    let standby = add_standby(&mut cluster, "standby");
    let (torture, gate) = held(&cluster);
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &torture.command());
    let before = committed(&torture, 0);
    let leader = cluster.address();
    let status = cluster.daemon("jobmanager").terminate();
    assert!(status.success(), "{status}");
    until("the standby leads", || {
        let log = cluster.daemon("standby").log();
        log.contains("elected leader").then_some(())
    });
    assert_eq!(another_leads(&cluster, &leader), standby);
    committed(&torture, before);
    let job = cluster.wait_for_restart(&id, 0);
    assert_eq!(job.restarts, 0, "{job:?}");
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
}

/// Of two that start at once one leads, and the other sends clients to it; when the first is gone, it leads.
fn two_at_once(mut cluster: Cluster) {
    for name in ["one", "other"] {
        cluster.start_daemon(name, &["jobmanager"]);
    }
    cluster.add_task_manager();
    let leader = cluster.address();
    cluster.wait_until_ready(1);
    let leads = |cluster: &mut Cluster, name: &str| cluster.daemon(name).log().contains("elected leader");
    let (first, second) = match leads(&mut cluster, "one") {
        true => ("one", "other"),
        false => ("other", "one"),
    };
    assert!(leads(&mut cluster, first) && !leads(&mut cluster, second));
    cluster.daemon(first).kill();
    another_leads(&cluster, &leader);
    cluster.wait_until_ready(1);
    assert!(leads(&mut cluster, second));
}

#[test]
fn of_job_managers_that_start_at_once_one_leads() {
    two_at_once(elected(1).unstarted());
}

#[test]
fn of_job_managers_that_start_at_once_on_s3_one_leads() {
    let server = moto::start();
    let cluster = elected(1)
        .setting("s3.endpoint", &server.url())
        .setting("s3.access-key", "streamd-test")
        .setting("s3.secret-key", "a-secret-of-this-test")
        .setting("high-availability.storageDir", &format!("s3://{}/ha", moto::BUCKET))
        .setting("state.checkpoints.dir", &format!("s3://{}/checkpoints", moto::BUCKET));
    two_at_once(cluster.unstarted());
}

#[test]
fn what_is_not_built_is_refused_with_what_is() {
    let mut cluster = ClusterBuilder::new(1, 1)
        .setting("high-availability.type", "kubernetes")
        .unstarted();
    let status = cluster.start_daemon("jobmanager", &["jobmanager"]).ended();
    assert_eq!(status.code(), Some(2));
    let log = cluster.daemon("jobmanager").log();
    assert!(log.contains("SD-0706") && log.contains("object-store"), "{log}");
}
