//! Whole jobs in this process: the same job master, slots and snapshots as on a cluster.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use streamd::prelude::*;
use streamd::{
    Compression, ConnectorError, Guarantee, NoCommit, Record, Sink, SinkContext, SinkWriter, Source, SourceReader,
    SourceStatus,
};

/// Gathers records in memory: at-least-once, for jobs that do not fail.
#[derive(Clone)]
struct Gather<T>(Arc<Mutex<Vec<T>>>);

struct GatherWriter<T>(Arc<Mutex<Vec<T>>>);

impl<T> Gather<T> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl<T: Record> Sink for Gather<T> {
    type In = T;
    type Committable = NoCommit;
    type Writer = GatherWriter<T>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn writer(&self, _context: &SinkContext) -> Result<GatherWriter<T>, ConnectorError> {
        Ok(GatherWriter(Arc::clone(&self.0)))
    }

    fn commit(&self, _committables: &[NoCommit]) -> Result<(), ConnectorError> {
        Ok(())
    }
}

impl<T: Record> SinkWriter for GatherWriter<T> {
    type In = T;
    type Committable = NoCommit;

    fn write(&mut self, batch: &mut Vec<T>) -> Result<(), ConnectorError> {
        self.0.lock().unwrap().append(batch);
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<NoCommit>, ConnectorError> {
        Ok(Vec::new())
    }
}

/// The greatest count that each key was seen with, after checking that it was seen with every count up to it once.
fn totals(updates: Vec<(String, u64)>) -> BTreeMap<String, u64> {
    let mut by_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (key, count) in updates {
        by_key.entry(key).or_default().push(count);
    }
    let mut totals = BTreeMap::new();
    for (key, mut counts) in by_key {
        counts.sort_unstable();
        let expected: Vec<u64> = (1..=counts.len() as u64).collect();
        assert_eq!(counts, expected, "updates of `{key}`");
        totals.insert(key, counts.len() as u64);
    }
    totals
}

fn words() -> Vec<String> {
    (0..5_000u64)
        .map(|index| format!("word{} common", index % 97))
        .collect()
}

fn expected_words() -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in words() {
        for word in line.split(' ') {
            *counts.entry(word.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

fn count_words(env: &StreamExecutionEnvironment) -> DataStream<(String, u64)> {
    env.from_collection(words())
        .uid("lines")
        .flat_map(|line: String, out: &mut Collector<'_, (String, u64)>| {
            line.split(' ').for_each(|word| out.collect((word.to_owned(), 1)));
        })
        .key_by(|word| word.0.clone())
        .reduce(|total, word| total.1 += word.1)
        .uid("counts")
}

#[test]
fn words_are_counted_at_every_parallelism() {
    for parallelism in [1, 2, 5] {
        let env = StreamExecutionEnvironment::new();
        env.set_parallelism(parallelism);
        let gathered = Gather::new();
        count_words(&env).sink_to(gathered.clone()).uid("sink");
        env.execute("words").unwrap();
        assert_eq!(
            totals(gathered.take()),
            expected_words(),
            "at parallelism {parallelism}"
        );
    }
}

#[test]
fn a_chain_gives_what_the_same_steps_give_apart() {
    let run = |chained: bool| {
        let env = StreamExecutionEnvironment::new();
        env.set_parallelism(2);
        if !chained {
            env.disable_operator_chaining();
        }
        let gathered = Gather::new();
        env.from_sequence(1, 10_000)
            .map(|number| number * 3)
            .filter(|number| number % 2 == 0)
            .flat_map(|number: u64, out: &mut Collector<'_, u64>| (0..number % 3).for_each(|_| out.collect(number)))
            .map(|number| number + 1)
            .sink_to(gathered.clone());
        env.execute("chain").unwrap();
        let mut numbers = gathered.take();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_union_holds_every_record_of_its_streams() {
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2);
    let gathered = Gather::new();
    let (low, high) = (
        env.from_sequence(1, 1_000),
        env.from_sequence(1_001, 2_000).set_parallelism(3),
    );
    low.union(&[&high])
        .rebalance()
        .map(|number| number)
        .sink_to(gathered.clone());
    env.execute("union").unwrap();
    let mut numbers = gathered.take();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=2_000).collect::<Vec<_>>());
}

#[test]
fn a_stream_can_be_used_twice() {
    let env = StreamExecutionEnvironment::new();
    let (evens, odds) = (Gather::new(), Gather::new());
    let numbers = env.from_sequence(1, 100).set_parallelism(1);
    numbers.filter(|number| number % 2 == 0).sink_to(evens.clone());
    numbers.filter(|number| number % 2 == 1).sink_to(odds.clone());
    env.execute("fork").unwrap();
    assert_eq!((evens.take().len(), odds.take().len()), (50, 50));
}

/// Makes one record, says one poll later that there is no more for now, and ends once the record has arrived.
#[derive(Clone)]
struct OneByOne(Arc<AtomicBool>);

struct OneByOneReader {
    made: u64,
    polls: u32,
    has_arrived: Arc<AtomicBool>,
}

impl Source for OneByOne {
    type Out = u64;
    type Split = u64;
    type Reader = OneByOneReader;

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn enumerate(&self, _parallelism: u32) -> Result<Vec<u64>, ConnectorError> {
        Ok(vec![0])
    }

    fn reader(&self) -> Result<OneByOneReader, ConnectorError> {
        Ok(OneByOneReader {
            made: 1,
            polls: 0,
            has_arrived: Arc::clone(&self.0),
        })
    }
}

impl SourceReader for OneByOneReader {
    type Out = u64;
    type Split = u64;

    fn add_splits(&mut self, splits: Vec<u64>) -> Result<(), ConnectorError> {
        self.made = splits.into_iter().next().unwrap_or(self.made);
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<u64>, _limit: usize) -> Result<SourceStatus, ConnectorError> {
        if self.made == 0 {
            self.made = 1;
            out.push(7);
            return Ok(SourceStatus::More);
        }
        self.polls += 1;
        match self.has_arrived.load(Ordering::SeqCst) {
            true => Ok(SourceStatus::End),
            false if self.polls > 60_000 => Err(ConnectorError::new("the record does not arrive")),
            false => Ok(SourceStatus::Idle(Duration::from_millis(1))),
        }
    }

    fn snapshot(&self) -> Vec<u64> {
        vec![self.made]
    }
}

#[test]
fn a_record_does_not_wait_for_the_next() {
    let env = StreamExecutionEnvironment::new();
    let has_arrived = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&has_arrived);
    env.from_source(OneByOne(has_arrived), "one by one")
        .set_parallelism(1)
        .rebalance()
        .map(move |number| {
            seen.store(true, Ordering::SeqCst);
            number
        })
        .set_parallelism(2)
        .sink_to(Gather::new());
    env.execute("one by one").unwrap();
}

#[test]
fn a_broadcast_reaches_every_subtask() {
    let env = StreamExecutionEnvironment::new();
    let gathered = Gather::new();
    env.from_sequence(1, 10)
        .set_parallelism(1)
        .broadcast()
        .map(|number| number)
        .set_parallelism(4)
        .sink_to(gathered.clone());
    env.execute("broadcast").unwrap();
    assert_eq!(gathered.take().len(), 40);
}

#[test]
fn every_way_of_dealing_records_out_loses_and_doubles_none() {
    type Deal = fn(&DataStream<u64>) -> DataStream<u64>;
    let ways: [(&str, Deal); 4] = [
        ("rescale", DataStream::rescale),
        ("shuffle", DataStream::shuffle),
        ("rebalance", DataStream::rebalance),
        ("custom", |stream| {
            stream.partition_custom(|number, consumers| *number as u32 % consumers)
        }),
    ];
    for (name, deal) in ways {
        for (producers, consumers) in [(1, 4), (4, 1), (2, 3), (3, 2)] {
            let env = StreamExecutionEnvironment::new();
            let gathered = Gather::new();
            let numbers = env.from_sequence(1, 3_000).set_parallelism(producers);
            // Who has seen what: each subtask has a clone of the function, with a counter of its own.
            let mut seen = 0u64;
            deal(&numbers)
                .map(move |number| {
                    seen += 1;
                    (number, seen)
                })
                .set_parallelism(consumers)
                .sink_to(gathered.clone());
            env.execute(name).unwrap();
            let mut all = gathered.take();
            all.sort_unstable();
            let numbers: Vec<u64> = all.iter().map(|(number, _)| *number).collect();
            assert_eq!(
                numbers,
                (1..=3_000).collect::<Vec<_>>(),
                "{name} from {producers} to {consumers}"
            );
            let firsts = all.iter().filter(|(_, seen)| *seen == 1).count();
            assert_eq!(
                firsts, consumers as usize,
                "{name} from {producers} to {consumers}: all have work"
            );
        }
    }
}

#[test]
fn a_partitioner_that_chooses_a_subtask_that_there_is_not_fails_the_job() {
    let env = StreamExecutionEnvironment::new();
    env.set_restart_strategy(RestartStrategy::None);
    let numbers = env.from_sequence(1, 10).set_parallelism(1);
    numbers
        .partition_custom(|_, consumers| consumers)
        .map(|number| number)
        .set_parallelism(2)
        .print();
    let error = env.execute("nowhere").unwrap_err();
    assert!(
        error.to_string().contains("chose subtask 2, counted from 0, of 2"),
        "{error}"
    );
}

/// Keeps every kind of keyed state, and tells of them at the end.
#[derive(Clone)]
struct Kinds {
    sum: ValueState<u64>,
    seen: ListState<u64>,
    by_parity: MapState<String, u64>,
}

impl KeyedProcessFunction<u64, u64, String> for Kinds {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        state.register(&mut self.sum)?;
        state.register(&mut self.seen)?;
        state.register(&mut self.by_parity)
    }

    fn process_element(
        &mut self,
        number: u64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<(), BoxError> {
        *self.sum.get_or_default(context) += number;
        self.seen.add(context, number);
        let parity = if number.is_multiple_of(2) { "even" } else { "odd" };
        *self.by_parity.get_or_default(context, parity.to_owned()) += 1;
        if self.seen.get(context).len() == 100 {
            let parities: Vec<_> = self
                .by_parity
                .entries(context)
                .map(|(name, count)| format!("{name}={count}"))
                .collect();
            let sum = self.sum.get(context).copied().unwrap_or_default();
            out.collect(format!("{} {sum} {}", context.key(), parities.join(" ")));
        }
        Ok(())
    }

    fn end_of_input(&mut self, state: &mut AllKeys<'_, u64>, out: &mut Collector<'_, String>) -> Result<(), BoxError> {
        state.for_each(&self.sum, |key, sum| out.collect(format!("end {key} {sum}")));
        Ok(())
    }
}

#[test]
fn a_process_function_keeps_value_list_and_map_state_per_key() {
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(3);
    let gathered = Gather::new();
    env.from_sequence(0, 999)
        .key_by(|number| number % 10)
        .process(Kinds {
            sum: ValueState::new("sum"),
            seen: ListState::new("seen"),
            by_parity: MapState::new("parity"),
        })
        .uid("kinds")
        .sink_to(gathered.clone());
    env.execute("kinds").unwrap();
    let mut lines = gathered.take();
    lines.sort();
    let mut expected = Vec::new();
    for key in 0..10u64 {
        let sum: u64 = (0..100).map(|step| step * 10 + key).sum();
        let parity = if key % 2 == 0 { "even" } else { "odd" };
        expected.push(format!("{key} {sum} {parity}=100"));
        expected.push(format!("end {key} {sum}"));
    }
    expected.sort();
    assert_eq!(lines, expected);
}

fn lines_of(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
            lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    lines
}

/// What a job that fails once remembers of it.
struct Once {
    failed: AtomicBool,
    seen: AtomicU64,
}

impl Once {
    const fn new() -> Self {
        Self {
            failed: AtomicBool::new(false),
            seen: AtomicU64::new(0),
        }
    }
}

#[test]
fn a_job_that_fails_goes_back_to_its_checkpoint_and_its_output_stays_exact() {
    static ONCE: Once = Once::new();
    recovers(&ONCE, 7, |_| {});
}

#[test]
fn so_does_one_whose_checkpoints_build_upon_each_other() {
    static ONCE: Once = Once::new();
    recovers(&ONCE, 1_009, |checkpoints| {
        checkpoints
            .enable_incremental_checkpoints()
            .set_snapshot_compression(Compression::Zstd)
            .set_max_concurrent_checkpoints(2);
    });
}

fn recovers(once: &'static Once, keys: u64, configure: impl FnOnce(&streamd::CheckpointConfig)) {
    let folder = tempfile::tempdir().unwrap();
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2);
    configure(&env.enable_checkpointing(Duration::from_millis(20)));
    env.set_restart_strategy(RestartStrategy::FixedDelay {
        attempts: 3,
        delay_ms: 10,
    });
    env.from_source(
        GeneratorSource::new(Some(4_000), move |index| format!("key{}", index % keys)).rate(4_000),
        "keys",
    )
    .uid("keys")
    .map(move |key| {
        // Late enough that a checkpoint holds earlier records.
        if once.seen.fetch_add(1, Ordering::SeqCst) == 2_000 && !once.failed.swap(true, Ordering::SeqCst) {
            panic!("a poisoned record");
        }
        (key, 1u64)
    })
    .key_by(|event| event.0.clone())
    .reduce(|total, event| total.1 += event.1)
    .uid("counts")
    .map(|(key, count)| format!("{key},{count}"))
    .sink_to(FileSink::text(folder.path()))
    .uid("files");
    env.execute("recovers").unwrap();
    assert!(once.failed.load(Ordering::SeqCst));
    let updates = lines_of(folder.path()).into_iter().map(|line| {
        let (key, count) = line.split_once(',').unwrap();
        (key.to_owned(), count.parse().unwrap())
    });
    let totals = totals(updates.collect());
    assert_eq!(totals.values().sum::<u64>(), 4_000);
    assert_eq!(totals.len() as u64, keys);
}

#[test]
fn a_job_without_a_restart_strategy_fails_with_the_first_cause() {
    let env = StreamExecutionEnvironment::new();
    env.from_sequence(1, 10)
        .map(|number| if number == 7 { panic!("seven") } else { number })
        .print();
    let error = env.execute("fails").unwrap_err();
    assert!(error.to_string().contains("seven"), "{error}");
    assert_eq!(error.coded().code.to_string(), "SD-0405");
}

#[test]
fn a_job_without_steps_is_refused() {
    let error = StreamExecutionEnvironment::new().execute("empty").unwrap_err();
    assert_eq!(error.coded().code.to_string(), "SD-0207");
}

#[test]
fn forward_to_a_step_of_another_parallelism_is_refused() {
    let run = |parallelism: u32| {
        let env = StreamExecutionEnvironment::new();
        let numbers = env.from_sequence(1, 10).set_parallelism(1).forward();
        let same = numbers.map(|number| number).set_parallelism(parallelism);
        same.print().set_parallelism(parallelism);
        env.execute("forward")
    };
    assert!(run(1).is_ok());
    let error = run(2).unwrap_err();
    assert_eq!(error.coded().code.to_string(), "SD-0207");
    let words = "forward partitioning does not allow a change of parallelism: vertex `Source: sequence` has 1";
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn two_steps_with_one_uid_are_refused() {
    let env = StreamExecutionEnvironment::new();
    env.from_sequence(1, 10)
        .uid("same")
        .map(|number| number)
        .uid("same")
        .print();
    let error = env.execute("twins").unwrap_err();
    assert!(error.to_string().contains("same"), "{error}");
}
