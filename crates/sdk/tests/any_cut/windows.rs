//! Windows of event time.

use std::collections::BTreeMap;

use proptest::prelude::*;
use streamd::prelude::*;
use streamd::window::{TimeEvictor, WindowAssigner};

use crate::events::Event;
use crate::trial::{Done, config, trials};

/// The numbers of each key and window, by start and end.
pub type Windows = BTreeMap<(u32, i64, i64), Vec<(i64, u64)>>;

pub fn millis(length: i64) -> Duration {
    Duration::from_millis(length.unsigned_abs())
}

/// Windows of this length that begin this often.
pub fn sliding(events: &[Event], size: i64, slide: i64) -> Windows {
    let mut windows = Windows::new();
    for (number, key, time) in events {
        let mut start = time.div_euclid(slide) * slide;
        while start + size > *time {
            windows
                .entry((*key, start, start + size))
                .or_default()
                .push((*time, *number));
            start -= slide;
        }
    }
    windows
}

/// Records that lie less than the gap from one another.
pub fn sessions(events: &[Event], gap: i64) -> Windows {
    let mut by_key: BTreeMap<u32, Vec<(i64, u64)>> = BTreeMap::new();
    for (number, key, time) in events {
        by_key.entry(*key).or_default().push((*time, *number));
    }
    let mut windows = Windows::new();
    for (key, mut records) in by_key {
        records.sort_unstable();
        // Two that touch are one.
        for session in records.chunk_by(|one, next| next.0 - one.0 <= gap) {
            let (first, last) = (session[0].0, session[session.len() - 1].0);
            windows.insert((key, first, last + gap), session.to_vec());
        }
    }
    windows
}

fn line(key: u32, window: (i64, i64), mut numbers: Vec<u64>) -> String {
    numbers.sort_unstable();
    format!("{key} {window:?} {numbers:?}")
}

fn told(context: &mut WindowContext<'_, u32>, events: &[Event], out: &mut Collector<'_, String>) -> Done {
    let window = context.window();
    let numbers = events.iter().map(|event| event.0).collect();
    out.collect(line(*context.key(), (window.start, window.end), numbers));
    Ok(())
}

pub fn lines(windows: &Windows) -> impl Iterator<Item = String> {
    windows
        .iter()
        .map(|((key, start, end), records)| line(*key, (*start, *end), records.iter().map(|record| record.1).collect()))
}

/// The sum of numbers, as an aggregation that panes can share.
#[derive(Clone)]
struct Sum;

impl AggregateFunction<Event> for Sum {
    type Accumulator = u64;
    type Output = u64;

    fn create_accumulator(&self) -> u64 {
        0
    }

    fn add(&self, event: Event, sum: &mut u64) {
        *sum += event.0;
    }

    fn get_result(&self, sum: &u64) -> u64 {
        *sum
    }

    fn merge(&self, sum: &mut u64, other: u64) {
        *sum += other;
    }
}

pub fn sums(windows: &Windows) -> impl Iterator<Item = String> {
    windows
        .values()
        .map(|records| records.iter().map(|record| record.1).sum::<u64>().to_string())
}

/// An assigner, and the windows that it is defined to have.
type Kind = (WindowAssigner, Box<dyn Fn(&[Event]) -> Windows>);

fn kind(which: u32, size: i64, slide: i64) -> Kind {
    match which {
        0 => (
            TumblingEventTimeWindows::of(millis(size)),
            Box::new(move |events| sliding(events, size, size)),
        ),
        1 => (
            SlidingEventTimeWindows::of(millis(size), millis(slide)),
            Box::new(move |events| sliding(events, size, slide)),
        ),
        _other => (
            EventTimeSessionWindows::of(millis(slide)),
            Box::new(move |events| sessions(events, slide)),
        ),
    }
}

pub fn processed(events: &DataStream<Event>, uid: &str, windows: WindowAssigner) -> DataStream<String> {
    events.key_by(|event| event.1).window(windows).process(told).uid(uid)
}

