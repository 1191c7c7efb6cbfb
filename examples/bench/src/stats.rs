//! The sink of every case: counts, sums up, and says how fast it went.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use streamd::{ConnectorError, Guarantee, NoCommit, Record, Sink, SinkContext, SinkWriter};

use crate::Connect;

/// How often a point of the time line is taken.
const SAMPLE: Duration = Duration::from_millis(50);

/// Counts records, and sums `checksum` over them.
#[derive(Clone)]
pub struct StatsSink<T> {
    case: String,
    /// Events that went in, where that is not the number that comes out; 0: the same.
    events: u64,
    checksum: fn(&T) -> u64,
    /// Where the time line goes while the job runs: a line for each sample of each writer, with milliseconds since 1970, records so
    /// far, CPU seconds, and the longest time in microseconds between two batches since the last line.
    timeline: Option<String>,
}

impl<T> StatsSink<T> {
    /// A sink for a case of so many events.
    pub fn new(case: String, events: u64, checksum: fn(&T) -> u64) -> Self {
        Self {
            case,
            events,
            checksum,
            timeline: None,
        }
    }

    /// Writes the time line to this file while the job runs.
    pub fn timeline(self, file: Option<&str>) -> Self {
        Self {
            timeline: file.map(str::to_owned),
            ..self
        }
    }
}

/// What all writers of the process see.
struct Shared {
    records: AtomicU64,
    checksum: AtomicU64,
    writers: AtomicU32,
    timeline: Mutex<Vec<Point>>,
}

#[derive(Clone, Copy)]
struct Point {
    at: Instant,
    records: u64,
    cpu: f64,
}

static SHARED: Shared = Shared {
    records: AtomicU64::new(0),
    checksum: AtomicU64::new(0),
    writers: AtomicU32::new(0),
    timeline: Mutex::new(Vec::new()),
};

/// Writes for one subtask.
pub struct Writer<T> {
    sink: StatsSink<T>,
    sampled: Instant,
    written: Instant,
    longest_gap: Duration,
    file: Option<File>,
}

impl<T: Record> Sink for StatsSink<T> {
    type In = T;
    type Committable = NoCommit;
    type Writer = Writer<T>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
    fn writer(&self, _context: &SinkContext) -> Connect<Writer<T>> {
        let now = Instant::now();
        let open = |file| OpenOptions::new().append(true).create(true).open(file);
        let file = self.timeline.as_ref().map(open).transpose();
        let file = file.map_err(|cause| ConnectorError::caused("cannot open the file of the time line", cause))?;
        SHARED.writers.fetch_add(1, Ordering::SeqCst);
        Ok(Writer {
            sink: self.clone(),
            sampled: now,
            written: now,
            longest_gap: Duration::ZERO,
            file,
        })
    }

    fn commit(&self, _committables: &[NoCommit]) -> Connect<()> {
        Ok(())
    }
}

impl<T: Record> SinkWriter for Writer<T> {
    type In = T;
    type Committable = NoCommit;

    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
    fn write(&mut self, batch: &mut Vec<T>) -> Connect<()> {
        let checksum = self.sink.checksum;
        let sum = batch.iter().map(checksum).fold(0u64, u64::wrapping_add);
        let records = SHARED.records.fetch_add(batch.len() as u64, Ordering::Relaxed) + batch.len() as u64;
        SHARED.checksum.fetch_add(sum, Ordering::Relaxed);
        batch.clear();
        let now = Instant::now();
        self.longest_gap = self.longest_gap.max(now - self.written);
        self.written = now;
        if now - self.sampled >= SAMPLE {
            self.sampled = now;
            let point = Point {
                at: now,
                records,
                cpu: cpu_seconds(),
            };
            SHARED
                .timeline
                .lock()
                .expect("no writer panics while it holds the time line")
                .push(point);
            self.write_down(point)?;
        }
        Ok(())
    }

    fn prepare_commit(&mut self) -> Connect<Vec<NoCommit>> {
        Ok(Vec::new())
    }
}

impl<T> Writer<T> {
    fn write_down(&mut self, point: Point) -> Connect<()> {
        let gap = std::mem::take(&mut self.longest_gap).as_micros();
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let line = format!("{} {} {:.2} {gap}\n", unix_millis(), point.records, point.cpu);
        // One system call: lines of several writers do not mix.
        file.write_all(line.as_bytes())
            .map_err(|cause| ConnectorError::caused("cannot write the time line", cause))
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
fn unix_millis() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map(|since| since.as_millis()).unwrap_or_default()
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        if SHARED.writers.fetch_sub(1, Ordering::SeqCst) == 1 {
            report(&self.sink.case, self.sink.events);
        }
    }
}

/// One JSON line: rates over the last 80 % of the records.
fn report(case: &str, events: u64) {
    let records = SHARED.records.load(Ordering::SeqCst);
    let mut timeline = SHARED
        .timeline
        .lock()
        .expect("no writer panics while it holds the time line")
        .clone();
    timeline.sort_by_key(|point| point.at);
    let begin = timeline.iter().find(|point| point.records >= records / 5).copied();
    let (Some(begin), Some(end)) = (begin, timeline.last().copied()) else {
        println!("{{\"case\":\"{case}\",\"records\":{records},\"note\":\"too short to measure\"}}");
        return;
    };
    let events = if events == 0 { records } else { events };
    let measured = (end.records - begin.records) as f64 * events as f64 / records.max(1) as f64;
    let seconds = (end.at - begin.at).as_secs_f64();
    let (rate, cpu) = (measured / seconds, (end.cpu - begin.cpu) / measured * 1e9);
    let checksum = SHARED.checksum.load(Ordering::SeqCst);
    println!(
        "{{\"case\":\"{case}\",\"events\":{events},\"records\":{records},\"checksum\":{checksum},\
         \"seconds\":{seconds:.3},\"events_per_second\":{rate:.0},\"cpu_ns_per_event\":{cpu:.2}}}"
    );
}

/// User and system time of the process.
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    fields.iter().sum::<f64>() / 100.0
}
