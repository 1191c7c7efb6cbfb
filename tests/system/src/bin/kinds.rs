//! An application for tests that keeps state of every kind: none of it is done with when its source stops at the gate.

mod held;

use std::path::PathBuf;

use clap::Parser;
use streamd::prelude::*;
use streamd::window::TimeEvictor;
use streamd::{
    AggregatingState, AsyncDataStream, AsyncFunction, BroadcastContext, BroadcastProcessFunction, BroadcastState,
    ReducingState, StateTtlConfig,
};

use crate::held::{HeldNumbers, Hold};

#[derive(Parser)]
struct Args {
    /// The folder for the output
    #[arg(long)]
    output: PathBuf,
    #[command(flatten)]
    hold: Hold,
}

type Done = Result<(), BoxError>;

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
/// Numbers from this one on are never answered for.
const UNANSWERED: u64 = 90;

fn key_of(number: &u64) -> String {
    format!("key {}", number % 5)
}

/// The sum of numbers.
#[derive(Clone)]
struct Sum;

impl AggregateFunction<u64> for Sum {
    type Accumulator = u64;
    type Output = u64;

    fn create_accumulator(&self) -> u64 {
        0
    }

    fn add(&self, number: u64, sum: &mut u64) {
        *sum += number;
    }

    fn get_result(&self, sum: &u64) -> u64 {
        *sum
    }

    fn merge(&self, sum: &mut u64, other: u64) {
        *sum += other;
    }
}

/// Keeps everything of a key, in every way.
#[derive(Clone)]
struct Keyed {
    value: ValueState<u64>,
    list: ListState<u64>,
    map: MapState<String, u64>,
    reducing: ReducingState<u64, fn(&mut u64, u64)>,
    aggregating: AggregatingState<u64, Sum>,
    mortal: ValueState<u64>,
}

impl Keyed {
    fn new() -> Self {
        Self {
            value: ValueState::new("value"),
            list: ListState::new("list"),
            map: MapState::new("map"),
            reducing: ReducingState::new("reducing", |sum, number| *sum += number),
            aggregating: AggregatingState::new("aggregating", Sum),
            mortal: ValueState::new("mortal").enable_time_to_live(StateTtlConfig::new(DAY)),
        }
    }
}

impl KeyedProcessFunction<String, u64, u64> for Keyed {
    fn open(&mut self, state: &mut KeyedStateStore<'_, String>) -> Done {
        state.register(&mut self.value)?;
        state.register(&mut self.list)?;
        state.register(&mut self.map)?;
        state.register(&mut self.reducing)?;
        state.register(&mut self.aggregating)?;
        state.register(&mut self.mortal)?;
        state.use_timers()
    }

    fn process_element(
        &mut self,
        number: u64,
        context: &mut KeyedContext<'_, String>,
        _: &mut Collector<'_, u64>,
    ) -> Done {
        self.value.update(context, number);
        self.list.add(context, number);
        self.map.put(context, format!("entry {}", number % 3), number);
        self.reducing.add(context, number);
        self.aggregating.add(context, number);
        self.mortal.update(context, number);
        let timers = &mut context.timer_service();
        timers.register_event_time_timer(EventTime(i64::MAX));
        timers.register_processing_time_timer(WallTime(i64::MAX));
        Ok(())
    }
}

/// Keeps numbers in lists that belong to no key.
#[derive(Clone)]
struct Unkeyed {
    list: OperatorListState<u64>,
    union: OperatorListState<u64>,
}

impl ProcessFunction<u64, u64> for Unkeyed {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Done {
        state.get_list_state(&mut self.list)?;
        state.get_union_list_state(&mut self.union)
    }

    fn process_element(&mut self, number: u64, context: &mut ProcessContext<'_>, _: &mut Collector<'_, u64>) -> Done {
        self.list.add(context, number);
        self.union.add(context, number);
        Ok(())
    }
}

/// Keeps what is broadcast.
#[derive(Clone)]
struct Rules(BroadcastState<String, u64>);

impl BroadcastProcessFunction<u64, u64, u64> for Rules {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Done {
        state.get_broadcast_state(&mut self.0)
    }

