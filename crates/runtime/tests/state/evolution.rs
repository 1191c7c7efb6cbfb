//! Types that change from one version of an application to the next, wherever they are kept.

use std::time::Duration;

use streamd_core::state::State as _;
use streamd_macros::State;
use streamd_runtime::async_function::{AsyncRetryStrategy, AsyncWaitOptions, OutputMode};
use streamd_runtime::chain::Operator;
use streamd_runtime::error::BoxError;
use streamd_runtime::harness::{OperatorSnapshotHandle, OperatorTestHarness};
use streamd_runtime::operator::{AsyncWait, Process};
use streamd_runtime::operator_state::{OperatorListState, OperatorStateStore};
use streamd_runtime::process_function::{ProcessContext, ProcessFunction};
use streamd_runtime::record::{Collector, Record};
use streamd_runtime::window::{
    AggregateContents, AggregateFunction, EventTimeSessionWindows, EventTimeTrigger, Lateness, ListContents,
    ReduceContents, SlidingEventTimeWindows, SlidingWindowOperator, TumblingEventTimeWindows, WindowAssigner,
    WindowContext, WindowOperator, WindowOptions,
};

/// The version that wrote the snapshot.
mod before {
    use super::*;

    #[derive(Debug, Clone, PartialEq, State, serde::Serialize, serde::Deserialize)]
    #[state(crate = "streamd_core")]
    pub struct Payment {
        pub cents: u32,
        pub note: String,
    }

    #[derive(Debug, Clone, PartialEq, State)]
    #[state(crate = "streamd_core")]
    pub struct Sum {
        pub cents: u32,
        pub largest: u32,
    }

    pub fn payment(cents: u32) -> Payment {
        Payment {
            cents,
            note: "old".to_owned(),
        }
    }

    #[derive(Clone)]
    pub struct Spent;

    impl AggregateFunction<Payment> for Spent {
        type Accumulator = Sum;
        type Output = (u64, u64, u64);

        fn create_accumulator(&self) -> Sum {
            Sum { cents: 0, largest: 0 }
        }

        fn add(&self, payment: Payment, sum: &mut Sum) {
            sum.cents += payment.cents;
            sum.largest = sum.largest.max(payment.cents);
        }

        fn get_result(&self, sum: &Sum) -> (u64, u64, u64) {
            (sum.cents.into(), 0, sum.largest.into())
        }

        fn merge(&self, sum: &mut Sum, other: Sum) {
            sum.cents += other.cents;
            sum.largest = sum.largest.max(other.largest);
        }
    }
}

/// The version that starts from it: fields are widened, renamed, added, removed and reordered, and one type is made by a function.
mod after {
    use super::*;

    #[derive(Debug, Clone, PartialEq, State, serde::Serialize, serde::Deserialize)]
    #[state(crate = "streamd_core")]
    pub struct Payment {
        #[state(default = "EUR")]
        pub currency: String,
        pub cents: u64,
    }

    #[derive(Debug, Clone, PartialEq, State)]
    #[state(crate = "streamd_core", migrate = from_cents)]
    pub struct Sum {
        pub euros: f64,
        pub count: u64,
        pub largest: u64,
    }

    fn from_cents(old: super::before::Sum) -> Sum {
        Sum {
            euros: f64::from(old.cents) / 100.0,
            count: 100,
            largest: old.largest.into(),
        }
    }

    pub fn payment(cents: u64) -> Payment {
        Payment {
            currency: "USD".to_owned(),
            cents,
        }
    }

    #[derive(Clone)]
    pub struct Spent;

    impl AggregateFunction<Payment> for Spent {
        type Accumulator = Sum;
        type Output = (u64, u64, u64);

        fn create_accumulator(&self) -> Sum {
            Sum {
                euros: 0.0,
                count: 0,
                largest: 0,
            }
        }

        fn add(&self, payment: Payment, sum: &mut Sum) {
            sum.euros += payment.cents as f64 / 100.0;
            sum.count += 1;
            sum.largest = sum.largest.max(payment.cents);
        }

        fn get_result(&self, sum: &Sum) -> (u64, u64, u64) {
            ((sum.euros * 100.0).round() as u64, sum.count, sum.largest)
        }

