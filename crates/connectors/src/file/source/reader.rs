//! Reads the splits of one subtask, one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use streamd_core::source::{ConnectorError, SourceReader, SourceStatus, Stretch};
use streamd_core::time::Clock;

use crate::pacer::Pacer;

use super::format::{Decoder, Format};
use super::split::FileSplit;

/// Reads the splits of one subtask, one after the other, in the order in which they came.
///
/// Splits stay in the snapshot when they are finished, so that a snapshot says of every byte of the input who has read it.
pub struct FileReader<F: Format> {
    format: F,
    pacer: Pacer,
    finished: Vec<FileSplit>,
    current: Option<Open<F>>,
    waiting: VecDeque<FileSplit>,
    last_read: Vec<Stretch>,
}

/// A split that is being read.
struct Open<F: Format> {
    split: FileSplit,
    path: Arc<str>,
    decoder: F::Decoder,
}

impl<F: Format> FileReader<F> {
    pub(super) fn new(format: F, records_per_second: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            format,
            pacer: Pacer::new(records_per_second, clock),
            finished: Vec::new(),
            current: None,
            waiting: VecDeque::new(),
            last_read: Vec::new(),
        }
    }

    /// Reads up to `limit` records of the current split, or opens or closes one.
    fn advance(&mut self, out: &mut Vec<F::Out>, limit: usize) -> Result<usize, ConnectorError> {
        let Some(mut open) = self.current.take() else {
            if let Some(split) = self.waiting.pop_front() {
                let decoder = self.format.decoder(&split)?;
                let path = Arc::from(&*split.path);
                self.current = Some(Open { split, path, decoder });
            }
            return Ok(0);
        };
        let from = open.split.position;
        let count = open.decoder.decode(out, limit)?;
        open.split.position = open.decoder.position();
        if count > 0 {
            self.last_read.push(Stretch {
                of: Some(Arc::clone(&open.path)),
                unit: self.format.unit(),
                from,
                to: open.split.position,
            });
        }
        if open.split.is_finished() {
            self.finished.push(open.split);
        } else {
            self.current = Some(open);
        }
        Ok(count)
    }

    fn is_at_end(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }
}

impl<F: Format> SourceReader for FileReader<F> {
    type Out = F::Out;
    type Split = FileSplit;

    fn add_splits(&mut self, splits: Vec<FileSplit>) -> Result<(), ConnectorError> {
        for split in splits {
            if split.is_finished() {
                self.finished.push(split);
            } else {
                self.waiting.push_back(split);
            }
        }
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<F::Out>, limit: usize) -> Result<SourceStatus, ConnectorError> {
        if self.is_at_end() {
            return Ok(SourceStatus::End);
        }
        let allowed = match self.pacer.allow(limit) {
            Ok(allowed) => allowed,
            Err(wait) => return Ok(SourceStatus::Idle(wait)),
        };
        self.last_read.clear();
        let mut left = allowed;
        while left > 0 && !self.is_at_end() {
            left -= self.advance(out, left)?;
        }
        self.pacer.spend(allowed - left);
        Ok(if self.is_at_end() {
            SourceStatus::End
        } else {
            SourceStatus::More
        })
    }

    fn last_read(&self) -> &[Stretch] {
        &self.last_read
    }

    fn snapshot(&self) -> Vec<FileSplit> {
        let current = self.current.iter().map(|open| &open.split);
        self.finished
            .iter()
            .chain(current)
            .chain(&self.waiting)
            .cloned()
            .collect()
    }
}