pub fn aggregated(events: &DataStream<Event>, uid: &str, windows: WindowAssigner) -> DataStream<String> {
    let sums = events.key_by(|event| event.1).window(windows).aggregate(Sum).uid(uid);
    sums.map(|sum| sum.to_string())
}

pub fn reduced(events: &DataStream<Event>, uid: &str, windows: WindowAssigner) -> DataStream<String> {
    let windows = events.key_by(|event| event.1).window(windows);
    let sums = windows.reduce(|sum: &mut Event, event| sum.0 += event.0).uid(uid);
    sums.map(|sum| sum.0.to_string())
}

/// One window for each key that never ends and tells nothing.
pub fn global(events: &DataStream<Event>) -> DataStream<String> {
    reduced(events, "global", GlobalWindows::create())
}

/// Only the last so many milliseconds of each window.
pub fn evicted(events: &DataStream<Event>, size: i64, span: i64) -> DataStream<String> {
    let windows = events
        .key_by(|event| event.1)
        .window(TumblingEventTimeWindows::of(millis(size)));
    let evicted = windows.evictor(TimeEvictor::of(millis(span))).process(told);
    evicted.uid("evicted")
}

pub fn left_by_evictor(events: &[Event], size: i64, span: i64) -> Windows {
    let windows = sliding(events, size, size).into_iter();
    let left = |records: Vec<(i64, u64)>| {
        let last = records.iter().map(|record| record.0).max().unwrap_or_default();
        records.into_iter().filter(|record| record.0 > last - span).collect()
    };
    windows.map(|(window, records)| (window, left(records))).collect()
}

/// Windows of a number of records. Which records share one depends on the interleaving, and how many windows there are does not.
pub fn counted(events: &DataStream<Event>, count: u64) -> DataStream<String> {
    let ones = events
        .map(|event| (event.1, 1_u64))
        .key_by(|one| one.0)
        .count_window(count);
    let full = ones.reduce(|sum: &mut (u32, u64), one| sum.1 += one.1).uid("counted");
    full.map(|(key, count)| format!("{key} {count}"))
}

pub fn full(events: &[Event], count: u64) -> Vec<String> {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    events.iter().for_each(|event| *counts.entry(event.1).or_default() += 1);
    let full = |(key, all): (&u32, &u64)| vec![format!("{key} {count}"); usize::try_from(all / count).unwrap()];
    counts.iter().flat_map(full).collect()
}

pub fn of_all_keys(events: &DataStream<Event>, size: i64) -> DataStream<String> {
    let windows = events.window_all(TumblingEventTimeWindows::of(millis(size)));
    windows.aggregate(Sum).uid("of all keys").map(|sum| sum.to_string())
}

pub fn windows_of_all(events: &[Event], size: i64) -> Windows {
    let of_one_key: Vec<Event> = events.iter().map(|event| (event.0, 0, event.2)).collect();
    sliding(&of_one_key, size, size)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_window_gives_what_lies_in_it(trial in trials(), which in 0u32..3, size in 5i64..40, slide in 2i64..15) {
        let (assigner, defined) = kind(which, size, slide);
        let windows = defined(trial.events());
        trial.check(lines(&windows), |events| processed(events, "windows", assigner))?;
        trial.check(sums(&windows), |events| aggregated(events, "windows", assigner))?;
        trial.check(sums(&windows), |events| reduced(events, "windows", assigner))?;
    }

    #[test]
    fn windows_of_other_kinds_do_too(trial in trials(), size in 5i64..40, span in 1i64..20, count in 1u64..6) {
        let left = left_by_evictor(trial.events(), size, span);
        trial.check(lines(&left), |events| evicted(events, size, span))?;
        trial.check(full(trial.events(), count), |events| counted(events, count))?;
        trial.check(sums(&windows_of_all(trial.events(), size)), |events| of_all_keys(events, size))?;
    }
}