    fn process_element(&mut self, _: u64, _: &mut ProcessContext<'_>, _: &mut Collector<'_, u64>) -> Done {
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        number: u64,
        context: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, u64>,
    ) -> Done {
        self.0.put(context, key_of(&number), number);
        Ok(())
    }
}

/// Answers for all numbers but the last.
#[derive(Clone)]
struct Asked;

impl AsyncFunction<u64, u64> for Asked {
    async fn async_invoke(&self, number: u64) -> Result<Vec<u64>, BoxError> {
        if number >= UNANSWERED {
            std::future::pending::<()>().await;
        }
        Ok(vec![number])
    }
}

fn windows(numbers: &DataStream<u64>) -> Vec<DataStream<u64>> {
    let keyed = || numbers.key_by(key_of);
    let add = |sum: &mut u64, number| *sum += number;
    let count = |_: &mut WindowContext<'_, String>, numbers: &[u64], out: &mut Collector<'_, u64>| {
        out.collect(numbers.len() as u64);
        Ok(())
    };
    vec![
        keyed()
            .window(TumblingEventTimeWindows::of(DAY))
            .reduce(add)
            .uid("tumbling"),
        keyed()
            .window(SlidingEventTimeWindows::of(DAY, HOUR))
            .aggregate(Sum)
            .uid("sliding"),
        keyed()
            .window(EventTimeSessionWindows::of(DAY))
            .process(count)
            .uid("session"),
        keyed().window(GlobalWindows::create()).reduce(add).uid("global"),
        keyed().count_window(1_000_000).reduce(add).uid("counted"),
        keyed()
            .window(TumblingEventTimeWindows::of(DAY))
            .evictor(TimeEvictor::of(HOUR))
            .process(count)
            .uid("evicting"),
        keyed()
            .window(TumblingProcessingTimeWindows::of(DAY))
            .reduce(add)
            .uid("clock"),
    ]
}

fn joins(numbers: &DataStream<u64>) -> Vec<DataStream<u64>> {
    let (evens, odds) = (
        numbers.filter(|number| number.is_multiple_of(2)),
        numbers.filter(|number| !number.is_multiple_of(2)),
    );
    let day = TumblingEventTimeWindows::of(DAY);
    let both = || evens.join(&odds).where_key(key_of).equal_to(key_of).window(day);
    let interval = evens.key_by(key_of).interval_join(&odds.key_by(key_of));
    vec![
        both().apply(|even: &u64, odd: &u64| even + odd).uid("joined"),
        both()
            .co_group(|evens: &[&u64], odds: &[&u64], out: &mut Collector<'_, u64>| {
                out.collect((evens.len() + odds.len()) as u64);
            })
            .uid("grouped"),
        interval
            .between(-1_000_000, 1_000_000)
            .process(|even, odd| even + odd)
            .uid("interval"),
    ]
}

fn main() -> streamd::Result<()> {
    let args = Args::parse();
    let env = StreamExecutionEnvironment::new();
    let strategy =
        WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(|number: &u64, _| *number as i64);
    let numbers = env
        .from_source(HeldNumbers::new(Some(1_000), 0, args.hold), "numbers")
        .uid("numbers")
        .assign_timestamps_and_watermarks(strategy)
        .uid("times");
    let unkeyed = Unkeyed {
        list: OperatorListState::new("list"),
        union: OperatorListState::new("union"),
    };
    let mut all = windows(&numbers);
    all.extend(joins(&numbers));
    all.push(numbers.key_by(key_of).process(Keyed::new()).uid("keyed"));
    all.push(numbers.process(unkeyed).uid("unkeyed"));
    let rules = Rules(BroadcastState::new("rules"));
    all.push(numbers.connect_broadcast(&numbers).process(rules).uid("broadcast"));
    all.push(AsyncDataStream::ordered_wait(&numbers, Asked, DAY, 100).uid("asked"));
    for stream in all {
        stream.sink_to(BlackholeSink::new());
    }
    numbers.sink_to(FileSink::text(args.output)).uid("output");
    env.execute("kinds")?;
    Ok(())
}
