//! Input for a simulation: splits of records that can be read again from any position.

use std::sync::Arc;
use std::time::Duration;

use streamd_core::graph::Guarantee;
use streamd_core::source::{ConnectorError, Source, SourceReader, SourceStatus};
use streamd_core::time::{Clock, ManualClock};

/// Milliseconds between two polls that return something.
const PACE_MS: u64 = 12;

/// Records of one poll at most: few, so that much can happen between the first record and the last.
const POLL_RECORDS: usize = 4;

/// A source of records that are there from the beginning, read a few at a time so that barriers fall between them.
#[derive(Debug, Clone)]
pub struct SimulatedSource<T> {
    splits: Arc<Vec<Vec<T>>>,
    clock: Arc<ManualClock>,
    is_forgetful: bool,
}

impl<T> SimulatedSource<T> {
    pub(crate) fn new(splits: Vec<Vec<T>>, clock: Arc<ManualClock>) -> Self {
        Self {
            splits: Arc::new(splits),
            clock,
            is_forgetful: false,
        }
    }

    /// It leaves a record out when it begins again: what no source must do, to see that it is found.
    pub(crate) fn forgetful(self) -> Self {
        Self {
            is_forgetful: true,
            ..self
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Source for SimulatedSource<T> {
    type Out = T;
    /// The number of the split, and how many of its records are read.
    type Split = (u64, u64);
    type Reader = SimulatedReader<T>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, _parallelism: u32) -> Result<Vec<Self::Split>, ConnectorError> {
        Ok((0..self.splits.len() as u64).map(|split| (split, 0)).collect())
    }

    fn reader(&self) -> Result<Self::Reader, ConnectorError> {
        Ok(SimulatedReader {
            input: Arc::clone(&self.splits),
            clock: Arc::clone(&self.clock),
            mine: Vec::new(),
            next: 0,
            due: 0,
            is_forgetful: self.is_forgetful,
        })
    }
}

/// Reads the splits of one subtask in turns.
pub struct SimulatedReader<T> {
    input: Arc<Vec<Vec<T>>>,
    clock: Arc<ManualClock>,
    mine: Vec<(u64, u64)>,
    next: usize,
    /// Nothing is read before.
    due: u64,
    is_forgetful: bool,
}

impl<T: Clone + Send + Sync + 'static> SourceReader for SimulatedReader<T> {
    type Out = T;
    type Split = (u64, u64);

    fn add_splits(&mut self, splits: Vec<(u64, u64)>) -> Result<(), ConnectorError> {
        if let Some((split, offset)) = splits.iter().find(|(split, offset)| {
            self.input
                .get(*split as usize)
                .is_none_or(|records| records.len() < *offset as usize)
        }) {
            return Err(ConnectorError::new(format!(
                "split `{split}` has no position `{offset}`: the simulated input is another than that of the snapshot"
            )));
        }
        self.mine.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<T>, limit: usize) -> Result<SourceStatus, ConnectorError> {
        let now = self.clock.monotonic().0;
        if now < self.due {
            return Ok(SourceStatus::Idle(Duration::from_millis(self.due - now)));
        }
        for _ in 0..self.mine.len() {
            self.next = (self.next + 1) % self.mine.len();
            let (split, offset) = &mut self.mine[self.next];
            let unread = &self.input[*split as usize][*offset as usize..];
            if unread.is_empty() {
                continue;
            }
            let taken = unread.len().min(limit).min(POLL_RECORDS);
            out.extend(unread[..taken].iter().cloned());
            *offset += taken as u64;
            self.due = now + PACE_MS;
            return Ok(SourceStatus::Idle(Duration::from_millis(PACE_MS)));
        }
        Ok(SourceStatus::End)
    }

    fn polled_split(&self) -> Option<usize> {
        Some(self.next)
    }

    fn is_at_end(&self, split: usize) -> bool {
        let (split, offset) = self.mine[split];
        self.input[split as usize].len() as u64 == offset
    }

    fn snapshot(&self) -> Vec<(u64, u64)> {
        let noted = |(split, offset): &(u64, u64)| {
            let end = self.input[*split as usize].len() as u64;
            (*split, (*offset + u64::from(self.is_forgetful)).min(end))
        };
        self.mine.iter().map(noted).collect()
    }
}
