//! Several job managers: one leads, the others wait and say who it is, and whoever led before can do nothing any more. Elected in both
//! ways: by signs of life in the store, and by a Lease of Kubernetes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use servers::{Fault, Kubernetes, Line, Proxy, moto};
use system::wait::Stopwatch;
use system::{Cluster, ClusterBuilder, Torture, until};

use crate::CHECKPOINTS;

/// Records of the jobs here, of which the last thousand wait at a gate.
const RECORDS: u64 = 9_000;

/// After so long a standby takes the place of a leader that gives no sign of life.
const LEASE: Duration = Duration::from_secs(2);

/// A cluster whose job managers find out by themselves who leads.
fn elected(kind: &str, task_managers: usize) -> ClusterBuilder {
    let time = |name: &str| format!("high-availability.{kind}.leader-election.{name}");
    ClusterBuilder::new(task_managers, 1)
        .setting("high-availability.type", kind)
        .setting(&time("lease-duration"), &format!("{} s", LEASE.as_secs()))
        .setting(&time("renew-deadline"), "1500 ms")
        .setting(&time("retry-period"), "200 ms")
        // A leader that hangs is missed by those who talk to it.
        .setting("heartbeat.interval", "100 ms")
        .setting("heartbeat.timeout", "2 s")
        .setting("restart-strategy.fixed-delay.attempts", "1000000")
}

fn by_object_store(task_managers: usize) -> ClusterBuilder {
    elected("object-store", task_managers)
}

fn by_kubernetes(task_managers: usize) -> ClusterBuilder {
    by_kubernetes_at(Kubernetes::shared().address(), task_managers)
}

/// By a Lease of its own on the API server that is reached at this address.
fn by_kubernetes_at(address: SocketAddr, task_managers: usize) -> ClusterBuilder {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    let server = Kubernetes::shared();
    let mut cluster = elected("kubernetes", task_managers)
        .setting(
            "kubernetes.cluster-id",
            &format!("test-{}-{number}", std::process::id()),
        )
        .setting("kubernetes.namespace", servers::kubernetes::NAMESPACE)
        .setting("kubernetes.api-server.url", &server.url(address));
    for (key, file) in [("ca-file", server.ca_file()), ("token-file", server.token_file())] {
        if let Some(file) = file {
            cluster = cluster.setting(&format!("kubernetes.api-server.{key}"), file.to_str().unwrap());
        }
    }
    cluster
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
    the_leader_is_killed(by_object_store(2).start());
}

#[test]
fn on_kubernetes_a_standby_takes_the_jobs_over_when_the_leader_is_killed_and_they_run_on() {
    the_leader_is_killed(by_kubernetes(2).start());
}

fn the_leader_is_killed(mut cluster: Cluster) {
    let standby = add_standby(&mut cluster, "standby");
    let (torture, gate) = Torture::held(&cluster, RECORDS, 1_000);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    let before = torture.wait_for_commits(0);
    // Whoever asks the standby is sent on.
    let leader = cluster.address();
    let listed = cluster.streamctl(&["list", "-m", &standby]).succeeded();
    assert!(listed.stdout.contains(&id), "{listed:#?}");
    let workers = cluster.workers_of(&id).len();
    cluster.daemon("jobmanager").kill();
    let watch = Stopwatch::start();
    assert_eq!(another_leads(&cluster, &leader), standby);
    torture.wait_for_commits(before);
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
    the_leader_is_stopped_and_goes_on(by_object_store(2).start());
}

/// I6.
#[test]
fn on_kubernetes_a_leader_that_was_stopped_and_goes_on_does_nothing_any_more() {
    the_leader_is_stopped_and_goes_on(by_kubernetes(2).start());
}

fn the_leader_is_stopped_and_goes_on(mut cluster: Cluster) {
    let standby = add_standby(&mut cluster, "standby");
    let (torture, gate) = Torture::held(&cluster, RECORDS, 1_000);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    let before = torture.wait_for_commits(0);
    let leader = cluster.address();
    cluster.daemon("jobmanager").pause();
    assert_eq!(another_leads(&cluster, &leader), standby);
    let job = cluster.wait_for_restart(&id, 0);
    assert_eq!(job.state, "RUNNING", "{job:?}");
    let before = torture.wait_for_commits(before);
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
    the_leader_is_asked_to_end(by_object_store(1).start());
}

#[test]
fn on_kubernetes_a_leader_that_is_asked_to_end_hands_its_jobs_over() {
    the_leader_is_asked_to_end(by_kubernetes(1).start());
}

fn the_leader_is_asked_to_end(mut cluster: Cluster) {
    let standby = add_standby(&mut cluster, "standby");
    let (torture, gate) = Torture::held(&cluster, RECORDS, 1_000);
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &torture.command());
    let before = torture.wait_for_commits(0);
    let leader = cluster.address();
    let status = cluster.daemon("jobmanager").terminate();
    assert!(status.success(), "{status}");
    until("the standby leads", || {
        let log = cluster.daemon("standby").log();
        log.contains("elected leader").then_some(())
    });
    assert_eq!(another_leads(&cluster, &leader), standby);
    torture.wait_for_commits(before);
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
    two_at_once(by_object_store(1).unstarted());
}

