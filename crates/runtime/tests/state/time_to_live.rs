//! Values with a time to live, against maps of values and the times of their last updates.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::state::State;
use streamd_runtime::error::BoxError;
use streamd_runtime::harness::OperatorTestHarness;
use streamd_runtime::keyed::{
    AllKeys, KeyedContext, KeyedProcessFunction, KeyedStateStore, ListState, MapState, ReducingState, StateTtlConfig,
    StateVisibility, UpdateType, ValueState,
};
use streamd_runtime::operator::KeyedProcess;
use streamd_runtime::record::Collector;

const TTL_MS: i64 = 10;

/// What is asked of a key.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
enum Ask {
    Update(u8),
    Change,
    AddUp(u8),
    Add(u8),
    Put(u8, u8),
    Increment(u8),
    Remove(u8),
    ReadValue,
    ReadList,
    ReadEntry(u8),
    ReadEntries,
    Clear,
}

type Asked = (u32, Ask);
type Seen = (u32, Vec<u64>);
type Sum = fn(&mut u64, u64);

#[derive(Clone)]
struct Mortal {
    value: ValueState<u64>,
    sum: ReducingState<u64, Sum>,
    list: ListState<u64>,
    map: MapState<u8, u64>,
}

impl Mortal {
    fn new(ttl: Option<StateTtlConfig>) -> Self {
        let sum: Sum = |sum, number| *sum += number;
        let immortal = Self {
            value: ValueState::new("value"),
            sum: ReducingState::new("sum", sum),
            list: ListState::new("list"),
            map: MapState::new("map"),
        };
        match ttl {
            None => immortal,
            Some(ttl) => Self {
                value: immortal.value.enable_time_to_live(ttl),
                sum: immortal.sum.enable_time_to_live(ttl),
                list: immortal.list.enable_time_to_live(ttl),
                map: immortal.map.enable_time_to_live(ttl),
            },
        }
    }
}

impl KeyedProcessFunction<u32, Asked, Seen> for Mortal {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u32>) -> Result<(), BoxError> {
        state.register(&mut self.value)?;
        state.register(&mut self.sum)?;
        state.register(&mut self.list)?;
        state.register(&mut self.map)
    }

    fn process_element(
        &mut self,
        (key, ask): Asked,
        context: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, Seen>,
    ) -> Result<(), BoxError> {
        let seen = match ask {
            Ask::Update(number) => {
                self.value.update(context, number.into());
                return Ok(());
            }
            Ask::Change => {
                let before = self.value.get_mut(context).map(|value| {
                    *value += 1;
                    *value
                });
                before.into_iter().collect()
            }
            Ask::AddUp(number) => {
                self.sum.add(context, number.into());
                self.sum.get(context).copied().into_iter().collect()
            }
            Ask::Add(number) => {
                self.list.add(context, number.into());
                return Ok(());
            }
            Ask::Put(entry, number) => {
                self.map.put(context, entry, number.into());
                return Ok(());
            }
            Ask::Increment(entry) => {
                let number = self.map.get_or_default(context, entry);
                *number += 1;
                vec![*number]
            }
            Ask::Remove(entry) => self.map.remove(context, &entry).into_iter().collect(),
            Ask::ReadValue => self.value.get(context).copied().into_iter().collect(),
            Ask::ReadList => self.list.get(context).to_vec(),
            Ask::ReadEntry(entry) => self.map.get(context, &entry).copied().into_iter().collect(),
            Ask::ReadEntries => {
                let entries = self.map.entries(context);
                entries
                    .flat_map(|(entry, number)| [u64::from(*entry), *number])
                    .collect()
            }
            Ask::Clear => {
                self.list.clear(context);
                self.value.clear(context).into_iter().collect()
            }
        };
        out.collect((key, seen));
        Ok(())
    }

    fn end_of_input(&mut self, state: &mut AllKeys<'_, u32>, out: &mut Collector<'_, Seen>) -> Result<(), BoxError> {
        state.for_each(&self.value, |key, value| out.collect((*key, vec![*value])));
        Ok(())
    }
}

/// The obviously right way: everything with its time, looked at when it is asked for.
#[derive(Default, Clone)]
struct Model {
    value: Option<(i64, u64)>,
    sum: Option<(i64, u64)>,
    list: Vec<(i64, u64)>,
    map: BTreeMap<u8, (i64, u64)>,
}

impl Model {
    fn forget(&mut self, now: i64) {
        let lives = |time: i64| time + TTL_MS > now;
        self.value = self.value.filter(|(time, _)| lives(*time));
        self.sum = self.sum.filter(|(time, _)| lives(*time));
        self.list.retain(|(time, _)| lives(*time));
        self.map.retain(|_, (time, _)| lives(*time));
    }

