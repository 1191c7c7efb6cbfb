//! Reads the splits of one subtask, one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use streamd_core::source::{ConnectorError, SourceReader, SourceStatus};
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
    current: Option<(FileSplit, F::Decoder)>,
    waiting: VecDeque<FileSplit>,
}

impl<F: Format> FileReader<F> {
    pub(super) fn new(format: F, records_per_second: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            format,
            pacer: Pacer::new(records_per_second, clock),
            finished: Vec::new(),
            current: None,
            waiting: VecDeque::new(),
        }
    }

    /// Reads up to `limit` records of the current split, or opens or closes one.
    fn advance(&mut self, out: &mut Vec<F::Out>, limit: usize) -> Result<usize, ConnectorError> {
        let Some((mut split, mut decoder)) = self.current.take() else {
            if let Some(split) = self.waiting.pop_front() {
                let decoder = self.format.decoder(&split)?;
                self.current = Some((split, decoder));
            }
            return Ok(0);
        };
        let count = decoder.decode(out, limit)?;
        split.position = decoder.position();
        if split.is_finished() {
            self.finished.push(split);
        } else {
            self.current = Some((split, decoder));
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

    fn snapshot(&self) -> Vec<FileSplit> {
        let current = self.current.iter().map(|(split, _)| split);
        self.finished
            .iter()
            .chain(current)
            .chain(&self.waiting)
            .cloned()
            .collect()
    }
}
