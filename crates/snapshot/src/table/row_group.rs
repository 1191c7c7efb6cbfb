//! Row groups of a table: encoded by a few threads beside the one that fills them, written in order.

use std::collections::VecDeque;
use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use arrow_array::RecordBatch;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;

use crate::background::lower_priority;

/// Threads that encode the row groups of one table. Two are as fast as the one that fills them; each holds a row group in memory.
const MAX_THREADS: usize = 2;

/// A row group that is full: its rows, and what encodes each of its columns.
pub(super) struct RowGroup {
    pub batches: Vec<RecordBatch>,
    pub columns: Vec<ArrowColumnWriter>,
}

/// A row group as it stands in the file.
pub(super) struct EncodedRowGroup(Vec<ArrowColumnChunk>);

/// What threads of their own encode.
pub(super) trait Encode: Send + 'static {
    type Encoded: Send + 'static;

    fn encode(self) -> Result<Self::Encoded, ParquetError>;
}

impl Encode for RowGroup {
    type Encoded = EncodedRowGroup;

    fn encode(self) -> Result<EncodedRowGroup, ParquetError> {
        let Self { batches, mut columns } = self;
        for batch in batches {
            let schema = batch.schema();
            let mut writers = columns.iter_mut();
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                for (leaf, writer) in compute_leaves(field, column)?.iter().zip(writers.by_ref()) {
                    writer.write(leaf)?;
                }
            }
        }
        let chunks = columns.into_iter().map(ArrowColumnWriter::close);
        Ok(EncodedRowGroup(chunks.collect::<Result<_, _>>()?))
    }
}

impl EncodedRowGroup {
    pub(super) fn write<W: Write + Send>(self, file: &mut SerializedFileWriter<W>) -> Result<(), ParquetError> {
        let mut row_group = file.next_row_group()?;
        for chunk in self.0 {
            chunk.append_to_row_group(&mut row_group)?;
        }
        row_group.close().map(drop)
    }
}

type Outcome<J> = Result<<J as Encode>::Encoded, ParquetError>;

/// A row group, and where to send what became of it.
type Job<J> = (J, SyncSender<Outcome<J>>);

/// Threads that encode. They end when this is dropped.
pub(super) struct Encoders<J: Encode> {
    jobs: Option<SyncSender<Job<J>>>,
    /// In the order of the file.
    under_way: VecDeque<Receiver<Outcome<J>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<J: Encode> Encoders<J> {
    /// As many as the machine has use for. Nothing if there can be none.
    pub(super) fn start() -> Option<Self> {
        let threads = thread::available_parallelism()
            .map_or(1, NonZeroUsize::get)
            .min(MAX_THREADS);
        // Whoever fills them waits while all are busy: row groups do not queue up.
        let (jobs, waiting) = sync_channel::<Job<J>>(0);
        let waiting = Arc::new(Mutex::new(waiting));
        let start = |_| {
            let waiting = Arc::clone(&waiting);
            let builder = thread::Builder::new().name("table-encoder".to_owned());
            builder.spawn(move || encode_all(&waiting))
        };
        let threads: Vec<_> = (0..threads).map_while(|index| start(index).ok()).collect();
        (!threads.is_empty()).then_some(Self {
            jobs: Some(jobs),
            under_way: VecDeque::new(),
            threads,
        })
    }

    /// Has a row group encoded. Waits while all threads are busy.
    pub(super) fn submit(&mut self, row_group: J) -> Result<(), ParquetError> {
        let (outcome, receiver) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send((row_group, outcome)).map_err(|_| ended())?;
        self.under_way.push_back(receiver);
        Ok(())
    }

    /// The next row group of the file: if it is ready, or else if there would be too many of them. Nothing where there is none.
    pub(super) fn next(&mut self, wait: Wait) -> Result<Option<J::Encoded>, ParquetError> {
        let must_wait = match wait {
            Wait::UnlessFew => self.under_way.len() > self.threads.len(),
            Wait::Always => true,
        };
        let Some(first) = self.under_way.front() else {
            return Ok(None);
        };
        let outcome = match must_wait {
            true => first.recv().map_err(|_| ended())?,
            false => match first.try_recv() {
                Ok(outcome) => outcome,
                Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(None),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Err(ended()),
            },
        };
        self.under_way.pop_front();
        outcome.map(Some)
    }
}

/// Whether to wait for a row group that is still being encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Only where more are ready, or nearly so, than there are threads.
    UnlessFew,
    /// Until it is done.
    Always,
}

impl<J: Encode> Drop for Encoders<J> {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // One that panicked has told by what it did not send.
            let _told = thread.join();
        }
    }
}

fn encode_all<J: Encode>(waiting: &Mutex<Receiver<Job<J>>>) {
    lower_priority();
    loop {
        // Held while waiting: the others wait for it instead of for the job.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((row_group, outcome)) = job else { return };
        // Nobody may be there to take it any more.
        let _given_up = outcome.send(row_group.encode());
    }
}

fn ended() -> ParquetError {
    ParquetError::General("a thread that encodes row groups has ended".to_owned())
}
