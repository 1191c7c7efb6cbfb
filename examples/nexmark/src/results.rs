//! Where results go: to files, line by line, or nowhere, for measuring; rows of numbers are then counted and summed up.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use streamd::prelude::*;
use streamd::{ConnectorError, Guarantee, NoCommit, Record, Sink, SinkContext, SinkWriter};

use crate::events::{GOLDEN, mix};

/// A result that is numbers and nothing else, as most are: a line of text costs more than the query.
pub trait Row: Record {
    /// The numbers, in order.
    fn numbers(&self) -> impl Iterator<Item = u64>;

    /// The numbers with commas between them.
    fn line(&self) -> String {
        let numbers: Vec<String> = self.numbers().map(|number| number.to_string()).collect();
        numbers.join(",")
    }

    /// A hash of the row, from which the checksum of all is made.
    fn hash(&self) -> u64 {
        self.numbers().fold(GOLDEN, |hash, number| mix(hash ^ number))
    }
}

impl Row for (u64, u64) {
    fn numbers(&self) -> impl Iterator<Item = u64> {
        [self.0, self.1].into_iter()
    }
}

impl Row for (u64, u64, u64) {
    fn numbers(&self) -> impl Iterator<Item = u64> {
        [self.0, self.1, self.2].into_iter()
    }
}

impl Row for (u64, u64, u64, u64) {
    fn numbers(&self) -> impl Iterator<Item = u64> {
        [self.0, self.1, self.2, self.3].into_iter()
    }
}

/// Where the results of a query go.
pub struct Results {
    /// The folder for lines; nowhere without it.
    pub output: Option<PathBuf>,
}

impl Results {
    /// Takes results that are lines.
    pub fn lines(&self, lines: &DataStream<String>) {
        match &self.output {
            Some(folder) => lines.sink_to(FileSink::text(folder)).uid("results"),
            None => lines.sink_to(BlackholeSink::new()),
        };
    }

    /// Takes results that are rows. Without a folder, their number and checksum are printed when the input has ended.
    pub fn rows<R: Row>(&self, rows: &DataStream<R>) {
        match &self.output {
            Some(_) => self.lines(&rows.map(|row| row.line())),
            None => {
                rows.sink_to(Checksum(std::marker::PhantomData::<fn(R)>));
            }
        }
    }
}

/// Counts rows, and adds their hashes up: the same for every order and parallelism.
struct Checksum<R>(std::marker::PhantomData<fn(R)>);

impl<R> Clone for Checksum<R> {
    fn clone(&self) -> Self {
        Self(std::marker::PhantomData)
    }
}

static ROWS: AtomicU64 = AtomicU64::new(0);
static SUM: AtomicU64 = AtomicU64::new(0);
static WRITERS: AtomicU32 = AtomicU32::new(0);

struct ChecksumWriter<R>(std::marker::PhantomData<fn(R)>);

impl<R: Row> Sink for Checksum<R> {
    type In = R;
    type Committable = NoCommit;
    type Writer = ChecksumWriter<R>;

    /// What was counted twice after a failure is counted twice.
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn writer(&self, _context: &SinkContext) -> Result<ChecksumWriter<R>, ConnectorError> {
        WRITERS.fetch_add(1, Ordering::SeqCst);
        Ok(ChecksumWriter(std::marker::PhantomData))
    }

    fn commit(&self, _committables: &[NoCommit]) -> Result<(), ConnectorError> {
        Ok(())
    }
}

impl<R: Row> SinkWriter for ChecksumWriter<R> {
    type In = R;
    type Committable = NoCommit;

    fn write(&mut self, rows: &mut Vec<R>) -> Result<(), ConnectorError> {
        let sum = rows.iter().map(Row::hash).fold(0, u64::wrapping_add);
        ROWS.fetch_add(rows.len() as u64, Ordering::Relaxed);
        SUM.fetch_add(sum, Ordering::Relaxed);
        rows.clear();
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<NoCommit>, ConnectorError> {
        Ok(Vec::new())
    }
}

impl<R> Drop for ChecksumWriter<R> {
    fn drop(&mut self) {
        if WRITERS.fetch_sub(1, Ordering::SeqCst) == 1 {
            let (rows, sum) = (ROWS.load(Ordering::SeqCst), SUM.load(Ordering::SeqCst));
            println!("{{\"rows\":{rows},\"checksum\":{sum}}}");
        }
    }
}
