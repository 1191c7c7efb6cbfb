//! Calls that come back when a test lets them, in any order, through watermarks, snapshots and rescales.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use streamd_core::time::{EventTime, Watermark};
use streamd_runtime::async_function::{AsyncFunction, AsyncRetryStrategy, AsyncWaitOptions, OutputMode};
use streamd_runtime::completions::Calls;
use streamd_runtime::error::BoxError;
use streamd_runtime::harness::{OperatorSnapshotHandle, OperatorTestHarness};
use streamd_runtime::operator::AsyncWait;
use tokio::sync::watch;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3_600);

/// Answers for a number once it is let: with none, one or two results.
#[derive(Clone)]
struct Gated(watch::Receiver<BTreeSet<u64>>);

impl AsyncFunction<u64, u64> for Gated {
    async fn async_invoke(&self, number: u64) -> Result<Vec<u64>, BoxError> {
        let mut open = self.0.clone();
        open.wait_for(|open| open.contains(&number)).await?;
        Ok(results(number))
    }
}

fn results(number: u64) -> Vec<u64> {
    vec![number; number as usize % 3]
}

fn options<Out>(mode: OutputMode, capacity: usize) -> AsyncWaitOptions<Out> {
    AsyncWaitOptions {
        mode,
        capacity,
        timeout: LONG,
        retry: AsyncRetryStrategy::none(),
    }
}

type Harness<F> = OperatorTestHarness<AsyncWait<u64, u64, F>, u64, u64>;

fn harness<F: AsyncFunction<u64, u64>>(function: &F, options: AsyncWaitOptions<u64>) -> Harness<F> {
    Harness::new(AsyncWait::new(function.clone(), options)).declare(&AsyncWait::<u64, u64, F>::states())
}

/// What consumers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Result(u64, i64),
    Watermark(i64),
}

fn log<F: AsyncFunction<u64, u64>>(harness: &mut Harness<F>, seen: &mut Vec<Seen>) {
    let results = harness.extract_output().into_iter();
    seen.extend(results.map(|(number, EventTime(time))| Seen::Result(number, time)));
    for watermark in harness.extract_watermarks() {
        if let Watermark::Time(EventTime(time)) = watermark {
            seen.push(Seen::Watermark(time));
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Record,
    Watermark,
    /// Lets one of the calls answer.
    Let(prop::sample::Index),
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Record),
        1 => Just(Step::Watermark),
        4 => any::<prop::sample::Index>().prop_map(Step::Let),
        2 => Just(Step::Look),
    ];
    prop::collection::vec(step, 1..60)
}

fn mode() -> impl Strategy<Value = OutputMode> {
    prop_oneof![Just(OutputMode::Ordered), Just(OutputMode::Unordered)]
}

