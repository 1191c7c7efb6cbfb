//! How far a queue is filled, as its producer sees it: back-pressure with a little inertia.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::wake::Waker;

/// Tells a producer to pause when a queue is full and wakes it when the queue has fallen to half.
///
/// The inertia lets a producer work in runs instead of waking it for every single batch. Called under the queue's lock,
/// except for [`has_room`](Self::has_room).
pub(crate) struct Gauge {
    producer: Waker,
    capacity: usize,
    full: AtomicBool,
}

impl Gauge {
    /// A gauge for a queue of `capacity` batches, of one at least.
    pub(crate) fn new(capacity: usize, producer: Waker) -> Self {
        Self {
            producer,
            capacity: capacity.max(1),
            full: AtomicBool::new(false),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the producer may go on.
    pub(crate) fn has_room(&self) -> bool {
        !self.full.load(Ordering::Acquire)
    }

    /// A batch came in: now `waiting`.
    pub(crate) fn rise(&self, waiting: usize) {
        if waiting >= self.capacity {
            self.full.store(true, Ordering::Release);
        }
    }

    /// A batch went out: now `waiting`. Whether the producer is to be woken, which is better done without the lock.
    #[must_use]
    pub(crate) fn fall(&self, waiting: usize) -> bool {
        let resumes = self.full.load(Ordering::Relaxed) && waiting <= self.capacity / 2;
        if resumes {
            self.full.store(false, Ordering::Release);
        }
        resumes
    }

    /// Wakes the producer.
    pub(crate) fn wake(&self) {
        self.producer.wake();
    }

    /// The queue takes nothing more and drops what comes: the producer runs on, and finds out.
    pub(crate) fn open(&self) {
        self.full.store(false, Ordering::Release);
        self.producer.wake();
    }
}
