//! State and timers per key.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use streamd::prelude::*;
use streamd::{AggregatingState, ReducingState, StateTtlConfig};

use crate::events::Event;
use crate::trial::{Done, config, trials};

/// How long a bucket of time is that a timer is set for, in milliseconds.
const BUCKET: i64 = 10;
/// How long state lives that has a time to live.
const DAY: Duration = Duration::from_secs(24 * 3600);

fn bucket_end(time: i64) -> i64 {
    (time.div_euclid(BUCKET) + 1) * BUCKET
}

/// The least number.
#[derive(Clone)]
struct Least;

impl AggregateFunction<u64> for Least {
    type Accumulator = Option<u64>;
    type Output = Option<u64>;

    fn create_accumulator(&self) -> Option<u64> {
        None
    }

    fn add(&self, number: u64, least: &mut Option<u64>) {
        *least = Some(least.map_or(number, |least| least.min(number)));
    }

    fn get_result(&self, least: &Option<u64>) -> Option<u64> {
        *least
    }

    fn merge(&self, least: &mut Option<u64>, other: Option<u64>) {
        if let Some(other) = other {
            self.add(other, least);
        }
    }
}

/// Keeps everything in state of every kind, tells of it at the end of time, and of each bucket of time when it is over.
#[derive(Clone)]
pub struct AllKinds {
    count: ValueState<u64>,
    numbers: ListState<u64>,
    by_remainder: MapState<u64, u64>,
    sum: ReducingState<u64, fn(&mut u64, u64)>,
    least: AggregatingState<u64, Least>,
    /// Counts too. It lives for longer than any test.
    mortal: ValueState<u64>,
}

impl AllKinds {
    pub fn new() -> Self {
        Self {
            count: ValueState::new("count"),
            numbers: ListState::new("numbers"),
            by_remainder: MapState::new("by-remainder"),
            sum: ReducingState::new("sum", |sum, number| *sum += number),
            least: AggregatingState::new("least", Least),
            mortal: ValueState::new("mortal").enable_time_to_live(StateTtlConfig::new(DAY)),
        }
    }
}

impl KeyedProcessFunction<u32, Event, String> for AllKinds {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u32>) -> Done {
        state.register(&mut self.count)?;
        state.register(&mut self.numbers)?;
        state.register(&mut self.by_remainder)?;
        state.register(&mut self.sum)?;
        state.register(&mut self.least)?;
        state.register(&mut self.mortal)?;
        state.use_timers()
    }

    fn process_element(
        &mut self,
        (number, _, time): Event,
        context: &mut KeyedContext<'_, u32>,
        _: &mut Collector<'_, String>,
    ) -> Done {
        *self.count.get_or_default(context) += 1;
        self.numbers.add(context, number);
        *self.by_remainder.get_or_default(context, number % 3) += 1;
        self.sum.add(context, number);
        self.least.add(context, number);
        *self.mortal.get_or_default(context) += 1;
        let timers = &mut context.timer_service();
        timers.register_event_time_timer(EventTime(bucket_end(time)));
        timers.register_event_time_timer(EventTime(i64::MAX));
        // No clock comes to this one: it only has to be there.
        timers.register_processing_time_timer(WallTime(i64::MAX));
        // Set and taken back: must never be heard of.
        timers.register_event_time_timer(EventTime(bucket_end(time) + 1));
        timers.delete_event_time_timer(EventTime(bucket_end(time) + 1));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, context: &mut KeyedContext<'_, u32>, out: &mut Collector<'_, String>) -> Done {
        let key = *context.key();
        if timer != Timer::EventTime(EventTime(i64::MAX)) {
            out.collect(format!("{key} {timer:?}"));
            return Ok(());
        }
        let mut numbers = self.numbers.get(context).to_vec();
        numbers.sort_unstable();
        let kept = Kept {
            count: self.count.get(context).copied().unwrap_or_default(),
            numbers,
            by_remainder: self
                .by_remainder
                .entries(context)
                .map(|(remainder, count)| (*remainder, *count))
                .collect(),
            sum: self.sum.get(context).copied().unwrap_or_default(),
            least: self.least.get(context).flatten(),
            mortal: self.mortal.get(context).copied().unwrap_or_default(),
        };
        out.collect(format!("{key} {kept:?}"));
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Kept {
    count: u64,
    numbers: Vec<u64>,
    by_remainder: BTreeMap<u64, u64>,
    sum: u64,
    least: Option<u64>,
    mortal: u64,
}

pub fn kept(events: &[Event]) -> BTreeSet<String> {
    let mut by_key: BTreeMap<u32, Kept> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for (number, key, time) in events {
        let kept = by_key.entry(*key).or_default();
        kept.count += 1;
        kept.mortal += 1;
        kept.numbers.push(*number);
        *kept.by_remainder.entry(number % 3).or_default() += 1;
        kept.sum += number;
        kept.least = Some(kept.least.map_or(*number, |least| least.min(*number)));
        told.insert(format!("{key} {:?}", Timer::EventTime(EventTime(bucket_end(*time)))));
    }
    told.extend(by_key.iter().map(|(key, kept)| format!("{key} {kept:?}")));
    told
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn reductions_count_each_record_once(trial in trials()) {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        let expected = trial.events().iter().map(|(_, key, _)| {
            let count = counts.entry(*key).or_default();
            *count += 1;
            format!("{key} {count}")
        });
        trial.check(expected, |events| {
            let ones = events.map(|(_, key, _)| (key, 1_u64));
            let counts = ones.key_by(|one| one.0).reduce(|count, one| count.1 += one.1).uid("counts");
            counts.map(|(key, count)| format!("{key} {count}"))
        })?;
    }

    #[test]
    fn state_of_every_kind_and_timers_come_through(trial in trials()) {
        trial.check(kept(trial.events()), |events| events.key_by(|event| event.1).process(AllKinds::new()).uid("kinds"))?;
    }
}
