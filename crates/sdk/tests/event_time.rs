//! Event time through whole jobs: watermarks over exchanges, windows, timers, side outputs, joins, broadcast state, and failures in
//! the midst of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod committed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use streamd::connectors::strided::StridedSplit;
use streamd::prelude::*;
use streamd::window::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountEvictor, CountTrigger, EventTimeTrigger,
    PurgingTrigger, TimeEvictor,
};
use streamd::{
    BroadcastState, ConnectorError, Guarantee, KeyedBroadcastContext, KeyedBroadcastProcessFunction,
    KeyedCoProcessFunction, Source, SourceReader, SourceStatus, WatermarkGenerator,
};

use committed::lines;

/// Number, key, and time in milliseconds.
type Event = (u64, u32, i64);

const EVENTS: u64 = 6_000;
const KEYS: u64 = 17;

/// The time of an event: about ten a millisecond, up to 30 ms out of order.
fn time_of(number: u64) -> i64 {
    let jitter = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 59) as i64;
    (number / 10) as i64 - jitter.min(30)
}

fn event(number: u64) -> Event {
    (number, (number % KEYS) as u32, time_of(number))
}

fn all_events() -> Vec<Event> {
    (0..EVENTS).map(event).collect()
}

fn timed(env: &StreamExecutionEnvironment) -> DataStream<Event> {
    // Slow enough that there are checkpoints in its midst.
    env.from_source(GeneratorSource::new(Some(EVENTS), event).rate(8_000), "events")
        .uid("events")
        .assign_timestamps_and_watermarks(
            WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(700))
                .with_timestamp_assigner(|event: &Event, _| event.2),
        )
}

/// Panics once, when half of the events of a subtask are through.
fn fails_once(stream: &DataStream<Event>) -> DataStream<Event> {
    let failed = Arc::new(AtomicBool::new(false));
    stream.map(move |event| {
        assert!(
            event.0 != EVENTS / 2 || failed.swap(true, Ordering::SeqCst),
            "a poisoned record"
        );
        event
    })
}

/// Runs a job that fails once in its midst, at every parallelism, and compares what it commits with what it must.
fn check(expected: &[String], build: impl Fn(&DataStream<Event>) -> DataStream<String>) {
    for parallelism in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let env = StreamExecutionEnvironment::new();
        env.set_parallelism(parallelism);
        env.enable_checkpointing(Duration::from_millis(10));
        env.set_restart_strategy(RestartStrategy::FixedDelay {
            attempts: 2,
            delay_ms: 0,
        });
        let output = build(&fails_once(&timed(&env)));
        output.sink_to(FileSink::text(folder.path())).uid("output");
        env.execute("event time").unwrap();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(lines(folder.path()), expected, "at parallelism {parallelism}");
    }
}

fn windows_of(time: i64, size: i64, slide: i64) -> Vec<i64> {
    let last = time.div_euclid(slide) * slide;
    (0..size / slide).map(|back| last - back * slide).collect()
}

#[test]
fn sliding_sums_are_exact_over_failures() {
    let mut sums: BTreeMap<(u32, i64), u64> = BTreeMap::new();
    for (number, key, time) in all_events() {
        for start in windows_of(time, 100, 20) {
            *sums.entry((key, start)).or_default() += number;
        }
    }
    let expected: Vec<_> = sums
        .iter()
        .map(|((key, start), sum)| format!("{key} {start} {sum}"))
        .collect();
    check(&expected, |events| {
        let millis = Duration::from_millis;
        let sums = events
            .key_by(|event| event.1)
            .window(SlidingEventTimeWindows::of(millis(100), millis(20)))
            .reduce_with(
                |sum, event| sum.0 += event.0,
                |context: &mut WindowContext<'_, u32>, sums: &[Event], out: &mut Collector<'_, String>| {
                    out.collect(format!("{} {} {}", context.key(), context.window().start, sums[0].0));
                    Ok(())
                },
            );
        sums.uid("sums")
    });
}

