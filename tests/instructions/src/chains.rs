//! Operators in a chain, given batches as a slot gives them.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;
use streamd_core::id::{Attempt, JobId, OperatorId, SubtaskId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::time::{EventTime, SystemClock, Watermark};
use streamd_exchange::Batch;
use streamd_runtime::alarm::Alarm;
use streamd_runtime::at_hand::AtHand;
use streamd_runtime::chain::{AnyLink, Chained, ControlEvent, Link, OpenContext, Operator, OperatorIdentity, Outputs};
use streamd_runtime::completions::{Calls, Completions};
use streamd_runtime::error::TaskError;
use streamd_runtime::late::LateCounter;
use streamd_runtime::operator::{Filter, FlatMap, Map, Reduce};
use streamd_runtime::record::{BATCH_RECORDS, Collector, Record};
use streamd_runtime::watermark::AlignmentGroups;
use streamd_runtime::window::{
    Lateness, ReduceContents, SlidingEventTimeWindows, SlidingWindowOperator, TumblingEventTimeWindows, WindowOperator,
    WindowOptions,
};
use streamd_state::SlotBackend;

use crate::counted::{counted, event, mix};

const KEY_GROUPS: u32 = 128;
const BATCHES: u64 = 200;
const EVENTS: u64 = BATCHES * BATCH_RECORDS as u64;

/// The benchmarks' *stateless*: map, filter, map, filter.
pub fn stateless() -> u64 {
    let last = before(Filter(|event: &(u64, i64)| !event.0.is_multiple_of(10)), end());
    let third = before(Map(|(key, value): (u64, i64)| (key ^ (key >> 7), value)), last);
    let second = before(Filter(|event: &(u64, i64)| event.0 & 7 != 0), third);
    let first = before(Map(|(key, value): (u64, i64)| (key, value * 3 + 1)), second);
    let mut chain = Chain::open(first);
    chain.process(events(0..BATCH_RECORDS as u64, 1_000_000));
    chain.count(events(0..EVENTS, 1_000_000))
}

/// The flat map of a word count. A record is a line of ten words.
pub fn word_split() -> u64 {
    let mut chain = Chain::open(before(FlatMap(split), end()));
    chain.process(lines(1));
    chain.count(lines(20))
}

/// The counts of a word count. A record is a word.
pub fn word_counts() -> u64 {
    let words = |batches| {
        let words = lines(batches).into_iter().flat_map(|mut lines| {
            let mut words = Batch::new();
            for line in lines.untimed().drain(..) {
                split(line, &mut Collector::new(&mut words, EventTime::MIN));
            }
            words.into_records()
        });
        batches_of(words)
    };
    let add = |count: &mut (SmolStr, u64), word: (SmolStr, u64)| count.1 += word.1;
    let mut chain = Chain::open(before(Reduce::new(add, |word: &(SmolStr, u64)| word.0.clone()), end()));
    chain.process(words(20));
    chain.count(words(20))
}

/// The benchmarks' *keyed-sum*, over a thousand keys.
pub fn keyed_sum_hot() -> u64 {
    keyed_sum(1000)
}

/// The same, over many keys.
pub fn keyed_sum_many() -> u64 {
    keyed_sum(100_000)
}

fn keyed_sum(keys: u64) -> u64 {
    let mut chain = Chain::open(sums());
    chain.process(batches_of((0..keys).map(|index| (mix(index + 1), 0))));
    chain.count(events(0..EVENTS, keys))
}

/// The same, where each key is a new one.
pub fn keyed_sum_new() -> u64 {
    let mut chain = Chain::open(sums());
    chain.process(batches_of(std::iter::once((0, 0))));
    chain.count(batches_of((0..EVENTS).map(|index| (mix(index + 1), 1))))
}

fn sums() -> Box<dyn Link<(u64, i64)>> {
    let add = |sum: &mut (u64, i64), event: (u64, i64)| sum.1 += event.1;
    before(Reduce::new(add, |event: &(u64, i64)| event.0), end())
}

/// Sums over a minute, every ten seconds, for a thousand keys: 500 records a second, and a watermark after every batch.
pub fn sliding_window() -> u64 {
    sliding(Duration::from_mins(1), 1000, 2)
}

/// Sums over a hundred minutes, every ten seconds, for ten keys: 5 records a second. There are as many windows that end for each
/// record as above, and each has a hundred times as many panes.
pub fn long_sliding_window() -> u64 {
    sliding(Duration::from_mins(100), 10, 200)
}

/// Sums every ten seconds, with so many milliseconds between two records.
fn sliding(size: Duration, keys: u64, milliseconds: i64) -> u64 {
    let windows = SlidingEventTimeWindows::of(size, Duration::from_secs(10));
    let add = ReduceContents(|sum: &mut (u64, i64), event: (u64, i64)| sum.1 += event.1);
    let operator = SlidingWindowOperator::<u64, (u64, i64), (u64, i64), _, _>::new(
        windows,
        add,
        Lateness::default(),
        |event: &(u64, i64)| event.0,
    );
    windowed(operator.expect("the windows overlap"), keys, milliseconds)
}

/// Sums of ten seconds each, for a thousand keys: 500 records a second, and a watermark after every batch.
pub fn tumbling_window() -> u64 {
    let assigner = TumblingEventTimeWindows::of(Duration::from_secs(10));
    let options = WindowOptions {
        assigner,
        trigger: assigner.default_trigger(),
        lateness: Lateness::default(),
    };
    let add = ReduceContents(|sum: &mut (u64, i64), event: (u64, i64)| sum.1 += event.1);
    let operator =
        WindowOperator::<u64, (u64, i64), (u64, i64), _, _, _>::new(options, add, |event: &(u64, i64)| event.0);
    windowed(operator, 1000, 2)
}

fn windowed(operator: impl Operator<(u64, i64), (u64, i64)>, keys: u64, milliseconds: i64) -> u64 {
    let mut chain = Chain::open(before(operator, end()));
    let mut time = 0;
    let timed = events(0..EVENTS, keys).into_iter().map(|mut batch| {
        batch.assign_timestamps(|_, _| {
            time += milliseconds;
            EventTime(time)
        });
        batch
    });
    let mut batches: Vec<_> = timed.collect();
    // As long as a window: all panes of a window are there then.
    let rest = batches.split_off(30);
    let mut step = |mut batch: Batch<(u64, i64)>| {
        let until = batch.timestamp(batch.len() - 1);
        chain.link.process(&mut batch).expect("no record is refused");
        chain.advance(until);
    };
    batches.into_iter().for_each(&mut step);
    let records = rest.iter().map(Batch::len).sum::<usize>() as u64;
    let mut rest = rest.into_iter();
    counted(&mut || rest.by_ref().for_each(&mut step));
    records
}

fn events(indices: std::ops::Range<u64>, keys: u64) -> Vec<Batch<(u64, i64)>> {
    batches_of(indices.map(|index| event(index, keys)))
}

fn lines(batches: u64) -> Vec<Batch<String>> {
    let word = |index: u64| {
        let id = mix(mix(index) % 5000);
        let letters = (0..2 + (id & 7)).map(|letter| char::from(b'a' + (id >> (letter * 5 + 8) & 0xF) as u8));
        letters.collect::<String>()
    };
    let line = |line: u64| {
        (0..10)
            .map(|index| word(line * 10 + index))
            .collect::<Vec<_>>()
            .join(" ")
    };
    batches_of((0..batches * BATCH_RECORDS as u64).map(line))
}

fn split(line: String, out: &mut Collector<'_, (SmolStr, u64)>) {
    line.split(' ').for_each(|word| out.collect((SmolStr::from(word), 1)));
}

fn batches_of<T>(records: impl Iterator<Item = T>) -> Vec<Batch<T>> {
    let mut records = records.peekable();
    let mut batches = Vec::new();
    while records.peek().is_some() {
        batches.push(Batch::from(records.by_ref().take(BATCH_RECORDS).collect::<Vec<_>>()));
    }
    batches
}

/// A chain that is open.
struct Chain<T> {
    link: Box<dyn Link<T>>,
    /// Outlives the chain, which may not need it.
    _io: tokio::runtime::Runtime,
}

impl<T: Record> Chain<T> {
    fn open(mut link: Box<dyn Link<T>>) -> Self {
        let io = tokio::runtime::Builder::new_current_thread().build();
        let io = io.expect("a runtime without threads can be had");
        let mut context = OpenContext {
            job_id: JobId::from_bytes([0; 16]),
            attempt: Attempt(1),
            subtask: SubtaskId { vertex: 0, index: 0 },
            parallelism: 1,
            key_groups: KeyGroupRange::all(KEY_GROUPS),
            max_parallelism: KEY_GROUPS,
            nonce: "counted".to_owned(),
            state: BTreeMap::new(),
            backend: SlotBackend::default(),
            restored_at_once: streamd_state::AT_ONCE_BYTES,
            io: io.handle().clone(),
            clock: Arc::new(SystemClock::new()),
            at_hand: AtHand::default(),
            alarm: Alarm::default(),
            completions: Completions::default(),
            late_dropped: LateCounter::default(),
            source: None,
            alignment: AlignmentGroups::default(),
        };
        let opened = link.control(&mut ControlEvent::Open(&mut context));
        opened.expect("there is no state to restore");
        Self { link, _io: io }
    }

    fn process(&mut self, batches: Vec<Batch<T>>) {
        for mut batch in batches {
            self.link.process(&mut batch).expect("no record is refused");
        }
    }

    /// Counts the work on these.
    fn count(&mut self, batches: Vec<Batch<T>>) -> u64 {
        let records = batches.iter().map(Batch::len).sum::<usize>() as u64;
        let mut batches = Some(batches);
        counted(&mut || self.process(batches.take().unwrap_or_default()));
        records
    }

    fn advance(&mut self, time: EventTime) {
        let mut busy = false;
        let mut event = ControlEvent::Watermark(Watermark::Time(time), &mut busy);
        self.link.control(&mut event).expect("no window fails");
        while busy {
            busy = self.link.resume().expect("no window fails");
        }
    }
}

/// The operator, with what follows it.
fn before<In, Out, Op>(operator: Op, next: Box<dyn Link<Out>>) -> Box<dyn Link<In>>
where
    In: Send + 'static,
    Out: Record,
    Op: Operator<In, Out>,
{
    let identity = OperatorIdentity {
        id: OperatorId::from_uid("counted"),
        label: Arc::from("counted"),
    };
    let outputs = Outputs {
        main: vec![AnyLink::new(next)],
        sides: Vec::new(),
    };
    Box::new(Chained::new(identity, operator, outputs).expect("the types of neighbours agree"))
}

fn end<T: Record>() -> Box<dyn Link<T>> {
    Box::new(End)
}

/// Where records end.
struct End;

impl<T: Record> Link<T> for End {
    fn process(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        black_box(batch.records());
        batch.clear();
        Ok(())
    }

    fn control(&mut self, _event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn resume(&mut self) -> Result<bool, TaskError> {
        Ok(false)
    }

    fn has_room(&self) -> bool {
        true
    }

    fn calls(&self) -> Calls {
        Calls::None
    }
}
