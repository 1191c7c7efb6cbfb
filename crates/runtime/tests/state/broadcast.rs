//! Broadcast state, beside a keyed stream and beside one that is not.

use std::collections::BTreeMap;

use proptest::prelude::*;
use streamd_core::state::State;
use streamd_runtime::connected::Either;
use streamd_runtime::error::BoxError;
use streamd_runtime::harness::OperatorTestHarness;
use streamd_runtime::keyed::{KeyedContext, KeyedStateStore, ValueState};
use streamd_runtime::operator::{
    BroadcastProcess, KeyedBroadcastContext, KeyedBroadcastProcess, KeyedBroadcastProcessFunction,
};
use streamd_runtime::operator_state::{BroadcastState, OperatorListState, OperatorStateStore};
use streamd_runtime::process_function::{BroadcastContext, BroadcastProcessFunction, ProcessContext};
use streamd_runtime::record::Collector;

/// A rule by its number; `None` takes it away.
type Rule = (u32, Option<i64>);

type Ask = Either<u32, Rule>;

fn apply_rule(rules: &mut BTreeMap<u32, i64>, (number, factor): Rule) {
    match factor {
        Some(factor) => {
            rules.insert(number, factor);
        }
        None => {
            rules.remove(&number);
        }
    }
}

/// Multiplies numbers by the factor of their rule, and counts all changes of rules.
#[derive(Clone)]
struct Factors {
    rules: BroadcastState<u32, i64>,
    changes: BroadcastState<(), u64>,
}

impl Factors {
    fn new() -> Self {
        Self {
            rules: BroadcastState::new("rules"),
            changes: BroadcastState::new("changes"),
        }
    }
}

impl BroadcastProcessFunction<u32, Rule, (i64, u64)> for Factors {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Result<(), BoxError> {
        state.get_broadcast_state(&mut self.rules)?;
        state.get_broadcast_state(&mut self.changes)
    }

    fn process_element(
        &mut self,
        number: u32,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, (i64, u64)>,
    ) -> Result<(), BoxError> {
        let factor = self.rules.get(context, &(number % 5)).copied().unwrap_or(-1);
        let changes = self.changes.get(context, &()).copied().unwrap_or(0);
        out.collect((i64::from(number) * factor, changes));
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        (number, factor): Rule,
        context: &mut BroadcastContext<'_>,
        _out: &mut Collector<'_, (i64, u64)>,
    ) -> Result<(), BoxError> {
        match factor {
            Some(factor) => self.rules.put(context, number, factor),
            None => self.rules.remove(context, &number),
        };
        *self.changes.entries_mut(context).entry(()).or_default() += 1;
        Ok(())
    }
}

type Harness = OperatorTestHarness<BroadcastProcess<Factors, u32, Rule>, Ask, (i64, u64)>;

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let rule = (0u32..5, prop::option::of(-9i64..9)).prop_map(Either::Second);
    prop::collection::vec(prop_oneof![(0u32..100).prop_map(Either::First), rule], 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_subtask_knows_the_rules_after_any_rescale(
        asks in asks(), cut in any::<prop::sample::Index>(), parallelism in 1u32..4, savepoint: bool,
    ) {
        let make = |index, of| Harness::new(BroadcastProcess::new(Factors::new())).subtask(index, of);
        let mut running = vec![make(0, 2), make(1, 2)];
        let (mut rules, mut changes) = (BTreeMap::new(), 0u64);
        for (position, ask) in asks.iter().enumerate() {
            if position == cut.index(asks.len()) {
                let cut = |harness: &mut Harness| if savepoint { harness.savepoint(1) } else { harness.snapshot(1) };
                let snapshots: Vec<_> = running.iter_mut().map(|harness| cut(harness).unwrap()).collect();
                running = (0..parallelism).map(|index| make(index, parallelism).restore(&snapshots)).collect();
            }
            for harness in &mut running {
                harness.process_element(ask.clone(), None).unwrap();
            }
            match ask {
                Either::First(number) => {
                    let factor = rules.get(&(number % 5)).copied().unwrap_or(-1);
                    let expected = (i64::from(*number) * factor, changes);
                    for harness in &mut running {
                        let seen: Vec<_> = harness.extract_output().into_iter().map(|(seen, _)| seen).collect();
                        prop_assert_eq!(seen, vec![expected]);
                    }
                }
                Either::Second(rule) => { apply_rule(&mut rules, *rule); changes += 1; }
            }
        }
    }
}

