//! Timestamps at the ends of time, and far from one another, through whole jobs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod committed;

use streamd::prelude::*;

use committed::lines;

type Done = std::result::Result<(), BoxError>;

/// A number and its time.
type Event = (u64, i64);

/// The ends of time, what is next to them, and what is far from them. The least time of all stands for no timestamp.
const TIMES: [i64; 9] = [
    i64::MIN + 1,
    i64::MIN + 2,
    i64::MIN / 2,
    -1,
    0,
    1,
    i64::MAX / 2,
    i64::MAX - 2,
    i64::MAX - 1,
];

fn run(build: impl Fn(&DataStream<Event>) -> DataStream<String>) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2);
    let events: Vec<Event> = (0..).zip(TIMES).collect();
    let strategy = WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(|event: &Event, _| event.1);
    // In one subtask: each record is later than the one before it.
    let source = env.from_collection(events).set_parallelism(1);
    let timed = source.assign_timestamps_and_watermarks(strategy).set_parallelism(1);
    build(&timed).sink_to(FileSink::text(folder.path())).uid("output");
    env.execute("the ends of time").unwrap();
    lines(folder.path())
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Sets a timer as far before and behind each record as it goes, and tells of those that come.
#[derive(Clone)]
struct Timers;

impl KeyedProcessFunction<u64, Event, String> for Timers {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Done {
        state.use_timers()
    }

    fn process_element(
        &mut self,
        (_, time): Event,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Done {
        let timers = &mut context.timer_service();
        for at in [i64::MIN, time.saturating_add(1), i64::MAX] {
            timers.register_event_time_timer(EventTime(at));
        }
        timers.register_processing_time_timer(WallTime(i64::MAX));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, context: &mut KeyedContext<'_, u64>, out: &mut Collector<'_, String>) -> Done {
        out.collect(format!("{} {timer:?}", context.key()));
        Ok(())
    }
}

#[test]
fn timers_at_the_ends_of_time_come_each_once() {
    let seen = run(|events| events.key_by(|event| event.0).process(Timers).uid("timers"));
    let timers = |number: u64, time: i64| {
        let mut at = vec![i64::MIN, time.saturating_add(1), i64::MAX];
        at.dedup();
        at.into_iter()
            .map(move |at| format!("{number} {:?}", Timer::EventTime(EventTime(at))))
    };
    let expected = (0..).zip(TIMES).flat_map(|(number, time)| timers(number, time));
    assert_eq!(seen, sorted(expected.collect()));
}

#[test]
fn the_least_time_of_all_is_told_to_be_no_timestamp() {
    let env = StreamExecutionEnvironment::new();
    let strategy = WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(|_: &u64, _| i64::MIN);
    let timed = env.from_sequence(1, 1).assign_timestamps_and_watermarks(strategy);
    let windows = timed
        .key_by(|_| 0_u32)
        .window(EventTimeSessionWindows::of(Duration::from_secs(1)));
    windows.reduce(|sum, number| *sum += number).uid("sums").print();
    let error = env.execute("no timestamp").unwrap_err().to_string();
    assert!(error.contains("`i64::MIN` stands for no timestamp"), "{error}");
}

#[test]
fn records_at_the_ends_of_time_meet_those_that_are_near() {
    for reach in [1, i64::MAX] {
        let seen = run(|events| {
            let keyed = events.key_by(|_| 0_u32);
            let joined = keyed.interval_join(&events.key_by(|_| 0_u32)).between(-reach, reach);
            joined
                .process(|one, other| format!("{} {}", one.0, other.0))
                .uid("pairs")
        });
        // A record that is behind the watermark of both streams is late, and none is here: each is the latest of its stream.
        for pair in &seen {
            let (one, other) = pair.split_once(' ').unwrap();
            let time = |number: &str| i128::from(TIMES[number.parse::<usize>().unwrap()]);
            assert!((time(one) - time(other)).abs() <= i128::from(reach), "{pair}");
        }
        let alone = (0..TIMES.len()).all(|number| seen.contains(&format!("{number} {number}")));
        assert!(alone, "each record meets itself: {seen:?}");
    }
}

#[test]
fn sessions_at_the_ends_of_time_hold_what_is_near() {
    let day = Duration::from_secs(24 * 3600);
    let seen = run(|events| {
        let counted = events.map(|event| (event.0, 1_u64)).key_by(|_| 0_u32);
        let windows = counted.window(EventTimeSessionWindows::of(day));
        windows
            .reduce(|count, one| count.1 += one.1)
            .uid("sessions")
            .map(|(_, count)| count.to_string())
    });
    // Two, one, three, one and two.
    assert_eq!(seen, ["1", "1", "2", "2", "3"]);
}
