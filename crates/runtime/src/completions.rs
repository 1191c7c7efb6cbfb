//! Calls that operators make elsewhere and do not wait for: how a subtask hears of those that have come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use streamd_exchange::wake::Waker;

/// How many calls have not come back, or are not emitted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Calls {
    /// None: nothing more will come without new records.
    None,
    /// Some; there is room for more.
    Some,
    /// As many as there may be, and records wait: no more of them until calls have come back.
    Full,
}

/// Tells a subtask that calls have come back. A cheap handle, for any thread.
#[derive(Clone, Default)]
pub struct Completions {
    has_come: Arc<AtomicBool>,
    /// That of the slot; a harness without a thread has none.
    waker: Option<Waker>,
}

impl Completions {
    /// For a subtask in the slot that this wakes.
    pub fn waking(waker: Waker) -> Self {
        Self {
            has_come: Arc::default(),
            waker: Some(waker),
        }
    }

    /// A call has come back: the subtask is to look soon.
    pub fn notify(&self) {
        self.has_come.store(true, Ordering::Release);
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    /// Whether a call has come back since this was last asked.
    pub(crate) fn take(&self) -> bool {
        // Looked at first: an exchange would take the cache line from whoever else looks, in every turn of every subtask.
        self.has_come.load(Ordering::Relaxed) && self.has_come.swap(false, Ordering::Acquire)
    }
}
