//! What a cluster lacks: slots, task managers, a job manager, a free port, a directory of its own.

use std::fs;
use std::time::Duration;

use system::wait::at_once;
use system::{Cluster, ClusterBuilder, Torture, until};

#[test]
fn without_a_task_manager_nothing_can_be_described() {
    let cluster = Cluster::start(0, 1);
    let ran = cluster.run(&[], &Torture::new().command());
    ran.refused(6, "SD-0302", "no task manager");
    assert!(cluster.jobs().is_empty());
}

#[test]
fn a_job_waits_for_slots_and_gets_those_of_the_next_task_manager() {
    let mut cluster = Cluster::start(1, 1);
    let torture = Torture::new().records(2_000).output(cluster.path("output"));
    let ran = cluster.run(&["-d", "-p", "2"], &torture.command()).succeeded();
    assert!(
        ran.stderr.contains("warning: the job needs 2 slots, the cluster has 1"),
        "{ran:#?}"
    );
    let id = ran.stdout.trim_end().rsplit(' ').next().unwrap().to_owned();
    let waiting = cluster.job(&id);
    assert!(["CREATED", "RUNNING"].contains(&waiting.state.as_str()), "{waiting:?}");
    assert!(
        cluster.workers().is_empty(),
        "a job that waits holds no half of its slots"
    );
    cluster.add_task_manager();
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(2_000);
}

#[test]
fn a_job_gives_up_when_no_slots_come_in_time() {
    let cluster = Cluster::start(1, 1);
    let settings = [
        "-p",
        "2",
        "-D",
        "slot.request.timeout=300 ms",
        "-D",
        "restart-strategy=none",
    ];
    let ran = cluster.run(&settings, &Torture::new().command());
    ran.refused(1, "SD-0405", "slot");
    cluster.wait_for_free_slots(1);
}

#[test]
fn a_job_manager_that_is_gone_is_missed_at_once() {
    let mut cluster = Cluster::start(0, 1);
    let address = cluster.address();
    cluster.daemon("jobmanager").kill();
    for arguments in [
        vec!["list"],
        vec!["savepoint", crate::NO_JOB],
        vec!["cluster", "status"],
    ] {
        let ran = at_once("the answer", Duration::from_secs(3), || cluster.streamctl(&arguments));
        ran.refused(6, "SD-0301", &address);
    }
    let ran = cluster.run(&[], &Torture::new().command());
    ran.refused(6, "SD-0301", &address);
}

#[test]
fn a_job_manager_that_ends_in_order_takes_its_address_with_it() {
    let mut cluster = Cluster::start(1, 1);
    let id = cluster.submit_and_wait(&[], &Torture::new().rate(10).command());
    assert_eq!(cluster.workers()[0].job_id, id);
    let status = cluster.daemon("jobmanager").terminate();
    assert!(status.success(), "{status}");
    assert!(!cluster.path("pid/jobmanager.address").exists());
    cluster.wait_for_no_workers();
    cluster.streamctl(&["list"]).refused(6, "SD-0301", "jobmanager.address");
}

#[test]
fn a_second_job_manager_is_refused_by_the_port_or_the_directory_that_it_lacks() {
    let mut cluster = Cluster::start(0, 1);
    let address = cluster.address();
    let port = address.rsplit(':').next().unwrap().to_owned();
    let refused = |cluster: &mut Cluster, name: &str, settings: &[&str], error: &str, text: &str| {
        let arguments: Vec<&str> = ["jobmanager"].iter().chain(settings).copied().collect();
        let daemon = cluster.start_daemon(name, &arguments);
        let status = daemon.ended();
        let log = daemon.log();
        assert_eq!(status.code(), Some(4), "{log}");
        let line = log.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(line.contains(text) && line.ends_with(&format!("[{error}]")), "{log}");
        assert!(log.lines().any(|line| line.starts_with("hint: ")), "{log}");
    };
    refused(&mut cluster, "same-directory", &[], "SD-0306", "data");
    let (port, data) = (
        format!("jobmanager.rpc.port={port}"),
        format!("process.working-dir={}", cluster.place("other")),
    );
    let settings = ["-D", &port, "-D", &data];
    refused(&mut cluster, "same-port", &settings, "SD-0304", &address);
    // The first is none the worse.
    cluster.streamctl(&["list"]).succeeded();
    assert_eq!(cluster.address(), address);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let mut cluster = Cluster::start(0, 1);
    fs::write(cluster.path("file"), "").unwrap();
    let data = format!("process.working-dir={}", cluster.place("file/data"));
    let daemon = cluster.start_daemon("nowhere", &["jobmanager", "-D", &data]);
    let status = daemon.ended();
    let log = daemon.log();
    assert_eq!(status.code(), Some(5), "{log}");
    assert!(log.contains("file/data") && log.contains("[SD-0305]"), "{log}");
}

#[test]
fn a_task_manager_waits_for_its_job_manager_and_finds_it_again() {
    let mut cluster = Cluster::start(1, 1);
    cluster.daemon("jobmanager").kill();
    cluster.start_job_manager_again();
    until("the cluster is ready again", || {
        let ready = cluster.streamctl(&["cluster", "wait", "--task-managers", "1", "--timeout", "5s"]);
        (ready.code == 0).then_some(())
    });
    cluster.run(&[], &Torture::new().records(10).command()).succeeded();
}

#[test]
fn task_managers_and_commands_wait_for_a_job_manager_that_is_started_last() {
    let mut cluster = ClusterBuilder::new(0, 1).unstarted();
    cluster.add_task_manager();
    let waiting = cluster.start_streamctl(&["cluster", "wait", "--task-managers", "1"]);
    let log = |cluster: &mut Cluster| cluster.daemon("taskmanager-0").log();
    until("the task manager looks for its job manager", || {
        log(&mut cluster).contains("waiting for the job manager").then_some(())
    });
    cluster.start_daemon("jobmanager", &["jobmanager"]);
    waiting.finish().succeeded();
    cluster.run(&[], &Torture::new().records(10).command()).succeeded();
}

#[test]
fn a_task_manager_gives_up_when_no_job_manager_comes() {
    let mut cluster = ClusterBuilder::new(0, 1)
        .setting("taskmanager.registration.timeout", "300 ms")
        .unstarted();
    cluster.add_task_manager();
    let daemon = cluster.daemon("taskmanager-0");
    let status = daemon.ended();
    let log = daemon.log();
    assert_eq!(status.code(), Some(6), "{log}");
    assert!(log.contains("[SD-0301]") && log.contains("hint: "), "{log}");
}
