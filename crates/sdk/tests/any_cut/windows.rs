//! Windows of event time.

use std::collections::BTreeMap;

use proptest::prelude::*;
use streamd::prelude::*;
use streamd::window::{TimeEvictor, WindowAssigner};

use crate::trial::{Event, config, trials};

/// The numbers of each key and window, by start and end.
type Windows = BTreeMap<(u32, i64, i64), Vec<(i64, u64)>>;

fn millis(length: i64) -> Duration {
    Duration::from_millis(length.unsigned_abs())
}

/// Windows of this length that begin this often.
fn sliding(events: &[Event], size: i64, slide: i64) -> Windows {
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
fn sessions(events: &[Event], gap: i64) -> Windows {
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

fn told(context: &mut WindowContext<'_, u32>, events: &[Event], out: &mut Collector<'_, String>) -> crate::trial::Done {
    let window = context.window();
    let numbers = events.iter().map(|event| event.0).collect();
    out.collect(line(*context.key(), (window.start, window.end), numbers));
    Ok(())
}

fn lines(windows: &Windows) -> impl Iterator<Item = String> {
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

fn sums(windows: &Windows) -> impl Iterator<Item = String> {
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

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_window_gives_what_lies_in_it(trial in trials(), which in 0u32..3, size in 5i64..40, slide in 2i64..15) {
        let (assigner, defined) = kind(which, size, slide);
        let windows = defined(trial.events());
        trial.check(lines(&windows), |events| {
            events.key_by(|event| event.1).window(assigner).process(told).uid("windows")
        })?;
        trial.check(sums(&windows), |events| {
            let sums = events.key_by(|event| event.1).window(assigner).aggregate(Sum).uid("windows");
            sums.map(|sum| sum.to_string())
        })?;
        trial.check(sums(&windows), |events| {
            let keyed = events.key_by(|event| event.1).window(assigner);
            let sums = keyed.reduce(|sum: &mut Event, event| sum.0 += event.0).uid("windows");
            sums.map(|sum| sum.0.to_string())
        })?;
    }

    #[test]
    fn windows_of_other_kinds_do_too(trial in trials(), size in 5i64..40, span in 1i64..20, count in 1u64..6) {
        // Only the last so many milliseconds of each window.
        let evicted = sliding(trial.events(), size, size).into_iter().map(|(window, records)| {
            let last = records.iter().map(|record| record.0).max().unwrap_or_default();
            (window, records.into_iter().filter(|record| record.0 > last - span).collect())
        }).collect();
        trial.check(lines(&evicted), |events| {
            let windows = events.key_by(|event| event.1).window(TumblingEventTimeWindows::of(millis(size)));
            windows.evictor(TimeEvictor::of(millis(span))).process(told).uid("evicted")
        })?;
        // Which records share a window of a number of them depends on the interleaving, and how many there are does not.
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        trial.events().iter().for_each(|event| *counts.entry(event.1).or_default() += 1);
        let full = counts.iter().flat_map(|(key, all)| (0..all / count).map(move |_| format!("{key} {count}")));
        trial.check(full, |events| {
            let ones = events.map(|event| (event.1, 1_u64)).key_by(|one| one.0).count_window(count);
            let full = ones.reduce(|sum: &mut (u32, u64), one| sum.1 += one.1).uid("full");
            full.map(|(key, count)| format!("{key} {count}"))
        })?;
        let whole: Vec<Event> = trial.events().iter().map(|event| (event.0, 0, event.2)).collect();
        trial.check(sums(&sliding(&whole, size, size)), |events| {
            let windows = events.window_all(TumblingEventTimeWindows::of(millis(size)));
            windows.aggregate(Sum).uid("all").map(|sum| sum.to_string())
        })?;
    }
}