    fn ask(&mut self, ask: Ask, now: i64, renews: bool) -> Option<Vec<u64>> {
        self.forget(now);
        let renew = |time: &mut i64| {
            if renews {
                *time = now;
            }
        };
        Some(match ask {
            Ask::Update(number) => {
                self.value = Some((now, number.into()));
                return None;
            }
            Ask::Change => {
                self.value = self.value.map(|(_, value)| (now, value + 1));
                self.value.iter().map(|(_, value)| *value).collect()
            }
            Ask::AddUp(number) => {
                let sum = self.sum.map_or(0, |(_, sum)| sum) + u64::from(number);
                self.sum = Some((now, sum));
                vec![sum]
            }
            Ask::Add(number) => {
                self.list.push((now, number.into()));
                return None;
            }
            Ask::Put(entry, number) => {
                self.map.insert(entry, (now, number.into()));
                return None;
            }
            Ask::Increment(entry) => {
                let known = self.map.entry(entry).or_insert((now, 0));
                *known = (now, known.1 + 1);
                vec![known.1]
            }
            Ask::Remove(entry) => self.map.remove(&entry).map(|(_, number)| number).into_iter().collect(),
            Ask::ReadValue => {
                self.value.iter_mut().for_each(|(time, _)| renew(time));
                self.value.iter().map(|(_, value)| *value).collect()
            }
            Ask::ReadList => {
                self.list.iter_mut().for_each(|(time, _)| renew(time));
                self.list.iter().map(|(_, value)| *value).collect()
            }
            Ask::ReadEntry(entry) => {
                self.map.get_mut(&entry).into_iter().for_each(|(time, _)| renew(time));
                self.map.get(&entry).iter().map(|(_, number)| *number).collect()
            }
            Ask::ReadEntries => {
                self.map.values_mut().for_each(|(time, _)| renew(time));
                let entries = self.map.iter();
                entries
                    .flat_map(|(entry, (_, number))| [u64::from(*entry), *number])
                    .collect()
            }
            Ask::Clear => {
                self.list.clear();
                self.value.take().map(|(_, value)| value).into_iter().collect()
            }
        })
    }
}

type Harness = OperatorTestHarness<KeyedProcess<u32, Mortal, fn(&Asked) -> u32>, Asked, Seen>;

fn harness(ttl: Option<StateTtlConfig>) -> Harness {
    Harness::new(KeyedProcess::new(Mortal::new(ttl), |asked: &Asked| asked.0))
}

/// Every backend that this build has, RocksDB with little memory.
fn backend() -> impl Strategy<Value = StateBackendOptions> {
    let kinds = match cfg!(feature = "rocksdb") {
        true => vec![StateBackendKind::HashMap, StateBackendKind::RocksDb],
        false => vec![StateBackendKind::HashMap],
    };
    prop::sample::select(kinds).prop_map(|kind| StateBackendOptions {
        kind,
        rocksdb_memory_per_slot: 1 << 20,
        ..StateBackendOptions::default()
    })
}

fn seen(harness: &mut Harness) -> Vec<Seen> {
    harness.extract_output().into_iter().map(|(seen, _)| seen).collect()
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        any::<u8>().prop_map(Ask::Update),
        Just(Ask::Change),
        (0u8..9).prop_map(Ask::AddUp),
        any::<u8>().prop_map(Ask::Add),
        (0u8..4, any::<u8>()).prop_map(|(entry, number)| Ask::Put(entry, number)),
        (0u8..4).prop_map(Ask::Increment),
        (0u8..4).prop_map(Ask::Remove),
        Just(Ask::ReadValue),
        Just(Ask::ReadList),
        (0u8..4).prop_map(Ask::ReadEntry),
        Just(Ask::ReadEntries),
        Just(Ask::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Whatever cleans up, when and however often: what is over is not seen, and everything else is.
    #[test]
    fn what_is_over_is_never_seen_and_nothing_else_is_lost(
        asks in prop::collection::vec((0u32..4, 0i64..8, ask()), 1..60),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 1u32..4, any::<bool>()), 0..3),
        renews: bool, full: bool, cleanup_size in 0usize..3, backend in backend(),
    ) {
        let mut ttl = StateTtlConfig::new(Duration::from_millis(TTL_MS as u64)).cleanup_incrementally(cleanup_size);
        if renews {
            ttl = ttl.update_type(UpdateType::OnReadAndWrite);
        }
        if full {
            ttl = ttl.cleanup_full_snapshot();
        }
        let mut running = vec![harness(Some(ttl)).state_backend(backend.clone())];
        let mut model: BTreeMap<u32, Model> = BTreeMap::new();
        let mut now = 1_000;
        for (position, (key, passed, ask)) in asks.iter().enumerate() {
            now += passed;
            running.iter_mut().for_each(|harness| harness.set_processing_time(now).unwrap());
            for (at, parallelism, savepoint) in &cuts {
                if at.index(asks.len()) != position {
                    continue;
                }
                let cut = |harness: &mut Harness| if *savepoint { harness.savepoint(1) } else { harness.snapshot(1) };
                let snapshots: Vec<_> = running.iter_mut().map(|harness| cut(harness).unwrap()).collect();
                let subtask = |index| {
                    let harness = harness(Some(ttl)).state_backend(backend.clone());
                    let mut harness = harness.subtask(index, *parallelism).restore(&snapshots);
                    harness.set_processing_time(now).unwrap();
                    harness
                };
                running = (0..*parallelism).map(subtask).collect();
            }
            let owner = running.iter_mut().find(|harness| harness.owns(key.stable_hash())).unwrap();
            owner.process_element((*key, *ask), None).unwrap();
            let expected = model.entry(*key).or_default().ask(*ask, now, renews);
            let expected: Vec<Seen> = expected.map(|expected| (*key, expected)).into_iter().collect();
            prop_assert_eq!(seen(owner), expected, "{:?} at {}", ask, now);
        }
        let mut left: Vec<Seen> = Vec::new();
        for harness in &mut running {
            harness.end_of_input().unwrap();
            left.extend(seen(harness));
        }
        left.sort();
        model.values_mut().for_each(|model| model.forget(now));
        let expected = model.iter().filter_map(|(key, model)| Some((*key, vec![model.value?.1])));
        prop_assert_eq!(left, expected.collect::<Vec<_>>());
    }
}

