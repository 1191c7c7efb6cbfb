//! What a simulated worker stands on instead of threads: its slots and writers wait here until the cluster gives them a turn.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use streamd_runtime::slot::{OpenSlot, Slot, SlotTurn};
use streamd_worker::host::{Host, SlotEnd};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// What blocks, of one worker process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SimulatedHost {
    io: Handle,
    arrived: Arc<Mutex<Arrived>>,
}

#[derive(Default)]
struct Arrived {
    slots: Vec<SlotAtWork>,
    writers: Vec<Box<dyn FnOnce() + Send>>,
}

/// A slot of a simulated worker.
pub(crate) struct SlotAtWork {
    pub(crate) number: u32,
    stage: Stage,
    /// Until when it sleeps unless it is woken, in simulated milliseconds.
    sleeps_until: Option<u64>,
    /// Held until the slot has ended, and dropped then.
    ended: Option<oneshot::Sender<()>>,
}

enum Stage {
    Waiting(Box<Slot>),
    Open(Box<OpenSlot>),
    Over,
}

impl SimulatedHost {
    /// `io` is where slots and writers wait for the store.
    pub(crate) fn new(io: Handle) -> Self {
        Self {
            io,
            arrived: Arc::default(),
        }
    }

    /// The slots that were started since the last call.
    pub(crate) fn take_slots(&self) -> Vec<SlotAtWork> {
        std::mem::take(&mut self.lock().slots)
    }

    /// The writers that were started since the last call.
    pub(crate) fn take_writers(&self) -> Vec<Box<dyn FnOnce() + Send>> {
        std::mem::take(&mut self.lock().writers)
    }

    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for SimulatedHost {
    fn run_slot(&self, number: u32, slot: Slot) -> std::io::Result<SlotEnd> {
        let (ended, end) = oneshot::channel();
        self.lock().slots.push(SlotAtWork {
            number,
            stage: Stage::Waiting(Box::new(slot)),
            sleeps_until: None,
            ended: Some(ended),
        });
        Ok(Box::pin(async move {
            // Dropped or sent, it is over.
            let _over = end.await;
        }))
    }

    fn run_writer(&self, write: Box<dyn FnOnce() + Send>) {
        self.lock().writers.push(write);
    }

    fn io(&self) -> Handle {
        self.io.clone()
    }

    /// Everything: when a real thread has something would differ from run to run.
    fn restored_at_once(&self) -> u64 {
        u64::MAX
    }
}

impl SlotAtWork {
    /// Whether it can work now.
    pub(crate) fn is_awake(&mut self, now: u64) -> bool {
        let woken = match &self.stage {
            Stage::Waiting(_) => true,
            Stage::Open(slot) => slot.take_wake(),
            Stage::Over => return false,
        };
        if woken || self.sleeps_until.is_some_and(|until| until <= now) {
            self.sleeps_until = None;
        }
        self.sleeps_until.is_none()
    }

    /// When it wakes by itself, if it does.
    pub(crate) fn wakes_at(&self) -> Option<u64> {
        self.sleeps_until.filter(|until| *until != u64::MAX)
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// One turn. Call it outside of any asynchronous runtime, as a thread of its own would.
    pub(crate) fn turn(&mut self, now: u64) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let turned = catch_unwind(AssertUnwindSafe(|| match stage {
            Stage::Waiting(slot) => (Stage::Open(Box::new(slot.open())), None),
            Stage::Open(mut slot) => match slot.turn() {
                SlotTurn::Worked => (Stage::Open(slot), None),
                SlotTurn::Waits(wait) => {
                    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    (Stage::Open(slot), Some(now.saturating_add(wait.max(1))))
                }
                SlotTurn::Ended => (Stage::Over, None),
            },
            Stage::Over => (Stage::Over, None),
        }));
        match turned {
            Ok((stage, sleeps_until)) => (self.stage, self.sleeps_until) = (stage, sleeps_until),
            Err(_panic) => tracing::error!("a slot panicked outside of user code"),
        }
        if self.is_over() {
            self.ended = None;
        }
    }
}
