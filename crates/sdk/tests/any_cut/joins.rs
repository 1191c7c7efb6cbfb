//! Two streams together.

use std::collections::BTreeMap;

use proptest::prelude::*;
use streamd::prelude::*;
use streamd::window::WindowAssigner;
use streamd::{CoProcessFunction, Either, KeyedCoProcessFunction};

use crate::events::Event;
use crate::trial::{Done, config, trials};

/// How long windows are, in milliseconds.
const SIZE: i64 = 30;

fn evens(events: &[Event]) -> impl Iterator<Item = &Event> {
    events.iter().filter(|event| event.0 % 2 == 0)
}

fn odds(events: &[Event]) -> impl Iterator<Item = &Event> {
    events.iter().filter(|event| event.0 % 2 == 1)
}

fn parted(events: &DataStream<Event>) -> (DataStream<Event>, DataStream<Event>) {
    (
        events.filter(|event| event.0 % 2 == 0),
        events.filter(|event| event.0 % 2 == 1),
    )
}

/// Keeps both in one list until the end.
#[derive(Clone)]
struct KeepsBoth {
    waiting: OperatorListState<Either<Event, Event>>,
}

impl CoProcessFunction<Event, Event, String> for KeepsBoth {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Done {
        state.get_list_state(&mut self.waiting)
    }

    fn process_element1(
        &mut self,
        even: Event,
        context: &mut ProcessContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Done {
        self.waiting.add(context, Either::First(even));
        Ok(())
    }

    fn process_element2(
        &mut self,
        odd: Event,
        context: &mut ProcessContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Done {
        self.waiting.add(context, Either::Second(odd));
        Ok(())
    }

    fn end_of_input(&mut self, context: &mut ProcessContext<'_>, out: &mut Collector<'_, String>) -> Done {
        for event in self.waiting.clear(context) {
            out.collect(match event {
                Either::First(even) => format!("even {}", even.0),
                Either::Second(odd) => format!("odd {}", odd.0),
            });
        }
        Ok(())
    }
}

/// Counts both of a key until the end of time.
#[derive(Clone)]
struct CountsBoth {
    counts: ValueState<(u64, u64)>,
}

impl KeyedCoProcessFunction<u32, Event, Event, String> for CountsBoth {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u32>) -> Done {
        state.register(&mut self.counts)?;
        state.use_timers()
    }

    fn process_element1(
        &mut self,
        _: Event,
        context: &mut KeyedContext<'_, u32>,
        _: &mut Collector<'_, String>,
    ) -> Done {
        self.counts.get_or_default(context).0 += 1;
        context.timer_service().register_event_time_timer(EventTime(i64::MAX));
        Ok(())
    }

    fn process_element2(
        &mut self,
        _: Event,
        context: &mut KeyedContext<'_, u32>,
        _: &mut Collector<'_, String>,
    ) -> Done {
        self.counts.get_or_default(context).1 += 1;
        context.timer_service().register_event_time_timer(EventTime(i64::MAX));
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, context: &mut KeyedContext<'_, u32>, out: &mut Collector<'_, String>) -> Done {
        let counts = self.counts.get(context).copied().unwrap_or_default();
        out.collect(format!("{} {counts:?}", context.key()));
        Ok(())
    }
}

/// The numbers of both streams by key and start of window.
fn shared_windows(events: &[Event]) -> BTreeMap<(u32, i64), (Vec<u64>, Vec<u64>)> {
    let mut windows: BTreeMap<_, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
    for (number, key, time) in events {
        let (evens, odds) = windows.entry((*key, time.div_euclid(SIZE) * SIZE)).or_default();
        if number % 2 == 0 { evens } else { odds }.push(*number);
    }
    windows
}

fn numbers(events: &[&Event]) -> Vec<u64> {
    let mut numbers: Vec<_> = events.iter().map(|event| event.0).collect();
    numbers.sort_unstable();
    numbers
}

fn line(event: &Event) -> String {
    let side = if event.0.is_multiple_of(2) { "even" } else { "odd" };
    format!("{side} {}", event.0)
}

pub fn kept_together(events: &DataStream<Event>) -> DataStream<String> {
    let (evens, odds) = parted(events);
    let waiting = OperatorListState::new("waiting");
    evens.connect(&odds).process(KeepsBoth { waiting }).uid("kept together")
}

pub fn all_sides(events: &[Event]) -> impl Iterator<Item = String> {
    events.iter().map(line)
}

pub fn counted_together(events: &DataStream<Event>) -> DataStream<String> {
    let (evens, odds) = parted(events);
    let keyed = evens
        .connect(&odds)
        .key_by(|event: &Event| event.1, |event: &Event| event.1);
    let counts = ValueState::new("counts");
    keyed.process(CountsBoth { counts }).uid("counted together")
}

pub fn counts(events: &[Event]) -> Vec<String> {
    let mut counts: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for event in events {
        let counts = counts.entry(event.1).or_default();
        *if event.0 % 2 == 0 { &mut counts.0 } else { &mut counts.1 } += 1;
    }
    counts.iter().map(|(key, counts)| format!("{key} {counts:?}")).collect()
}

fn shared_window() -> WindowAssigner {
    TumblingEventTimeWindows::of(Duration::from_millis(SIZE.unsigned_abs()))
}

pub fn joined(events: &DataStream<Event>) -> DataStream<String> {
    let (evens, odds) = parted(events);
    let keyed = evens.join(&odds).where_key(|event: &Event| event.1);
    let windows = keyed.equal_to(|event: &Event| event.1).window(shared_window());
    let pairs = windows.apply(|even: &Event, odd: &Event| format!("{} {}", even.0, odd.0));
    pairs.uid("joined")
}

pub fn pairs(events: &[Event]) -> Vec<String> {
    let pair = |(evens, odds): (Vec<u64>, Vec<u64>)| {
        let of = |even: u64| odds.iter().map(move |odd| format!("{even} {odd}"));
        evens.into_iter().flat_map(of).collect::<Vec<_>>()
    };
    shared_windows(events).into_values().flat_map(pair).collect()
}

pub fn grouped(events: &DataStream<Event>) -> DataStream<String> {
    let (evens, odds) = parted(events);
    let keyed = evens.join(&odds).where_key(|event: &Event| event.1);
    let windows = keyed.equal_to(|event: &Event| event.1).window(shared_window());
    let groups = windows.co_group(|evens: &[&Event], odds: &[&Event], out: &mut Collector<'_, String>| {
        out.collect(format!("{:?} {:?}", numbers(evens), numbers(odds)));
    });
    groups.uid("grouped")
}