#[test]
fn windows_over_all_keys_and_windows_over_windows_are_exact() {
    let mut counts: BTreeMap<(i64, u32), u64> = BTreeMap::new();
    for (_, key, time) in all_events() {
        *counts.entry((time.div_euclid(50) * 50, key)).or_default() += 1;
    }
    let mut most: BTreeMap<i64, u64> = BTreeMap::new();
    for ((start, _), count) in counts {
        let most = most.entry(start).or_default();
        *most = count.max(*most);
    }
    let expected: Vec<_> = most.iter().map(|(start, count)| format!("{start} {count}")).collect();
    check(&expected, |events| {
        let windows = || TumblingEventTimeWindows::of(Duration::from_millis(50));
        let counts = events
            .map(|event| (event.1, 1))
            .key_by(|count: &(u32, u64)| count.0)
            .window(windows())
            .reduce(|sum, count| sum.1 += count.1)
            .uid("counts");
        let most = counts.window_all(windows()).process(
            |context: &mut WindowContext<'_, ()>, counts: &[(u32, u64)], out: &mut Collector<'_, String>| {
                let most = counts.iter().map(|count| count.1).max().unwrap_or(0);
                out.collect(format!("{} {most}", context.window().start));
                Ok(())
            },
        );
        most.uid("most")
    });
}

const LATE: OutputTag<Event> = OutputTag::new("late");

/// Windows of 10 ms that tell the numbers of their events, once each. Those of events that are too late go to this folder.
fn with_late_aside(events: DataStream<Event>, late: &Path) -> DataStream<String> {
    let windows = events
        .key_by(|event| event.1)
        .window(TumblingEventTimeWindows::of(Duration::from_millis(10)))
        .trigger(PurgingTrigger::of(EventTimeTrigger))
        .side_output_late_data(&LATE)
        .process(
            |_: &mut WindowContext<'_, u32>, events: &[Event], out: &mut Collector<'_, String>| {
                events.iter().for_each(|event| out.collect(event.0.to_string()));
                Ok(())
            },
        )
        .uid("windows");
    windows
        .get_side_output(&LATE)
        .map(|event| event.0.to_string())
        .sink_to(FileSink::text(late))
        .uid("late");
    windows
}

#[test]
fn what_comes_too_late_is_on_the_side_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (on_time, late) = (folder.path().join("on-time"), folder.path().join("late"));
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2);
    // Claims that nothing is out of order, which is not so.
    let events = env
        .from_source(GeneratorSource::new(Some(EVENTS), event), "events")
        .uid("events");
    let events = events.assign_timestamps_and_watermarks(
        WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(|event: &Event, _| event.2),
    );
    let windows = with_late_aside(events, &late);
    windows.sink_to(FileSink::text(&on_time)).uid("on time");
    env.execute("late").unwrap();
    let (on_time, late) = (lines(&on_time), lines(&late));
    let all: BTreeSet<u64> = on_time.iter().chain(&late).map(|line| line.parse().unwrap()).collect();
    assert_eq!((on_time.len() + late.len()) as u64, EVENTS);
    assert_eq!(all.len() as u64, EVENTS, "every record is in exactly one of the two");
}

/// Says behind each record that the time has come to it.
#[derive(Clone)]
struct EachRecord;

impl WatermarkGenerator<Event> for EachRecord {
    fn on_event(&mut self, _event: &Event, timestamp: EventTime) -> Option<EventTime> {
        Some(timestamp)
    }

    fn on_periodic_emit(&mut self) -> EventTime {
        EventTime::MIN
    }
}

#[test]
fn what_a_record_says_of_the_time_holds_for_the_next_one_however_they_are_batched() {
    let folder = tempfile::tempdir().unwrap();
    let late = folder.path().join("late");
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(1);
    let events = env
        .from_source(GeneratorSource::new(Some(EVENTS), event).splits(1), "events")
        .uid("events");
    let events = events.assign_timestamps_and_watermarks(
        WatermarkStrategy::for_generator(EachRecord).with_timestamp_assigner(|event: &Event, _| event.2),
    );
    let windows = with_late_aside(events, &late);
    windows.sink_to(BlackholeSink::new()).uid("on time");
    env.execute("each record").unwrap();
    let (mut expected, mut latest) = (BTreeSet::new(), i64::MIN);
    for (number, _, time) in (0..EVENTS).map(event) {
        if time.div_euclid(10) * 10 + 9 <= latest {
            expected.insert(number.to_string());
        }
        latest = latest.max(time);
    }
    assert!(expected.len() > 100, "{}", expected.len());
    let late = lines(&late).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(late.symmetric_difference(&expected).collect::<Vec<_>>(), [""; 0]);
}

/// Emits the number of events of a key when none has come for 40 ms of event time.
#[derive(Clone)]
struct Silence {
    last: ValueState<i64>,
    count: ValueState<u64>,
}

