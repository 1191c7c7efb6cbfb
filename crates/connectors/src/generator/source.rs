//! The generator source.

use std::sync::Arc;

use streamd_core::graph::Guarantee;
use streamd_core::source::{ConnectorError, Source};
use streamd_core::time::{Clock, SystemClock};

use crate::strided::{Numbered, StridedReader, StridedSplit};

/// Makes record `i` by calling a function with `i`, for `i` from 0 on.
///
/// Split `s` of `p` makes the records with `i mod p == s`, in order; there are as many splits as subtasks at the start of the
/// job, unless [`splits`](Self::splits) says otherwise.
///
/// Guarantee: exactly-once, if the function returns the same record for the same number.
///
/// ```
/// # use streamd_connectors::GeneratorSource;
/// let squares = GeneratorSource::new(Some(1_000_000), |i| i * i);
/// let ticks = GeneratorSource::new(None, |i| format!("tick {i}")).rate(10);
/// ```
#[derive(Clone)]
pub struct GeneratorSource<F> {
    count: Option<u64>,
    function: F,
    splits: Option<u32>,
    records_per_second: u64,
    clock: Option<Arc<dyn Clock>>,
}

impl<F, T> GeneratorSource<F>
where
    F: Fn(u64) -> T + Clone + Send + 'static,
    T: Send + 'static,
{
    /// `count` records, or records without end.
    pub fn new(count: Option<u64>, function: F) -> Self {
        Self {
            count,
            function,
            splits: None,
            records_per_second: 0,
            clock: None,
        }
    }

    /// Paces the source to this many records per second in each of its subtasks. 0, the default: as fast as can be.
    pub fn rate(mut self, records_per_second: u64) -> Self {
        self.records_per_second = records_per_second;
        self
    }

    /// Cuts the numbers into this many splits, at least 1. A job that is resumed with more subtasks than splits leaves some
    /// of them without work.
    pub fn splits(mut self, count: u32) -> Self {
        self.splits = Some(count);
        self
    }

    /// Paces by this clock instead of the machine's: for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }
}

impl<F, T> Source for GeneratorSource<F>
where
    F: Fn(u64) -> T + Clone + Send + 'static,
    T: Send + 'static,
{
    type Out = T;
    type Split = StridedSplit;
    type Reader = StridedReader<Generated<F>>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, parallelism: u32) -> Result<Vec<StridedSplit>, ConnectorError> {
        match self.splits.unwrap_or(parallelism) {
            0 => Err(ConnectorError::new("the generator has 0 splits: at least 1 is needed")),
            splits => Ok(StridedSplit::cut(splits, self.count)),
        }
    }

    fn reader(&self) -> Result<Self::Reader, ConnectorError> {
        let clock = self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock::new()));
        let records = Generated(self.function.clone());
        Ok(StridedReader::new(records, self.records_per_second, clock))
    }
}

/// The records of a function.
pub struct Generated<F>(F);

impl<F, T> Numbered for Generated<F>
where
    F: Fn(u64) -> T + Send + 'static,
    T: Send + 'static,
{
    type Out = T;

    #[inline]
    fn record(&self, number: u64) -> T {
        (self.0)(number)
    }

    fn check(&self, _split: &StridedSplit) -> Result<(), ConnectorError> {
        Ok(())
    }
}
