//! A sink in its operator: what a snapshot holds, and what is committed when.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use streamd_core::graph::Guarantee;
use streamd_core::sink::{Sink, SinkContext, SinkWriter, WriteContext};
use streamd_core::source::ConnectorError;
use streamd_core::time::EventTime;
use streamd_runtime::harness::OperatorTestHarness;
use streamd_runtime::operator::SinkOperator;

/// A pot that is closed when it holds three numbers; what is in it before is unfinished.
#[derive(Clone, Default)]
struct Pots {
    committed: Arc<Mutex<Vec<String>>>,
    nonces: Arc<Mutex<BTreeSet<String>>>,
}

struct Pot {
    closed: Vec<String>,
    open: Vec<u64>,
    closes_all: bool,
}

impl Sink for Pots {
    type In = u64;
    type Committable = String;
    type Writer = Pot;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, context: &SinkContext) -> Result<Pot, ConnectorError> {
        self.nonces.lock().unwrap().insert(context.nonce.clone());
        Ok(Pot {
            closed: Vec::new(),
            open: Vec::new(),
            closes_all: false,
        })
    }

    fn commit(&self, pots: &[String]) -> Result<(), ConnectorError> {
        self.committed.lock().unwrap().extend_from_slice(pots);
        Ok(())
    }
}

impl Pot {
    fn close(&mut self) {
        self.closed.push(format!("{:?}", std::mem::take(&mut self.open)));
    }
}

impl SinkWriter for Pot {
    type In = u64;
    type Committable = String;

    fn write(&mut self, batch: &mut Vec<u64>) -> Result<(), ConnectorError> {
        for number in batch.drain(..) {
            self.open.push(number);
            if self.open.len() == 3 {
                self.close();
            }
        }
        Ok(())
    }

    fn leave_nothing_unfinished(&mut self) {
        self.closes_all = true;
    }

    fn prepare_commit(&mut self) -> Result<Vec<String>, ConnectorError> {
        if std::mem::take(&mut self.closes_all) && !self.open.is_empty() {
            self.close();
        }
        Ok(std::mem::take(&mut self.closed))
    }

    fn unfinished(&mut self) -> Result<Vec<String>, ConnectorError> {
        let is_begun = !self.open.is_empty();
        Ok(is_begun
            .then(|| format!("unfinished {:?}", self.open))
            .into_iter()
            .collect())
    }
}

type Harness = OperatorTestHarness<SinkOperator<Pots>, u64, ()>;

fn harness(pots: &Pots) -> Harness {
    Harness::new(SinkOperator::new(pots.clone()))
}

fn write(harness: &mut Harness, numbers: std::ops::Range<u64>) {
    numbers
        .into_iter()
        .for_each(|number| harness.process_element(number, None).unwrap());
}

fn committed(pots: &Pots) -> Vec<String> {
    std::mem::take(&mut *pots.committed.lock().unwrap())
}

#[test]
fn unfinished_output_is_in_one_snapshot_and_committed_only_where_that_is_restored() {
    let pots = Pots::default();
    let mut first = harness(&pots);
    write(&mut first, 0..4);
    let early = first.snapshot(1).unwrap();
    write(&mut first, 4..5);
    let late = first.snapshot(2).unwrap();
    assert!(committed(&pots).is_empty());
    first.notify_of_completed_checkpoint(2).unwrap();
    assert_eq!(committed(&pots), ["[0, 1, 2]"], "what is unfinished goes on to grow");

    // The first pot is in both: a notification of neither had come when they were taken.
    for (snapshot, unfinished) in [(&early, "unfinished [3]"), (&late, "unfinished [3, 4]")] {
        let mut restored = harness(&pots).restore(std::slice::from_ref(snapshot));
        restored.flush().unwrap();
        write(&mut restored, 9..10);
        assert_eq!(committed(&pots), ["[0, 1, 2]", unfinished]);
    }
}

#[test]
fn the_end_of_input_leaves_nothing_unfinished() {
    let pots = Pots::default();
    let mut ended = harness(&pots);
    write(&mut ended, 0..4);
    ended.end_of_input().unwrap();
    ended.snapshot(1).unwrap();
    ended.notify_of_completed_checkpoint(1).unwrap();
    assert_eq!(committed(&pots), ["[0, 1, 2]", "[3]"]);
}

#[test]
fn a_notification_stands_for_all_that_were_lost_before_it_and_may_come_twice() {
    let pots = Pots::default();
    let mut sink = harness(&pots);
    for checkpoint in 1..=3 {
        write(&mut sink, 0..3);
        sink.snapshot(checkpoint).unwrap();
    }
    sink.notify_of_completed_checkpoint(2).unwrap();
    assert_eq!(committed(&pots).len(), 2);
    sink.notify_of_completed_checkpoint(2).unwrap();
    sink.notify_of_completed_checkpoint(1).unwrap();
    assert!(committed(&pots).is_empty());
    sink.notify_of_completed_checkpoint(3).unwrap();
    assert_eq!(committed(&pots).len(), 1);
}

#[test]
fn no_two_writers_have_one_nonce() {
    let pots = Pots::default();
    for _ in 0..3 {
        write(&mut harness(&pots), 0..1);
    }
    assert_eq!(pots.nonces.lock().unwrap().len(), 3);
}

/// Commits what it was told of the time of its records.
#[derive(Clone, Default)]
struct Clocks {
    committed: Arc<Mutex<Vec<String>>>,
}

#[derive(Default)]
struct ClockWriter {
    seen: Vec<String>,
}

impl Sink for Clocks {
    type In = u64;
    type Committable = String;
    type Writer = ClockWriter;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, _: &SinkContext) -> Result<ClockWriter, ConnectorError> {
        Ok(ClockWriter::default())
    }

    fn commit(&self, seen: &[String]) -> Result<(), ConnectorError> {
        self.committed.lock().unwrap().extend_from_slice(seen);
        Ok(())
    }
}

impl SinkWriter for ClockWriter {
    type In = u64;
    type Committable = String;

    fn write(&mut self, _: &mut Vec<u64>) -> Result<(), ConnectorError> {
        Err(ConnectorError::new(
            "a writer with a method of its own is asked by no other",
        ))
    }

    fn write_in_time(&mut self, batch: &mut Vec<u64>, context: &WriteContext<'_>) -> Result<(), ConnectorError> {
        let watermark = context.current_watermark();
        let seen = batch.drain(..).enumerate();
        let seen = seen.map(|(at, number)| format!("{number} {:?} {watermark:?}", context.timestamp(at)));
        self.seen.extend(seen);
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<String>, ConnectorError> {
        Ok(std::mem::take(&mut self.seen))
    }
}

#[test]
fn a_writer_is_told_the_time_of_its_records_and_how_far_that_has_come() {
    let clocks = Clocks::default();
    let mut harness = OperatorTestHarness::new(SinkOperator::new(clocks.clone()));
    harness.process_element(1, 50).unwrap();
    harness.process_watermark(40).unwrap();
    harness.process_element(2, None).unwrap();
    harness.process_watermark(30).unwrap();
    harness.process_element(3, 20).unwrap();
    harness.snapshot(1).unwrap();
    harness.notify_of_completed_checkpoint(1).unwrap();
    let start = EventTime::MIN;
    let expected = [
        format!("1 {:?} {start:?}", Some(EventTime(50))),
        format!("2 None {:?}", EventTime(40)),
        format!("3 {:?} {:?}", Some(EventTime(20)), EventTime(40)),
    ];
    assert_eq!(*clocks.committed.lock().unwrap(), expected);
}
