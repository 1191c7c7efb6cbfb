//! The case *latency*: events that are due at a time, and how long after it they are through.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use streamd::{ConnectorError, Guarantee, NoCommit, Sink, SinkContext, SinkWriter, Source, SourceReader, SourceStatus};

use crate::Connect;
use crate::events::event;

/// Key, value, and when it is due, in microseconds after the start.
pub type Due = (u64, i64, u64);

/// As many keys as the definition has.
const KEYS: u64 = 1_000_000;
/// Results that come earlier do not count.
const WARM_UP_MICROS: u64 = 10_000_000;
/// A latency of this many microseconds and more is one of these.
const LONGEST_MICROS: usize = 4_000_000;

/// The start of the first reader: all times are since then.
static START: OnceLock<Instant> = OnceLock::new();

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
fn micros_since_start() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// The events of *keyed-sum*, due in ticks of a millisecond.
#[derive(Clone)]
pub struct Paced {
    /// Events a millisecond of all readers together.
    pub per_tick: u64,
    /// How many events there are.
    pub events: u64,
}

pub struct Reader {
    source: Paced,
    /// The next event, and the stride.
    splits: Vec<(u64, u64)>,
}

impl Source for Paced {
    type Out = Due;
    type Split = (u64, u64);
    type Reader = Reader;

    /// An event that is read again is due when it was.
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, parallelism: u32) -> Connect<Vec<(u64, u64)>> {
        let stride = u64::from(parallelism);
        Ok((0..stride).map(|first| (first, stride)).collect())
    }

    fn reader(&self) -> Connect<Reader> {
        Ok(Reader {
            source: self.clone(),
            splits: Vec::new(),
        })
    }
}

impl SourceReader for Reader {
    type Out = Due;
    type Split = (u64, u64);

    fn add_splits(&mut self, splits: Vec<(u64, u64)>) -> Connect<()> {
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<Due>, limit: usize) -> Connect<SourceStatus> {
        let Some((next, stride)) = self.splits.first_mut() else {
            return Ok(SourceStatus::End);
        };
        let now = micros_since_start();
        let due = |index: u64| index / self.source.per_tick * 1000;
        while *next < self.source.events && due(*next) <= now && out.len() < limit {
            let (key, value) = event(*next, KEYS);
            out.push((key, value, due(*next)));
            *next += *stride;
        }
        Ok(match *next {
            next if next >= self.source.events => SourceStatus::End,
            next if due(next) <= now => SourceStatus::More,
            next => SourceStatus::Idle(Duration::from_micros(due(next) - now)),
        })
    }

    fn snapshot(&self) -> Vec<(u64, u64)> {
        self.splits.clone()
    }
}

/// Notes how late each result is, and prints how they are spread when the input has ended.
#[derive(Clone)]
pub struct LatencySink;

/// How many results were so many microseconds late, of all writers that are done.
static COUNTS: Mutex<Vec<u64>> = Mutex::new(Vec::new());
static WRITERS: AtomicU32 = AtomicU32::new(0);

pub struct Writer {
    counts: Vec<u64>,
}

impl Sink for LatencySink {
    type In = Due;
    type Committable = NoCommit;
    type Writer = Writer;

    /// After a failure some results are measured twice.
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn writer(&self, _context: &SinkContext) -> Connect<Writer> {
        WRITERS.fetch_add(1, Ordering::SeqCst);
        Ok(Writer {
            counts: vec![0; LONGEST_MICROS + 1],
        })
    }

    fn commit(&self, _committables: &[NoCommit]) -> Connect<()> {
        Ok(())
    }
}

impl SinkWriter for Writer {
    type In = Due;
    type Committable = NoCommit;

    fn write(&mut self, results: &mut Vec<Due>) -> Result<(), ConnectorError> {
        let now = micros_since_start();
        for (_, _, due) in results.drain(..).filter(|result| result.2 >= WARM_UP_MICROS) {
            self.counts[(now.saturating_sub(due) as usize).min(LONGEST_MICROS)] += 1;
        }
        Ok(())
    }

    fn prepare_commit(&mut self) -> Connect<Vec<NoCommit>> {
        Ok(Vec::new())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut all = COUNTS.lock().expect("no writer panics while it holds the counts");
        all.resize(LONGEST_MICROS + 1, 0);
        all.iter_mut().zip(&self.counts).for_each(|(sum, count)| *sum += count);
        if WRITERS.fetch_sub(1, Ordering::SeqCst) == 1 {
            report(&all);
        }
    }
}

/// One JSON line, in milliseconds.
fn report(counts: &[u64]) {
    let results: u64 = counts.iter().sum();
    let at = |share: f64| {
        let rank = (results as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reached = |count: &u64| {
            seen += count;
            seen >= rank
        };
        counts.iter().position(reached).unwrap_or(0) as f64 / 1000.0
    };
    println!(
        "{{\"case\":\"latency\",\"results\":{results},\"p50_ms\":{:.3},\"p90_ms\":{:.3},\"p99_ms\":{:.3},\"p999_ms\":{:.3},\"max_ms\":{:.3}}}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}