        fn merge(&self, sum: &mut Sum, other: Sum) {
            sum.euros += other.euros;
            sum.count += other.count;
            sum.largest = sum.largest.max(other.largest);
        }
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn options<T>(assigner: WindowAssigner) -> WindowOptions<T, EventTimeTrigger> {
    WindowOptions {
        assigner,
        trigger: EventTimeTrigger,
        lateness: Lateness::default(),
    }
}

/// Feeds an operator, and takes a savepoint or a checkpoint of it.
fn written<Op, In, Out>(operator: Op, records: Vec<(In, i64)>, savepoint: bool) -> OperatorSnapshotHandle
where
    Op: Operator<In, Out>,
    In: Record,
    Out: Record,
{
    let mut harness = OperatorTestHarness::new(operator);
    for (record, time) in records {
        harness.process_element(record, time).unwrap();
    }
    match savepoint {
        true => harness.savepoint(1).unwrap(),
        false => harness.snapshot(1).unwrap(),
    }
}

/// What an operator emits that starts from a snapshot and gets these records.
fn results<Op, In, Out>(operator: Op, snapshot: OperatorSnapshotHandle, records: Vec<(In, i64)>) -> Vec<Out>
where
    Op: Operator<In, Out>,
    In: Record,
    Out: Record,
{
    let mut harness = OperatorTestHarness::new(operator).restore(&[snapshot]);
    for (record, time) in records {
        harness.process_element(record, time).unwrap();
    }
    harness.end_of_input().unwrap();
    harness.extract_output().into_iter().map(|(result, _)| result).collect()
}

fn one_key<T>(_: &T) -> u8 {
    7
}

#[test]
fn the_accumulators_of_open_windows_become_those_of_the_new_version() {
    let old = || vec![(before::payment(100), 100), (before::payment(250), 900)];
    let new = || vec![(after::payment(50), 950)];
    for savepoint in [true, false] {
        for assigner in [
            TumblingEventTimeWindows::of(seconds(1)),
            EventTimeSessionWindows::of(seconds(1)),
        ] {
            let first = WindowOperator::new(options(assigner), AggregateContents(before::Spent), one_key);
            let snapshot = written(first, old(), savepoint);
            let second = WindowOperator::new(options(assigner), AggregateContents(after::Spent), one_key);
            // What was sessions of their own before the cut has one accumulator, made once by the function of the type.
            assert_eq!(results(second, snapshot, new()), [(400, 101, 250)], "{assigner:?}");
        }
    }
}

#[test]
fn so_do_the_panes_of_sliding_windows() {
    let sliding = SlidingEventTimeWindows::of(seconds(2), seconds(1));
    for savepoint in [true, false] {
        let first = SlidingWindowOperator::new(sliding, AggregateContents(before::Spent), Lateness::default(), one_key);
        let records = vec![(before::payment(100), 500), (before::payment(200), 1_500)];
        let snapshot = written(first.unwrap(), records, savepoint);
        let second = SlidingWindowOperator::new(sliding, AggregateContents(after::Spent), Lateness::default(), one_key);
        let seen = results(second.unwrap(), snapshot, vec![(after::payment(50), 1_600)]);
        assert_eq!(seen, [(100, 100, 100), (350, 201, 200), (250, 101, 200)]);
    }
}

#[test]
fn so_do_records_that_a_window_keeps_or_folds() {
    fn notes(
        _: &mut WindowContext<'_, u8>,
        payments: &[after::Payment],
        out: &mut Collector<'_, Vec<String>>,
    ) -> Result<(), BoxError> {
        let shown = payments
            .iter()
            .map(|payment| format!("{} {}", payment.cents, payment.currency));
        out.collect(shown.collect());
        Ok(())
    }
    fn old_notes(
        _: &mut WindowContext<'_, u8>,
        _: &[before::Payment],
        _: &mut Collector<'_, Vec<String>>,
    ) -> Result<(), BoxError> {
        Ok(())
    }
    let tumbling = TumblingEventTimeWindows::of(seconds(1));
    let old = || vec![(before::payment(100), 100), (before::payment(250), 200)];
    let first = WindowOperator::new(options(tumbling), ListContents(old_notes), one_key);
    let snapshot = written(first, old(), true);
    let second = WindowOperator::new(options(tumbling), ListContents(notes), one_key);
    let seen = results(second, snapshot, vec![(after::payment(5), 300)]);
    assert_eq!(seen, [["100 EUR", "250 EUR", "5 USD"].map(str::to_owned).to_vec()]);

    let fold = |sum: &mut before::Payment, payment: before::Payment| sum.cents += payment.cents;
    let snapshot = written(
        WindowOperator::new(options(tumbling), ReduceContents(fold), one_key),
        old(),
        true,
    );
    let fold = |sum: &mut after::Payment, payment: after::Payment| sum.cents += payment.cents;
    let second = WindowOperator::new(options(tumbling), ReduceContents(fold), one_key);
    let seen = results(second, snapshot, vec![(after::payment(5), 300)]);
    assert_eq!((seen[0].cents, seen[0].currency.as_str()), (355, "EUR"));
}

/// Keeps what it is given, and hands it on in the end.
#[derive(Clone)]
struct Keeps<T>(OperatorListState<T>);

impl<T: Record + streamd_core::state::State> ProcessFunction<T, T> for Keeps<T> {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Result<(), BoxError> {
        state.get_list_state(&mut self.0)
    }

