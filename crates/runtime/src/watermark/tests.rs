use std::time::Duration;

use streamd_core::time::{EventTime, Watermark};

use crate::harness::OperatorTestHarness;
use crate::source_progress::SourceProgress;
use crate::watermark::{BoundedOutOfOrderness, TimestampsAndWatermarks, WatermarkAlignment, WatermarkPolicy};

type Assign = fn(&i64, EventTime) -> EventTime;
type Harness = OperatorTestHarness<TimestampsAndWatermarks<Assign, BoundedOutOfOrderness>, i64, i64>;

/// Records are their own timestamps, and never fall within a split.
fn harness(policy: WatermarkPolicy, source: &SourceProgress) -> Harness {
    let assign: Assign = |record, _| EventTime(*record);
    let operator = TimestampsAndWatermarks::new(assign, BoundedOutOfOrderness::new(0), policy);
    OperatorTestHarness::new(operator).behind_source(source)
}

fn idle_after(millis: u64) -> WatermarkPolicy {
    WatermarkPolicy {
        idle_after: Some(Duration::from_millis(millis)),
        ..WatermarkPolicy::default()
    }
}

fn time(millis: i64) -> Watermark {
    Watermark::Time(EventTime(millis))
}

fn feed(harness: &mut Harness, source: &SourceProgress, split: usize, record: i64) {
    source.on_polled(split, false);
    harness.process_element(record, None).unwrap();
    harness.flush().unwrap();
}

#[test]
fn the_time_of_a_stream_is_that_of_its_last_split() {
    let source = SourceProgress::of_splits(3);
    let mut harness = harness(WatermarkPolicy::default(), &source);
    feed(&mut harness, &source, 0, 500);
    feed(&mut harness, &source, 1, 100);
    assert_eq!(harness.extract_watermarks(), [], "a split has said nothing yet");
    feed(&mut harness, &source, 2, 300);
    assert_eq!(harness.extract_watermarks(), [time(99)]);
    feed(&mut harness, &source, 1, 400);
    assert_eq!(harness.extract_watermarks(), [time(299)]);
}

#[test]
fn a_split_at_its_end_holds_nobody_back() {
    let source = SourceProgress::of_splits(2);
    source.on_polled(1, true);
    let mut harness = harness(WatermarkPolicy::default(), &source);
    feed(&mut harness, &source, 0, 500);
    assert_eq!(harness.extract_watermarks(), [time(499)]);
}

#[test]
fn a_stream_whose_splits_are_all_at_their_end_is_idle_until_there_is_another() {
    let source = SourceProgress::of_splits(1);
    let mut harness = harness(WatermarkPolicy::default(), &source);
    source.on_polled(0, true);
    harness.process_element(500, None).unwrap();
    harness.flush().unwrap();
    assert_eq!(harness.extract_watermarks(), [time(499), Watermark::Idle]);
    feed(&mut harness, &source, 1, 700);
    assert_eq!(harness.extract_watermarks(), [Watermark::Active, time(699)]);
}

#[test]
fn an_idle_split_is_not_waited_for_until_it_has_a_record_again() {
    let source = SourceProgress::of_splits(2);
    let mut harness = harness(idle_after(1_000), &source);
    feed(&mut harness, &source, 0, 500);
    for now in [400, 800] {
        harness.set_processing_time(now).unwrap();
        feed(&mut harness, &source, 0, 500 + now);
    }
    assert_eq!(harness.extract_watermarks(), []);
    harness.set_processing_time(1_200).unwrap();
    assert_eq!(harness.extract_watermarks(), [time(1_299)]);
    // Late for those who did not wait, and no reason to go back.
    feed(&mut harness, &source, 1, 300);
    assert_eq!(harness.extract_watermarks(), []);
    feed(&mut harness, &source, 1, 1_350);
    feed(&mut harness, &source, 0, 2_000);
    assert_eq!(
        harness.extract_watermarks(),
        [time(1_349)],
        "it has caught up, and counts"
    );
}

#[test]
fn time_in_which_no_record_could_come_is_no_silence() {
    let source = SourceProgress::of_splits(1);
    let mut harness = harness(idle_after(1_000), &source);
    feed(&mut harness, &source, 0, 500);
    harness.extract_watermarks();
    // The alarm was due long ago: there was no room for what it might have set free.
    harness.stand_still_until(60_000);
    harness.set_processing_time(60_000).unwrap();
    assert_eq!(harness.extract_watermarks(), []);
    harness.set_processing_time(61_400).unwrap();
    assert_eq!(harness.extract_watermarks(), [Watermark::Idle]);
}

#[test]
fn a_source_that_is_ahead_of_its_group_is_held_until_the_group_follows() {
    let source = SourceProgress::of_splits(1);
    let policy = WatermarkPolicy {
        idle_after: Some(Duration::from_millis(300)),
        alignment: Some(WatermarkAlignment::new("payments", Duration::from_millis(100))),
    };
    let mut harness = harness(policy, &source);
    let groups = harness.alignment();
    let told = |millis| groups.set_least([("payments".to_owned(), EventTime(millis))].into());
    harness.set_processing_time(0).unwrap();
    assert!(!source.is_held(), "nobody is ahead who has said nothing");
    feed(&mut harness, &source, 0, 501);
    assert!(source.is_held(), "the others have said nothing");
    told(399);
    harness.set_processing_time(200).unwrap();
    assert!(source.is_held());
    told(400);
    harness.set_processing_time(400).unwrap();
    assert!(!source.is_held());
    let said = groups.of_subtask(harness.subtask_id());
    assert_eq!(said, [("payments".to_owned(), EventTime(500))].into());
    // Held for as long as it likes, it is not idle; without a record while it could read, it is, and waits for nobody.
    feed(&mut harness, &source, 0, 601);
    harness.set_processing_time(5_000).unwrap();
    assert!(source.is_held());
    assert_eq!(harness.extract_watermarks(), [time(500), time(600)]);
    told(500);
    harness.set_processing_time(6_000).unwrap();
    assert_eq!(harness.extract_watermarks(), [Watermark::Idle]);
    let said = groups.of_subtask(harness.subtask_id());
    assert_eq!(said, [("payments".to_owned(), EventTime::MAX)].into());
}

#[test]
fn alignment_without_a_source_to_hold_is_refused() {
    let policy = WatermarkPolicy {
        idle_after: None,
        alignment: Some(WatermarkAlignment::new("payments", Duration::ZERO)),
    };
    let assign: Assign = |record, _| EventTime(*record);
    let operator = TimestampsAndWatermarks::new(assign, BoundedOutOfOrderness::new(0), policy);
    let error = OperatorTestHarness::new(operator).process_element(1, None).unwrap_err();
    assert!(
        error.to_string().contains("before the stream is redistributed"),
        "{error}"
    );
}
