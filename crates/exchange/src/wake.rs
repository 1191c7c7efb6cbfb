//! How a slot thread sleeps and is woken: a flag, and the thread's own parking token.
//!
//! ```text
//!            wake                      wake: unpark
//!   EMPTY ─────────▶ NOTIFIED      PARKED ─────────▶ NOTIFIED
//!     │                 │             ▲                 │
//!     └──── park ───────┼─────────────┘                 │
//!                       └── park: returns at once ──────┴──▶ EMPTY
//! ```

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

/// Nobody woke the thread since it last parked, and it runs.
const EMPTY: u8 = 0;
/// The thread was woken: its next park returns at once.
const NOTIFIED: u8 = 1;
/// The thread is parked, or about to be.
const PARKED: u8 = 2;

struct Shared {
    state: AtomicU8,
    /// Set by the thread itself, before it first goes to `PARKED`.
    thread: OnceLock<Thread>,
}

/// Wakes one slot thread, from any thread and from asynchronous code. Cloning it copies a pointer.
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

/// The sleeping side of a [`Waker`]. Made anywhere; used by one thread, to which the first park binds it.
pub struct Parker {
    shared: Arc<Shared>,
}

impl Waker {
    /// A waker and the parker that it wakes.
    pub fn new() -> (Self, Parker) {
        let shared = Arc::new(Shared {
            state: AtomicU8::new(EMPTY),
            thread: OnceLock::new(),
        });
        let waker = Self {
            shared: Arc::clone(&shared),
        };
        (waker, Parker { shared })
    }

    /// Makes the current park, or else the next one, return. One atomic swap unless the thread is asleep.
    pub fn wake(&self) {
        if self.shared.state.swap(NOTIFIED, Ordering::SeqCst) == PARKED
            && let Some(thread) = self.shared.thread.get()
        {
            thread.unpark();
        }
    }
}

impl Parker {
    /// Sleeps until woken; returns at once if that happened since the last park.
    pub fn park(&self) {
        if !self.announce() {
            return;
        }
        loop {
            std::thread::park();
            if self.consume() {
                return;
            }
        }
    }

    /// Sleeps until woken, at most for `timeout`. May return early for no reason: the caller looks around anyway.
    pub fn park_timeout(&self, timeout: Duration) {
        if timeout.is_zero() {
            self.reset();
            return;
        }
        if !self.announce() {
            return;
        }
        std::thread::park_timeout(timeout);
        self.reset();
    }

    /// Whether it was woken since it was last asked; for whoever looks in instead of sleeping.
    pub fn take_wake(&self) -> bool {
        self.consume()
    }

    /// Tells wakers that the thread is about to sleep; `false` if it was woken before.
    fn announce(&self) -> bool {
        self.shared.thread.get_or_init(std::thread::current);
        let announced = self
            .shared
            .state
            .compare_exchange(EMPTY, PARKED, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if !announced {
            self.reset();
        }
        announced
    }

    /// Takes the notification if there is one. A swap, not a store: it has to see what the waker did before it woke.
    fn reset(&self) {
        self.shared.state.swap(EMPTY, Ordering::SeqCst);
    }

    /// Whether a waker is behind the return of `park`; takes the notification.
    fn consume(&self) -> bool {
        self.shared
            .state
            .compare_exchange(NOTIFIED, EMPTY, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_wake_before_the_park_is_not_lost_and_counts_once() {
        let (waker, parker) = Waker::new();
        waker.wake();
        waker.wake();
        let (tx, rx) = mpsc::sync_channel(2);
        let thread = std::thread::spawn(move || {
            for _ in 0..2 {
                parker.park();
                tx.send(()).unwrap();
            }
        });
        rx.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(
            rx.recv_timeout(Duration::from_millis(50)).is_err(),
            "the second wake was merged with the first"
        );
        waker.wake();
        rx.recv_timeout(Duration::from_secs(60)).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_foreign_unpark_does_not_end_a_park() {
        let (waker, parker) = Waker::new();
        let (tx, rx) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            parker.park();
            tx.send(()).unwrap();
        });
        thread.thread().unpark();
        assert!(rx.recv_timeout(Duration::from_millis(50)).is_err());
        waker.wake();
        rx.recv_timeout(Duration::from_secs(60)).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_parker_with_a_timeout_returns_without_a_wake() {
        let (_waker, parker) = Waker::new();
        parker.park_timeout(Duration::from_millis(1));
        parker.park_timeout(Duration::ZERO);
    }

    #[test]
    fn two_threads_that_wake_each_other_never_both_sleep() {
        let (left_waker, left) = Waker::new();
        let (right_waker, right) = Waker::new();
        let other = std::thread::spawn(move || {
            for _ in 0..20_000 {
                right.park();
                left_waker.wake();
            }
        });
        for _ in 0..20_000 {
            right_waker.wake();
            left.park();
        }
        other.join().unwrap();
    }
}
