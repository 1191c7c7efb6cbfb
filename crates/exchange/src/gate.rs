//! The input gate: all channels of all inputs of one subtask, read in turn.

use std::any::Any;
use std::collections::VecDeque;

use crate::channel::{ChannelLoss, ChannelReceiver};
use crate::element::Element;
use crate::encode::count_of;
use crate::ready::{ReadyList, ReadySlot};

/// Reads the channels of one subtask, one element of each in turn.
///
/// ```text
///   channels ──arrival in an empty queue──▶ ready list ──poll──▶ active ──▶ element
///                                                                 │  ▲
///                                                          blocked ▼  │ unblock_all
///                                                                 held
/// ```
///
/// A channel with data is in exactly one of the ready list, `active` and `held`; idle channels are in none and cost nothing.
pub struct InputGate {
    channels: Vec<ChannelReceiver>,
    ready: std::sync::Arc<ReadyList>,
    /// Channels that have, or had when they came in, something to read: the next one in front.
    active: VecDeque<usize>,
    blocked: Vec<bool>,
    /// Blocked channels that were due.
    held: Vec<usize>,
}

impl InputGate {
    /// A gate over these channels, which it numbers from 0.
    pub fn new(channels: Vec<ChannelReceiver>) -> Self {
        let ready = ReadyList::new();
        for (index, channel) in channels.iter().enumerate() {
            channel.report_to(ReadySlot::new(&ready, count_of(index)));
        }
        Self {
            blocked: vec![false; channels.len()],
            channels,
            ready,
            active: VecDeque::new(),
            held: Vec::new(),
        }
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// The next element and the channel it came from: round robin over the channels that are not blocked and have data.
    pub fn poll(&mut self) -> Option<(usize, Element)> {
        self.poll_unless(|_| false)
    }

    /// As [`poll`](Self::poll), but passes over the channels for which the predicate holds: they keep what they have, and their turn.
    pub fn poll_unless(&mut self, mut is_passed_over: impl FnMut(usize) -> bool) -> Option<(usize, Element)> {
        self.ready.drain_into(&mut self.active);
        for _ in 0..self.active.len() {
            let channel = self.active.pop_front()?;
            if self.blocked[channel] {
                self.held.push(channel);
                continue;
            }
            if is_passed_over(channel) {
                self.active.push_back(channel);
                continue;
            }
            if let Some(taken) = self.channels[channel].take() {
                if taken.more {
                    self.active.push_back(channel);
                }
                return Some((channel, taken.element));
            }
        }
        None
    }

    /// Skips the channel until [`unblock_all`](Self::unblock_all): its data stays queued, which holds its producer back.
    pub fn block(&mut self, channel: usize) {
        self.blocked[channel] = true;
    }

    /// Whether the channel is blocked.
    pub fn is_blocked(&self, channel: usize) -> bool {
        self.blocked[channel]
    }

    /// Reads all channels again.
    pub fn unblock_all(&mut self) {
        self.blocked.fill(false);
        self.active.extend(self.held.drain(..));
    }

    /// The first channel whose producer vanished before end-of-data, or whose connection is lost: seen at once, even
    /// while elements are queued.
    pub fn failed(&self) -> Option<usize> {
        self.ready.failed()
    }

    /// Why the channel's producer vanished.
    pub fn loss(&self, channel: usize) -> Option<ChannelLoss> {
        self.channels[channel].loss()
    }

    /// Gives an emptied batch buffer back to the producer of the channel it came from.
    pub fn recycle(&self, channel: usize, spare: Box<dyn Any + Send>) {
        self.channels[channel].recycle(spare);
    }
}