/// Orders what may come in any order: results between two watermarks.
fn by_segment(seen: &[Seen]) -> Vec<Vec<Seen>> {
    let segments = seen.split_inclusive(|seen| matches!(seen, Seen::Watermark(_)));
    let sorted = |segment: &[Seen]| {
        let mut segment = segment.to_vec();
        segment.sort();
        segment
    };
    segments.map(sorted).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn results_keep_their_order_or_at_least_their_place_between_watermarks(
        steps in steps(), mode in mode(), capacity in 1usize..6,
    ) {
        let (open, gate) = watch::channel(BTreeSet::new());
        let mut harness = harness(&Gated(gate), options(mode, capacity));
        let (mut seen, mut expected) = (Vec::new(), Vec::new());
        let (mut number, mut time) = (0, 0);
        for step in steps {
            time += 1;
            match step {
                Step::Record => {
                    harness.process_element(number, time).unwrap();
                    expected.extend(results(number).into_iter().map(|result| Seen::Result(result, time)));
                    number += 1;
                }
                Step::Watermark => {
                    harness.process_watermark(time).unwrap();
                    expected.push(Seen::Watermark(time));
                }
                Step::Let(which) if number > 0 => {
                    open.send_modify(|open| { open.insert(which.index(number as usize) as u64); });
                }
                Step::Let(_) => {}
                Step::Look => { harness.process_completions().unwrap(); }
            }
            log(&mut harness, &mut seen);
        }
        open.send_modify(|open| open.extend(0..number));
        while harness.calls().unwrap() != Calls::None {
            harness.await_call().unwrap();
            log(&mut harness, &mut seen);
        }
        match mode {
            OutputMode::Ordered => prop_assert_eq!(seen, expected),
            OutputMode::Unordered => prop_assert_eq!(by_segment(&seen), by_segment(&expected)),
        }
    }

    /// What was not emitted before a snapshot is called again by whoever starts from it, once (I1, I19).
    #[test]
    fn calls_in_flight_survive_snapshots_and_rescales(
        steps in steps(), mode in mode(), capacity in 1usize..6,
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 1u32..4, any::<bool>()), 1..3),
    ) {
        let (open, gate) = watch::channel(BTreeSet::new());
        let subtasks = |parallelism: u32, snapshots: &[OperatorSnapshotHandle]| -> Vec<_> {
            let one = |index| harness(&Gated(gate.clone()), options(mode, capacity)).subtask(index, parallelism).restore(snapshots);
            (0..parallelism).map(one).collect()
        };
        let mut running = subtasks(1, &[]);
        let (mut seen, mut expected) = (Vec::new(), BTreeMap::new());
        let mut number = 0;
        for (position, step) in steps.iter().enumerate() {
            for (at, parallelism, savepoint) in &cuts {
                if at.index(steps.len()) == position {
                    let cut = |harness: &mut Harness<Gated>| if *savepoint { harness.savepoint(1) } else { harness.snapshot(1) };
                    let snapshots: Vec<_> = running.iter_mut().map(|harness| cut(harness).unwrap()).collect();
                    running = subtasks(*parallelism, &snapshots);
                }
            }
            let subtask = number as usize % running.len();
            match step {
                Step::Record => {
                    running[subtask].process_element(number, position as i64).unwrap();
                    expected.insert(number, position as i64);
                    number += 1;
                }
                Step::Let(which) if number > 0 => {
                    open.send_modify(|open| { open.insert(which.index(number as usize) as u64); });
                }
                Step::Let(_) | Step::Watermark => {}
                Step::Look => { running[subtask].process_completions().unwrap(); }
            }
            running.iter_mut().for_each(|harness| log(harness, &mut seen));
        }
        open.send_modify(|open| open.extend(0..number));
        for harness in &mut running {
            harness.end_of_input().unwrap();
            log(harness, &mut seen);
        }
        seen.retain(|seen| matches!(seen, Seen::Result(..)));
        seen.sort();
        let expected = expected.into_iter().flat_map(|(number, time)| {
            results(number).into_iter().map(move |result| Seen::Result(result, time))
        });
        prop_assert_eq!(seen, expected.collect::<Vec<_>>());
    }
}

#[test]
fn no_more_calls_are_made_than_may_be_and_the_rest_waits() {
    let (open, gate) = watch::channel(BTreeSet::new());
    let called = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&called);
    let gated = Gated(gate);
    let function = move |number: u64| {
        counted.fetch_add(1, Ordering::SeqCst);
        let gated = gated.clone();
        async move { gated.async_invoke(number).await }
    };
    let mut harness = harness(&function, options(OutputMode::Ordered, 3));
    let mut calls = Vec::new();
    for number in [1, 4, 7, 10, 13] {
        calls.push(harness.calls().unwrap());
        harness.process_element(number, None).unwrap();
    }
    calls.push(harness.calls().unwrap());
    assert_eq!(
        calls,
        [
            Calls::None,
            Calls::Some,
            Calls::Some,
            Calls::Some,
            Calls::Full,
            Calls::Full
        ]
    );
    // That of 4 is back, but waits for that of 1: the order is to be kept, and so is its place.
    open.send_modify(|open| {
        open.insert(4);
    });
    harness.await_call().unwrap();
    assert!(harness.extract_output().is_empty() && called.load(Ordering::SeqCst) <= 3);
    open.send_modify(|open| open.extend([1, 7, 10, 13]));
    harness.end_of_input().unwrap();
    let seen: Vec<_> = harness.extract_output().into_iter().map(|(number, _)| number).collect();
    assert_eq!((seen, called.load(Ordering::SeqCst)), (vec![1, 4, 7, 10, 13], 5));
}

