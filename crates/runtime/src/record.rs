//! What can flow in a stream, and how functions emit it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use streamd_core::time::EventTime;
use streamd_exchange::Batch;

/// A record of a stream: owned, cheap enough to clone for several consumers, and known to serde for the way to another process.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot flow in a stream",
    label = "this type is no record",
    note = "records are owned, and derive `Clone, Serialize, Deserialize`"
)]
pub trait Record: Clone + Send + Serialize + DeserializeOwned + 'static {}

impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Record for T {}

/// How many records a source reads in one turn, and so the usual size of a batch.
pub const BATCH_RECORDS: usize = 1024;

/// Takes the records that a function emits. Each gets the timestamp of the record, window or timer that it was made from.
#[derive(Debug)]
pub struct Collector<'a, T> {
    batch: &'a mut Batch<T>,
    timestamp: EventTime,
}

impl<'a, T> Collector<'a, T> {
    /// A collector that appends to this batch; [`EventTime::MIN`] where there is no timestamp to give.
    pub fn new(batch: &'a mut Batch<T>, timestamp: EventTime) -> Self {
        Self { batch, timestamp }
    }

    /// Emits a record.
    #[inline]
    pub fn collect(&mut self, record: T) {
        self.batch.push(record, self.timestamp);
    }

    /// Emits a record with a timestamp of its own. One that is not after the watermark makes the record late for whatever follows.
    #[inline]
    pub fn collect_with_timestamp(&mut self, record: T, timestamp: EventTime) {
        self.batch.push(record, timestamp);
    }
}
