//! What the head of a source's chain and the operators behind it know of each other: whose records these are, and whether the
//! source is to wait.
//!
//! Event time is made per split: a subtask that reads several splits in turns is only as far as the last of them. But records are
//! often parsed and filtered before anything knows their time, so the batches that run down the chain carry the split beside them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which split the batch comes from that is on its way down a source's chain. A cheap handle; used by one thread at a time.
///
/// Holds for operators that emit what they take at once. One that emits records later must not hand it on to those behind it:
/// it takes it out of its [`OpenContext`](crate::chain::OpenContext).
#[derive(Debug, Clone, Default)]
pub struct SourceProgress(Arc<Mutex<Splits>>);

#[derive(Debug, Default)]
struct Splits {
    polled: usize,
    at_end: Vec<bool>,
    holds: u32,
}

impl SourceProgress {
    /// For a source that reads so many splits in turns.
    pub fn of_splits(count: usize) -> Self {
        let progress = Self::default();
        progress.splits().at_end = vec![false; count];
        progress
    }

    /// The batch that follows comes from this split; whether it is the last one.
    pub fn on_polled(&self, split: usize, at_end: bool) {
        let mut splits = self.splits();
        splits.polled = split;
        if split >= splits.at_end.len() {
            splits.at_end.resize(split + 1, false);
        }
        splits.at_end[split] = at_end;
    }

    /// The split of the batch, by number from 0.
    pub fn polled(&self) -> usize {
        self.splits().polled
    }

    /// Whether each split is read to its end. A source that reads its splits one after the other counts as one.
    pub(crate) fn at_end(&self) -> Vec<bool> {
        match &self.splits().at_end {
            splits if splits.is_empty() => vec![false],
            splits => splits.clone(),
        }
    }

    /// The source is to read nothing until everybody who holds it has let it go.
    pub(crate) fn hold(&self) {
        self.splits().holds += 1;
    }

    /// Takes a hold back.
    pub(crate) fn release(&self) {
        let mut splits = self.splits();
        splits.holds = splits.holds.saturating_sub(1);
    }

    /// Whether the source is to wait.
    pub(crate) fn is_held(&self) -> bool {
        self.splits().holds > 0
    }

    fn splits(&self) -> MutexGuard<'_, Splits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
