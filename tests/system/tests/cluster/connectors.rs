//! Sources and sinks of the house at work: killed, moved, and with the outside world failing around them.

use std::io::Write as _;

use serde_json::Value;
use servers::ledger::book::State;
use servers::{Fault, Ledger, Proxy, own_port};
use system::files::{files_below, parse};
use system::{Cluster, ClusterBuilder, Gate, Torture, until};

use crate::CHECKPOINTS;

fn lines(ledger: &Ledger) -> Vec<Value> {
    ledger.records().iter().map(|line| parse(line)).collect()
}

#[test]
fn a_ledger_has_every_record_once_whatever_dies() {
    let cluster = ClusterBuilder::new(2, 2)
        .setting("restart-strategy.fixed-delay.attempts", "1000000")
        .start();
    let (address, journal) = (own_port(), cluster.path("journal"));
    let ledger = Ledger::open(address, &journal);
    let proxy = Proxy::before(address);
    let torture = |gate: &Gate| {
        let torture = Torture::new().records(12_000).rate(1_500).held_at(9_000, gate);
        torture.argument("--ledger", &proxy.url())
    };
    let gate = Gate::closed(cluster.path("gate"));
    let first = torture(&gate);
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &first.command());
    let committed = |ledger: &Ledger, before: usize| {
        until("more records are committed", || {
            let now = ledger.records().len();
            (now > before).then_some(now)
        })
    };

    // Requests fail in all ways in which it stays open whether they were carried out.
    let faults = [
        Fault::AppliedThen500,
        Fault::AppliedThenReset,
        Fault::Reset,
        Fault::Unavailable,
    ];
    proxy.plan(move |request| match request.index % 3 {
        0 => faults[request.index / 3 % faults.len()],
        _ => Fault::Well,
    });
    let seen = committed(&ledger, 0);
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    proxy.end();
    let seen = committed(&ledger, seen);

    // The ledger dies, a worker while it is away, and it comes back with what it had.
    drop(ledger);
    cluster.worker_of(&id).kill();
    let ledger = Ledger::open(address, &journal);
    assert!(ledger.records().len() >= seen);
    cluster.wait_for_restart(&id, 2);

    // A savepoint holds what is prepared; the job goes on with more subtasks than before.
    let savepoint = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]);
    cluster.wait_for(&id, "CANCELED");
    let second = torture(&gate);
    let resumed = ["-p", "3", "-D", CHECKPOINTS, "-s", savepoint.to_str().unwrap()];
    let id = cluster.submit_and_wait(&resumed, &second.command());
    gate.open();
    cluster.wait_for(&id, "FINISHED");
    second.assert_are_complete(&lines(&ledger), 12_000);
}

#[test]
fn prepared_output_that_the_ledger_has_given_up_fails_the_job_for_good() {
    let cluster = Cluster::start(1, 2);
    let ledger = Ledger::open(own_port(), &cluster.path("journal"));
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(4_000).held_at(3_000, &gate);
    let torture = torture.argument("--ledger", &ledger.url());
    // No checkpoint but the savepoint: all that was read is in transactions that it holds.
    let id = cluster.submit_and_wait(&["-D", "execution.checkpointing.interval=1 h"], &torture.command());
    cluster.wait_for_records(&id, 3_000);
    let savepoint = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]);
    cluster.wait_for(&id, "CANCELED");
    ledger.expire(State::Prepared);

    let id = cluster.submit(&["-s", savepoint.to_str().unwrap()], &torture.command());
    let failed = cluster.wait_for(&id, "FAILED");
    assert!(
        failed.last_failure.contains("output is lost: the ledger `http://"),
        "{failed:?}"
    );
    assert!(lines(&ledger).is_empty());
    gate.open();
}

#[test]
fn files_in_buckets_that_live_through_checkpoints_are_exact_through_a_kill_a_savepoint_and_a_stop() {
    let cluster = Cluster::start(2, 2);
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(12_000).rate(1_500).held_at(9_000, &gate);
    let torture = torture.argument("--part-bytes", "5000").output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    torture.wait_for_commits(0);
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    let cut = || {
        let files = files_below(&cluster.path("output")).into_iter();
        files
            .filter(|file| {
                file.file_name()
                    .is_some_and(|name| name.to_str().is_some_and(|name| name.contains("-cut-")))
            })
            .count()
    };
    until("the files that were unfinished when the worker died are seen", || {
        (cut() > 0).then_some(())
    });
    let cancelled = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]);
    cluster.wait_for(&id, "CANCELED");

    let resumed = ["-p", "3", "-D", CHECKPOINTS, "-s", cancelled.to_str().unwrap()];
    let id = cluster.submit_and_wait(&resumed, &torture.command());
    let stopped = cluster.savepoint_of(&["stop", "-p", &cluster.place("savepoints"), &id]);
    cluster.wait_for(&id, "FINISHED");
    // A stop leaves nothing hidden that the savepoint holds: the job goes on without a file to cut.
    let (before, numbers) = (cut(), torture.numbers().len());
    assert!(numbers > 0);

    gate.open();
    let id = cluster.submit(&["-p", "1", "-s", stopped.to_str().unwrap()], &torture.command());
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(12_000);
    assert_eq!(cut(), before);
}

