//! Which channels of a gate have something to read, so that thousands of idle ones cost nothing.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::inbox::lock;

/// The value of `failed` while every producer is there.
const NONE: u32 = u32::MAX;

/// The list that the channels of one gate report to.
///
/// A channel enters when an element arrives in its empty queue, and so is in it at most once for each time the gate
/// found the queue empty.
pub(crate) struct ReadyList {
    channels: Mutex<Vec<u32>>,
    /// Whether `channels` holds any: lets the gate pass by without the lock.
    any: AtomicBool,
    /// The first channel that lost its producer.
    failed: AtomicU32,
}

impl ReadyList {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            channels: Mutex::new(Vec::new()),
            any: AtomicBool::new(false),
            failed: AtomicU32::new(NONE),
        })
    }

    /// Moves all ready channels to `into`, oldest first.
    pub(crate) fn drain_into(&self, into: &mut impl Extend<usize>) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut channels = lock(&self.channels);
        self.any.store(false, Ordering::Release);
        into.extend(channels.drain(..).map(|channel| channel as usize));
    }

    /// The first channel that lost its producer.
    pub(crate) fn failed(&self) -> Option<usize> {
        match self.failed.load(Ordering::Acquire) {
            NONE => None,
            channel => Some(channel as usize),
        }
    }
}

/// One channel's place in the list.
pub(crate) struct ReadySlot {
    list: Arc<ReadyList>,
    channel: u32,
}

impl ReadySlot {
    pub(crate) fn new(list: &Arc<ReadyList>, channel: u32) -> Self {
        Self {
            list: Arc::clone(list),
            channel,
        }
    }

    /// The channel's queue was empty and is not any more.
    pub(crate) fn has_elements(&self) {
        let mut channels = lock(&self.list.channels);
        channels.push(self.channel);
        self.list.any.store(true, Ordering::Release);
    }

    /// The channel's producer vanished.
    pub(crate) fn has_failed(&self) {
        // Only the first failure is kept, and losing the race to another channel is fine.
        let _ = self
            .list
            .failed
            .compare_exchange(NONE, self.channel, Ordering::AcqRel, Ordering::Acquire);
    }
}
