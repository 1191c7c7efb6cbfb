//! The producer's end of a channel to another worker: the queue in which frames wait for credit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::Notify;

use super::frame::{Draft, Frame, FrameKind, watermark_bytes};
use super::key::ChannelKey;
use super::options::DataPlaneOptions;
use crate::channel::{ChannelLoss, SendResult};
use crate::element::{Element, Payload};
use crate::gauge::Gauge;
use crate::inbox::lock;
use crate::wake::Waker;

/// The channels of one connection that have something to send, in the order in which they are served.
#[derive(Default)]
pub(crate) struct SendTurns {
    channels: Mutex<VecDeque<u32>>,
    changed: Notify,
}

impl SendTurns {
    /// Puts a channel at the end of the line.
    pub(crate) fn push(&self, channel: u32) {
        lock(&self.channels).push_back(channel);
    }

    /// The channel whose turn it is.
    pub(crate) fn pop(&self) -> Option<u32> {
        lock(&self.channels).pop_front()
    }

    /// Waits until there may be channels in line.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A queue of frames in the order of the channel. Slot thread and connection meet here; neither ever waits for the other.
pub(crate) struct Outlet {
    channel: u32,
    max_frame_bytes: usize,
    gauge: Gauge,
    turns: Arc<SendTurns>,
    state: Mutex<State>,
}

struct State {
    queue: VecDeque<Queued>,
    /// Frames of records in `queue`.
    batches: usize,
    /// Frames of records that the consumer allows.
    credit: u32,
    /// The number of the next frame.
    sequence: u64,
    /// Whether the channel is in line to be served. It is while, and only while, its first frame may be sent.
    in_line: bool,
    end: Option<End>,
}

struct Queued {
    frame: Frame,
    needs_credit: bool,
}

enum End {
    ConsumerGone,
    Lost(ChannelLoss),
}

impl State {
    fn may_send(&self) -> bool {
        self.queue
            .front()
            .is_some_and(|first| !first.needs_credit || self.credit > 0)
    }
}

impl Outlet {
    /// The outlet of channel number `channel` of a connection, with its open frame in the queue.
    pub(crate) fn new(
        channel: u32,
        key: ChannelKey,
        turns: &Arc<SendTurns>,
        options: &DataPlaneOptions,
        producer: Waker,
    ) -> Self {
        let outlet = Self {
            channel,
            max_frame_bytes: options.max_frame_bytes,
            gauge: Gauge::new(options.outbox_batches, producer),
            turns: Arc::clone(turns),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                batches: 0,
                credit: 0,
                sequence: 0,
                in_line: false,
                end: None,
            }),
        };
        let key = Bytes::copy_from_slice(&key.to_bytes());
        let _ = outlet.enqueue(Draft::new(FrameKind::Open, key));
        outlet
    }

    pub(crate) fn max_frame_bytes(&self) -> usize {
        self.max_frame_bytes
    }

    // ---- the producer's side ----

    pub(crate) fn has_room(&self) -> bool {
        self.gauge.has_room()
    }

    pub(crate) fn send(&self, element: Element) -> SendResult {
        match element {
            Element::Records {
                payload: Payload::Encoded(bytes),
                count,
                origin,
            } => self.enqueue(Draft::records(count, &origin, bytes)),
            Element::Records {
                payload: Payload::Local(_),
                ..
            } => panic!("a batch goes to another process encoded, never by pointer"),
            Element::Barrier(barrier) => {
                let bytes = bitcode::serialize(&barrier).expect("a barrier is plain data, which bitcode takes");
                self.enqueue(Draft::new(FrameKind::Barrier, Bytes::from(bytes)))
            }
            Element::Watermark(watermark) => {
                let bytes = watermark_bytes(watermark);
                self.enqueue(Draft::new(FrameKind::Watermark, Bytes::copy_from_slice(&bytes)))
            }
            Element::EndOfData => self.enqueue(Draft::empty(FrameKind::EndOfData)),
        }
    }

    /// The producer dropped its end.
    pub(crate) fn producer_gone(&self) {
        // Nobody is left to whom the result matters.
        let _ = self.enqueue(Draft::empty(FrameKind::Close));
    }

    pub(crate) fn loss(&self) -> Option<ChannelLoss> {
        match &lock(&self.state).end {
            Some(End::Lost(loss)) => Some(loss.clone()),
            Some(End::ConsumerGone) | None => None,
        }
    }

    fn enqueue(&self, draft: Draft) -> SendResult {
        let needs_credit = draft.needs_credit();
        let mut state = lock(&self.state);
        match &state.end {
            Some(End::ConsumerGone) => return SendResult::ConsumerGone,
            Some(End::Lost(_)) => return SendResult::Lost,
            None => {}
        }
        let frame = draft.finish(self.channel, state.sequence);
        state.sequence += 1;
        state.queue.push_back(Queued { frame, needs_credit });
        if needs_credit {
            state.batches += 1;
            self.gauge.rise(state.batches);
        }
        self.get_in_line(state);
        SendResult::Sent
    }

    fn get_in_line(&self, mut state: MutexGuard<'_, State>) {
        if state.in_line || !state.may_send() {
            return;
        }
        state.in_line = true;
        self.turns.push(self.channel);
        // Waking a task may cost a system call: not under the lock.
        drop(state);
        self.turns.changed.notify_one();
    }

    // ---- the connection's side ----

    /// The next frame that may be sent, for a channel whose turn it is; puts the channel back in line if there are more.
    pub(crate) fn take_turn(&self) -> Option<Frame> {
        let mut state = lock(&self.state);
        if !state.may_send() {
            state.in_line = false;
            return None;
        }
        let Queued { frame, needs_credit } = state.queue.pop_front()?;
        if needs_credit {
            state.batches -= 1;
            state.credit -= 1;
        }
        state.in_line = state.may_send();
        if state.in_line {
            self.turns.push(self.channel);
        }
        if needs_credit && self.gauge.fall(state.batches) {
            drop(state);
            self.gauge.wake();
        }
        Some(frame)
    }

    /// The consumer allows more frames of records.
    pub(crate) fn add_credit(&self, frames: u32) {
        let mut state = lock(&self.state);
        state.credit = state.credit.saturating_add(frames);
        self.get_in_line(state);
    }

    /// The consumer is gone: everything is dropped from now on.
    pub(crate) fn consumer_gone(&self) {
        self.finish(End::ConsumerGone);
    }

    /// The connection is lost.
    pub(crate) fn lose(&self, loss: ChannelLoss) {
        self.finish(End::Lost(loss));
    }

    fn finish(&self, end: End) {
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        state.batches = 0;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        drop(queue);
        self.gauge.open();
    }
}