#[test]
fn the_guarantee_of_a_job_is_that_of_its_weakest_source_or_sink() {
    let cluster = Cluster::start(1, 1);
    let ledger = Ledger::open(own_port(), &cluster.path("journal"));
    let promise = |torture: Torture| {
        let command = torture.command();
        let arguments: Vec<&str> = ["info"].into_iter().chain(command.iter().map(String::as_str)).collect();
        let shown = cluster.streamctl(&arguments).succeeded().stdout;
        let line = shown.lines().find_map(|line| line.strip_prefix("Guarantee: "));
        line.unwrap_or_else(|| panic!("{shown}")).to_owned()
    };
    let ledger = |torture: Torture| torture.argument("--ledger", &ledger.url());
    let server = own_port();
    let socket = |torture: Torture| torture.argument("--socket", &server.to_string());
    assert_eq!(promise(Torture::new().output(cluster.path("output"))), "exactly once");
    assert_eq!(promise(ledger(Torture::new())), "exactly once");
    assert_eq!(
        promise(ledger(Torture::new()).flag("--say")),
        "at least once, because of sink `say`"
    );
    assert_eq!(
        promise(socket(Torture::new()).flag("--say")),
        "at most once, because of source `numbers`"
    );
}

#[test]
fn a_job_reads_lines_from_a_socket_until_it_is_closed() {
    let cluster = Cluster::start(1, 1);
    let server = std::net::TcpListener::bind(own_port()).unwrap();
    let torture = Torture::new().argument("--socket", &server.local_addr().unwrap().to_string());
    let torture = torture.output(cluster.path("output"));
    let id = cluster.submit(&["-D", CHECKPOINTS], &torture.command());
    let (mut connection, _) = server.accept().unwrap();
    let lines: String = (0..1_000).map(|number| format!("{number}\n")).collect();
    connection.write_all(lines.as_bytes()).unwrap();
    until("lines are committed", || (torture.committed() > 0).then_some(()));
    drop(connection);
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(1_000);
}

#[test]
fn a_job_reads_files_as_they_come_into_a_folder_also_after_a_kill_and_a_savepoint() {
    let cluster = Cluster::start(2, 1);
    let input = cluster.path("input");
    std::fs::create_dir(&input).unwrap();
    let write = |file: u64| {
        let lines: String = (file * 500..(file + 1) * 500)
            .map(|number| format!("{number}\n"))
            .collect();
        let hidden = input.join(format!(".{file}"));
        std::fs::write(&hidden, lines).unwrap();
        std::fs::rename(hidden, input.join(file.to_string())).unwrap();
    };
    let torture = Torture::new().argument("--folder", &cluster.place("input"));
    let torture = torture.output(cluster.path("output"));
    let committed = |count: u64| {
        until("all files are committed", || {
            (torture.committed() == count).then_some(())
        })
    };
    write(0);
    let id = cluster.submit_and_wait(&["-p", "1", "-D", CHECKPOINTS], &torture.command());
    committed(500);
    write(1);
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    write(2);
    committed(1_500);
    let savepoint = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]);
    cluster.wait_for(&id, "CANCELED");
    write(3);
    let resumed = ["-p", "2", "-D", CHECKPOINTS, "-s", savepoint.to_str().unwrap()];
    let id = cluster.submit_and_wait(&resumed, &torture.command());
    committed(2_000);
    cluster.savepoint_of(&["stop", "-p", &cluster.place("savepoints"), &id]);
    cluster.wait_for(&id, "FINISHED");
    torture.assert_complete(2_000);
}

#[test]
fn parquet_files_have_every_record_once_after_a_kill_and_a_rescale() {
    let cluster = Cluster::start(2, 2);
    let gate = Gate::closed(cluster.path("gate"));
    let torture = Torture::new().records(6_000).rate(1_500).held_at(4_500, &gate);
    let torture = torture.flag("--parquet").output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-p", "2", "-D", CHECKPOINTS], &torture.command());
    until("files are committed", || {
        let files = files_below(&cluster.path("output"));
        let is_visible = |file: &std::path::PathBuf| !file.file_name().unwrap().as_encoded_bytes().starts_with(b".");
        files.iter().any(is_visible).then_some(())
    });
    cluster.worker_of(&id).kill();
    cluster.wait_for_restart(&id, 1);
    let savepoint = cluster.savepoint_of(&["cancel", "-s", &cluster.place("savepoints"), &id]);
    cluster.wait_for(&id, "CANCELED");
    gate.open();
    let resumed = ["-p", "3", "-D", CHECKPOINTS, "-s", savepoint.to_str().unwrap()];
    let id = cluster.submit(&resumed, &torture.command());
    cluster.wait_for(&id, "FINISHED");

    // Read by somebody else.
    let script = "import sys, json, pyarrow.parquet as pq\n\
                  for row in pq.read_table(sys.argv[1]).to_pylist(): print(json.dumps(row))";
    let read = std::process::Command::new(servers::python())
        .args(["-c", script])
        .arg(cluster.path("output"))
        .output();
    let read = read.unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let rows: Vec<Value> = String::from_utf8(read.stdout).unwrap().lines().map(parse).collect();
    torture.assert_are_complete(&rows, 6_000);
}

#[test]
fn a_record_that_cannot_be_read_fails_the_job_with_its_place_and_costs_nothing_that_was_committed() {
    let cluster = Cluster::start(1, 1);
    let input = cluster.path("input");
    std::fs::create_dir(&input).unwrap();
    std::fs::write(input.join("good"), "0\n1\n2\n").unwrap();
    let torture = Torture::new().argument("--folder", &cluster.place("input"));
    let torture = torture.output(cluster.path("output"));
    let id = cluster.submit_and_wait(&["-D", CHECKPOINTS], &torture.command());
    until("the good file is committed", || {
        (torture.committed() == 3).then_some(())
    });
    std::fs::write(input.join("bad"), b"3\n\xff4\n").unwrap();
    let job = cluster.wait_for(&id, "FAILED");
    let place = format!("cannot read the record at byte 2 of the file `{}/bad`", input.display());
    assert!(job.last_failure.contains(&place), "{job:?}");
    assert_eq!(torture.numbers()[..3], [0, 1, 2]);
}
