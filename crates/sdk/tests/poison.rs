//! Records that functions fail on: the error says where in the input to look for them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use streamd::connectors::strided::StridedSplit;
use streamd::prelude::*;
use streamd::{AsyncDataStream, AsyncFunction, ConnectorError, Guarantee, Source, SourceReader, SourceStatus};

type Done = std::result::Result<(), BoxError>;

const LINES: u64 = 60_000;
const POISON: u64 = 5_000;
const SUBTASKS: u32 = 3;

/// Fails on a number, one way or the other.
#[derive(Clone, Copy)]
struct Fails {
    panics: bool,
}

impl Fails {
    fn look_at(self, number: u64) -> Done {
        assert!(!self.panics || number != POISON, "a poisoned record");
        match number {
            POISON => Err("no such number".into()),
            _other => Ok(()),
        }
    }
}

impl ProcessFunction<u64, u64> for Fails {
    fn process_element(&mut self, number: u64, _: &mut ProcessContext<'_>, out: &mut Collector<'_, u64>) -> Done {
        self.look_at(number)?;
        out.collect(number);
        Ok(())
    }
}

impl KeyedProcessFunction<u64, u64, u64> for Fails {
    fn open(&mut self, _: &mut KeyedStateStore<'_, u64>) -> Done {
        Ok(())
    }

    fn process_element(&mut self, number: u64, _: &mut KeyedContext<'_, u64>, out: &mut Collector<'_, u64>) -> Done {
        self.look_at(number)?;
        out.collect(number);
        Ok(())
    }
}

impl AsyncFunction<u64, u64> for Fails {
    async fn async_invoke(&self, number: u64) -> std::result::Result<Vec<u64>, BoxError> {
        self.look_at(number)?;
        Ok(vec![number])
    }
}

/// A folder with two files of a number per line, and the one that holds the poison.
fn folder_of_numbers() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, from) in [("a.txt", 0), ("b.txt", LINES / 2)] {
        let lines: Vec<_> = (from..from + LINES / 2).map(|number| number.to_string()).collect();
        std::fs::write(folder.path().join(name), lines.join("\n")).unwrap();
    }
    let poisoned = folder.path().join("a.txt");
    (folder, poisoned)
}

fn numbers(env: &StreamExecutionEnvironment, folder: &Path) -> DataStream<u64> {
    env.set_parallelism(SUBTASKS);
    let lines = env
        .from_source(FileSource::text_lines(folder), "numbers")
        .uid("numbers");
    lines.map(|line: String| line.parse().unwrap())
}

/// What the error says of the place of the record, which it must be at.
fn check_place(error: &str, poisoned: &Path) {
    let (_, place) = error
        .split_once(", while processing a record of source `numbers` (subtask ")
        .unwrap_or_else(|| panic!("no place in: {error}"));
    assert!(!place.contains("elsewhere"), "{error}");
    let text = std::fs::read_to_string(poisoned).unwrap();
    let at = text.find(&format!("\n{POISON}\n")).unwrap() as u64 + 1;
    // Each of `between bytes 1200 and 3400 of `/in/a.txt``.
    let told = place.split("between bytes ").skip(1).any(|stretch| {
        let (range, file) = stretch.split_once(" of `").unwrap();
        let (from, to) = range.split_once(" and ").unwrap();
        let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
        assert!(to - from < text.len() as u64, "the whole file: {error}");
        file.starts_with(poisoned.to_str().unwrap()) && (from..to).contains(&at)
    });
    assert!(told, "{error}: the record is at byte {at} of {}", poisoned.display());
}

fn both_ways(build: impl Fn(&DataStream<u64>, Fails)) {
    for panics in [true, false] {
        let (folder, poisoned) = folder_of_numbers();
        let env = StreamExecutionEnvironment::new();
        build(&numbers(&env, folder.path()), Fails { panics });
        let error = env.execute("poison").unwrap_err().to_string();
        check_place(&error, &poisoned);
    }
}

#[test]
fn a_record_can_be_found_in_the_chain_of_its_source() {
    both_ways(|numbers, fails| {
        numbers.process(fails).sink_to(BlackholeSink::new());
    });
}

