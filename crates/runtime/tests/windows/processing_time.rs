//! Windows and triggers that go by the clock.

use std::time::Duration;

use streamd_runtime::harness::OperatorTestHarness;
use streamd_runtime::window::{
    ContinuousProcessingTimeTrigger, DefaultTrigger, GlobalWindows, Lateness, ProcessingTimeSessionWindows,
    ReduceContents, TumblingProcessingTimeWindows, WindowOperator, WindowOptions,
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
