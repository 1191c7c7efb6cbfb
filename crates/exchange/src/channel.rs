//! A channel: from one producer subtask to one consumer subtask, first in, first out, in one process or between two.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::element::Element;
use crate::encode::MAX_FRAME_BYTES;
use crate::inbox::{Inbox, Taken};
use crate::network::NetworkError;
use crate::network::outlet::Outlet;
use crate::ready::ReadySlot;
use crate::wake::Waker;

/// What became of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum SendResult {
    /// It is on its way.
    Sent,
    /// The consumer dropped its end and wants nothing more; the element is dropped. Its own end is reported elsewhere.
    ConsumerGone,
    /// The connection is lost; the element is dropped. See [`ChannelSender::loss`].
    Lost,
}

/// Why the other end of a channel is not there any more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChannelLoss {
    /// The producer dropped its end before end-of-data.
    #[error("the producer vanished before the end of its data")]
    ProducerGone,
    /// The connection to the other worker is lost, or never came about.
    #[error("the connection is lost")]
    Connection(#[source] Arc<NetworkError>),
}

/// A channel within this process. `capacity_batches` batches of records fill it; control elements do not count.
///
/// The consumer is woken when an element arrives in the empty queue or when the producer vanishes; the producer when the
/// full queue has fallen to half or when the consumer vanishes.
pub fn local_channel(capacity_batches: usize, consumer: Waker, producer: Waker) -> (ChannelSender, ChannelReceiver) {
    let inbox = Arc::new(Inbox::local(capacity_batches, consumer, producer));
    let sender = ChannelSender {
        link: SenderLink::Local(Arc::clone(&inbox)),
    };
    (sender, ChannelReceiver { inbox })
}

/// The producer's end. Dropped before end-of-data was sent, it fails the consumer.
pub struct ChannelSender {
    link: SenderLink,
}

enum SenderLink {
    Local(Arc<Inbox>),
    Remote(Arc<Outlet>),
}

impl ChannelSender {
    /// The producer's end of a channel to another worker.
    pub(crate) fn remote(outlet: Arc<Outlet>) -> Self {
        Self {
            link: SenderLink::Remote(outlet),
        }
    }

    /// Whether the consumer is in this process: batches are then handed over as [`Payload::Local`](crate::Payload::Local).
    pub fn is_local(&self) -> bool {
        match &self.link {
            SenderLink::Local(_) => true,
            SenderLink::Remote(_) => false,
        }
    }

    /// Whether the producer may emit: from a full queue until it has fallen to half, it should not.
    ///
    /// True as well when the other end is gone, so that the producer goes on and finds out.
    pub fn has_room(&self) -> bool {
        match &self.link {
            SenderLink::Local(inbox) => inbox.has_room(),
            SenderLink::Remote(outlet) => outlet.has_room(),
        }
    }

    /// Sends an element. Never blocks; a producer that asks [`has_room`](Self::has_room) before each turn exceeds the
    /// capacity by one turn's output at most.
    ///
    /// # Panics
    ///
    /// If given a [`Payload::Local`](crate::Payload::Local) where [`is_local`](Self::is_local) is false.
    pub fn send(&self, element: Element) -> SendResult {
        match &self.link {
            SenderLink::Local(inbox) => inbox.put(element),
            SenderLink::Remote(outlet) => outlet.send(element),
        }
    }

    /// An emptied batch buffer (a boxed `Vec<T>`) that the consumer gave back, for reuse.
    pub fn take_spare(&self) -> Option<Box<dyn Any + Send>> {
        match &self.link {
            SenderLink::Local(inbox) => inbox.take_spare(),
            SenderLink::Remote(_) => None,
        }
    }

    /// Why the connection is lost, if it is. A local channel is never lost: its consumer may be gone, which is no failure.
    pub fn loss(&self) -> Option<ChannelLoss> {
        match &self.link {
            SenderLink::Local(_) => None,
            SenderLink::Remote(outlet) => outlet.loss(),
        }
    }

    /// The most bytes that one encoded batch may take.
    pub(crate) fn max_frame_bytes(&self) -> usize {
        match &self.link {
            SenderLink::Local(_) => MAX_FRAME_BYTES,
            SenderLink::Remote(outlet) => outlet.max_frame_bytes(),
        }
    }
}

impl Drop for ChannelSender {
    fn drop(&mut self) {
        match &self.link {
            SenderLink::Local(inbox) => inbox.producer_gone(),
            SenderLink::Remote(outlet) => outlet.producer_gone(),
        }
    }
}

impl fmt::Debug for ChannelSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSender")
            .field("local", &self.is_local())
            .finish_non_exhaustive()
    }
}

/// The consumer's end. Dropped, it lets the producer run on into nothing.
pub struct ChannelReceiver {
    inbox: Arc<Inbox>,
}

impl ChannelReceiver {
    /// The consumer's end of a channel from another worker.
    pub(crate) fn remote(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// The next element, if one is there.
    pub fn try_recv(&self) -> Option<Element> {
        self.inbox.take().map(|taken| taken.element)
    }

    /// Gives an emptied batch buffer (a boxed `Vec<T>`) back to the producer.
    pub fn recycle(&self, spare: Box<dyn Any + Send>) {
        self.inbox.recycle(spare);
    }

    /// Whether the producer was dropped before end-of-data, or its connection is lost. Elements may still be queued.
    pub fn is_closed(&self) -> bool {
        self.inbox.loss().is_some()
    }

    /// Why the channel is closed, if it is.
    pub fn loss(&self) -> Option<ChannelLoss> {
        self.inbox.loss()
    }

    pub(crate) fn take(&self) -> Option<Taken> {
        self.inbox.take()
    }

    pub(crate) fn report_to(&self, ready: ReadySlot) {
        self.inbox.report_to(ready);
    }
}

impl Drop for ChannelReceiver {
    fn drop(&mut self) {
        self.inbox.consumer_gone();
    }
}

impl fmt::Debug for ChannelReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelReceiver")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
