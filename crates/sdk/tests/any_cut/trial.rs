//! A random stream, the legs of the job that reads it, and how it is run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use streamd::connectors::strided::StridedSplit;
use streamd::prelude::*;
use streamd::{ConnectorError, Guarantee, Source, SourceReader, SourceStatus};

use crate::committed::lines;

pub type Done = std::result::Result<(), BoxError>;

/// A record: its number, its key, and its time in milliseconds.
pub type Event = (u64, u32, i64);

/// How often a job may fail: on a machine that is busy it may do so by itself now and then, and is exact all the same.
const ATTEMPTS: u32 = 20;
/// By how much records are out of order at the most, in milliseconds.
const JITTER: i64 = 20;
/// Into how many splits the stream is cut: not always as many as subtasks.
const SPLITS: u32 = 3;
/// Random streams for each operator: whole jobs cost more than steps by hand. `PROPTEST_CASES` makes it more.
const CASES: u32 = 12;

/// What happens to a job in one of its lives.
#[derive(Debug, Clone)]
pub struct Leg {
    /// How much of the stream may have been read when it is over, in percent.
    upto: u64,
    parallelism: u32,
    /// Whether it fails on the way, and goes back to a checkpoint.
    fails: bool,
}

/// A stream, and the lives of the job that reads it. The last one reads to the end.
#[derive(Debug, Clone)]
pub struct Trial {
    events: Arc<[Event]>,
    legs: Vec<Leg>,
}

pub fn trials() -> impl Strategy<Value = Trial> {
    let events = prop::collection::vec((0u32..5, 0i64..4, 0..JITTER), 1..250);
    let leg = (0u64..100, 1u32..5, prop::bool::weighted(0.3));
    (events, prop::collection::vec(leg, 0..3), 1u32..5).prop_map(|(steps, legs, last)| {
        let mut now = 0;
        let event = |(number, (key, step, behind)): (u64, (u32, i64, i64))| {
            now += step;
            (number, key, now - behind)
        };
        let events = (0..).zip(steps).map(event).collect();
        let mut legs: Vec<_> = legs
            .into_iter()
            .map(|(upto, parallelism, fails)| Leg {
                upto,
                parallelism,
                fails,
            })
            .collect();
        legs.sort_by_key(|leg| leg.upto);
        legs.push(Leg {
            upto: 100,
            parallelism: last,
            fails: false,
        });
        Trial { events, legs }
    })
}

pub fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(CASES),
        max_shrink_iters: 20,
        // A failure prints its trial: files of seeds would only fit this version of the strategy.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

impl Trial {
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Runs the job leg by leg. Returns the lines that it has committed in the end, sorted.
    pub fn run(&self, build: impl Fn(&DataStream<Event>) -> DataStream<String>) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        std::fs::create_dir(&output).unwrap();
        let mut savepoint = None;
        let mut before = 0;
        for (number, leg) in self.legs.iter().enumerate() {
            let is_last = number + 1 == self.legs.len();
            let upto = self.events.len() as u64 * leg.upto / 100;
            let source = Events {
                events: Arc::clone(&self.events),
                upto,
                is_last,
                read: Arc::default(),
            };
            let read = Arc::clone(&source.read);
            let env = job(leg, source, &output, &build);
            if let Some(path) = &savepoint {
                env.restore_from(path);
            }
            let client = env.execute_async("any cut").unwrap();
            if is_last {
                client.wait().unwrap();
                break;
            }
            client.wait_for_restarts(0).unwrap();
            while read.load(Ordering::SeqCst) < upto - before {
                assert!(client.restarts() < ATTEMPTS, "the job fails by itself");
                std::thread::sleep(Duration::from_millis(1));
            }
            if leg.fails {
                client.wait_for_checkpoints(1).unwrap();
                client.fail("a trial").unwrap();
                client.wait_for_restarts(1).unwrap();
            }
            let saved = folder.path().join(format!("saved-{number}")).display().to_string();
            savepoint = Some(client.stop_with_savepoint(saved, false).unwrap());
            before = upto;
        }
        lines(&output)
    }

    /// Runs the job, and compares its lines, one by one, with what they must be.
    pub fn check(
        &self,
        expected: impl IntoIterator<Item = String>,
        build: impl Fn(&DataStream<Event>) -> DataStream<String>,
    ) -> Result<(), TestCaseError> {
        let mut expected: Vec<_> = expected.into_iter().collect();
        expected.sort();
        prop_assert_eq!(self.run(build), expected);
        Ok(())
    }
}

