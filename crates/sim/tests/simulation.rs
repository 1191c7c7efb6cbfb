//! The simulation itself, as a user runs it: that a seed is a whole run, that what must be met is met, that what is broken is
//! found.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs that a build can afford. `streamd-sim --seed 1 --count 1000` is for longer ones.
const SEEDS: &str = "40";

/// What must have been met, so that nobody believes in runs that look away.
const MUST_HAPPEN: [&str; 18] = [
    "a checkpoint was completed",
    "a commit came twice",
    "a commit failed",
    "a create was ambiguous",
    "a link was broken",
    "a savepoint was asked for",
    "a snapshot expired",
    "a snapshot was aborted",
    "a subtask declined",
    "a task manager was lost",
    "a worker was killed",
    "a worker was parted from the others",
    "a writer was cut off",
    "an acknowledgement came late",
    "channels were broken",
    "the job was restarted",
    "the leader changed while a snapshot was pending",
    "two attempts restored the same snapshot",
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
    for topology in ["ordinals", "windows"] {
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
fn whatever_goes_wrong_what_comes_out_is_exact() {
    let output = simulate(&["--seed", "1", "--count", SEEDS, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = report(&output);
    let never: Vec<_> = MUST_HAPPEN
        .iter()
        .filter(|what| report["sightings"].get(*what).is_none())
        .collect();
    assert!(
        never.is_empty(),
        "never happened: {never:?}; happened: {}",
        report["sightings"]
    );
}

#[test]
fn windows_of_event_time_are_exact_whatever_goes_wrong() {
    let output = simulate(&["--seed", "1", "--count", "15", "--topology", "windows"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_application_that_keeps_its_counts_outside_of_state_is_found_and_replayed() {
    is_found("forgets-state");
}

#[test]
fn a_sink_that_commits_before_its_checkpoint_is_complete_is_found_and_replayed() {
    is_found("commits-early");
}

/// The run that finds it says how to have it again.
fn is_found(sabotage: &str) {
    let output = simulate(&["--count", "20", "--sabotage", sabotage]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("I2: output `ordinals` shows"), "{told}");
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
