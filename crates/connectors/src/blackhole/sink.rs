//! The sink that discards.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use streamd_core::graph::Guarantee;
use streamd_core::sink::{NoCommit, Sink, SinkContext, SinkWriter};
use streamd_core::source::ConnectorError;

/// Discards every record, and counts them.
///
/// Guarantee: exactly-once, since nothing leaves the job.
#[derive(Debug)]
pub struct BlackholeSink<T> {
    received: Arc<AtomicU64>,
    records: PhantomData<fn(T)>,
}

impl<T> BlackholeSink<T> {
    /// A sink that has received nothing yet.
    pub fn new() -> Self {
        Self {
            received: Arc::default(),
            records: PhantomData,
        }
    }

    /// How many records this sink and its clones have received in this process, in all attempts.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl<T> Default for BlackholeSink<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for BlackholeSink<T> {
    fn clone(&self) -> Self {
        Self {
            received: self.received.clone(),
            records: PhantomData,
        }
    }
}

impl<T: Send + 'static> Sink for BlackholeSink<T> {
    type In = T;
    type Committable = NoCommit;
    type Writer = BlackholeWriter<T>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, _context: &SinkContext) -> Result<Self::Writer, ConnectorError> {
        Ok(BlackholeWriter(self.clone()))
    }

    fn commit(&self, _committables: &[NoCommit]) -> Result<(), ConnectorError> {
        Ok(())
    }
}

/// Discards and counts for one subtask.
#[derive(Debug)]
pub struct BlackholeWriter<T>(BlackholeSink<T>);

impl<T: Send + 'static> SinkWriter for BlackholeWriter<T> {
    type In = T;
    type Committable = NoCommit;

    fn write(&mut self, batch: &mut Vec<T>) -> Result<(), ConnectorError> {
        self.0.received.fetch_add(batch.len() as u64, Ordering::Relaxed);
        batch.clear();
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<NoCommit>, ConnectorError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::sink::context;

    #[test]
    fn records_of_all_writers_are_counted_and_gone() {
        let sink = BlackholeSink::new();
        for subtask in 0..2 {
            let mut batch = vec![1, 2, 3];
            let mut writer = sink.writer(&context(subtask, "a")).unwrap();
            writer.write(&mut batch).unwrap();
            assert!(batch.is_empty());
            assert!(writer.prepare_commit().unwrap().is_empty());
        }
        assert_eq!(sink.received(), 6);
    }
}