fn job(
    leg: &Leg,
    source: Events,
    output: &Path,
    build: impl Fn(&DataStream<Event>) -> DataStream<String>,
) -> StreamExecutionEnvironment {
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(leg.parallelism);
    env.set_max_parallelism(32);
    env.enable_checkpointing(Duration::from_millis(10));
    env.set_restart_strategy(RestartStrategy::FixedDelay {
        attempts: ATTEMPTS,
        delay_ms: 0,
    });
    let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(JITTER as u64))
        .with_timestamp_assigner(|event: &Event, _| event.2);
    let events = env
        .from_source(source, "events")
        .uid("events")
        .assign_timestamps_and_watermarks(strategy)
        .uid("times");
    build(&events).sink_to(FileSink::text(output)).uid("output");
    env
}

/// The events, of which no more is read than a leg may.
#[derive(Clone)]
struct Events {
    events: Arc<[Event]>,
    upto: u64,
    is_last: bool,
    /// How many were read in this leg.
    read: Arc<AtomicU64>,
}

struct EventsReader {
    source: Events,
    splits: Vec<StridedSplit>,
    polled: usize,
    polls: usize,
}

impl Source for Events {
    type Out = Event;
    type Split = StridedSplit;
    type Reader = EventsReader;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, _parallelism: u32) -> std::result::Result<Vec<StridedSplit>, ConnectorError> {
        Ok(StridedSplit::cut(SPLITS, None))
    }

    fn reader(&self) -> std::result::Result<EventsReader, ConnectorError> {
        Ok(EventsReader {
            source: self.clone(),
            splits: Vec::new(),
            polled: 0,
            polls: 0,
        })
    }
}

impl EventsReader {
    fn is_closed(&self, split: usize) -> bool {
        self.splits[split].next >= self.source.upto
    }
}

impl SourceReader for EventsReader {
    type Out = Event;
    type Split = StridedSplit;

    fn add_splits(&mut self, splits: Vec<StridedSplit>) -> std::result::Result<(), ConnectorError> {
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<Event>, limit: usize) -> std::result::Result<SourceStatus, ConnectorError> {
        if (0..self.splits.len()).all(|split| self.is_closed(split)) {
            return Ok(match self.source.is_last {
                true => SourceStatus::End,
                false => SourceStatus::Idle(Duration::from_millis(1)),
            });
        }
        self.polls += 1;
        self.polled = (0..self.splits.len())
            .map(|ahead| (self.polled + ahead + 1) % self.splits.len())
            .find(|split| !self.is_closed(*split))
            .unwrap_or(0);
        let split = &mut self.splits[self.polled];
        for _ in 0..limit.min(1 + self.polls % 5) {
            if split.next >= self.source.upto {
                break;
            }
            out.push(self.source.events[split.next as usize]);
            split.next += split.stride;
            self.source.read.fetch_add(1, Ordering::SeqCst);
        }
        Ok(SourceStatus::More)
    }

    fn polled_split(&self) -> Option<usize> {
        (!self.splits.is_empty()).then_some(self.polled)
    }

    fn is_at_end(&self, split: usize) -> bool {
        self.source.is_last && self.is_closed(split)
    }

    fn snapshot(&self) -> Vec<StridedSplit> {
        self.splits.clone()
    }
}
