//! Timers of keyed process functions.

use std::collections::BTreeSet;

use proptest::prelude::*;
use streamd_core::state::State;
use streamd_core::time::{EventTime, WallTime};
use streamd_runtime::error::BoxError;
use streamd_runtime::harness::OperatorTestHarness;
use streamd_runtime::keyed::{KeyedContext, KeyedProcessFunction, KeyedStateStore};
use streamd_runtime::operator::KeyedProcess;
use streamd_runtime::record::Collector;
use streamd_runtime::timer::Timer;

/// What a record asks of the timers of its key.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
enum Ask {
    Register(u32, i64),
    Delete(u32, i64),
    RegisterOnTheClock(u32, i64),
}

impl Ask {
    fn key(&self) -> u32 {
        match self {
            Self::Register(key, _) | Self::Delete(key, _) | Self::RegisterOnTheClock(key, _) => *key,
        }
    }
}

/// Does what it is asked, and tells which timers fire.
#[derive(Clone)]
struct Alarms;

impl KeyedProcessFunction<u32, Ask, (u32, i64)> for Alarms {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u32>) -> Result<(), BoxError> {
        state.use_timers()
    }

    fn process_element(
        &mut self,
        ask: Ask,
        context: &mut KeyedContext<'_, u32>,
        _out: &mut Collector<'_, (u32, i64)>,
    ) -> Result<(), BoxError> {
        let mut timers = context.timer_service();
        match ask {
            Ask::Register(_, time) => timers.register_event_time_timer(EventTime(time)),
            Ask::Delete(_, time) => timers.delete_event_time_timer(EventTime(time)),
            Ask::RegisterOnTheClock(_, time) => timers.register_processing_time_timer(WallTime(time)),
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        context: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, (u32, i64)>,
    ) -> Result<(), BoxError> {
        match timer {
            Timer::EventTime(time) => {
                assert!(
                    context.timer_service().current_watermark() >= time,
                    "a timer fires early"
                );
                out.collect((*context.key(), time.0));
            }
            Timer::ProcessingTime(time) => out.collect((*context.key(), -time.0)),
        }
        Ok(())
    }
}

type Harness = OperatorTestHarness<KeyedProcess<u32, Alarms, fn(&Ask) -> u32>, Ask, (u32, i64)>;

fn harness() -> Harness {
    OperatorTestHarness::new(KeyedProcess::new(Alarms, Ask::key))
}

fn fired(harness: &mut Harness) -> Vec<(u32, i64)> {
    harness.extract_output().into_iter().map(|(timer, _)| timer).collect()
}

#[test]
fn timers_fire_in_order_of_their_time_once_each_and_not_before_it() {
    let mut harness = harness();
    for ask in [
        Ask::Register(1, 30),
        Ask::Register(2, 10),
        Ask::Register(1, 30),
        Ask::Register(1, 20),
        Ask::Delete(1, 20),
    ] {
        harness.process_element(ask, 0).unwrap();
    }
    harness.process_watermark(9).unwrap();
    assert_eq!(fired(&mut harness), []);
    harness.process_watermark(40).unwrap();
    assert_eq!(fired(&mut harness), [(2, 10), (1, 30)]);
    harness.process_element(Ask::Register(1, 30), 0).unwrap();
    harness.process_watermark(41).unwrap();
    assert_eq!(
        fired(&mut harness),
        [(1, 30)],
        "a timer in the past fires at the next watermark"
    );
}

#[test]
fn timers_of_the_clock_fire_when_it_has_come_to_them_even_after_a_restore() {
    let mut first = harness();
    first.process_element(Ask::RegisterOnTheClock(5, 100), None).unwrap();
    first.set_processing_time(99).unwrap();
    assert_eq!(fired(&mut first), []);
    let snapshot = first.savepoint(1).unwrap();
    let mut second = harness().restore(&[snapshot]);
    second.set_processing_time(100).unwrap();
    assert_eq!(fired(&mut second), [(5, -100)]);
    second.set_processing_time(200).unwrap();
    assert_eq!(fired(&mut second), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Invariant I5: each timer fires once and never early, wherever the job was cut and rescaled.
    #[test]
    fn every_timer_that_stands_fires_once(
        asks in prop::collection::vec((0u8..4, 0u32..6, 1i64..50), 0..60), cut in any::<prop::sample::Index>(), parallelism in 1u32..4,
    ) {
        let mut subtasks = vec![harness()];
        let mut standing: BTreeSet<(u32, i64)> = BTreeSet::new();
        let mut expected = Vec::new();
        let mut seen = Vec::new();
        let cut = cut.index(asks.len() + 1);
        let mut watermark = 0;
        for (number, (kind, key, time)) in asks.into_iter().enumerate() {
            if number == cut {
                let snapshots: Vec<_> = subtasks.iter_mut().map(|subtask| subtask.snapshot(1).unwrap()).collect();
                subtasks = (0..parallelism).map(|index| harness().subtask(index, parallelism).restore(&snapshots)).collect();
            }
            let ask = match kind {
                0 | 1 => { standing.insert((key, time)); Ask::Register(key, time) }
                2 => { standing.remove(&(key, time)); Ask::Delete(key, time) }
                _watermark => {
                    watermark = watermark.max(time);
                    let (due, left) = standing.into_iter().partition(|(_, time)| *time <= watermark);
                    let due: BTreeSet<_> = due;
                    expected.extend(due);
                    standing = left;
                    for subtask in &mut subtasks {
                        subtask.process_watermark(watermark).unwrap();
                        seen.extend(fired(subtask));
                    }
                    continue;
                }
            };
            let owner = subtasks.iter_mut().find(|subtask| subtask.owns(key.stable_hash())).unwrap();
            owner.process_element(ask, 0).unwrap();
        }
        for subtask in &mut subtasks {
            subtask.end_of_input().unwrap();
            seen.extend(fired(subtask));
        }
        expected.extend(standing);
        seen.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(seen, expected);
    }
}