/// Never answers for even numbers, which are then counted as lost.
#[derive(Clone)]
struct Silent {
    dropped: Arc<AtomicBool>,
}

/// Tells that a future is gone.
struct TellsDrop(Arc<AtomicBool>);

impl Drop for TellsDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl AsyncFunction<u64, u64> for Silent {
    async fn async_invoke(&self, number: u64) -> Result<Vec<u64>, BoxError> {
        let _tells = TellsDrop(Arc::clone(&self.dropped));
        if number.is_multiple_of(2) {
            std::future::pending::<()>().await;
        }
        Ok(vec![number])
    }

    fn timeout(&self, number: u64) -> Result<Vec<u64>, BoxError> {
        Ok(vec![1_000 + number])
    }
}

#[test]
fn a_call_that_never_answers_is_given_up_and_its_record_is_not_lost() {
    let dropped = Arc::new(AtomicBool::new(false));
    let silent = Silent {
        dropped: Arc::clone(&dropped),
    };
    let options = AsyncWaitOptions {
        timeout: Duration::from_millis(20),
        ..options(OutputMode::Ordered, 10)
    };
    let mut harness = harness(&silent, options);
    harness.process_element(2, None).unwrap();
    harness.await_calls().unwrap();
    let seen: Vec<_> = harness.extract_output().into_iter().map(|(number, _)| number).collect();
    assert_eq!(seen, [1_002]);
    assert!(dropped.load(Ordering::SeqCst), "the future is gone as well");
}

#[test]
fn an_operator_that_ends_waits_for_no_call() {
    let dropped = Arc::new(AtomicBool::new(false));
    let (began, begins) = std::sync::mpsc::channel();
    let tells = Arc::clone(&dropped);
    let never = move |_: u64| {
        let (tells, began) = (TellsDrop(Arc::clone(&tells)), began.clone());
        async move {
            let _tells = tells;
            began.send(()).unwrap();
            std::future::pending::<Result<Vec<u64>, BoxError>>().await
        }
    };
    let mut harness = harness(&never, options(OutputMode::Unordered, 10));
    harness.process_element(2, None).unwrap();
    begins.recv().unwrap();
    drop(harness);
    // The futures go with the threads that they run on, which the harness takes along.
    assert!(dropped.load(Ordering::SeqCst));
}

#[test]
fn a_call_that_fails_or_panics_fails_the_attempt_and_says_so() {
    for (number, message) in [
        (
            1,
            "an asynchronous call of operator `under test` failed: no such number",
        ),
        (2, "an asynchronous call panicked: a bug"),
        (
            3,
            "an asynchronous call of operator `under test` failed: an asynchronous call has not come back in time",
        ),
    ] {
        let function = |number: u64| async move {
            match number {
                1 => Err("no such number".into()),
                2 => panic!("a bug"),
                _never => std::future::pending::<Result<Vec<u64>, BoxError>>().await,
            }
        };
        let options = AsyncWaitOptions {
            timeout: if number == 3 { Duration::from_millis(10) } else { LONG },
            ..options(OutputMode::Unordered, 10)
        };
        let mut harness = harness(&function, options);
        harness.process_element(number, None).unwrap();
        let error = harness.await_calls().unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_call_is_made_again_as_long_as_the_strategy_says() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    // Fails twice, is empty twice, and then there.
    let function = move |number: u64| {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            match call {
                0 | 1 => Err("not now".into()),
                2 | 3 => Ok(Vec::new()),
                _there => Ok(vec![number]),
            }
        }
    };
    let retry = AsyncRetryStrategy::exponential_backoff(10, Duration::from_millis(1), Duration::from_millis(4), 2.0)
        .if_result(|results: &[u64]| results.is_empty());
    let mut harness = harness(
        &function,
        AsyncWaitOptions {
            retry,
            ..options(OutputMode::Ordered, 1)
        },
    );
    harness.process_element(7, 5).unwrap();
    harness.await_calls().unwrap();
    assert_eq!(harness.extract_output(), [(7, EventTime(5))]);
    assert_eq!(calls.load(Ordering::SeqCst), 5);
}