    fn process_element(
        &mut self,
        value: T,
        context: &mut ProcessContext<'_>,
        _: &mut Collector<'_, T>,
    ) -> Result<(), BoxError> {
        self.0.add(context, value);
        Ok(())
    }

    fn end_of_input(&mut self, context: &mut ProcessContext<'_>, out: &mut Collector<'_, T>) -> Result<(), BoxError> {
        self.0.clear(context).into_iter().for_each(|value| out.collect(value));
        Ok(())
    }
}

#[test]
fn so_do_the_elements_of_lists_and_records_whose_calls_are_in_flight() {
    let euros = |cents| after::Payment {
        currency: "EUR".to_owned(),
        cents,
    };
    let old = || vec![(before::payment(100), 100), (before::payment(250), 200)];
    let snapshot = written(Process::new(Keeps(OperatorListState::new("kept"))), old(), true);
    let second = Process::new(Keeps::<after::Payment>(OperatorListState::new("kept")));
    assert_eq!(results(second, snapshot, Vec::new()), [euros(100), euros(250)]);

    let never = |_: before::Payment| std::future::pending::<Result<Vec<before::Payment>, BoxError>>();
    let snapshot = written(AsyncWait::new(never, waiting()), old(), true);
    let at_once = |payment: after::Payment| async move { Ok(vec![payment]) };
    let second = AsyncWait::new(at_once, waiting());
    assert_eq!(results(second, snapshot, Vec::new()), [euros(100), euros(250)]);
}

fn waiting<Out>() -> AsyncWaitOptions<Out> {
    AsyncWaitOptions {
        mode: OutputMode::Ordered,
        capacity: 10,
        timeout: seconds(3_600),
        retry: AsyncRetryStrategy::none(),
    }
}

#[test]
fn what_no_rule_covers_is_refused_with_the_place() {
    #[derive(Debug, Clone, State, serde::Serialize, serde::Deserialize)]
    #[state(crate = "streamd_core")]
    struct Payment {
        cents: String,
    }
    let tumbling = TumblingEventTimeWindows::of(seconds(1));
    let fold = |sum: &mut before::Payment, payment: before::Payment| sum.cents += payment.cents;
    let first = WindowOperator::new(options(tumbling), ReduceContents(fold), one_key);
    let snapshot = written(first, vec![(before::payment(100), 100)], true);
    let keep = |_: &mut Payment, _: Payment| {};
    let second = WindowOperator::new(options(tumbling), ReduceContents(keep), one_key);
    let mut harness = OperatorTestHarness::new(second).restore(&[snapshot]);
    let error = harness.process_watermark(1).unwrap_err().to_string();
    assert!(
        error.contains("`[].contents.cents` is `uint32` in the snapshot"),
        "{error}"
    );
    assert!(!Payment::data_type().is_same_schema(&before::Payment::data_type()));
}
