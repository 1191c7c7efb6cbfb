//! Jobs in this process, looked after by a client.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod committed;

use std::collections::BTreeMap;
use std::path::Path;

use streamd::JobClient;
use streamd::prelude::*;

use committed::lines;

const NUMBERS: u64 = 4_000;
const KEYS: u64 = 7;

fn job(output: &Path, parallelism: u32, rate: u64) -> StreamExecutionEnvironment {
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(parallelism);
    env.enable_checkpointing(Duration::from_millis(10));
    let numbers = GeneratorSource::new(Some(NUMBERS), |number| (number % KEYS, 1_u64)).splits(4);
    env.from_source(numbers.rate(rate), "numbers")
        .uid("numbers")
        .key_by(|number| number.0)
        .reduce(|count, number| count.1 += number.1)
        .uid("counts")
        .sink_to(FileSink::json_lines(output))
        .uid("output");
    env
}

/// Never at its end by itself while somebody waits.
fn slow(output: &Path) -> JobClient {
    job(output, 1, 20).execute_async("counts").unwrap()
}

/// Keys and counts.
fn committed(folder: &Path) -> Vec<(u64, u64)> {
    let lines = lines(folder);
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every number of every key up to its last, once.
fn assert_exact(output: &Path) {
    let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (key, count) in committed(output) {
        by_key.entry(key).or_default().push(count);
    }
    for (key, mut counts) in by_key {
        counts.sort_unstable();
        let last = (NUMBERS - key).div_ceil(KEYS);
        assert_eq!(counts, (1..=last).collect::<Vec<_>>(), "key {key}");
    }
    assert_eq!(committed(output).len() as u64, NUMBERS);
}

#[test]
fn a_job_that_fails_is_saved_and_goes_on_elsewhere_is_exact() {
    for stops in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (output, saved) = (folder.path().join("output"), folder.path().display().to_string());
        let client = slow(&output);
        client.wait_for_checkpoints(2).unwrap();
        client.fail("to see that it recovers").unwrap();
        client.wait_for_restarts(1).unwrap();
        assert_eq!((client.restarts(), client.job_status()), (1, "RUNNING"));
        let path = match stops {
            true => client.stop_with_savepoint(&saved, false).unwrap(),
            false => client.cancel_with_savepoint(&saved).unwrap(),
        };
        let resumed = job(&output, 3, 0);
        resumed.restore_from(path);
        resumed.execute("counts").unwrap();
        assert_exact(&output);
    }
}

#[test]
fn a_savepoint_leaves_its_job_alone() {
    let folder = tempfile::tempdir().unwrap();
    let client = slow(&folder.path().join("output"));
    client.wait_for_checkpoints(1).unwrap();
    let saved = folder.path().display().to_string();
    let path = client.trigger_savepoint(&saved).unwrap();
    assert!(path.starts_with("file://"), "{path}");
    assert_eq!(client.job_status(), "RUNNING");
    let refused = client.trigger_savepoint("s4://nowhere/").unwrap_err();
    assert_eq!(refused.coded().code.to_string(), "SD-0602", "{refused}");
    assert_eq!(client.job_status(), "RUNNING");
    client.cancel().unwrap();
}

#[test]
fn a_job_that_is_drained_gives_its_last_results() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(1);
    env.enable_checkpointing(Duration::from_millis(10));
    env.from_source(GeneratorSource::new(None, |number| number).rate(100), "numbers")
        .uid("numbers")
        .key_by(|_| 0)
        .window(TumblingProcessingTimeWindows::of(Duration::from_secs(1_000_000)))
        .reduce(|sum: &mut u64, number| *sum += number)
        .uid("sum")
        .map(|sum| (0, sum))
        .sink_to(FileSink::json_lines(&output))
        .uid("output");
    let client = env.execute_async("sum").unwrap();
    client.wait_for_checkpoints(2).unwrap();
    let saved = folder.path().join("saved").display().to_string();
    client.stop_with_savepoint(saved, true).unwrap();
    assert_eq!(committed(&output).len(), 1);
}

#[test]
fn a_client_that_goes_takes_its_job_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let client = slow(&output);
    client.wait_for_checkpoints(1).unwrap();
    drop(client);
    let before = committed(&output).len();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(committed(&output).len(), before);
}

#[test]
fn what_cannot_be_is_said_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let env = job(&folder.path().join("output"), 1, 0);
    env.restore_from(folder.path().join("missing").display().to_string());
    let error = env.execute_async("counts").err().unwrap();
    assert_eq!(error.coded().code.to_string(), "SD-0501", "{error}");

    let client = job(&folder.path().join("output"), 1, 0)
        .execute_async("counts")
        .unwrap();
    let error = client.wait_for_checkpoints(u64::MAX).unwrap_err();
    assert_eq!(error.coded().code.to_string(), "SD-0402", "{error}");
    let error = client.fail("too late").unwrap_err();
    assert_eq!(error.coded().code.to_string(), "SD-0403", "{error}");
    client.wait().unwrap();
}
