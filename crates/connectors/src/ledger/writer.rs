//! Writes the transactions of one subtask.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use streamd_core::sink::{SinkContext, SinkWriter};
use streamd_core::source::ConnectorError;

use super::client::{Answer, Call, Client, Patience};
use super::committable::LedgerCommittable;
use super::sink::{LedgerSink, in_path, refused};

/// Encoded records are sent when there are this many bytes: few requests, and far less than servers take at once.
const BATCH_BYTES: usize = 256 * 1024;

/// How long the end of a writer may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Writes the transactions of one subtask: one for each interval between two checkpoints in which there are records.
pub struct LedgerWriter<T> {
    sink: LedgerSink<T>,
    client: Client,
    /// The part of the ids that no other writer has.
    stem: String,
    /// How many transactions were begun.
    transactions: u64,
    pub(super) open: Option<Transaction>,
    /// Encoded, and not yet sent.
    buffer: Vec<u8>,
    /// Set by the first error: what then reached the ledger is unknown, so nothing more is written or prepared.
    has_failed: bool,
}

/// The transaction of the current interval.
pub(super) struct Transaction {
    pub(super) id: String,
    /// How many batches of records were sent.
    batches: u64,
    records: u64,
}

impl<T> LedgerWriter<T> {
    pub(super) fn new(sink: LedgerSink<T>, context: &SinkContext) -> Result<Self, ConnectorError> {
        let client = sink.client()?;
        // Dots separate: what is between them has none.
        let stem = format!(
            "{}.{}.{}-{}.{}",
            context.job_id,
            in_path(&context.operator),
            context.subtask.vertex,
            context.subtask.index,
            in_path(&context.nonce)
        );
        Ok(Self {
            sink,
            client,
            stem,
            transactions: 0,
            open: None,
            buffer: Vec::new(),
            has_failed: false,
        })
    }

    /// Runs a step unless an earlier one failed, and remembers if this one does.
    fn guarded<R>(&mut self, step: impl FnOnce(&mut Self) -> Result<R, ConnectorError>) -> Result<R, ConnectorError> {
        if self.has_failed {
            return Err(ConnectorError::new(format!(
                "the writer of the transactions `{}` has failed before",
                self.stem
            )));
        }
        let result = step(self);
        self.has_failed = result.is_err();
        result
    }

    fn encode(&mut self, batch: &mut Vec<T>) -> Result<(), ConnectorError> {
        if self.open.is_none() {
            self.open = Some(Transaction {
                id: format!("{}.{}", self.stem, self.transactions),
                batches: 0,
                records: 0,
            });
            self.transactions += 1;
        }
        let cannot_encode = |cause| ConnectorError::caused("cannot encode a record for the ledger", cause);
        for record in batch.iter() {
            let start = self.buffer.len();
            (self.sink.encoder())(record, &mut self.buffer).map_err(cannot_encode)?;
            if self.buffer[start..].contains(&b'\n') {
                return Err(cannot_encode("it holds a line end, which would make two of it".into()));
            }
            self.buffer.push(b'\n');
        }
        if let Some(open) = self.open.as_mut() {
            open.records += batch.len() as u64;
        }
        batch.clear();
        match self.buffer.len() >= BATCH_BYTES {
            true => self.send(),
            false => Ok(()),
        }
    }

    /// Sends the buffer; before the first, the beginning.
    fn send(&mut self) -> Result<(), ConnectorError> {
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        let (id, url) = (&open.id, self.sink.url());
        if open.batches == 0 {
            let path = format!("/transactions/{id}?timeout-ms={}", self.sink.timeout_ms());
            let answer = self.client.call(&call(Method::PUT, path, Bytes::new()))?;
            accept(url, "begin", id, &answer, &[200, 201])?;
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        let path = format!("/transactions/{id}/records?batch={}", open.batches);
        let records = Bytes::from(std::mem::take(&mut self.buffer));
        let answer = self.client.call(&call(Method::POST, path, records))?;
        accept(url, "records", id, &answer, &[200])?;
        open.batches += 1;
        Ok(())
    }

    fn prepare(&mut self) -> Result<Vec<LedgerCommittable>, ConnectorError> {
        self.send()?;
        let Some(open) = self.open.as_ref() else {
            return Ok(Vec::new());
        };
        let (id, url) = (&open.id, self.sink.url());
        let path = format!("/transactions/{id}/prepare?batches={}", open.batches);
        let answer = self.client.call(&call(Method::POST, path, Bytes::new()))?;
        accept(url, "prepare", id, &answer, &[200])?;
        let prepared = self.open.take().map(|open| LedgerCommittable {
            transaction: open.id,
            records: open.records,
        });
        Ok(prepared.into_iter().collect())
    }
}

fn call(method: Method, path: String, body: Bytes) -> Call {
    Call { method, path, body }
}

fn accept(url: &str, verb: &str, id: &str, answer: &Answer, good: &[u16]) -> Result<(), ConnectorError> {
    match good.contains(&answer.status) {
        true => Ok(()),
        false => Err(refused(url, verb, id, answer)),
    }
}

impl<T: Send + 'static> SinkWriter for LedgerWriter<T> {
    type In = T;
    type Committable = LedgerCommittable;

    fn write(&mut self, batch: &mut Vec<T>) -> Result<(), ConnectorError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.guarded(|writer| writer.encode(batch))
    }

    fn prepare_commit(&mut self) -> Result<Vec<LedgerCommittable>, ConnectorError> {
        self.guarded(Self::prepare)
    }
}

impl<T> Drop for LedgerWriter<T> {
    /// Gives the unfinished transaction up: it was never prepared for a snapshot, so none can hold it.
    fn drop(&mut self) {
        let Some(open) = self.open.take().filter(|open| open.batches > 0 || self.has_failed) else {
            return;
        };
        self.client.set_patience(Patience {
            request: FAREWELL,
            all: FAREWELL,
        });
        // If this fails, or the process dies first, the ledger gives it up after its time-out.
        let path = format!("/transactions/{}/abort", open.id);
        drop(self.client.call(&call(Method::POST, path, Bytes::new())));
    }
}
