//! The consumer's end of a channel: the queue that its producer, or the network, fills.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::channel::{ChannelLoss, SendResult};
use crate::element::Element;
use crate::ready::ReadySlot;
use crate::wake::Waker;

/// A queue of elements with one consumer. Every method is short and never blocks on anything but the lock.
pub(crate) struct Inbox {
    /// Late for channels from other workers: their elements may arrive before their consumer is built.
    consumer: OnceLock<Waker>,
    feeder: Feeder,
    state: Mutex<State>,
}

/// Who fills the queue, and how it is held back.
enum Feeder {
    /// A subtask of this process.
    Local {
        producer: Waker,
        /// Batches after which the producer is to stop.
        capacity: usize,
        /// From the moment the queue reaches its capacity until it has fallen to half of it.
        full: AtomicBool,
    },
}

struct State {
    queue: VecDeque<Element>,
    /// Batches of records in `queue`.
    batches: usize,
    /// Emptied batch buffers on their way back to the producer.
    spares: Vec<Box<dyn Any + Send>>,
    /// Whether end-of-data was put in: after it, the producer may go.
    ended: bool,
    loss: Option<ChannelLoss>,
    consumer_gone: bool,
    ready: Option<ReadySlot>,
}

/// What [`Inbox::take`] found.
pub(crate) struct Taken {
    pub(crate) element: Element,
    /// Whether the queue holds another; if not, the next arrival is reported to the gate.
    pub(crate) more: bool,
}

impl Inbox {
    /// The inbox of a channel within the process.
    pub(crate) fn local(capacity: usize, consumer: Waker, producer: Waker) -> Self {
        Self {
            consumer: OnceLock::from(consumer),
            feeder: Feeder::Local {
                producer,
                capacity: capacity.max(1),
                full: AtomicBool::new(false),
            },
            state: Mutex::new(State {
                queue: VecDeque::new(),
                batches: 0,
                spares: Vec::new(),
                ended: false,
                loss: None,
                consumer_gone: false,
                ready: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock can only come from an allocation; the state is then still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_consumer(&self) {
        if let Some(consumer) = self.consumer.get() {
            consumer.wake();
        }
    }

    // ---- the producer's side ----

    /// Whether the producer may go on.
    pub(crate) fn has_room(&self) -> bool {
        match &self.feeder {
            Feeder::Local { full, .. } => !full.load(Ordering::Acquire),
        }
    }

    /// Puts an element in, over capacity if need be.
    pub(crate) fn put(&self, element: Element) -> SendResult {
        let mut state = self.lock();
        if state.consumer_gone {
            return SendResult::ConsumerGone;
        }
        match &element {
            Element::Records { .. } => state.batches += 1,
            Element::EndOfData => state.ended = true,
            Element::Barrier(_) => {}
        }
        let was_empty = state.queue.is_empty();
        state.queue.push_back(element);
        match &self.feeder {
            Feeder::Local { capacity, full, .. } => {
                if state.batches >= *capacity {
                    full.store(true, Ordering::Release);
                }
            }
        }
        if was_empty {
            if let Some(ready) = &state.ready {
                ready.has_elements();
            }
            drop(state);
            self.wake_consumer();
        }
        SendResult::Sent
    }

    /// A batch buffer that the consumer gave back.
    pub(crate) fn take_spare(&self) -> Option<Box<dyn Any + Send>> {
        self.lock().spares.pop()
    }

    /// The producer is gone, for the reason given. Not a loss after end-of-data.
    pub(crate) fn producer_gone(&self, loss: ChannelLoss) {
        let mut state = self.lock();
        if state.ended || state.loss.is_some() {
            return;
        }
        state.loss = Some(loss);
        if let Some(ready) = &state.ready {
            ready.has_failed();
        }
        drop(state);
        self.wake_consumer();
    }

    // ---- the consumer's side ----

    /// The next element.
    pub(crate) fn take(&self) -> Option<Taken> {
        let mut state = self.lock();
        let element = state.queue.pop_front()?;
        let more = !state.queue.is_empty();
        if element.is_records() {
            state.batches -= 1;
            self.on_batch_taken(state);
        }
        Some(Taken { element, more })
    }

    fn on_batch_taken(&self, state: MutexGuard<'_, State>) {
        match &self.feeder {
            Feeder::Local {
                producer,
                capacity,
                full,
            } => {
                let resumes = full.load(Ordering::Relaxed) && state.batches <= capacity / 2;
                if resumes {
                    full.store(false, Ordering::Release);
                    drop(state);
                    producer.wake();
                }
            }
        }
    }

    /// Gives an emptied batch buffer back to the producer.
    pub(crate) fn recycle(&self, spare: Box<dyn Any + Send>) {
        match &self.feeder {
            Feeder::Local { capacity, .. } => {
                let mut state = self.lock();
                // More than the queue's capacity and the batch at work can never be used at once.
                if state.spares.len() <= *capacity {
                    state.spares.push(spare);
                }
            }
        }
    }

    /// Why the producer vanished before end-of-data.
    pub(crate) fn loss(&self) -> Option<ChannelLoss> {
        self.lock().loss.clone()
    }

    /// From now on arrivals and failure are reported to a gate, what is there already at once.
    pub(crate) fn report_to(&self, ready: ReadySlot) {
        let mut state = self.lock();
        if !state.queue.is_empty() {
            ready.has_elements();
        }
        if state.loss.is_some() {
            ready.has_failed();
        }
        state.ready = Some(ready);
    }

    /// The consumer is gone: what is queued and what still comes is dropped.
    pub(crate) fn consumer_gone(&self) {
        let mut state = self.lock();
        state.consumer_gone = true;
        state.ready = None;
        state.batches = 0;
        let queue = std::mem::take(&mut state.queue);
        let spares = std::mem::take(&mut state.spares);
        drop(state);
        match &self.feeder {
            Feeder::Local { producer, full, .. } => {
                full.store(false, Ordering::Release);
                producer.wake();
            }
        }
        // Records are dropped outside of the lock: their destructors are the user's.
        drop((queue, spares));
    }
}
