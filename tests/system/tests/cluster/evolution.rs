//! A newer version of an application goes on from the state of an older one, or is told exactly why it cannot.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use servers::{python, workspace};
use system::files::{binary, committed, number, string, text};
use system::{Cluster, Gate, Torture, until};

use crate::CHECKPOINTS;

const RECORDS: u64 = 6_000;
const KEYS: u64 = 10;

/// How many records the first version counts: the same number for every key.
const COUNTED: u64 = 1_000;

fn version(number: u8, output: &Path, rate: u64) -> Vec<String> {
    let mut command = vec![text(&binary("evolving"))];
    for (name, value) in [
        ("--version", u64::from(number)),
        ("--records", RECORDS),
        ("--rate", rate),
    ] {
        command.extend([name.to_owned(), value.to_string()]);
    }
    command.extend(["--output".to_owned(), text(output)]);
    command
}

fn check(cluster: &Cluster, options: &[&str], path: &str, application: &[String]) -> system::Ran {
    let (application, arguments) = application.split_first().unwrap();
    let mut call = vec!["savepoint", "check"];
    call.extend(options);
    call.extend([application.as_str(), path]);
    call.extend(arguments.iter().map(String::as_str));
    cluster.streamctl(&call)
}

/// The verdict on each state.
fn verdicts(checked: &Value) -> BTreeMap<String, String> {
    let states = checked["states"].as_array().unwrap().iter();
    states
        .map(|state| {
            let name = format!("{}.{}", string(state, "operator"), string(state, "state"));
            (name, string(state, "verdict").to_owned())
        })
        .collect()
}

/// Runs version 1 until it has counted [`COUNTED`] records and committed them, and returns its job id.
fn counted(cluster: &Cluster, output: &Path, settings: &[&str]) -> String {
    let gate = Gate::closed(cluster.path("gate"));
    let command = [version(1, output, 0), gate.arguments(COUNTED).to_vec()].concat();
    let id = cluster.submit_and_wait(&[&["-p", "2", "-D", CHECKPOINTS], settings].concat(), &command);
    let counted = output.join("version-1");
    until("the first records are counted", || {
        (committed(&counted).len() as u64 == COUNTED).then_some(())
    });
    id
}

/// Runs version 1 until it has counted [`COUNTED`] records, and returns the savepoint that it left.
fn stopped(cluster: &Cluster, output: &Path) -> String {
    let id = counted(cluster, output, &[]);
    text(&cluster.savepoint_of(&["stop", "-p", &cluster.place("savepoints"), &id]))
}

/// The last line of every key must say that all records were counted, each once, by whichever version saw it.
fn assert_complete(output: &Path, newer: &str) -> Vec<Value> {
    let lines = committed(&output.join(newer));
    assert_eq!(lines.len() as u64, RECORDS - COUNTED, "records are lost, or seen twice");
    let mut last: BTreeMap<u64, Value> = BTreeMap::new();
    for line in lines {
        let best = last.get(&number(&line, "key")).map_or(0, |line| number(line, "count"));
        if number(&line, "count") > best {
            last.insert(number(&line, "key"), line);
        }
    }
    assert_eq!(last.len() as u64, KEYS);
    for line in last.values() {
        assert_eq!(number(line, "count"), RECORDS / KEYS, "{line}");
        assert_eq!(number(line, "legs"), RECORDS / KEYS, "{line}");
    }
    last.into_values().collect()
}

