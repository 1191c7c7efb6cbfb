//! State of every kind through whole jobs that fail in their midst, with exact output.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod committed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use streamd::connectors::strided::StridedSplit;
use streamd::prelude::*;
use streamd::{
    AsyncDataStream, AsyncFunction, BroadcastContext, BroadcastProcessFunction, BroadcastState, CoProcessFunction,
    ConnectorError, Guarantee, Source, SourceReader, SourceStatus, StateTtlConfig, UpdateType,
};

use committed::lines;

type Done = std::result::Result<(), BoxError>;

const NUMBERS: u64 = 4_000;
const HALF: u64 = NUMBERS / 2;
const SUBTASKS: u32 = 3;

/// All numbers. The second half waits until a checkpoint is complete, which is seen in the output; what goes before it waits for
/// another gate.
#[derive(Clone)]
struct Numbers {
    gate: Arc<AtomicU64>,
    opens_at: u64,
    output: PathBuf,
}

struct NumbersReader {
    splits: Vec<StridedSplit>,
    source: Numbers,
}

impl Source for Numbers {
    type Out = u64;
    type Split = StridedSplit;
    type Reader = NumbersReader;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, parallelism: u32) -> std::result::Result<Vec<StridedSplit>, ConnectorError> {
        Ok(StridedSplit::cut(parallelism, Some(NUMBERS)))
    }

    fn reader(&self) -> std::result::Result<NumbersReader, ConnectorError> {
        Ok(NumbersReader {
            splits: Vec::new(),
            source: self.clone(),
        })
    }
}

impl SourceReader for NumbersReader {
    type Out = u64;
    type Split = StridedSplit;

    fn add_splits(&mut self, splits: Vec<StridedSplit>) -> std::result::Result<(), ConnectorError> {
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<u64>, limit: usize) -> std::result::Result<SourceStatus, ConnectorError> {
        let Some(split) = self.splits.iter_mut().find(|split| split.next < NUMBERS) else {
            return Ok(SourceStatus::End);
        };
        let is_closed = match split.next {
            ..HALF => self.source.gate.load(Ordering::SeqCst) < self.source.opens_at,
            HALF.. => !self.source.output.exists() || lines(&self.source.output).is_empty(),
        };
        if is_closed {
            return Ok(SourceStatus::Idle(Duration::from_millis(2)));
        }
        let end = if split.next < HALF { HALF } else { NUMBERS };
        for _ in 0..limit.min(50) {
            if split.next >= end {
                break;
            }
            out.push(split.next);
            split.next += split.stride;
        }
        Ok(SourceStatus::More)
    }

    fn snapshot(&self) -> Vec<StridedSplit> {
        self.splits.clone()
    }
}

/// A job that fails once behind its first checkpoint, and what it has committed in the end.
struct Job {
    env: StreamExecutionEnvironment,
    folder: tempfile::TempDir,
    gate: Arc<AtomicU64>,
}

impl Job {
    fn new() -> Self {
        let env = StreamExecutionEnvironment::new();
        env.set_parallelism(SUBTASKS);
        env.enable_checkpointing(Duration::from_millis(10));
        env.set_restart_strategy(RestartStrategy::FixedDelay {
            attempts: 1,
            delay_ms: 0,
        });
        Self {
            env,
            folder: tempfile::tempdir().unwrap(),
            gate: Arc::default(),
        }
    }

    /// All numbers, once the gate was passed so often; one of them fails the first attempt.
    fn numbers(&self, opens_at: u64) -> DataStream<u64> {
        let numbers = Numbers {
            gate: Arc::clone(&self.gate),
            opens_at,
            output: self.folder.path().to_owned(),
        };
        let failed = Arc::new(AtomicBool::new(false));
        self.env
            .from_source(numbers, "numbers")
            .uid("numbers")
            .map(move |number| {
                let is_poison = number == HALF + 100 && !failed.swap(true, Ordering::SeqCst);
                assert!(!is_poison, "a poisoned record");
                number
            })
    }

    fn run(self, output: &DataStream<String>) -> Vec<String> {
        output.sink_to(FileSink::text(self.folder.path())).uid("output");
        self.env.execute("state").unwrap();
        lines(self.folder.path())
    }
}

fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines
}

/// Hands numbers on in groups, of which a part waits in state at any time.
#[derive(Clone)]
struct InGroups {
    waiting: OperatorListState<u64>,
}

impl ProcessFunction<u64, String> for InGroups {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Done {
        state.get_list_state(&mut self.waiting)
    }

