//! The consumer's end of a channel: the queue that its producer, or the network, fills.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use streamd_core::time::Watermark;

use crate::channel::{ChannelLoss, SendResult};
use crate::element::Element;
use crate::gauge::Gauge;
use crate::network::credit::{CreditAccount, CreditLine};
use crate::ready::ReadySlot;
use crate::wake::Waker;

/// Control elements that may wait in a channel from another worker. They need no credit, so something else has to bound
/// them: only a few checkpoints are ever under way, and a peer that sends a thousand barriers has gone mad.
const MAX_WAITING_CONTROL: usize = 1024;

/// A queue of elements with one consumer. Every method is short and never blocks on anything but a lock.
///
/// No method holds two of its locks at once.
pub(crate) struct Inbox {
    /// Late for channels from other workers: their elements may arrive before their consumer is built.
    consumer: OnceLock<Waker>,
    upstream: Upstream,
    state: Mutex<State>,
}

/// Who fills the queue, and how it is held back.
enum Upstream {
    /// A subtask of this process, by a gauge.
    Local {
        gauge: Gauge,
        /// Emptied batch buffers on their way back to the producer.
        spares: Mutex<Vec<Box<dyn Any + Send>>>,
    },
    /// A connection, by credit.
    Remote(Mutex<CreditAccount>),
}

struct State {
    queue: VecDeque<Element>,
    /// Batches of records in `queue`.
    batches: usize,
    /// Whether end-of-data was put in: after it, the producer may go.
    ended: bool,
    /// Whether the producer is gone, for better or worse.
    closed: bool,
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

/// Why an element from another worker was not accepted: the peer breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overrun {
    /// Records without credit.
    Credit,
    /// Too many control elements.
    Control,
}

impl Inbox {
    /// The inbox of a channel within the process.
    pub(crate) fn local(capacity: usize, consumer: Waker, producer: Waker) -> Self {
        let upstream = Upstream::Local {
            gauge: Gauge::new(capacity, producer),
            spares: Mutex::new(Vec::new()),
        };
        Self::new(OnceLock::from(consumer), upstream)
    }

    /// The inbox of a channel from another worker; `credit` frames of records fill it.
    pub(crate) fn remote(credit: u32) -> Self {
        Self::new(
            OnceLock::new(),
            Upstream::Remote(Mutex::new(CreditAccount::new(credit))),
        )
    }

    fn new(consumer: OnceLock<Waker>, upstream: Upstream) -> Self {
        Self {
            consumer,
            upstream,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                batches: 0,
                ended: false,
                closed: false,
                loss: None,
                consumer_gone: false,
                ready: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn wake_consumer(&self) {
        if let Some(consumer) = self.consumer.get() {
            consumer.wake();
        }
    }

    // ---- the producer's side ----

    /// Whether the producer may go on.
    pub(crate) fn has_room(&self) -> bool {
        match &self.upstream {
            Upstream::Local { gauge, .. } => gauge.has_room(),
            Upstream::Remote(_) => true,
        }
    }

    /// Puts an element in, over capacity if need be.
    pub(crate) fn put(&self, element: Element) -> SendResult {
        let mut state = self.lock();
        if state.consumer_gone {
            return SendResult::ConsumerGone;
        }
        match &element {
            Element::Records { .. } => {
                state.batches += 1;
                if let Upstream::Local { gauge, .. } = &self.upstream {
                    gauge.rise(state.batches);
                }
            }
            Element::EndOfData => state.ended = true,
            Element::Barrier(_) | Element::Watermark(_) => {}
        }
        let was_empty = state.queue.is_empty();
        match (state.queue.back_mut(), element) {
            // Of two in a row the later one says it all: what waits in a blocked channel stays bounded.
            (Some(Element::Watermark(last @ Watermark::Time(_))), Element::Watermark(next @ Watermark::Time(_))) => {
                *last = next;
            }
            (_, element) => state.queue.push_back(element),
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

    /// Books a batch of records from another worker, if it has the credit. To be followed by [`put`](Self::put).
    pub(crate) fn admit_records(&self) -> Result<(), Overrun> {
        match &self.upstream {
            Upstream::Local { .. } => Ok(()),
            Upstream::Remote(account) => lock(account).spend(),
        }
    }

    /// Whether another control element may wait. To be followed by [`put`](Self::put).
    pub(crate) fn admit_control(&self) -> Result<(), Overrun> {
        let state = self.lock();
        if state.queue.len() - state.batches < MAX_WAITING_CONTROL {
            Ok(())
        } else {
            Err(Overrun::Control)
        }
    }

    /// A batch buffer that the consumer gave back.
    pub(crate) fn take_spare(&self) -> Option<Box<dyn Any + Send>> {
        match &self.upstream {
            Upstream::Local { spares, .. } => lock(spares).pop(),
            Upstream::Remote(_) => None,
        }
    }

    /// The producer dropped its end: a loss unless it had reached the end of its data.
    pub(crate) fn producer_gone(&self) {
        let mut state = self.lock();
        if !state.closed && state.ended {
            state.closed = true;
            return;
        }
        self.fail(state, ChannelLoss::ProducerGone);
    }

    /// The connection is lost: a loss unless the producer had gone properly. After end-of-data too, since barriers follow.
    pub(crate) fn connection_lost(&self, loss: ChannelLoss) {
        self.fail(self.lock(), loss);
    }

    fn fail(&self, mut state: MutexGuard<'_, State>, loss: ChannelLoss) {
        if state.closed {
            return;
        }
        state.closed = true;
        state.loss = Some(loss);
        if let Some(ready) = &state.ready {
            ready.has_failed();
        }
        drop(state);
        self.wake_consumer();
    }

    /// The channel was opened by a connection, which from now on is told of credit. `false` if it was open already.
    pub(crate) fn connect(&self, line: CreditLine) -> bool {
        match &self.upstream {
            Upstream::Local { .. } => false,
            Upstream::Remote(account) => lock(account).connect(line),
        }
    }

    // ---- the consumer's side ----

    /// The consumer of a channel from another worker is there. `false` if another one was.
    pub(crate) fn bind(&self, consumer: Waker) -> bool {
        let first = self.consumer.set(consumer).is_ok();
        if let Upstream::Remote(account) = &self.upstream
            && first
        {
            lock(account).bind();
        }
        first
    }

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
        match &self.upstream {
            Upstream::Local { gauge, .. } => {
                if gauge.fall(state.batches) {
                    drop(state);
                    gauge.wake();
                }
            }
            Upstream::Remote(account) => {
                drop(state);
                lock(account).on_taken();
            }
        }
    }

    /// Gives an emptied batch buffer back to the producer, if it is in this process.
    pub(crate) fn recycle(&self, spare: Box<dyn Any + Send>) {
        if let Upstream::Local { gauge, spares } = &self.upstream {
            let mut spares = lock(spares);
            // More than fill the queue, and the one at work, can never be used at once.
            if spares.len() <= gauge.capacity() {
                spares.push(spare);
            }
        }
    }

    /// Why the producer vanished.
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
        drop(state);
        // Records are dropped outside of the lock: their destructors are the user's.
        drop(queue);
        match &self.upstream {
            Upstream::Local { gauge, spares } => {
                gauge.open();
                lock(spares).clear();
            }
            Upstream::Remote(account) => lock(account).stop(),
        }
    }
}

/// Locks; a poisoned lock is taken as it is, since under these locks only an allocation can panic and nothing is half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