fn at(harness: &mut Harness, now: i64, ask: Ask) -> Vec<u64> {
    harness.set_processing_time(now).unwrap();
    harness.process_element((1, ask), None).unwrap();
    seen(harness).into_iter().flat_map(|(_, seen)| seen).collect()
}

#[test]
fn what_is_over_may_be_seen_until_it_was_read() {
    let ttl = StateTtlConfig::new(Duration::from_millis(TTL_MS as u64))
        .state_visibility(StateVisibility::ReturnExpiredIfNotCleanedUp)
        .disable_cleanup_in_background();
    let mut harness = harness(Some(ttl));
    at(&mut harness, 0, Ask::Update(7));
    at(&mut harness, 0, Ask::Add(8));
    at(&mut harness, 0, Ask::Put(1, 9));
    for (ask, value) in [
        (Ask::ReadValue, vec![7]),
        (Ask::ReadList, vec![8]),
        (Ask::ReadEntries, vec![1, 9]),
    ] {
        assert_eq!(at(&mut harness, 100, ask), value);
        assert!(at(&mut harness, 100, ask).is_empty(), "reading it has removed it");
    }
}

#[test]
fn a_value_that_was_read_when_it_was_over_and_then_written_stays() {
    /// Reads and writes in one call.
    #[derive(Clone)]
    struct ReadAndWrite(ValueState<u64>);

    impl KeyedProcessFunction<u32, Asked, Seen> for ReadAndWrite {
        fn open(&mut self, state: &mut KeyedStateStore<'_, u32>) -> Result<(), BoxError> {
            state.register(&mut self.0)
        }

        fn process_element(
            &mut self,
            (key, _): Asked,
            context: &mut KeyedContext<'_, u32>,
            out: &mut Collector<'_, Seen>,
        ) -> Result<(), BoxError> {
            let before = self.0.get(context).copied();
            self.0.update(context, before.unwrap_or(0) + 1);
            out.collect((key, self.0.get(context).copied().into_iter().collect()));
            Ok(())
        }
    }

    let ttl = StateTtlConfig::new(Duration::from_millis(TTL_MS as u64));
    let state = ValueState::new("value").enable_time_to_live(ttl);
    let mut harness = OperatorTestHarness::new(KeyedProcess::new(ReadAndWrite(state), |asked: &Asked| asked.0));
    let mut results = Vec::new();
    for now in [0, 5, 100, 101] {
        harness.set_processing_time(now).unwrap();
        harness.process_element((1, Ask::ReadValue), None).unwrap();
        results.extend(harness.extract_output().into_iter().flat_map(|((_, seen), _)| seen));
    }
    assert_eq!(results, [1, 2, 1, 2]);
}

#[test]
fn state_without_a_time_to_live_gets_one_at_a_restore_and_loses_it_again() {
    let ttl = StateTtlConfig::new(Duration::from_millis(TTL_MS as u64));
    let mut first = harness(None);
    for ask in [Ask::Update(7), Ask::Add(8), Ask::Put(1, 9), Ask::AddUp(5)] {
        at(&mut first, 0, ask);
    }
    // Nothing is over at once, however long ago it was written.
    let mut second = harness(Some(ttl)).restore(&[first.savepoint(1).unwrap()]);
    second.stand_still_until(1_000);
    assert_eq!(at(&mut second, 1_009, Ask::ReadValue), [7]);
    at(&mut second, 1_009, Ask::Add(10));
    assert!(at(&mut second, 1_010, Ask::ReadValue).is_empty());
    assert_eq!(at(&mut second, 1_010, Ask::ReadList), [10]);
    let mut third = harness(None).restore(&[second.snapshot(2).unwrap()]);
    assert_eq!(at(&mut third, 9_000, Ask::ReadList), [10]);
    assert!(at(&mut third, 9_000, Ask::ReadValue).is_empty());
}
