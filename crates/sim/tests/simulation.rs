//! The simulation itself, as a user runs it: that a seed is a whole run, that what must be met is met, that what is broken is
//! found.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The first seeds of the processes that run at a time, and how many each of them runs: 1,000 in each build.
/// `streamd-sim --seed 1001 --count 1000` is for others.
const FIRST_SEEDS: [u64; 2] = [1, 501];
const SEEDS_EACH: u64 = 500;

/// What must have been met, so that nobody believes in runs that look away.
const MUST_HAPPEN: &[&str] = &[
    "a checkpoint was completed",
    "a commit came twice",
    "a commit failed",
    "a create was ambiguous",
    "a job manager was killed",
    "a job manager was stopped",
    "a leader of the past ended",
    "a leader of the past went on",
    "a link was broken",
    "a savepoint was asked for",
    "a snapshot expired",
    "a snapshot was aborted",
    "a subtask declined",
    "a task manager came back with its workers",
    "a task manager was lost",
    "a worker came back to its job",
    "a worker that came back was sent home",
    "a worker was killed",
    "a worker was parted from the others",
    "a writer was cut off",
    "an acknowledgement came late",
    "an attempt went on with another job manager",
    "channels were broken",
    "the job was restarted",
    "the leader changed",
    "the leader changed while a snapshot was pending",
    "the link of a task manager was broken",
    "two attempts restored the same snapshot",
    "workers did not all come back in time",
];

fn simulate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_streamd-sim"))
        .args(args)
        .output()
        .unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_seed_gives_the_same_trace_in_another_process_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    for topology in ["ordinals", "windows", "regions"] {
        let [first, second] = ["1", "2"].map(|run| {
            let trace = folder.path().join(run);
            let path = trace.display().to_string();
            let output = simulate(&["--seed", "7", "--topology", topology, "--trace", &path, "--json"]);
            assert!(output.status.success(), "{output:?}");
            (report(&output), lines(&trace))
        });
        assert!(first.1.len() > 100, "{topology}: {} lines", first.1.len());
        let difference = first.1.iter().zip(&second.1).find(|(one, other)| one != other);
        assert_eq!(difference, None, "{topology}");
        assert_eq!(first, second, "{topology}");
    }
}

fn lines(trace: &Path) -> Vec<String> {
    std::fs::read_to_string(trace)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn whatever_goes_wrong_in_a_thousand_runs_what_comes_out_is_exact() {
    let count = SEEDS_EACH.to_string();
    let processes = FIRST_SEEDS.map(|seed| {
        let seed = seed.to_string();
        let count = count.clone();
        std::thread::spawn(move || simulate(&["--seed", &seed, "--count", &count, "--json"]))
    });
    let reports = processes.map(|process| {
        let output = process.join().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        report(&output)
    });
    let is_met = |what: &str| reports.iter().any(|report| report["sightings"].get(what).is_some());
    let never: Vec<_> = MUST_HAPPEN.iter().filter(|what| !is_met(what)).collect();
    assert!(never.is_empty(), "never happened: {never:?}; happened: {reports:#?}");
}

#[test]
fn windows_of_event_time_are_exact_whatever_goes_wrong() {
    let output = simulate(&["--seed", "1", "--count", "100", "--topology", "windows"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn regions_that_restart_alone_lose_and_double_nothing_whatever_goes_wrong() {
    let output = simulate(&["--seed", "1", "--count", "150", "--topology", "regions", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = report(&output);
    let kept = &report["sightings"]["a worker kept slots while others restarted"];
    assert!(kept.as_u64() > Some(100), "{report:#}");
}

#[test]
fn a_job_whose_cancellation_is_acknowledged_ends_whoever_leads() {
    let output = simulate(&["--seed", "1", "--count", "60", "--cancel", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = report(&output);
    for met in ["a job was cancelled", "a job manager died that cancelled a job"] {
        assert!(report["sightings"][met].as_u64() > Some(10), "{met}: {report:#}");
    }
}

#[test]
fn whichever_operation_of_the_store_a_process_dies_of_what_comes_out_is_exact() {
    sweep("store");
}

#[test]
fn whichever_message_a_process_dies_of_what_comes_out_is_exact() {
    sweep("message");
}

/// One seed with a standby of the job manager, and one without.
fn sweep(kind: &str) {
    for seed in ["1", "2"] {
        let output = simulate(&["--seed", seed, "--topology", "short", "--crash-at-each", kind, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report = report(&output);
        let crashed = report["sightings"]["a process died at its crash point"].as_u64();
        assert_eq!(crashed, report["runs"].as_u64());
        assert!(crashed > Some(60), "{crashed:?} crashes");
    }
}

#[test]
fn an_application_that_keeps_its_counts_outside_of_state_is_found_and_replayed() {
    is_found("forgets-state", "I2: output `ordinals` shows");
}

#[test]
fn a_sink_that_commits_before_its_checkpoint_is_complete_is_found_and_replayed() {
    is_found("commits-early", "I2: output `ordinals` shows");
}

#[test]
fn a_source_that_loses_a_record_is_found_and_replayed() {
    is_found("skips-records", "I2: output `ordinals` shows");
}

#[test]
fn a_store_that_forgets_what_it_has_confirmed_is_found_and_replayed() {
    is_found("loses-writes", "I20: the job is");
}

#[test]
fn a_network_that_delivers_out_of_order_is_found_and_replayed() {
    is_found("reorders", "I2: output `ordinals` shows");
}

#[test]
fn workers_that_do_not_end_are_found_and_replayed() {
    is_found("lingers", "I21");
}

/// The run that finds it says how to have it again.
fn is_found(sabotage: &str, how: &str) {
    let output = simulate(&["--count", "60", "--sabotage", sabotage]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(how), "{told}");
    let replay = told
        .lines()
        .find_map(|line| line.strip_prefix("replay: streamd-sim "))
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.txt").display().to_string();
    let again: Vec<&str> = replay
        .split(' ')
        .map(|word| if word == "trace.txt" { &trace } else { word })
        .collect();
    let again = simulate(&again);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert_eq!(String::from_utf8(again.stderr).unwrap(), told);
    assert!(
        lines(Path::new(&trace)).last().unwrap().contains("VIOLATION"),
        "the trace ends with what was found"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamd-sim"));
    let output = command.args(["--topology", "short"]).stdout(writer).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
