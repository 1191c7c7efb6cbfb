//! The benchmark cases, as one application: runs by hand or on a cluster, prints one JSON line when the input has ended.
//!
//! ```sh
//! bench keyed-sum keys=1000000 events=100000000 parallelism=1
//! bench stateless events=200000000
//! bench wordcount file=words.txt           # with output=FOLDER: the totals, in files
//! bench latency seconds=35                # 100,000 events/s, of which the first 10 s do not count
//! bench bigstate keys=10000000 bytes=100   # then goes on at 20,000 events/s: for savepoints and kills
//! bench channel bytes=100                  # without end: texts from one subtask to another in a slot of its own
//! bench trickle rate=1 keyed=1             # without end: what a job costs that has nothing to do
//! bench limit-keyed-sum keys=1000000       # as loops by hand; -prefetching, -exchange, limit-stateless, limit-wordcount
//! bench text file=words.txt bytes=300000000
//! ```
//!
//! `checkpoint_ms=10000` (the default for by-hand runs is no checkpoints) takes checkpoints meanwhile. The rate and the CPU
//! nanoseconds per event are taken over the last 80 % of the events, the latter for the whole process.

mod events;
mod latency;
mod limits;
mod stats;
mod text;

use std::collections::BTreeMap;

use streamd::prelude::*;
use streamd::window::CountTrigger;
use streamd::{ConnectorError, SmolStr};

use crate::stats::StatsSink;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> streamd::Result<()> {
    let arguments = Arguments::parse();
    let env = StreamExecutionEnvironment::new();
    if let Some(parallelism) = arguments.optional("parallelism") {
        env.set_parallelism(parallelism as u32);
    }
    if let Some(interval) = arguments.optional("checkpoint_ms") {
        env.enable_checkpointing(Duration::from_millis(interval));
    }
    match arguments.case.as_str() {
        "keyed-sum" => keyed_sum(&env, &arguments),
        "stateless" => stateless(&env, &arguments),
        "wordcount" => wordcount(&env, &arguments),
        "bigstate" => bigstate(&env, &arguments),
        "latency" => latency(&env, &arguments),
        "channel" => channel(&env, &arguments),
        "trickle" => trickle(&env, &arguments),
        limit if by_hand(limit, &arguments) => return Ok(()),
        other => usage(&format!("unknown case `{other}`")),
    }
    env.execute(arguments.case)?;
    Ok(())
}

/// `keyBy(key) -> keyed state sum += value -> emit (key, sum) -> discard`.
fn keyed_sum(env: &StreamExecutionEnvironment, arguments: &Arguments) {
    let (keys, events) = (
        arguments.number("keys", 1_000_000),
        arguments.number("events", 50_000_000),
    );
    env.from_source(
        GeneratorSource::new(Some(events), move |index| events::event(index, keys)),
        "events",
    )
    .uid("events")
    .key_by(|event| event.0)
    .reduce(|sum: &mut (u64, i64), event| sum.1 += event.1)
    .uid("sums")
    .sink_to(StatsSink::new(
        format!("keyed-sum-k{keys}"),
        events,
        |sum: &(u64, i64)| sum.0 ^ sum.1 as u64,
    ));
}

/// `map value*3+1; keep key & 7 != 0; map key ^ (key >>> 7); keep key % 10 != 0; sum key + value`.
fn stateless(env: &StreamExecutionEnvironment, arguments: &Arguments) {
    let events = arguments.number("events", 100_000_000);
    env.from_source(
        GeneratorSource::new(Some(events), |index| events::event(index, 1_000_000)),
        "events",
    )
    .uid("events")
    .map(|(key, value)| (key, value.wrapping_mul(3).wrapping_add(1)))
    .filter(|event| event.0 & 7 != 0)
    .map(|(key, value)| (key ^ (key >> 7), value))
    .filter(|event| event.0 % 10 != 0)
    .sink_to(StatsSink::new("stateless".to_owned(), events, |event: &(u64, i64)| {
        event.0.wrapping_add(event.1 as u64)
    }));
}

/// One update for each word of a text, discarded. With `output=FOLDER`, one total for each at the end, in files there.
fn wordcount(env: &StreamExecutionEnvironment, arguments: &Arguments) {
    let Some(file) = arguments.text("file") else {
        return usage("wordcount needs file=PATH");
    };
    let words = env
        .from_source(FileSource::text_lines(file), "lines")
        .uid("lines")
        .flat_map(|line: String, out: &mut streamd::Collector<'_, (SmolStr, u64)>| {
            line.split(' ').for_each(|word| out.collect((SmolStr::from(word), 1)));
        })
        .key_by(|word| word.0.clone());
    if let Some(folder) = arguments.text("output") {
        let totals = Totals {
            count: ValueState::new("count"),
        };
        let totals = words.process(totals).uid("totals");
        totals.sink_to(FileSink::text(folder)).uid("results");
        return;
    }
    words
        .reduce(|total: &mut (SmolStr, u64), word| total.1 += word.1)
        .uid("counts")
        .sink_to(StatsSink::new("wordcount".to_owned(), 0, |count: &(SmolStr, u64)| {
            count.1
        }));
}

