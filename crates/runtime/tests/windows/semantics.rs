//! What windows do in the cases that people ask about.

use std::time::Duration;

use streamd_core::time::EventTime;
use streamd_runtime::error::BoxError;
use streamd_runtime::harness::OperatorTestHarness;
use streamd_runtime::record::Collector;
use streamd_runtime::side_output::OutputTag;
use streamd_runtime::window::{
    ContinuousEventTimeTrigger, CountEvictor, CountTrigger, EventTimeSessionWindows, EventTimeTrigger,
    EvictingContents, GlobalWindows, Lateness, ListContents, PurgingTrigger, SlidingEventTimeWindows,
    SlidingWindowOperator, TimeEvictor, Trigger, TumblingEventTimeWindows, WindowAssigner, WindowContext,
    WindowOperator, WindowOptions,
};

const LATE: OutputTag<u64> = OutputTag::new("late");

fn numbers(
    context: &mut WindowContext<'_, ()>,
    elements: &[u64],
    out: &mut Collector<'_, (i64, Vec<u64>)>,
) -> Result<(), BoxError> {
    out.collect((context.window().start, elements.to_vec()));
    Ok(())
}

fn no_key(_: &u64) {}

type Harness<Op> = OperatorTestHarness<Op, u64, (i64, Vec<u64>)>;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn options<G: Trigger<u64>>(assigner: WindowAssigner, trigger: G, allowed_ms: i64) -> WindowOptions<u64, G> {
    WindowOptions {
        assigner,
        trigger,
        lateness: Lateness {
            allowed_ms,
            output: Some(LATE),
        },
    }
}

fn results<Op>(harness: &mut Harness<Op>) -> Vec<(i64, Vec<u64>)>
where
    Op: streamd_runtime::chain::Operator<u64, (i64, Vec<u64>)>,
{
    harness.extract_output().into_iter().map(|(result, _)| result).collect()
}

#[test]
fn a_late_record_fires_its_window_again_until_lateness_is_over_and_then_goes_to_the_side() {
    let tumbling = TumblingEventTimeWindows::of(seconds(1));
    let operator = WindowOperator::new(options(tumbling, EventTimeTrigger, 500), ListContents(numbers), no_key);
    let mut harness = Harness::new(operator);
    harness.process_element(1, 100).unwrap();
    harness.process_watermark(998).unwrap();
    assert_eq!(results(&mut harness), []);
    harness.process_watermark(999).unwrap();
    assert_eq!(results(&mut harness), [(0, vec![1])]);
    harness.process_element(2, 200).unwrap();
    assert_eq!(results(&mut harness), [(0, vec![1, 2])]);
    harness.process_watermark(1_498).unwrap();
    harness.process_element(3, 300).unwrap();
    assert_eq!(results(&mut harness), [(0, vec![1, 2, 3])]);
    harness.process_watermark(1_499).unwrap();
    harness.process_element(4, 400).unwrap();
    assert_eq!(results(&mut harness), []);
    assert_eq!(harness.extract_side_output(&LATE), [4]);
    harness.end_of_input().unwrap();
    assert_eq!(results(&mut harness), []);
}

#[test]
fn late_records_that_nobody_wants_are_counted() {
    let tumbling = TumblingEventTimeWindows::of(seconds(1));
    let options = WindowOptions {
        lateness: Lateness::default(),
        ..options(tumbling, EventTimeTrigger, 0)
    };
    let mut harness = Harness::new(WindowOperator::new(options, ListContents(numbers), no_key));
    harness.process_watermark(999).unwrap();
    for (number, time) in [(1, 500), (2, 999), (3, 1_000)] {
        harness.process_element(number, time).unwrap();
    }
    assert_eq!(harness.late_records(), 2);
}

#[test]
fn panes_are_as_late_as_their_last_window() {
    let sliding = SlidingEventTimeWindows::of(seconds(4), seconds(2));
    let lateness = Lateness {
        allowed_ms: 0,
        output: Some(LATE),
    };
    let operator = SlidingWindowOperator::new(sliding, ListContents(numbers), lateness, no_key).unwrap();
    let mut harness = Harness::new(operator);
    harness.process_watermark(3_999).unwrap();
    // The window that ends at 4 s is over; the one that ends at 6 s takes it.
    harness.process_element(1, 2_500).unwrap();
    harness.process_element(2, 1_500).unwrap();
    assert_eq!(harness.extract_side_output(&LATE), [2]);
    harness.end_of_input().unwrap();
    assert_eq!(results(&mut harness), [(2_000, vec![1])]);
}

#[test]
fn a_session_that_bridges_two_makes_one_of_three() {
    let sessions = EventTimeSessionWindows::of(seconds(1));
    let operator = WindowOperator::new(options(sessions, EventTimeTrigger, 0), ListContents(numbers), no_key);
    let mut harness = Harness::new(operator);
    harness.process_element(1, 0).unwrap();
    harness.process_element(2, 1_800).unwrap();
    harness.process_element(3, 900).unwrap();
    harness.process_watermark(2_798).unwrap();
    assert_eq!(results(&mut harness), []);
    harness.process_watermark(2_799).unwrap();
    assert_eq!(results(&mut harness), [(0, vec![1, 2, 3])]);
}