    fn process_element(
        &mut self,
        number: u64,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Done {
        self.waiting.add(context, number);
        if self.waiting.get(context).len() >= 37 {
            for number in self.waiting.clear(context) {
                out.collect(number.to_string());
            }
        }
        Ok(())
    }

    fn end_of_input(&mut self, context: &mut ProcessContext<'_>, out: &mut Collector<'_, String>) -> Done {
        for number in self.waiting.clear(context) {
            out.collect(number.to_string());
        }
        Ok(())
    }
}

#[test]
fn what_waits_in_a_list_is_neither_lost_nor_doubled_by_a_failure() {
    let job = Job::new();
    let groups = InGroups {
        waiting: OperatorListState::new("waiting"),
    };
    let output = job.numbers(0).process(groups).uid("groups");
    assert_eq!(job.run(&output), sorted((0..NUMBERS).map(|number| number.to_string())));
}

/// Multiplies by what the second stream says last, per subtask, and remembers it.
#[derive(Clone)]
struct Multiplied {
    factors: BroadcastState<u64, u64>,
    known: Arc<AtomicU64>,
}

const FACTORS: [(u64, u64); 4] = [(0, 10), (1, 100), (2, 1_000), (3, 10_000)];

impl BroadcastProcessFunction<u64, (u64, u64), String> for Multiplied {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Done {
        state.get_broadcast_state(&mut self.factors)
    }