/// Counts per key; a rule resets every key whose count it names, and a list beside remembers the rules' numbers.
#[derive(Clone)]
struct Resets {
    counts: ValueState<i64>,
    rules: BroadcastState<u32, i64>,
    log: OperatorListState<u32>,
}

impl KeyedBroadcastProcessFunction<u32, u32, Rule, (u32, i64)> for Resets {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u32>) -> Result<(), BoxError> {
        state.register(&mut self.counts)?;
        state.operator_state().get_broadcast_state(&mut self.rules)?;
        state.operator_state().get_list_state(&mut self.log)
    }

    fn process_element(
        &mut self,
        _number: u32,
        context: &mut KeyedContext<'_, u32>,
        out: &mut Collector<'_, (u32, i64)>,
    ) -> Result<(), BoxError> {
        *self.counts.get_or_default(context) += 1;
        let count = *self.counts.get_or_default(context);
        out.collect((
            *context.key(),
            count * self.rules.get(context, &0).copied().unwrap_or(1),
        ));
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        (number, factor): Rule,
        context: &mut KeyedBroadcastContext<'_, u32>,
        _out: &mut Collector<'_, (u32, i64)>,
    ) -> Result<(), BoxError> {
        self.log.add(context, number);
        let Some(factor) = factor else { return Ok(()) };
        self.rules.put(context, number, factor);
        let counts = self.counts.clone();
        context.apply_to_keyed_state(&self.counts, |context| {
            if counts.get(context) == Some(&factor) {
                counts.clear(context);
            }
            Ok(())
        })
    }
}

#[test]
fn a_broadcast_element_reaches_the_state_of_every_key() {
    let function = Resets {
        counts: ValueState::new("counts"),
        rules: BroadcastState::new("rules"),
        log: OperatorListState::new("log"),
    };
    let states = KeyedBroadcastProcess::<u32, u32, Rule, _, fn(&u32) -> u32>::states(function.clone()).unwrap();
    let names: Vec<_> = states.iter().map(|state| state.name.as_str()).collect();
    assert_eq!(names, ["counts", "rules", "log", "~watermark"]);
    let make = |index, of| {
        let operator = KeyedBroadcastProcess::new(function.clone(), |number: &u32| *number);
        OperatorTestHarness::<_, Ask, (u32, i64)>::new(operator)
            .subtask(index, of)
            .declare(&states)
    };
    let mut first = make(0, 1);
    for number in [1, 2, 2, 3, 3] {
        first.process_element(Either::First(number), None).unwrap();
    }
    first.process_element(Either::Second((0, Some(2))), None).unwrap();
    first.extract_output();
    let snapshot = first.savepoint(1).unwrap();
    let mut seen = Vec::new();
    for index in 0..2 {
        let mut second = make(index, 2).restore(std::slice::from_ref(&snapshot));
        for number in (1..=3u32)
            .filter(|number| second.owns(number.stable_hash()))
            .collect::<Vec<_>>()
        {
            second.process_element(Either::First(number), None).unwrap();
        }
        seen.extend(second.extract_output().into_iter().map(|(seen, _)| seen));
    }
    seen.sort_unstable();
    assert_eq!(
        seen,
        [(1, 4), (2, 2), (3, 2)],
        "2 and 3 had a count of 2; every result is times 2"
    );
}