#[test]
fn counting_windows_fire_and_purge() {
    let trigger = PurgingTrigger::of(CountTrigger::of(2));
    let operator = WindowOperator::new(
        options(GlobalWindows::create(), trigger, 0),
        ListContents(numbers),
        no_key,
    );
    let mut harness = Harness::new(operator);
    for number in 1..=5 {
        harness.process_element(number, None).unwrap();
    }
    let results: Vec<_> = results(&mut harness).into_iter().map(|(_, numbers)| numbers).collect();
    assert_eq!(results, [vec![1, 2], vec![3, 4]]);
}

#[test]
fn an_evictor_keeps_the_last_records_or_the_last_stretch_of_time() {
    let contents = EvictingContents {
        evictor: CountEvictor::of(3),
        function: numbers,
    };
    let operator = WindowOperator::new(
        options(GlobalWindows::create(), CountTrigger::of(2), 0),
        contents,
        no_key,
    );
    let mut harness = Harness::new(operator);
    for number in 1..=6 {
        harness.process_element(number, None).unwrap();
    }
    let counted: Vec<_> = results(&mut harness).into_iter().map(|(_, numbers)| numbers).collect();
    assert_eq!(counted, [vec![1, 2], vec![2, 3, 4], vec![4, 5, 6]]);

    let contents = EvictingContents {
        evictor: TimeEvictor::of(seconds(1)),
        function: numbers,
    };
    let tumbling = TumblingEventTimeWindows::of(seconds(10));
    let operator = WindowOperator::new(options(tumbling, EventTimeTrigger, 0), contents, no_key);
    let mut harness = Harness::new(operator);
    for (number, time) in [(1, 100), (2, 5_000), (3, 5_900)] {
        harness.process_element(number, time).unwrap();
    }
    harness.end_of_input().unwrap();
    assert_eq!(results(&mut harness), [(0, vec![2, 3])]);
}

#[test]
fn a_continuous_trigger_fires_early_and_at_the_end() {
    let trigger = ContinuousEventTimeTrigger::of(seconds(2));
    let tumbling = TumblingEventTimeWindows::of(seconds(5));
    let operator = WindowOperator::new(options(tumbling, trigger, 0), ListContents(numbers), no_key);
    let mut harness = Harness::new(operator);
    harness.process_element(1, 1_000).unwrap();
    harness.process_watermark(2_000).unwrap();
    assert_eq!(results(&mut harness), [(0, vec![1])]);
    harness.process_element(2, 2_500).unwrap();
    harness.process_watermark(4_100).unwrap();
    assert_eq!(results(&mut harness), [(0, vec![1, 2])]);
    harness.process_watermark(4_999).unwrap();
    assert_eq!(results(&mut harness), [(0, vec![1, 2])]);
}

#[test]
fn a_record_without_a_timestamp_is_refused_with_the_remedy() {
    let tumbling = TumblingEventTimeWindows::of(seconds(1));
    let operator = WindowOperator::new(options(tumbling, EventTimeTrigger, 0), ListContents(numbers), no_key);
    let error = Harness::new(operator).process_element(1, None).unwrap_err();
    assert!(
        error.to_string().contains("assign_timestamps_and_watermarks"),
        "{error}"
    );
}

#[test]
fn extreme_timestamps_have_windows_that_end() {
    for time in [i64::MIN + 1, -1, i64::MAX - 1, i64::MAX] {
        for assigner in [
            TumblingEventTimeWindows::of(seconds(1)),
            SlidingEventTimeWindows::of(seconds(3), seconds(2)),
            EventTimeSessionWindows::of(seconds(1)),
        ] {
            let operator = WindowOperator::new(options(assigner, EventTimeTrigger, 0), ListContents(numbers), no_key);
            let mut harness = Harness::new(operator);
            harness.process_element(7, time).unwrap();
            harness.end_of_input().unwrap();
            let results = harness.extract_output();
            assert!(!results.is_empty(), "{time} in {assigner:?}");
            assert!(results.iter().all(|((_, numbers), _)| *numbers == [7]));
            assert!(
                results
                    .iter()
                    .all(|(_, timestamp)| *timestamp >= EventTime(time.min(i64::MAX - 1)))
            );
        }
        let sliding = SlidingEventTimeWindows::of(seconds(3), seconds(2));
        let operator = SlidingWindowOperator::new(sliding, ListContents(numbers), Lateness::default(), no_key);
        let mut harness = Harness::new(operator.unwrap());
        harness.process_element(7, time).unwrap();
        harness.end_of_input().unwrap();
        assert!(!harness.extract_output().is_empty(), "{time} in panes");
    }
}