#[test]
fn on_kubernetes_of_job_managers_that_start_at_once_one_leads() {
    two_at_once(by_kubernetes(1).unstarted());
}

#[test]
fn of_job_managers_that_start_at_once_on_s3_one_leads() {
    let server = moto::start();
    let cluster = by_object_store(1)
        .setting("s3.endpoint", &server.url())
        .setting("s3.access-key", "streamd-test")
        .setting("s3.secret-key", "a-secret-of-this-test")
        .setting("high-availability.storageDir", &format!("s3://{}/ha", moto::BUCKET))
        .setting("state.checkpoints.dir", &format!("s3://{}/checkpoints", moto::BUCKET));
    two_at_once(cluster.unstarted());
}

fn waited_for(what: &str, cluster: &mut Cluster, daemon: &str, words: &str) {
    until(what, || cluster.daemon(daemon).log().contains(words).then_some(()));
}

/// RS18. The Lease cannot be renewed by anybody, so nobody can take it either: the records say who leads, and it goes on.
#[test]
fn jobs_run_on_under_their_leader_while_the_api_server_is_gone() {
    let line = Line::to(Kubernetes::shared().address());
    let time = |name: &str| format!("high-availability.kubernetes.leader-election.{name}");
    let mut cluster = by_kubernetes_at(line.address(), 2)
        // A machine that stops for a moment makes no standby a leader here: that it waits anew is tested without a clock.
        .setting(&time("lease-duration"), "5 min")
        .setting(&time("renew-deadline"), "4 s")
        .start();
    add_standby(&mut cluster, "standby");
    let (torture, gate) = Torture::held(&cluster, RECORDS, 1_000);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    line.cut();
    waited_for(
        "the leader is not heard",
        &mut cluster,
        "jobmanager",
        "no sign of life is heard",
    );
    let watch = Stopwatch::start();
    until("the deadline is long over", || {
        (watch.elapsed() > Duration::from_secs(6)).then_some(())
    });
    let before = cluster.checkpoints(&id).pop();
    until("one more checkpoint is complete", || {
        (cluster.checkpoints(&id).pop() != before).then_some(())
    });
    line.mend();
    waited_for(
        "the leader is heard",
        &mut cluster,
        "jobmanager",
        "signs of life are heard again",
    );
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
    assert_eq!((cluster.job(&id).restarts, epoch(&cluster, &id)), (0, 1));
    assert!(!cluster.daemon("standby").log().contains("elected leader"));
}

/// I6. A standby that reaches the API server takes the Lease; the record of its epoch ends the leader that did not hear of it.
#[test]
fn a_leader_that_alone_does_not_reach_the_api_server_is_replaced_and_ends() {
    let server = Kubernetes::shared();
    let line = Line::to(server.address());
    let mut cluster = by_kubernetes(2).unstarted();
    let url = format!("kubernetes.api-server.url={}", server.url(line.address()));
    cluster.start_daemon("jobmanager", &["jobmanager", "-D", &url]);
    (0..2).for_each(|_| cluster.add_task_manager());
    cluster.wait_until_ready(2);
    let standby = add_standby(&mut cluster, "standby");
    let (torture, gate) = Torture::held(&cluster, RECORDS, 1_000);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    let leader = cluster.address();
    line.cut();
    assert_eq!(another_leads(&cluster, &leader), standby);
    let status = cluster.daemon("jobmanager").ended();
    assert_eq!(status.code(), Some(6), "{}", cluster.daemon("jobmanager").log());
    let job = cluster.wait_for_restart(&id, 0);
    assert_eq!((job.restarts, epoch(&cluster, &id)), (0, 2), "{job:?}");
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(RECORDS);
}

#[test]
fn a_job_manager_that_may_not_use_the_lease_says_so_and_ends() {
    let server = Kubernetes::shared();
    // The mock knows no rights.
    let proxy = Proxy::before(server.address());
    proxy.plan(|_request| Fault::Forbidden);
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "of-nobody").unwrap();
    let cluster = match server.token_file() {
        Some(_) => by_kubernetes(1).setting("kubernetes.api-server.token-file", token.path().to_str().unwrap()),
        None => by_kubernetes(1).setting("kubernetes.api-server.url", &proxy.url()),
    };
    let mut cluster = cluster.unstarted();
    let status = cluster.start_daemon("jobmanager", &["jobmanager"]).ended();
    let log = cluster.daemon("jobmanager").log();
    assert_eq!(status.code(), Some(5), "{log}");
    assert!(
        log.contains("SD-0708") && log.contains("docs/how-to/high-availability.md"),
        "{log}"
    );
}