    fn process_element(
        &mut self,
        number: u64,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Done {
        let factor = self
            .factors
            .get(context, &(number % 4))
            .ok_or("a factor is not known")?;
        out.collect((number * factor).to_string());
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        (rest, factor): (u64, u64),
        context: &mut BroadcastContext<'_>,
        _out: &mut Collector<'_, String>,
    ) -> Done {
        self.factors.put(context, rest, factor);
        self.known.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn broadcast_state_beside_a_stream_without_keys_is_known_after_a_failure() {
    let job = Job::new();
    // The factors are read once: after the failure they are known from state alone.
    let factors = job
        .env
        .from_collection(FACTORS.to_vec())
        .uid("factors")
        .set_parallelism(1);
    let everywhere = FACTORS.len() as u64 * u64::from(SUBTASKS);
    let multiplied = Multiplied {
        factors: BroadcastState::new("factors"),
        known: Arc::clone(&job.gate),
    };
    let output = job
        .numbers(everywhere)
        .connect_broadcast(&factors)
        .process(multiplied)
        .uid("multiplied");
    let factors: BTreeMap<u64, u64> = FACTORS.into_iter().collect();
    let expected = (0..NUMBERS).map(|number| (number * factors[&(number % 4)]).to_string());
    assert_eq!(job.run(&output), sorted(expected));
}

/// Pairs each number of the first stream with one of the second, whichever comes first in its subtask; pairs have one half each.
#[derive(Clone)]
struct Pairs {
    first: OperatorListState<u64>,
    second: OperatorListState<u64>,
}

impl CoProcessFunction<u64, u64, String> for Pairs {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Done {
        state.get_list_state(&mut self.first)?;
        state.get_list_state(&mut self.second)
    }

    fn process_element1(
        &mut self,
        number: u64,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Done {
        match self.second.get_mut(context).pop() {
            Some(other) => out.collect(format!("{number} {other}")),
            None => self.first.add(context, number),
        }
        Ok(())
    }

    fn process_element2(
        &mut self,
        number: u64,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Done {
        match self.first.get_mut(context).pop() {
            Some(other) => out.collect(format!("{other} {number}")),
            None => self.second.add(context, number),
        }
        Ok(())
    }
}

#[test]
fn a_function_over_two_streams_keeps_what_has_no_partner_yet() {
    let job = Job::new();
    let numbers = job.numbers(0);
    let others = numbers.map(|number| number + NUMBERS);
    let pairs = Pairs {
        first: OperatorListState::new("first"),
        second: OperatorListState::new("second"),
    };
    let output = numbers.connect(&others).process(pairs).uid("pairs").set_parallelism(1);
    let mut halves = BTreeSet::new();
    for pair in job.run(&output) {
        let (first, second) = pair.split_once(' ').unwrap();
        let (first, second): (u64, u64) = (first.parse().unwrap(), second.parse().unwrap());
        assert!(first < NUMBERS && second >= NUMBERS, "{pair}");
        assert!(
            halves.insert(first) && halves.insert(second),
            "{pair} has a half that another has"
        );
    }
    assert_eq!(halves.len() as u64, 2 * NUMBERS, "everything has found a partner");
}

/// Counts per key, and remembers the last numbers, in state that lives for an hour.
#[derive(Clone)]
struct Remembered {
    count: ValueState<u64>,
    last: ListState<u64>,
    seen: MapState<u64, u64>,
}

impl KeyedProcessFunction<u64, u64, String> for Remembered {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Done {
        state.register(&mut self.count)?;
        state.register(&mut self.last)?;
        state.register(&mut self.seen)
    }

    fn process_element(
        &mut self,
        number: u64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Done {
        *self.count.get_or_default(context) += 1;
        self.last.add(context, number);
        *self.seen.get_or_default(context, number % 2) += 1;
        let count = self.count.get(context).copied().unwrap_or(0);
        let last = self.last.get(context).len() as u64;
        let seen: u64 = self.seen.entries(context).map(|(_, seen)| *seen).sum();
        out.collect(format!("{} {count} {last} {seen}", context.key()));
        Ok(())
    }
}

#[test]
fn state_with_a_time_to_live_survives_a_failure_like_any_other() {
    let job = Job::new();
    let hour = StateTtlConfig::new(Duration::from_secs(3_600))
        .update_type(UpdateType::OnReadAndWrite)
        .cleanup_full_snapshot();
    let remembered = Remembered {
        count: ValueState::new("count").enable_time_to_live(hour),
        last: ListState::new("last").enable_time_to_live(hour),
        seen: MapState::new("seen").enable_time_to_live(hour),
    };
    let output = job
        .numbers(0)
        .key_by(|number| number % 17)
        .process(remembered)
        .uid("remembered");
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let expected = (0..NUMBERS).map(|number| {
        let count = counts.entry(number % 17).or_default();
        *count += 1;
        format!("{} {count} {count} {count}", number % 17)
    });
    let expected = sorted(expected);
    assert_eq!(job.run(&output), expected);
}

/// Looks a number up, which takes a while: now longer, now shorter.
#[derive(Clone)]
struct LookUp;

impl AsyncFunction<u64, String> for LookUp {
    async fn async_invoke(&self, number: u64) -> std::result::Result<Vec<String>, BoxError> {
        let micros = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 53;
        tokio::time::sleep(Duration::from_micros(micros)).await;
        Ok(vec![format!("{number} looked up")])
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn asynchronous_calls_have_exact_results_over_a_failure() {
    let expected = sorted((0..NUMBERS).map(|number| format!("{number} looked up")));
    for ordered in [true, false] {
        let job = Job::new();
        let numbers = job.numbers(0);
        let looked_up = match ordered {
            true => AsyncDataStream::ordered_wait(&numbers, LookUp, HOUR, 20),
            false => AsyncDataStream::unordered_wait(&numbers, LookUp, HOUR, 20),
        };
        assert_eq!(job.run(&looked_up.uid("looked up")), expected, "ordered: {ordered}");
    }
}

#[test]
fn no_window_closes_before_the_calls_of_its_records_are_back() {
    let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
    for number in 0..NUMBERS {
        *sums.entry(number / 100).or_default() += number;
    }
    let expected = sorted(sums.iter().map(|(window, sum)| format!("{window} {sum}")));
    for ordered in [true, false] {
        let job = Job::new();
        let numbers = job.numbers(0).assign_timestamps_and_watermarks(
            WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(|number: &u64, _| *number as i64),
        );
        let slow = |number: u64| async move {
            let micros = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 53;
            tokio::time::sleep(Duration::from_micros(micros)).await;
            Ok(vec![number])
        };
        let called: DataStream<u64> = match ordered {
            true => AsyncDataStream::ordered_wait(&numbers, slow, HOUR, 20),
            false => AsyncDataStream::unordered_wait(&numbers, slow, HOUR, 20),
        };
        let windows = called
            .uid("called")
            .key_by(|_| 0u8)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(100)));
        let sums = windows.reduce_with(
            |sum, number| *sum += number,
            |context: &mut WindowContext<'_, u8>, sums: &[u64], out: &mut Collector<'_, String>| {
                out.collect(format!("{} {}", context.window().start / 100, sums[0]));
                Ok(())
            },
        );
        assert_eq!(job.run(&sums.uid("sums")), expected, "ordered: {ordered}");
    }
}

/// Counts what was looked up, to the end.
#[derive(Clone)]
struct CountToTheEnd {
    count: OperatorListState<u64>,
}

impl ProcessFunction<String, u64> for CountToTheEnd {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Done {
        state.get_list_state(&mut self.count)
    }

    fn process_element(&mut self, _: String, context: &mut ProcessContext<'_>, _: &mut Collector<'_, u64>) -> Done {
        let before = self.count.clear(context).iter().sum::<u64>();
        self.count.add(context, before + 1);
        Ok(())
    }

    fn end_of_input(&mut self, context: &mut ProcessContext<'_>, out: &mut Collector<'_, u64>) -> Done {
        self.count
            .clear(context)
            .into_iter()
            .for_each(|count| out.collect(count));
        Ok(())
    }
}

#[test]
fn the_end_of_the_input_waits_for_every_call_in_every_step_of_a_chain() {
    let folder = tempfile::tempdir().unwrap();
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2);
    let numbers = env.from_sequence(1, 100);
    let first = AsyncDataStream::unordered_wait(&numbers, LookUp, HOUR, 7);
    let counts = first.process(CountToTheEnd {
        count: OperatorListState::new("count"),
    });
    // What is emitted at the end is looked up as well.
    let second = AsyncDataStream::ordered_wait(&counts, LookUp, HOUR, 1);
    second.sink_to(FileSink::text(folder.path())).uid("output");
    env.execute("to the end").unwrap();
    let counted = lines(folder.path())
        .iter()
        .map(|line| line.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum::<u64>();
    assert_eq!(counted, 100);
}

#[test]
fn a_capacity_of_nothing_is_refused_before_anything_runs() {
    let env = StreamExecutionEnvironment::new();
    AsyncDataStream::ordered_wait(&env.from_sequence(1, 10), LookUp, HOUR, 0).print();
    let error = env.execute("nothing").unwrap_err();
    assert!(error.to_string().contains("a capacity of 0"), "{error}");
}
