//! The collection source.

use std::sync::Arc;

use streamd_core::graph::Guarantee;
use streamd_core::source::{ConnectorError, Source};
use streamd_core::time::SystemClock;

use crate::strided::{Numbered, StridedReader, StridedSplit};

/// Reads the elements of a collection, in order within each subtask: split `s` of `p` has the elements `s`, `s + p` and so on.
///
/// Guarantee: exactly-once, if every process of the job builds the same collection.
///
/// ```
/// # use streamd_connectors::CollectionSource;
/// let words = CollectionSource::new(vec!["to", "be", "or", "not", "to", "be"]);
/// ```
#[derive(Debug, Clone)]
pub struct CollectionSource<T> {
    elements: Arc<[T]>,
}

impl<T: Clone + Send + Sync + 'static> CollectionSource<T> {
    /// A source of these elements.
    pub fn new(elements: impl IntoIterator<Item = T>) -> Self {
        Self {
            elements: elements.into_iter().collect(),
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Source for CollectionSource<T> {
    type Out = T;
    type Split = StridedSplit;
    type Reader = StridedReader<Elements<T>>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, parallelism: u32) -> Result<Vec<StridedSplit>, ConnectorError> {
        Ok(StridedSplit::cut(parallelism.max(1), Some(self.elements.len() as u64)))
    }

    fn reader(&self) -> Result<Self::Reader, ConnectorError> {
        let elements = Elements(self.elements.clone());
        Ok(StridedReader::new(elements, 0, Arc::new(SystemClock::new())))
    }
}

/// The elements by their position.
#[derive(Debug)]
pub struct Elements<T>(Arc<[T]>);

impl<T: Clone + Send + Sync + 'static> Numbered for Elements<T> {
    type Out = T;

    fn record(&self, number: u64) -> T {
        self.0[number as usize].clone()
    }

    fn check(&self, split: &StridedSplit) -> Result<(), ConnectorError> {
        let count = self.0.len() as u64;
        match split.end {
            Some(end) if end == count => Ok(()),
            end => Err(ConnectorError::new(format!(
                "the collection holds {count} elements, but the snapshot is of one that held {}: \
                 the positions in it mean other elements",
                end.map_or("any number".to_owned(), |end| end.to_string())
            ))),
        }
    }
}