impl KeyedProcessFunction<u32, Event, String> for Silence {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u32>) -> std::result::Result<(), BoxError> {
        state.register(&mut self.last)?;
        state.register(&mut self.count)?;
        state.use_timers()
    }

    fn process_element(
        &mut self,
        event: Event,
        context: &mut KeyedContext<'_, u32>,
        _out: &mut Collector<'_, String>,
    ) -> std::result::Result<(), BoxError> {
        *self.count.get_or_default(context) += 1;
        let before = self.last.get(context).copied().unwrap_or(i64::MIN);
        if event.2 > before {
            let mut timers = context.timer_service();
            timers.delete_event_time_timer(EventTime(before.saturating_add(40)));
            timers.register_event_time_timer(EventTime(event.2 + 40));
            self.last.update(context, event.2);
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        context: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, String>,
    ) -> std::result::Result<(), BoxError> {
        assert!(matches!(timer, Timer::EventTime(_)));
        let count = self.count.get(context).copied().unwrap_or(0);
        out.collect(format!("{} {count}", context.key()));
        Ok(())
    }
}

#[test]
fn a_timer_that_is_always_moved_on_fires_once_at_the_end_over_failures() {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    all_events()
        .iter()
        .for_each(|event| *counts.entry(event.1).or_default() += 1);
    let expected: Vec<_> = counts.iter().map(|(key, count)| format!("{key} {count}")).collect();
    check(&expected, |events| {
        let silence = Silence {
            last: ValueState::new("last"),
            count: ValueState::new("count"),
        };
        events.key_by(|event| event.1).process(silence).uid("silence")
    });
}

#[test]
fn pairs_that_share_a_window_are_joined_each_once() {
    let events = all_events();
    let mut expected = Vec::new();
    for (evens, odds) in windows_by_parity(&events).values() {
        expected.extend(
            evens
                .iter()
                .flat_map(|even| odds.iter().map(move |odd| format!("{even} {odd}"))),
        );
    }
    check(&expected, |events| {
        let evens = events.filter(|event| event.0 % 2 == 0);
        let odds = events.filter(|event| event.0 % 2 == 1);
        evens
            .join(&odds)
            .where_key(|event: &Event| event.1)
            .equal_to(|event: &Event| event.1)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(30)))
            .apply(|even: &Event, odd: &Event| format!("{} {}", even.0, odd.0))
            .uid("pairs")
    });
}

type ByParity = BTreeMap<(u32, i64), (Vec<u64>, Vec<u64>)>;

fn windows_by_parity(events: &[Event]) -> ByParity {
    let mut windows: ByParity = BTreeMap::new();
    for (number, key, time) in events {
        let window = windows.entry((*key, time.div_euclid(30) * 30)).or_default();
        let side = if number % 2 == 0 { &mut window.0 } else { &mut window.1 };
        side.push(*number);
    }
    windows
}

#[test]
fn pairs_within_an_interval_are_joined_each_once() {
    let events = all_events();
    let mut expected = Vec::new();
    let mut by_key: BTreeMap<u32, Vec<&Event>> = BTreeMap::new();
    events
        .iter()
        .for_each(|event| by_key.entry(event.1).or_default().push(event));
    for events in by_key.values() {
        for even in events.iter().filter(|event| event.0 % 2 == 0) {
            for odd in events.iter().filter(|event| event.0 % 2 == 1) {
                if (-3..=5).contains(&(odd.2 - even.2)) {
                    expected.push(format!("{} {}", even.0, odd.0));
                }
            }
        }
    }
    check(&expected, |events| {
        let evens = events.filter(|event| event.0 % 2 == 0).key_by(|event| event.1);
        let odds = events.filter(|event| event.0 % 2 == 1).key_by(|event| event.1);
        evens
            .interval_join(&odds)
            .between(-3, 5)
            .process(|even, odd| format!("{} {}", even.0, odd.0))
            .uid("pairs")
    });
}

/// Counts the records of both streams of a key; tells at the end.
#[derive(Clone)]
struct Both {
    counts: ValueState<(u64, u64)>,
}

impl KeyedCoProcessFunction<u32, Event, String, String> for Both {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u32>) -> std::result::Result<(), BoxError> {
        state.register(&mut self.counts)?;
        state.use_timers()
    }

    fn process_element1(
        &mut self,
        _event: Event,
        context: &mut KeyedContext<'_, u32>,
        _out: &mut Collector<'_, String>,
    ) -> std::result::Result<(), BoxError> {
        self.counts.get_or_default(context).0 += 1;
        context.timer_service().register_event_time_timer(EventTime(i64::MAX));
        Ok(())
    }

    fn process_element2(
        &mut self,
        _name: String,
        context: &mut KeyedContext<'_, u32>,
        _out: &mut Collector<'_, String>,
    ) -> std::result::Result<(), BoxError> {
        self.counts.get_or_default(context).1 += 1;
        Ok(())
    }

    fn on_timer(
        &mut self,
        _timer: Timer,
        context: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, String>,
    ) -> std::result::Result<(), BoxError> {
        let (events, names) = self.counts.get(context).copied().unwrap_or_default();
        out.collect(format!("{} {events} {names}", context.key()));
        Ok(())
    }
}

