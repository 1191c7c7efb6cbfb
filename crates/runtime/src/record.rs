//! What can flow in a stream, and how functions emit it.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record of a stream: owned, cheap enough to clone for several consumers, and known to serde for the way to another process.
pub trait Record: Clone + Send + Serialize + DeserializeOwned + 'static {}

impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Record for T {}

/// How many records a source reads in one turn, and so the usual size of a batch.
pub const BATCH_RECORDS: usize = 1024;

/// Takes the records that a function emits.
#[derive(Debug)]
pub struct Collector<'a, T> {
    batch: &'a mut Vec<T>,
}

impl<'a, T> Collector<'a, T> {
    /// A collector that appends to this batch.
    pub fn new(batch: &'a mut Vec<T>) -> Self {
        Self { batch }
    }

    /// Emits a record.
    #[inline]
    pub fn collect(&mut self, record: T) {
        self.batch.push(record);
    }
}