/// Counts words, and tells how many there were of each when the input has ended.
#[derive(Clone)]
struct Totals {
    count: ValueState<u64>,
}

impl KeyedProcessFunction<SmolStr, (SmolStr, u64), String> for Totals {
    fn open(&mut self, state: &mut KeyedStateStore<'_, SmolStr>) -> Result<(), BoxError> {
        state.register(&mut self.count)
    }

    fn process_element(
        &mut self,
        word: (SmolStr, u64),
        context: &mut KeyedContext<'_, SmolStr>,
        _out: &mut streamd::Collector<'_, String>,
    ) -> Result<(), BoxError> {
        *self.count.get_or_default(context) += word.1;
        Ok(())
    }

    fn end_of_input(
        &mut self,
        state: &mut AllKeys<'_, SmolStr>,
        out: &mut streamd::Collector<'_, String>,
    ) -> Result<(), BoxError> {
        state.for_each(&self.count, |word, count| out.collect(format!("{word}\t{count}")));
        Ok(())
    }
}

/// *keyed-sum* at 100,000 events a second, and how late its results are.
fn latency(env: &StreamExecutionEnvironment, arguments: &Arguments) {
    let per_second = arguments.number("rate", 100_000).max(1000);
    let source = latency::Paced {
        per_tick: per_second / 1000,
        events: per_second * arguments.number("seconds", 35),
    };
    env.from_source(source, "events")
        .uid("events")
        .key_by(|event| event.0)
        .reduce(|sum: &mut latency::Due, event| *sum = (sum.0, sum.1 + event.1, event.2))
        .uid("sums")
        .sink_to(latency::LatencySink);
}

/// Texts of `bytes` bytes (100) and their numbers, as fast as can be and without end, from a subtask to one that is in another slot.
fn channel(env: &StreamExecutionEnvironment, arguments: &Arguments) {
    let text = "x".repeat(arguments.number("bytes", 100) as usize);
    let sink = StatsSink::new("channel".to_owned(), 0, |record: &(u64, String)| record.0);
    env.from_source(GeneratorSource::new(None, move |index| (index, text.clone())), "texts")
        .uid("texts")
        .slot_sharing_group("senders")
        .filter(|_| true)
        .slot_sharing_group("receivers")
        .sink_to(sink.timeline(arguments.text("timeline")));
}

/// *keyed-sum* at `rate` events a second and subtask (1), without end. Without `keyed=1` nothing goes from one subtask to another, and
/// the job has as many subtasks as its parallelism.
fn trickle(env: &StreamExecutionEnvironment, arguments: &Arguments) {
    let source = GeneratorSource::new(None, |index| events::event(index, 1_000)).rate(arguments.number("rate", 1));
    let events = env.from_source(source, "events").uid("events");
    let sink = StatsSink::new("trickle".to_owned(), 0, |event: &(u64, i64)| event.0);
    match arguments.number("keyed", 0) {
        0 => drop(events.sink_to(sink)),
        _ => {
            let sums = events.key_by(|event| event.0);
            let sums = sums.reduce(|sum: &mut (u64, i64), event| sum.1 += event.1).uid("sums");
            drop(sums.sink_to(sink));
        }
    }
}

/// Runs a case that is no job. Whether it is one.
fn by_hand(case: &str, arguments: &Arguments) -> bool {
    let (keys, events) = (
        arguments.number("keys", 1_000_000),
        arguments.number("events", 100_000_000),
    );
    let file = || {
        arguments
            .text("file")
            .unwrap_or_else(|| usage("this case needs file=PATH"))
    };
    match case {
        "limit-keyed-sum" => limits::keyed_sum(keys, events),
        "limit-keyed-sum-prefetching" => limits::keyed_sum_prefetching(keys, events),
        "limit-keyed-sum-exchange" => limits::keyed_sum_exchange(keys, events),
        "limit-stateless" => limits::stateless(events),
        "limit-wordcount" => limits::wordcount(file()),
        "text" => text::write(file(), arguments.number("bytes", 300_000_000)),
        _ => return false,
    }
    true
}