pub fn groups(events: &[Event]) -> impl Iterator<Item = String> {
    let windows = shared_windows(events).into_values();
    windows.map(|(evens, odds)| format!("{evens:?} {odds:?}"))
}

pub fn near(events: &DataStream<Event>, lower: i64, upper: i64) -> DataStream<String> {
    let (evens, odds) = parted(events);
    let (evens, odds) = (evens.key_by(|event| event.1), odds.key_by(|event| event.1));
    let joined = evens.interval_join(&odds).between(lower, upper);
    joined.process(|even, odd| format!("{} {}", even.0, odd.0)).uid("near")
}

pub fn near_pairs(events: &[Event], lower: i64, upper: i64) -> impl Iterator<Item = String> {
    let met = move |even: &Event, odd: &Event| even.1 == odd.1 && (lower..=upper).contains(&(odd.2 - even.2));
    evens(events).flat_map(move |even| {
        let met = odds(events).filter(move |odd| met(even, odd));
        met.map(move |odd| format!("{} {}", even.0, odd.0))
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn two_streams_are_processed_together(trial in trials()) {
        trial.check(all_sides(trial.events()), |events| {
            let (evens, odds) = parted(events);
            evens.connect(&odds).map(|even| format!("even {}", even.0), |odd| format!("odd {}", odd.0))
        })?;
        let copies = evens(trial.events()).chain(odds(trial.events()).flat_map(|odd| [odd, odd]));
        trial.check(copies.map(line), |events| {
            let (evens, odds) = parted(events);
            evens.connect(&odds).flat_map(
                |even, out: &mut Collector<'_, String>| out.collect(format!("even {}", even.0)),
                |odd, out| (0..2).for_each(|_| out.collect(format!("odd {}", odd.0))),
            )
        })?;
        trial.check(all_sides(trial.events()), kept_together)?;
        trial.check(counts(trial.events()), counted_together)?;
    }

    #[test]
    fn pairs_and_groups_share_a_window(trial in trials()) {
        trial.check(pairs(trial.events()), joined)?;
        trial.check(groups(trial.events()), grouped)?;
    }

    #[test]
    fn pairs_lie_within_an_interval(trial in trials(), lower in -15i64..10, length in 0i64..15) {
        let upper = lower + length;
        trial.check(near_pairs(trial.events(), lower, upper), |events| near(events, lower, upper))?;
    }
}
