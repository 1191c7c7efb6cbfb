//! Watermarks of sources with several splits, and of sources that wait for each other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod committed;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use streamd::connectors::strided::StridedSplit;
use streamd::prelude::*;
use streamd::{ConnectorError, Guarantee, Source, SourceReader, SourceStatus};

use committed::lines;

const SPLITS: u64 = 4;
const EVENTS: u64 = 4_000;

/// Time never falls within a split, but in one it runs much faster than in the others.
fn time_of(number: u64) -> i64 {
    let split = number % SPLITS;
    (number / SPLITS * (1 + 40 * split)) as i64
}

#[test]
fn a_split_that_is_far_ahead_makes_no_record_of_another_late() {
    let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
    for number in 0..EVENTS {
        *counts.entry(time_of(number).div_euclid(100) * 100).or_default() += 1;
    }
    let mut expected: Vec<_> = counts.iter().map(|(start, count)| format!("{start} {count}")).collect();
    expected.sort();
    for parallelism in [1, 2, 4] {
        let folder = tempfile::tempdir().unwrap();
        let env = StreamExecutionEnvironment::new();
        env.set_parallelism(parallelism);
        env.enable_checkpointing(Duration::from_millis(10));
        env.set_restart_strategy(RestartStrategy::FixedDelay {
            attempts: 2,
            delay_ms: 0,
        });
        let failed = Arc::new(AtomicBool::new(false));
        let source = GeneratorSource::new(Some(EVENTS), |number| number);
        env.from_source(source.splits(SPLITS as u32).rate(8_000), "numbers")
            .uid("numbers")
            // What is between source and watermarks changes nothing.
            .map(move |number| {
                assert!(
                    number != EVENTS / 2 || failed.swap(true, Ordering::SeqCst),
                    "a poisoned record"
                );
                time_of(number)
            })
            .assign_timestamps_and_watermarks(
                WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(|time: &i64, _| *time),
            )
            .key_by(|_| 0)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(100)))
            .process(
                |context: &mut WindowContext<'_, i32>, times: &[i64], out: &mut Collector<'_, String>| {
                    out.collect(format!("{} {}", context.window().start, times.len()));
                    Ok(())
                },
            )
            .uid("counts")
            .sink_to(FileSink::text(folder.path()))
            .uid("output");
        env.execute("splits").unwrap();
        assert_eq!(lines(folder.path()), expected, "at parallelism {parallelism}");
    }
}

/// A record and then a pause, however slow the machine: never a burst.
#[derive(Clone)]
struct Drip {
    count: u64,
    pause_ms: u64,
}

struct DripReader {
    splits: Vec<StridedSplit>,
    pause: Duration,
}

impl Source for Drip {
    type Out = u64;
    type Split = StridedSplit;
    type Reader = DripReader;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, _parallelism: u32) -> Result<Vec<StridedSplit>, ConnectorError> {
        Ok(StridedSplit::cut(1, Some(self.count)))
    }

    fn reader(&self) -> Result<DripReader, ConnectorError> {
        Ok(DripReader {
            splits: Vec::new(),
            pause: Duration::from_millis(self.pause_ms),
        })
    }
}

impl SourceReader for DripReader {
    type Out = u64;
    type Split = StridedSplit;

    fn add_splits(&mut self, splits: Vec<StridedSplit>) -> Result<(), ConnectorError> {
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<u64>, _limit: usize) -> Result<SourceStatus, ConnectorError> {
        let unfinished = self.splits.iter_mut().find(|split| Some(split.next) < split.end);
        Ok(match unfinished {
            None => SourceStatus::End,
            Some(split) => {
                out.push(split.next);
                split.next += split.stride;
                SourceStatus::Idle(self.pause)
            }
        })
    }

    fn snapshot(&self) -> Vec<StridedSplit> {
        self.splits.clone()
    }
}

#[test]
fn a_source_does_not_run_far_ahead_of_one_that_it_is_aligned_with() {
    /// 10 s in event time each, every 50 ms.
    const SLOW: u64 = 40;
    /// 1 s in event time each, every ms.
    const FAST: u64 = 2_000;
    /// How far the fast one may be ahead: what it is allowed to be, and what it reads between two looks, which are 200 ms apart. Left
    /// alone it is 1,600 s ahead in the end.
    const AHEAD_MS: i64 = DRIFT_MS + 2 * 200 * 1_000;
    /// More than the slow one comes forward in a second, which is how often each hears of the other.
    const DRIFT_MS: i64 = 300_000;

    let slow_is_at = Arc::new(AtomicI64::new(0));
    let furthest = Arc::new(AtomicI64::new(0));
    let strategy = || {
        WatermarkStrategy::for_monotonous_timestamps()
            .with_timestamp_assigner(|time: &i64, _| *time)
            .with_watermark_alignment("both", Duration::from_millis(DRIFT_MS as u64))
    };
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(1);
    let (slow_at, ahead) = (Arc::clone(&slow_is_at), Arc::clone(&furthest));
    let slow = Drip {
        count: SLOW,
        pause_ms: 50,
    };
    let slow = env.from_source(slow, "slow").uid("slow").map(move |number| {
        let time = number as i64 * 10_000;
        // Behind its last record it holds nobody back.
        slow_at.store(if number + 1 == SLOW { i64::MAX / 2 } else { time }, Ordering::SeqCst);
        time
    });
    let fast = Drip {
        count: FAST,
        pause_ms: 1,
    };
    let fast = env.from_source(fast, "fast").uid("fast").map(move |number| {
        let time = number as i64 * 1_000;
        ahead.fetch_max(time - slow_is_at.load(Ordering::SeqCst), Ordering::SeqCst);
        time
    });
    let count = Arc::new(AtomicI64::new(0));
    let counted = Arc::clone(&count);
    slow.assign_timestamps_and_watermarks(strategy())
        .union(&[&fast.assign_timestamps_and_watermarks(strategy())])
        .map(move |_| counted.fetch_add(1, Ordering::SeqCst))
        .sink_to(BlackholeSink::new());
    env.execute("aligned").unwrap();
    assert_eq!(count.load(Ordering::SeqCst), (SLOW + FAST) as i64);
    let furthest = furthest.load(Ordering::SeqCst);
    assert!(furthest <= AHEAD_MS, "{furthest} ms ahead");
}
