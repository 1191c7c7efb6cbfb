//! Where the records come from that are on their way through a subtask.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use streamd_exchange::Origin;

/// Where the records come from that the subtask is working on. A cheap handle that the head of a chain, its operators and its exits
/// share; used by one thread at a time.
///
/// The head puts the origin of each batch in before it hands the batch on, and takes it out afterwards: an exit notes it for what it
/// sends, and a failure finds it where it was left.
#[derive(Debug, Clone, Default)]
pub struct AtHand(Arc<Mutex<Origin>>);

impl AtHand {
    /// The records that follow come from there.
    pub(crate) fn put(&self, origin: Origin) {
        *self.lock() = origin;
    }

    /// The records at hand are done with, or others follow of which nobody knows where they come from.
    pub(crate) fn take(&self) -> Origin {
        std::mem::take(&mut *self.lock())
    }

    /// Where the records at hand come from.
    pub(crate) fn origin(&self) -> Origin {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Origin> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