#[test]
fn a_newer_version_goes_on_from_the_savepoint_of_an_older_one() {
    let cluster = Cluster::start(1, 3);
    let output = cluster.path("output");
    let savepoint = stopped(&cluster, &output);

    let newer = version(2, &output, 0);
    let checked = check(&cluster, &["--output", "json"], &savepoint, &newer).succeeded();
    let checked = &checked.objects()[0];
    assert_eq!(checked["fits"], json!(true));
    assert_eq!(verdicts(checked)["tallies.tally"], "migrates");
    assert_eq!(verdicts(checked)["numbers.splits"], "matches");
    let tally = checked["states"]
        .as_array()
        .unwrap()
        .iter()
        .find(|state| string(state, "state") == "tally")
        .unwrap();
    assert_eq!(number(tally, "rows"), KEYS);
    let details = tally["details"].to_string();
    for part in [
        "renames `count` to `flights`",
        "adds `legs[].carrier`",
        "removes `gate`",
        "adds variant `phase.Parked`",
    ] {
        assert!(details.contains(part), "{part} in {details}");
    }
    assert_eq!(cluster.jobs().len(), 1, "a check starts nothing");

    let ran = cluster.run(&["-p", "3", "-s", &savepoint], &newer).succeeded();
    assert!(
        ran.stderr.contains("state `tally` of operator `tallies` is migrated"),
        "{ran:#?}"
    );
    for line in assert_complete(&output, "version-2") {
        assert_eq!(string(&line, "phase"), "down since 3, runway None", "{line}");
        assert_eq!(string(&line, "note"), "unknownNone", "{line}");
    }
}

#[test]
fn a_function_of_the_application_migrates_what_no_rule_covers_from_a_retained_checkpoint() {
    let cluster = Cluster::start(1, 2);
    let output = cluster.path("output");
    let retain = "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION";
    let id = counted(&cluster, &output, &["-D", retain]);
    cluster.streamctl(&["cancel", &id]).succeeded();
    cluster.wait_for(&id, "CANCELED");
    cluster.wait_for_no_workers();
    let checkpoint = cluster.checkpoints(&id).pop().expect("a checkpoint is kept");
    cluster
        .run(&["-s", checkpoint.to_str().unwrap()], &version(3, &output, 0))
        .succeeded();
    assert_complete(&output, "version-3");
}

#[test]
fn an_incompatible_version_is_refused_by_check_and_run_alike() {
    let cluster = Cluster::start(1, 2);
    let output = cluster.path("output");
    let savepoint = stopped(&cluster, &output);
    let narrower = version(4, &output, 0);
    for ran in [
        check(&cluster, &[], &savepoint, &narrower),
        cluster.run(&["-s", &savepoint], &narrower),
    ] {
        let ran = ran.refused(
            7,
            "SD-0505",
            "state `tally` of operator `tallies` does not fit: `count` is `uint32`",
        );
        assert!(ran.stderr.contains("#[state(migrate = ...)]"), "{ran:#?}");
    }
    // Another application altogether would drop what it has no operator for: a question, not a defect.
    let other = Torture::new().records(10).command();
    check(&cluster, &[], &savepoint, &other).refused(4, "SD-0520", "`tallies`");
    check(&cluster, &["-n"], &savepoint, &other).succeeded();
    assert_eq!(cluster.jobs().len(), 1, "what is refused leaves nothing behind");
}

/// A savepoint that no streamd wrote: its rows are those that the program was told.
#[test]
fn a_job_starts_from_a_savepoint_that_a_python_program_wrote() {
    let cluster = Cluster::start(1, 2);
    let savepoint = cluster.path("written elsewhere");
    let rows: Vec<Value> = (0..KEYS).map(|key| json!([key, 1_000 * key])).collect();
    let state = json!({"operators": [{
        "uid": "ordinals", "max_parallelism": 64,
        "keyed": [{"state": "ordinal", "key": "uint64", "value": "uint64", "rows": rows}],
    }]});
    let mut writer = Command::new(python())
        .arg(workspace().join("examples/savepoint/write_savepoint.py"))
        .arg(&savepoint)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut writer.stdin.take().unwrap(), state.to_string().as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());

    let output = cluster.path("output");
    let torture = Torture::new().records(100).output(output.clone());
    cluster
        .run(&["-p", "2", "-s", &text(&savepoint)], &torture.command())
        .succeeded();
    let mut first: BTreeMap<u64, u64> = BTreeMap::new();
    for line in committed(&output) {
        let ordinal = number(&line, "ordinal");
        let least = first.entry(number(&line, "key")).or_insert(ordinal);
        *least = ordinal.min(*least);
    }
    let expected: BTreeMap<u64, u64> = (0..KEYS).map(|key| (key, 1_000 * key + 1)).collect();
    assert_eq!(first, expected);
}
