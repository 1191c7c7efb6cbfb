//! Sources whose records are numbered: each split takes every n-th number.

use std::collections::VecDeque;
use std::sync::Arc;

use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::source::{ConnectorError, SourceReader, SourceStatus, Stretch, Unit};
use streamd_core::state::State;
use streamd_core::time::Clock;

use crate::pacer::Pacer;

/// The numbers `next`, `next + stride`, `next + 2 × stride` and so on, below `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StridedSplit {
    /// The number of the next record.
    pub next: u64,
    /// From one number to the next.
    pub stride: u64,
    /// Where to stop; `None` goes on for ever.
    pub end: Option<u64>,
}

impl StridedSplit {
    /// `count` splits that together take every number from 0 to `end`.
    pub fn cut(count: u32, end: Option<u64>) -> Vec<Self> {
        (0..count)
            .map(|index| Self {
                next: index.into(),
                stride: count.into(),
                end,
            })
            .collect()
    }

    /// How many numbers are left.
    fn remaining(&self) -> u64 {
        let end = self.end.unwrap_or(u64::MAX);
        end.saturating_sub(self.next).div_ceil(self.stride)
    }
}

impl State for StridedSplit {
    fn data_type() -> DataType {
        DataType::structure(
            "StridedSplit",
            [
                ("next", u64::data_type()),
                ("stride", u64::data_type()),
                ("end", Option::<u64>::data_type()),
            ],
        )
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.next.encode(row);
        self.stride.encode(row);
        self.end.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        let split = Self {
            next: u64::decode(row)?,
            stride: u64::decode(row)?,
            end: Option::decode(row)?,
        };
        if split.stride == 0 {
            return Err(RowError::Invalid {
                what: "the stride of a split",
                value: 0,
            });
        }
        Ok(split)
    }
}

/// Records by number.
pub trait Numbered: Send + 'static {
    /// The records.
    type Out: Send + 'static;

    /// The record with this number: the same at every call.
    fn record(&self, number: u64) -> Self::Out;

    /// Whether the split can be read here.
    fn check(&self, split: &StridedSplit) -> Result<(), ConnectorError>;
}

/// Reads the splits of one subtask in turns: one after the other would starve all but the first of an endless source.
pub struct StridedReader<N> {
    records: N,
    pacer: Pacer,
    splits: Vec<StridedSplit>,
    /// The numbers of those that are not read to their end, the next to be read first.
    unfinished: VecDeque<usize>,
    polled: usize,
    /// What the last poll has read.
    last_read: [Stretch; 1],
}

impl<N: Numbered> StridedReader<N> {
    pub(crate) fn new(records: N, records_per_second: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            records,
            pacer: Pacer::new(records_per_second, clock),
            splits: Vec::new(),
            unfinished: VecDeque::new(),
            polled: 0,
            last_read: [Stretch {
                of: None,
                unit: Unit::Records,
                from: 0,
                to: 0,
            }],
        }
    }

    fn status(&self) -> SourceStatus {
        if self.unfinished.is_empty() {
            SourceStatus::End
        } else {
            SourceStatus::More
        }
    }
}

impl<N: Numbered> SourceReader for StridedReader<N> {
    type Out = N::Out;
    type Split = StridedSplit;

    fn add_splits(&mut self, splits: Vec<StridedSplit>) -> Result<(), ConnectorError> {
        for split in splits {
            self.records.check(&split)?;
            if split.remaining() > 0 {
                self.unfinished.push_back(self.splits.len());
            }
            self.splits.push(split);
        }
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<N::Out>, limit: usize) -> Result<SourceStatus, ConnectorError> {
        let Some(number) = self.unfinished.front().copied() else {
            return Ok(SourceStatus::End);
        };
        let allowed = match self.pacer.allow(limit) {
            Ok(allowed) => allowed as u64,
            Err(wait) => return Ok(SourceStatus::Idle(wait)),
        };
        let split = &mut self.splits[number];
        let count = allowed.min(split.remaining());
        let (mut record_number, stride) = (split.next, split.stride);
        // Nothing in the loop but an addition and the function: this is the hot path of benchmarks.
        out.extend((0..count as usize).map(|_| {
            let record = self.records.record(record_number);
            record_number = record_number.wrapping_add(stride);
            record
        }));
        self.last_read[0].from = split.next;
        split.next = split.next.saturating_add(count * stride);
        self.last_read[0].to = split.next;
        self.pacer.spend(count as usize);
        self.polled = number;
        self.unfinished.pop_front();
        if !self.is_at_end(number) {
            self.unfinished.push_back(number);
        }
        Ok(self.status())
    }

    fn polled_split(&self) -> Option<usize> {
        (!self.splits.is_empty()).then_some(self.polled)
    }

    fn is_at_end(&self, split: usize) -> bool {
        self.splits[split].remaining() == 0
    }

    fn last_read(&self) -> &[Stretch] {
        &self.last_read
    }

    fn snapshot(&self) -> Vec<StridedSplit> {
        self.splits.clone()
    }
}