#[test]
fn two_streams_of_different_types_share_the_state_of_a_key() {
    let mut counts: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for event in all_events() {
        counts.entry(event.1).or_default().0 += 1;
        if event.0 % 3 == 0 {
            counts.entry(event.1).or_default().1 += 1;
        }
    }
    let expected: Vec<_> = counts
        .iter()
        .map(|(key, (events, names))| format!("{key} {events} {names}"))
        .collect();
    check(&expected, |events| {
        let names = events
            .filter(|event| event.0 % 3 == 0)
            .map(|event| format!("{}", event.1));
        events
            .connect(&names)
            .key_by(|event: &Event| event.1, |name: &String| name.parse().unwrap_or(0))
            .process(Both {
                counts: ValueState::new("counts"),
            })
            .uid("both")
    });
}

/// Lets events pass whose key no rule forbids, and tells how many rules its subtasks have heard of.
#[derive(Clone)]
struct Rules {
    known: Arc<AtomicU64>,
    forbidden: BroadcastState<u32, ()>,
}

impl KeyedBroadcastProcessFunction<u32, Event, u32, String> for Rules {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u32>) -> std::result::Result<(), BoxError> {
        state.operator_state().get_broadcast_state(&mut self.forbidden)
    }

    fn process_element(
        &mut self,
        event: Event,
        context: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, String>,
    ) -> std::result::Result<(), BoxError> {
        let forbidden = self.forbidden.entries(context);
        if forbidden.len() == 5 && !forbidden.contains_key(context.key()) {
            out.collect(event.0.to_string());
        }
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        key: u32,
        context: &mut KeyedBroadcastContext<'_, u32>,
        _out: &mut Collector<'_, String>,
    ) -> std::result::Result<(), BoxError> {
        self.forbidden.put(context, key, ());
        self.known.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// All events, of which a third waits until every subtask knows the rules, and the second half until a checkpoint holds that: then
/// an event that passed is in the output.
#[derive(Clone)]
struct BehindRules {
    known: Arc<AtomicU64>,
    output: PathBuf,
}

struct BehindRulesReader {
    splits: Vec<StridedSplit>,
    gates: BehindRules,
}

impl Source for BehindRules {
    type Out = Event;
    type Split = StridedSplit;
    type Reader = BehindRulesReader;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, parallelism: u32) -> std::result::Result<Vec<StridedSplit>, ConnectorError> {
        Ok(StridedSplit::cut(parallelism, Some(EVENTS)))
    }

    fn reader(&self) -> std::result::Result<BehindRulesReader, ConnectorError> {
        Ok(BehindRulesReader {
            splits: Vec::new(),
            gates: self.clone(),
        })
    }
}

impl SourceReader for BehindRulesReader {
    type Out = Event;
    type Split = StridedSplit;

    fn add_splits(&mut self, splits: Vec<StridedSplit>) -> std::result::Result<(), ConnectorError> {
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<Event>, limit: usize) -> std::result::Result<SourceStatus, ConnectorError> {
        let Some(split) = self.splits.iter_mut().find(|split| split.next < EVENTS) else {
            return Ok(SourceStatus::End);
        };
        let everywhere = RULES.len() as u64 * u64::from(SUBTASKS);
        let is_closed = match split.next {
            ..1_000 => false,
            1_000..HALF => self.gates.known.load(Ordering::SeqCst) < everywhere,
            HALF.. => lines(&self.gates.output).is_empty(),
        };
        if is_closed {
            return Ok(SourceStatus::Idle(Duration::from_millis(2)));
        }
        // Not beyond the next gate.
        let end = [1_000, HALF, EVENTS].into_iter().find(|gate| split.next < *gate);
        for _ in 0..limit {
            if end.is_none_or(|end| split.next >= end) {
                break;
            }
            out.push(event(split.next));
            split.next += split.stride;
        }
        Ok(SourceStatus::More)
    }

    fn snapshot(&self) -> Vec<StridedSplit> {
        self.splits.clone()
    }
}

const HALF: u64 = EVENTS / 2;
const RULES: [u32; 5] = [1, 2, 3, 5, 8];
const SUBTASKS: u32 = 3;

