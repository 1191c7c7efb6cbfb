//! Windows and triggers that go by the clock.

use std::time::Duration;

use proptest::prelude::*;
use streamd_runtime::harness::OperatorTestHarness;
use streamd_runtime::window::{
    ContinuousProcessingTimeTrigger, DefaultTrigger, GlobalWindows, Lateness, ProcessingTimeSessionWindows,
    ReduceContents, SlidingProcessingTimeWindows, SlidingWindowOperator, TumblingProcessingTimeWindows, WindowOperator,
    WindowOptions,
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn numbers(harness: &mut OperatorTestHarness<impl streamd_runtime::chain::Operator<u64, u64>, u64, u64>) -> Vec<u64> {
    harness.extract_output().into_iter().map(|(number, _)| number).collect()
}

#[test]
fn windows_of_the_clock_fire_when_it_passes_their_end_before_and_after_a_restore() {
    let make = || {
        let assigner = TumblingProcessingTimeWindows::of(seconds(1));
        let options = WindowOptions {
            assigner,
            trigger: DefaultTrigger::ProcessingTime,
            lateness: Lateness::default(),
        };
        WindowOperator::new(
            options,
            ReduceContents(|sum: &mut u64, number| *sum += number),
            |_: &u64| (),
        )
    };
    let mut harness = OperatorTestHarness::new(make());
    harness.set_processing_time(10_100).unwrap();
    harness.process_element(1, None).unwrap();
    harness.process_element(2, None).unwrap();
    harness.set_processing_time(10_998).unwrap();
    assert!(numbers(&mut harness).is_empty());
    let snapshot = harness.snapshot(1).unwrap();
    harness.set_processing_time(10_999).unwrap();
    assert_eq!(numbers(&mut harness), [3]);
    let mut restored = OperatorTestHarness::new(make()).restore(&[snapshot]);
    restored.set_processing_time(20_000).unwrap();
    assert_eq!(numbers(&mut restored), [3]);
    restored.process_element(5, None).unwrap();
    restored.set_processing_time(21_000).unwrap();
    assert_eq!(numbers(&mut restored), [5]);
}

#[test]
fn windows_of_the_clock_give_their_results_when_the_input_ends() {
    let options = WindowOptions {
        assigner: TumblingProcessingTimeWindows::of(seconds(1)),
        trigger: DefaultTrigger::ProcessingTime,
        lateness: Lateness::default(),
    };
    let sum = ReduceContents(|sum: &mut u64, number| *sum += number);
    let mut harness = OperatorTestHarness::new(WindowOperator::new(options, sum, |_: &u64| ()));
    harness.set_processing_time(10_100).unwrap();
    harness.process_element(1, None).unwrap();
    harness.set_processing_time(10_900).unwrap();
    harness.process_element(2, None).unwrap();
    harness.end_of_input().unwrap();
    assert_eq!(numbers(&mut harness), [3]);
    let snapshot = harness.snapshot(1).unwrap();
    harness.set_processing_time(20_000).unwrap();
    assert!(numbers(&mut harness).is_empty(), "once");
    let mut restored = OperatorTestHarness::new(WindowOperator::new(
        WindowOptions {
            assigner: TumblingProcessingTimeWindows::of(seconds(1)),
            trigger: DefaultTrigger::ProcessingTime,
            lateness: Lateness::default(),
        },
        ReduceContents(|sum: &mut u64, number| *sum += number),
        |_: &u64| (),
    ))
    .restore(&[snapshot]);
    restored.end_of_input().unwrap();
    assert!(numbers(&mut restored).is_empty(), "once, also over a restore");
}

#[test]
fn a_trigger_that_always_asks_again_does_not_keep_the_input_from_ending() {
    let options = WindowOptions {
        assigner: GlobalWindows::create(),
        trigger: ContinuousProcessingTimeTrigger::of(seconds(1)),
        lateness: Lateness::default(),
    };
    let sum = ReduceContents(|sum: &mut u64, number| *sum += number);
    let mut harness = OperatorTestHarness::new(WindowOperator::new(options, sum, |_: &u64| ()));
    harness.process_element(1, None).unwrap();
    harness.process_element(2, None).unwrap();
    harness.end_of_input().unwrap();
    assert_eq!(numbers(&mut harness), [3]);
}

#[test]
fn sessions_of_the_clock_end_in_silence() {
    let options = WindowOptions {
        assigner: ProcessingTimeSessionWindows::of(seconds(1)),
        trigger: DefaultTrigger::ProcessingTime,
        lateness: Lateness::default(),
    };
    let sum = ReduceContents(|sum: &mut u64, number| *sum += number);
    let mut harness = OperatorTestHarness::new(WindowOperator::new(options, sum, |_: &u64| ()));
    for (time, number) in [(0, 1), (900, 2), (1_800, 4)] {
        harness.set_processing_time(time).unwrap();
        harness.process_element(number, None).unwrap();
    }
    assert!(numbers(&mut harness).is_empty());
    harness.set_processing_time(2_799).unwrap();
    assert_eq!(numbers(&mut harness), [7]);
}

#[test]
fn a_continuous_trigger_of_the_clock_goes_on_and_on() {
    let options = WindowOptions {
        assigner: GlobalWindows::create(),
        trigger: ContinuousProcessingTimeTrigger::of(seconds(1)),
        lateness: Lateness::default(),
    };
    let sum = ReduceContents(|sum: &mut u64, number| *sum += number);
    let mut harness = OperatorTestHarness::new(WindowOperator::new(options, sum, |_: &u64| ()));
    harness.process_element(1, None).unwrap();
    harness.set_processing_time(1_000).unwrap();
    harness.process_element(2, None).unwrap();
    harness.set_processing_time(2_000).unwrap();
    assert_eq!(numbers(&mut harness), [1, 3]);
}

/// Sums of all records by the clock, over three seconds every second.
fn sliding() -> impl streamd_runtime::chain::Operator<u64, u64> {
    let assigner = SlidingProcessingTimeWindows::of(seconds(3), seconds(1));
    let sum = ReduceContents(|sum: &mut u64, number| *sum += number);
    SlidingWindowOperator::new(assigner, sum, Lateness::default(), |_: &u64| ()).unwrap()
}

#[test]
fn a_record_at_the_moment_at_which_a_window_fires_counts_in_the_three_windows_after_it() {
    let mut harness = OperatorTestHarness::new(sliding());
    harness.set_processing_time(10_500).unwrap();
    harness.process_element(1, None).unwrap();
    harness.set_processing_time(10_999).unwrap();
    assert_eq!(numbers(&mut harness), [1]);
    harness.process_element(2, None).unwrap();
    harness.set_processing_time(20_000).unwrap();
    assert_eq!(numbers(&mut harness), [3, 3, 2]);
}

#[test]
fn a_clock_that_is_put_back_by_little_stands_still_and_by_much_begins_anew() {
    let mut harness = OperatorTestHarness::new(sliding());
    harness.set_processing_time(100_500).unwrap();
    harness.process_element(1, None).unwrap();
    harness.set_processing_time(100_999).unwrap();
    assert_eq!(numbers(&mut harness), [1]);
    harness.set_processing_time(100_400).unwrap();
    harness.process_element(2, None).unwrap();
    harness.set_processing_time(101_999).unwrap();
    assert_eq!(numbers(&mut harness), [3], "what has fired does not fire again");
    let snapshot = harness.snapshot(1).unwrap();
    for restored in [false, true] {
        if restored {
            harness = OperatorTestHarness::new(sliding()).restore(std::slice::from_ref(&snapshot));
        }
        harness.set_processing_time(50_500).unwrap();
        harness.process_element(4, None).unwrap();
        assert_eq!(
            numbers(&mut harness),
            [3, 2],
            "nothing waits for the clock to be where it was"
        );
        harness.set_processing_time(60_000).unwrap();
        assert_eq!(numbers(&mut harness), [4, 4, 4]);
    }
}

proptest! {
    /// The clock is never where a window ends, and each millisecond is on its own: both operators see the same windows.
    #[test]
    fn sliding_windows_of_the_clock_hold_the_same_with_and_without_panes(
        size in 1u64..30,
        slide in 1u64..10,
        steps in prop::collection::vec((0u64..40, 0u8..10), 0..40),
    ) {
        let assigner = SlidingProcessingTimeWindows::of(Duration::from_millis(10 * size), Duration::from_millis(10 * slide));
        let list = || ReduceContents(|all: &mut (u64, String), next: (u64, String)| all.1.push_str(&next.1));
        let key = |record: &(u64, String)| record.0;
        let options = WindowOptions { assigner, trigger: DefaultTrigger::ProcessingTime, lateness: Lateness::default() };
        let whole = || WindowOperator::new(options.clone(), list(), key);
        let panes = || SlidingWindowOperator::new(assigner, list(), Lateness::default(), key);
        prop_assume!(panes().is_some());
        let expected = outputs(whole, &steps);
        prop_assert_eq!(outputs(|| panes().unwrap(), &steps), expected);
    }
}

type Text = (u64, String);

/// What comes out, sorted: at each step the clock goes on, and there is a record for one of three keys, or a restore.
fn outputs<Op>(make: impl Fn() -> Op, steps: &[(u64, u8)]) -> Vec<(Text, i64)>
where
    Op: streamd_runtime::chain::Operator<Text, Text>,
{
    let mut harness = OperatorTestHarness::new(make());
    let (mut now, mut output) = (5, Vec::new());
    for (number, (wait, choice)) in steps.iter().enumerate() {
        now += 10 * *wait as i64;
        harness.set_processing_time(now).unwrap();
        if *choice == 0 {
            let snapshot = harness.snapshot(number as u64 + 1).unwrap();
            output.extend(harness.extract_output());
            harness = OperatorTestHarness::new(make()).restore(&[snapshot]);
            harness.set_processing_time(now).unwrap();
        } else {
            let record = (u64::from(choice % 3), format!("{number},"));
            harness.process_element(record, None).unwrap();
        }
    }
    harness.end_of_input().unwrap();
    output.extend(harness.extract_output());
    let mut output: Vec<_> = output.into_iter().map(|(text, at)| (text, at.0)).collect();
    output.sort();
    output
}
