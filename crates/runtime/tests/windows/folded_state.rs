//! State that folds what is added to it.

use streamd_runtime::error::BoxError;
use streamd_runtime::harness::OperatorTestHarness;
use streamd_runtime::keyed::{AggregatingState, KeyedContext, KeyedProcessFunction, KeyedStateStore, ReducingState};
use streamd_runtime::operator::KeyedProcess;
use streamd_runtime::record::Collector;
use streamd_runtime::window::AggregateFunction;

/// The mean of numbers, rounded down.
#[derive(Clone)]
struct Mean;

impl AggregateFunction<u64> for Mean {
    type Accumulator = (u64, u64);
    type Output = u64;

    fn create_accumulator(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, number: u64, (sum, count): &mut (u64, u64)) {
        *sum += number;
        *count += 1;
    }

    fn get_result(&self, (sum, count): &(u64, u64)) -> u64 {
        sum / count
    }

    fn merge(&self, (sum, count): &mut (u64, u64), other: (u64, u64)) {
        *sum += other.0;
        *count += other.1;
    }
}

type Fold = fn(&mut u64, u64);

/// Emits maximum and mean of a key; 0 forgets both.
#[derive(Clone)]
struct Statistics {
    max: ReducingState<u64, Fold>,
    mean: AggregatingState<u64, Mean>,
}

impl KeyedProcessFunction<u64, u64, (u64, u64)> for Statistics {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        state.register(&mut self.max)?;
        state.register(&mut self.mean)
    }

    fn process_element(
        &mut self,
        number: u64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> Result<(), BoxError> {
        if number == 0 {
            self.max.clear(context);
            self.mean.clear(context);
            assert!(self.max.get(context).is_none() && self.mean.get(context).is_none());
            return Ok(());
        }
        self.max.add(context, number);
        self.mean.add(context, number);
        let mean = self.mean.get(context).unwrap_or(0);
        out.collect((self.max.get(context).copied().unwrap_or(0), mean));
        Ok(())
    }
}

#[test]
fn values_are_folded_as_they_are_added_and_after_a_restore() {
    let make = || {
        let max: Fold = |max, number| *max = number.max(*max);
        let statistics = Statistics {
            max: ReducingState::new("max", max),
            mean: AggregatingState::new("mean", Mean),
        };
        OperatorTestHarness::new(KeyedProcess::new(statistics, |_: &u64| 7))
    };
    let mut harness = make();
    for number in [4, 10, 1] {
        harness.process_element(number, None).unwrap();
    }
    let snapshot = harness.snapshot(1).unwrap();
    let mut restored = make().restore(&[snapshot]);
    for number in [1, 0, 3] {
        restored.process_element(number, None).unwrap();
    }
    let seen: Vec<_> = harness
        .extract_output()
        .into_iter()
        .chain(restored.extract_output())
        .map(|(seen, _)| seen)
        .collect();
    assert_eq!(seen, [(4, 4), (10, 7), (10, 5), (10, 4), (3, 3)]);
}