#[test]
fn what_was_broadcast_is_known_in_every_subtask_after_a_failure_too() {
    let folder = tempfile::tempdir().unwrap();
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(SUBTASKS);
    env.enable_checkpointing(Duration::from_millis(10));
    env.set_restart_strategy(RestartStrategy::FixedDelay {
        attempts: 2,
        delay_ms: 0,
    });
    let known = Arc::new(AtomicU64::new(0));
    let behind = BehindRules {
        known: Arc::clone(&known),
        output: folder.path().to_owned(),
    };
    let events = fails_once(&env.from_source(behind, "events").uid("events"));
    let rules = env.from_collection(RULES.to_vec()).uid("rules").set_parallelism(1);
    let allowed = events
        .key_by(|event| event.1)
        .connect_broadcast(&rules)
        .process(Rules {
            known,
            forbidden: BroadcastState::new("forbidden keys"),
        })
        .uid("rules applied");
    allowed.sink_to(FileSink::text(folder.path())).uid("output");
    env.execute("rules").unwrap();
    let passed: BTreeSet<u64> = lines(folder.path()).iter().map(|line| line.parse().unwrap()).collect();
    for event in all_events().into_iter().filter(|event| event.0 > HALF) {
        let forbidden = RULES.contains(&event.1);
        assert_eq!(passed.contains(&event.0), !forbidden, "{event:?}");
    }
}

/// Why a job is refused whose numbers, by key, go through these windows.
fn refusal(windows: impl FnOnce(KeyedNumbers) -> DataStream<u64>) -> String {
    let env = StreamExecutionEnvironment::new();
    let by_number: fn(&u64) -> u64 = |number| *number;
    windows(env.from_sequence(1, 10).key_by(by_number)).print();
    let error = env.execute("nothing").unwrap_err();
    assert_eq!(error.coded().code.to_string(), "SD-0207");
    error.to_string()
}

type KeyedNumbers = KeyedStream<u64, u64, fn(&u64) -> u64>;

fn add(sum: &mut u64, number: u64) {
    *sum += number;
}

#[test]
fn windows_without_length_are_refused_before_anything_runs() {
    let error = refusal(|numbers| numbers.window(TumblingEventTimeWindows::of(Duration::ZERO)).reduce(add));
    assert!(error.contains("a window with a size of 0 ms"), "{error}");
    let error = refusal(|numbers| {
        let one_and_a_half = TumblingEventTimeWindows::of(Duration::from_micros(1_500));
        numbers.window(one_and_a_half).reduce(add)
    });
    assert!(
        error.contains("whose size is no whole number of milliseconds"),
        "{error}"
    );
}

/// Hands on the numbers of a window.
fn all(
    _: &mut WindowContext<'_, u64>,
    numbers: &[u64],
    out: &mut Collector<'_, u64>,
) -> std::result::Result<(), BoxError> {
    numbers.iter().for_each(|number| out.collect(*number));
    Ok(())
}

#[test]
fn triggers_and_evictors_of_nothing_are_refused_before_anything_runs() {
    let hour = TumblingEventTimeWindows::of(Duration::from_secs(3_600));
    let every_0 = "a trigger that fires at every 0 records";
    let every_0_ms = "a trigger that fires every 0 ms";
    let keeps_0 = "an evictor that keeps 0 records";
    let micro = Duration::from_micros(999);
    for (error, words) in [
        (refusal(|numbers| numbers.count_window(0).reduce(add)), every_0),
        (
            refusal(|numbers| numbers.sliding_count_window(2, 0).process(all)),
            every_0,
        ),
        (
            refusal(|numbers| numbers.sliding_count_window(0, 2).process(all)),
            keeps_0,
        ),
        (
            refusal(|numbers| numbers.window(hour).trigger(CountTrigger::of(0)).reduce(add)),
            every_0,
        ),
        (
            refusal(|numbers| {
                let trigger = PurgingTrigger::of(ContinuousEventTimeTrigger::of(micro));
                numbers.window(hour).trigger(trigger).reduce(add)
            }),
            every_0_ms,
        ),
        (
            refusal(|numbers| {
                let trigger = ContinuousProcessingTimeTrigger::of(Duration::ZERO);
                numbers.window(hour).trigger(trigger).reduce(add)
            }),
            every_0_ms,
        ),
        (
            refusal(|numbers| numbers.window(hour).evictor(CountEvictor::of(0)).process(all)),
            keeps_0,
        ),
        (
            refusal(|numbers| numbers.window(hour).evictor(TimeEvictor::of(micro)).process(all)),
            "an evictor that keeps the records of 0 ms",
        ),
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
}
