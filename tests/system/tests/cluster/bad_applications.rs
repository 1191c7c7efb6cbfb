//! Files that are no application, and applications that misbehave before they run: each is told in one line, and the cluster
//! goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use system::files::binary;
use system::{Cluster, ClusterBuilder, Gate, Torture, until};

use crate::CHECKPOINTS;

/// Makes a file with these bytes and this mode.
fn file(path: &Path, content: &[u8], mode: u32) -> Vec<String> {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    vec![path.to_str().unwrap().to_owned()]
}

#[test]
fn what_is_no_application_is_refused_with_the_reason() {
    let cluster = Cluster::start(1, 1);
    let place = |name: &str| cluster.path(name);
    let program = fs::read("/bin/true").unwrap();
    let torture = fs::read(binary("unruly")).unwrap();
    let mut foreign = torture.clone();
    let machine = if cfg!(target_arch = "aarch64") { 62 } else { 183u16 };
    foreign[18..20].copy_from_slice(&machine.to_le_bytes());
    fs::create_dir(place("directory")).unwrap();
    let plan = |plan: &str| Torture::new().argument("--plan", plan).command();

    let cases = [
        (vec![cluster.place("missing")], 3, "SD-0201", "does not exist"),
        (vec![cluster.place("directory")], 2, "SD-0202", "is a directory"),
        (file(&place("empty"), b"", 0o755), 2, "SD-0202", "is empty"),
        (
            file(&place("not-executable"), &torture, 0o644),
            2,
            "SD-0202",
            "is not executable",
        ),
        (
            file(&place("text"), b"fn main() {}\n", 0o755),
            2,
            "SD-0204",
            "is no executable",
        ),
        (
            file(&place("script"), b"#!/bin/sh\n", 0o755),
            2,
            "SD-0204",
            "is a script",
        ),
        (file(&place("foreign"), &foreign, 0o755), 2, "SD-0202", "is built for"),
        (file(&place("cut"), &torture[..100_000], 0o755), 1, "SD-0205", "cut"),
        (
            file(&place("true"), &program, 0o755),
            2,
            "SD-0204",
            "`true` is no streamd application",
        ),
        (vec!["/bin/false".to_owned()], 1, "SD-0205", "exited with code 1"),
        (
            vec!["/bin/echo".to_owned(), "one".to_owned(), "two".to_owned()],
            2,
            "SD-0204",
            "printed: one two",
        ),
        (vec![cluster_binary("flights")], 1, "SD-0205", "--output"),
        (plan("panic"), 1, "SD-0205", "no plan today"),
        (plan("garbage"), 2, "SD-0204", "no plan"),
    ];
    for (application, code, error, text) in cases {
        refused(&cluster, &application, (code, error, text));
    }
    cluster.run(&[], &Torture::new().records(10).command()).succeeded();
}

#[test]
fn an_application_that_never_describes_its_job_is_given_up() {
    let cluster = ClusterBuilder::new(1, 1)
        .setting("application.describe-timeout", "500 ms")
        .start();
    let sleep = ["/bin/sleep", "1000"].map(str::to_owned);
    refused(&cluster, &sleep, (1, "SD-0206", "within 500ms"));
    let hang = Torture::new().argument("--plan", "hang").command();
    refused(&cluster, &hang, (1, "SD-0206", "`unruly` did not describe its job"));
}

/// The application must be refused in two lines with this exit code, error code and text, and nothing may be left of it.
fn refused(cluster: &Cluster, application: &[String], (code, error, text): (i32, &str, &str)) {
    let ran = cluster.run(&[], application).refused(code, error, text);
    assert_eq!(ran.stdout, "", "{application:?}");
    assert_eq!(ran.stderr.lines().count(), 2, "{application:?} {ran:#?}");
    let jobs = cluster.jobs();
    assert!(jobs.is_empty(), "a refused application is listed: {jobs:?}");
    let descriptions = system::process::descriptions(cluster.directory());
    assert!(descriptions.is_empty(), "{descriptions:?}");
}

fn cluster_binary(name: &str) -> String {
    binary(name).to_str().unwrap().to_owned()
}

#[test]
fn a_worker_that_builds_another_graph_is_refused() {
    let cluster = ClusterBuilder::new(1, 1).start();
    let differs = Torture::new().argument("--plan", "differs").records(10).command();
    let ran = cluster.run(&["-D", "restart-strategy=none"], &differs);
    ran.refused(1, "SD-0405", "graph");
    cluster.wait_for_no_workers();
    cluster.wait_for_free_slots(1);
}

#[test]
fn a_job_that_takes_memory_without_end_loses_its_worker_and_nobody_else_does() {
    let mut cluster = ClusterBuilder::new(1, 2)
        .setting("taskmanager.memory.process.size", "512 mb")
        .start();
    let gate = Gate::closed(cluster.path("gate"));
    let modest = Torture::new().records(2_000).held_at(1_000, &gate);
    let modest = modest.output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &modest.command());
    let swelling = Torture::new().records(1_000).argument("--swell-at", "500").command();
    cluster
        .run(&["-D", "restart-strategy=none"], &swelling)
        .refused(1, "SD-0405", "failed");
    // The job may have been told first that the process is gone, and is not told the reason then: the task manager knows it.
    until("the task manager says why it has killed the worker", || {
        let said = cluster.daemon("taskmanager-0").log();
        let reason = "more than the 512 MiB of `taskmanager.memory.process.size` [SD-0209]";
        said.contains(reason).then_some(())
    });
    gate.open();
    let job = cluster.wait_for(&id, "FINISHED");
    assert_eq!(job.restarts, 0, "{job:?}");
    modest.assert_complete(2_000);
}