/// Loads `keys` keys of `bytes` bytes each, then goes on touching 1 % of them at `rate` (20,000) events a second, without end:
/// with `random=1` keys at random out of all, with `rate=0` as fast as can be. `timeline=FILE` says how it goes meanwhile. With `timers=1`
/// each key has a timer that is due in an hour or two; with `windows=1` the bytes are those of a window of a day.
fn bigstate(env: &StreamExecutionEnvironment, arguments: &Arguments) {
    let (keys, bytes) = (
        arguments.number("keys", 1_000_000),
        arguments.number("bytes", 100) as usize,
    );
    let events = env.from_source(
        events::LoadThenTrickle {
            keys,
            rate: arguments.number("rate", 20_000),
            at_random: arguments.number("random", 0) != 0,
        },
        "events",
    );
    let events = events.uid("events");
    let touched = match arguments.number("windows", 0) {
        0 => events.key_by(|key| *key).process(Touch {
            bytes,
            timers: arguments.number("timers", 0) != 0,
            value: ValueState::new("value"),
        }),
        _some => {
            let all_of_a_day = WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(|_, _| 0);
            let windows = events.assign_timestamps_and_watermarks(all_of_a_day).key_by(|key| *key);
            let windows = windows.window(TumblingEventTimeWindows::of(Duration::from_hours(24)));
            windows.trigger(CountTrigger::of(1)).aggregate(Held { bytes })
        }
    };
    touched.uid("values").sink_to(
        StatsSink::new(format!("bigstate-k{keys}"), 0, |touched: &u64| *touched).timeline(arguments.text("timeline")),
    );
}

/// Keeps `bytes` bytes for each key, and changes the first of them with each event.
#[derive(Clone)]
struct Touch {
    bytes: usize,
    timers: bool,
    // What Flink's `byte[]` is.
    value: ValueState<Box<[u8]>>,
}

impl KeyedProcessFunction<u64, u64, u64> for Touch {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        if self.timers {
            state.use_timers()?;
        }
        state.register(&mut self.value)
    }

    fn process_element(
        &mut self,
        key: u64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut streamd::Collector<'_, u64>,
    ) -> Result<(), BoxError> {
        if self.timers && self.value.get(context).is_none() {
            let mut timers = context.timer_service();
            let hour = 3_600_000;
            let due = timers.current_processing_time().0 + hour + (key % hour as u64) as i64;
            timers.register_processing_time_timer(WallTime(due));
        }
        let value = self
            .value
            .get_or_insert_with(context, || events::payload(key, self.bytes));
        if let Some(first) = value.first_mut() {
            *first = first.wrapping_add(1);
        }
        out.collect(key);
        Ok(())
    }
}

/// The same for a window.
#[derive(Clone)]
struct Held {
    bytes: usize,
}

impl AggregateFunction<u64> for Held {
    type Accumulator = Box<[u8]>;
    type Output = u64;

    fn create_accumulator(&self) -> Box<[u8]> {
        Box::default()
    }

    fn add(&self, key: u64, value: &mut Box<[u8]>) {
        if value.is_empty() {
            *value = events::payload(key, self.bytes);
        }
        if let Some(first) = value.first_mut() {
            *first = first.wrapping_add(1);
        }
    }

    fn get_result(&self, value: &Box<[u8]>) -> u64 {
        value.len() as u64
    }

    fn merge(&self, value: &mut Box<[u8]>, other: Box<[u8]>) {
        *value = other;
    }
}

/// The keys that arguments may have. One that no case knows would change nothing, and its figures would be taken for something else.
const KEYS: [&str; 14] = [
    "bytes",
    "checkpoint_ms",
    "events",
    "file",
    "keyed",
    "keys",
    "output",
    "parallelism",
    "random",
    "rate",
    "seconds",
    "timeline",
    "timers",
    "windows",
];

/// `case key=value …`
struct Arguments {
    case: String,
    values: BTreeMap<String, String>,
}

impl Arguments {
    fn parse() -> Self {
        let mut arguments = std::env::args().skip(1);
        let case = arguments.next().unwrap_or_else(|| usage("no case given"));
        let values = arguments.map(|argument| match argument.split_once('=') {
            Some((key, value)) if KEYS.contains(&key) => (key.to_owned(), value.to_owned()),
            Some((key, _)) => usage(&format!("`{key}` is none of the keys {}", KEYS.join(", "))),
            None => usage(&format!("`{argument}` is not key=value")),
        });
        Self {
            case,
            values: values.collect(),
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    fn optional(&self, key: &str) -> Option<u64> {
        self.text(key).map(|text| {
            text.parse()
                .unwrap_or_else(|_| usage(&format!("`{key}={text}`: not a number")))
        })
    }

    fn number(&self, key: &str, default: u64) -> u64 {
        self.optional(key).unwrap_or(default)
    }
}

fn usage<T>(error: &str) -> T {
    eprintln!(
        "error: {error}\nhint: bench keyed-sum|stateless|wordcount|latency|bigstate|channel|trickle|limit-… [key=value …]"
    );
    std::process::exit(2)
}

/// For the files of this application.
type Connect<T> = Result<T, ConnectorError>;
