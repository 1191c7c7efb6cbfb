//! The link between a worker and the job master: two ordered queues with latency.

use std::collections::VecDeque;

use crate::dice::Dice;

/// The longest latency of a message, in milliseconds.
const LATENCY_MS: u64 = 12;

/// One direction of a link: in order, each message at its time.
pub(crate) struct Lane<T> {
    under_way: VecDeque<(u64, T)>,
    last_arrival: u64,
}

impl<T> Lane<T> {
    pub(crate) fn new() -> Self {
        Self {
            under_way: VecDeque::new(),
            last_arrival: 0,
        }
    }

    pub(crate) fn send(&mut self, now: u64, dice: &mut Dice, message: T) {
        self.last_arrival = self.last_arrival.max(now + dice.between(1, LATENCY_MS));
        self.under_way.push_back((self.last_arrival, message));
    }

    /// The next message, if it has arrived.
    pub(crate) fn take(&mut self, now: u64) -> Option<T> {
        if self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            return self.under_way.pop_front().map(|(_, message)| message);
        }
        None
    }

    /// Everything that is under way arrives now.
    pub(crate) fn hurry(&mut self, now: u64) {
        self.under_way.iter_mut().for_each(|(at, _)| *at = now.min(*at));
    }

    pub(crate) fn next_arrival(&self) -> Option<u64> {
        self.under_way.front().map(|(at, _)| *at)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}