#[test]
fn a_record_can_be_found_behind_a_key_by() {
    both_ways(|numbers, fails| {
        numbers
            .key_by(|number| number % 7)
            .process(fails)
            .uid("fails")
            .sink_to(BlackholeSink::new());
    });
}

#[test]
fn a_record_can_be_found_behind_several_exchanges() {
    both_ways(|numbers, fails| {
        numbers
            .shuffle()
            .map(|number| number)
            .key_by(|number| number % 7)
            .process(fails)
            .uid("fails")
            .sink_to(BlackholeSink::new());
    });
}

#[test]
fn a_record_of_an_asynchronous_call_can_be_found() {
    for ordered in [true, false] {
        let (folder, poisoned) = folder_of_numbers();
        let env = StreamExecutionEnvironment::new();
        let numbers = numbers(&env, folder.path()).rebalance();
        let (fails, hour) = (Fails { panics: ordered }, Duration::from_secs(3600));
        match ordered {
            true => AsyncDataStream::ordered_wait(&numbers, fails, hour, 100),
            false => AsyncDataStream::unordered_wait(&numbers, fails, hour, 100),
        }
        .sink_to(BlackholeSink::new());
        let error = env.execute("poison").unwrap_err().to_string();
        check_place(&error, &poisoned);
    }
}

#[test]
fn what_a_window_emits_is_not_passed_off_as_a_record_of_the_input() {
    let (folder, _) = folder_of_numbers();
    let env = StreamExecutionEnvironment::new();
    let timed = numbers(&env, folder.path()).assign_timestamps_and_watermarks(
        WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(|number, _| *number as i64),
    );
    let last = timed
        .key_by(|number| number % 7)
        .window(TumblingEventTimeWindows::of(Duration::from_secs(1)))
        .reduce(|last, number| *last = number)
        .uid("last");
    last.map(|number: u64| {
        assert!(number < 8_000, "a poisoned window");
        number
    })
    .sink_to(BlackholeSink::new());
    let error = env.execute("poison").unwrap_err().to_string();
    assert!(
        error.contains("a poisoned window") && !error.contains("while processing"),
        "{error}"
    );
}

type Generator = GeneratorSource<fn(u64) -> u64>;

/// Numbers of a source that does not say what it has read.
#[derive(Clone)]
struct Secretive(Generator);

struct SecretiveReader(<Generator as Source>::Reader);

impl Source for Secretive {
    type Out = u64;
    type Split = StridedSplit;
    type Reader = SecretiveReader;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, parallelism: u32) -> std::result::Result<Vec<StridedSplit>, ConnectorError> {
        self.0.enumerate(parallelism)
    }

    fn reader(&self) -> std::result::Result<SecretiveReader, ConnectorError> {
        self.0.reader().map(SecretiveReader)
    }
}

impl SourceReader for SecretiveReader {
    type Out = u64;
    type Split = StridedSplit;

    fn add_splits(&mut self, splits: Vec<StridedSplit>) -> std::result::Result<(), ConnectorError> {
        self.0.add_splits(splits)
    }

    fn poll(&mut self, out: &mut Vec<u64>, limit: usize) -> std::result::Result<SourceStatus, ConnectorError> {
        self.0.poll(out, limit)
    }

    fn snapshot(&self) -> Vec<StridedSplit> {
        self.0.snapshot()
    }
}

#[test]
fn a_source_that_does_not_say_what_it_has_read_is_named_and_its_splits_where_they_are_at_hand() {
    for keyed in [true, false] {
        let env = StreamExecutionEnvironment::new();
        env.set_parallelism(1);
        let secretive = Secretive(GeneratorSource::new(Some(LINES), |number| number));
        let numbers = env.from_source(secretive, "numbers").uid("numbers");
        let fails = Fails { panics: false };
        match keyed {
            true => numbers.key_by(|number| number % 7).process(fails).uid("fails"),
            false => numbers.process(fails),
        }
        .sink_to(BlackholeSink::new());
        let error = env.execute("poison").unwrap_err().to_string();
        let expected = match keyed {
            true => "while processing a record of source `numbers` (subtask 1)",
            // The generator makes records by 1,024.
            false => {
                "while processing one of the last 1024 records before {\"next\":5120,\"stride\":1,\"end\":60000} of source \
                 `numbers` (subtask 1)"
            }
        };
        assert!(error.contains(expected), "{error}");
    }
}
