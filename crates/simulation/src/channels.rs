//! The channels between workers: queues with latency, which stall while their workers are parted and break with either of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use streamd_core::id::{Attempt, JobId, WorkerId};
use streamd_exchange::channel::{ChannelReceiver, ChannelSender, SendResult, local_channel};
use streamd_exchange::element::Element;
use streamd_exchange::network::ChannelKey;
use streamd_exchange::wake::Waker;
use streamd_worker::host::{PeerChannels, Peers};

use crate::dice::Dice;
use crate::sabotage::Sabotage;

/// Batches that either end of a channel holds, as within a process.
const BATCHES: usize = 8;

/// Elements under way in one channel.
const UNDER_WAY: usize = 32;

/// The longest latency of an element, in milliseconds.
const LATENCY_MS: u64 = 8;

/// In thousandths: how many batches of records are overtaken by the next one in a network that is sabotaged.
const OVERTAKING: u64 = 20;

/// All channels between workers. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Network {
    relays: Arc<Mutex<BTreeMap<Route, Relay>>>,
    reorders: bool,
}

/// One channel: of an attempt, from a worker to a worker. No two job managers begin an attempt of the same number.
type Route = (Attempt, WorkerId, WorkerId, ChannelKey);

#[derive(Default)]
struct Relay {
    from: Option<ChannelReceiver>,
    to: Option<ChannelSender>,
    under_way: VecDeque<(u64, Element)>,
    /// Records that the next ones overtake, in a network that is sabotaged.
    held_back: Option<Element>,
    last_arrival: u64,
    /// The producer has sent the end of its data: its going is no loss.
    complete: bool,
    /// The producer's attempt is over: nothing follows what is under way.
    closing: bool,
}

impl Network {
    /// A network that keeps the order of what it carries, unless it is sabotaged.
    pub(crate) fn new(sabotage: Option<Sabotage>) -> Self {
        Self {
            relays: Arc::default(),
            reorders: sabotage == Some(Sabotage::Reorders),
        }
    }

    /// What a worker reaches its peers by.
    pub(crate) fn of(&self, worker: WorkerId) -> SimulatedPeers {
        SimulatedPeers {
            network: self.clone(),
            worker,
        }
    }

    /// Moves what is to be moved now. `true` if anything was.
    pub(crate) fn pump(&self, now: u64, dice: &mut Dice, parted: &BTreeSet<WorkerId>) -> bool {
        let mut moved = false;
        let mut relays = self.lock();
        relays.retain(|(_, from, to, _), relay| {
            if !parted.contains(from) && !parted.contains(to) {
                moved |= relay.pump(now, dice, self.reorders);
            }
            relay.from.is_some() || relay.to.is_some() || !relay.under_way.is_empty()
        });
        moved
    }

    /// When something arrives next.
    pub(crate) fn next_arrival(&self) -> Option<u64> {
        let relays = self.lock();
        let waiting = relays
            .values()
            .filter(|relay| relay.to.as_ref().is_some_and(ChannelSender::has_room));
        waiting
            .filter_map(|relay| relay.under_way.front().map(|(at, _)| *at))
            .min()
    }

    /// The process of a worker is gone, and its ends of channels with it.
    pub(crate) fn cut(&self, worker: WorkerId) {
        self.lock()
            .retain(|(_, from, to, _), _| *from != worker && *to != worker);
    }

    /// Breaks the channels of a worker that lives on: their consumers find out. Producers would as well over a network, but a channel
    /// within a process is never lost to its producer; so channels that have ended, whose consumers take no notice, stay. What is not
    /// connected yet cannot break.
    pub(crate) fn sever(&self, worker: WorkerId) {
        let is_connected = |relay: &Relay| relay.from.is_some() && relay.to.is_some() && !relay.complete;
        self.lock()
            .retain(|(_, from, to, _), relay| !is_connected(relay) || (*from != worker && *to != worker));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Route, Relay>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    fn pump(&mut self, now: u64, dice: &mut Dice, reorders: bool) -> bool {
        let mut moved = false;
        if let Some(from) = &self.from {
            while self.under_way.len() < UNDER_WAY {
                let Some(element) = from.try_recv() else { break };
                self.complete |= matches!(element, Element::EndOfData);
                self.last_arrival = self.last_arrival.max(now + dice.between(1, LATENCY_MS));
                moved = true;
                match self.held_back.take() {
                    // The records after them go first, and nothing else does.
                    Some(held) if element.is_records() => self
                        .under_way
                        .extend([(self.last_arrival, element), (self.last_arrival, held)]),
                    Some(held) => self
                        .under_way
                        .extend([(self.last_arrival, held), (self.last_arrival, element)]),
                    None if reorders && element.is_records() && dice.happens(OVERTAKING) => {
                        self.held_back = Some(element)
                    }
                    None => self.under_way.push_back((self.last_arrival, element)),
                }
            }
        }
        while let Some(to) = &self.to
            && to.has_room()
            && self.under_way.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, element)) = self.under_way.pop_front()
        {
            moved = true;
            if to.send(element) == SendResult::ConsumerGone {
                // As over a network: the producer runs on into nothing.
                self.to = None;
            }
        }
        let gone = |from: &ChannelReceiver| self.closing || from.is_closed();
        let producer_gone = self.from.as_ref().is_some_and(gone);
        if producer_gone && self.under_way.is_empty() {
            self.from = None;
            if !self.complete {
                self.to = None;
            }
            moved = true;
        }
        moved
    }
}

/// How one worker reaches the others.
pub(crate) struct SimulatedPeers {
    network: Network,
    worker: WorkerId,
}

impl Peers for SimulatedPeers {
    fn address(&self) -> String {
        format!("simulated:{}", self.worker.0)
    }

    fn for_attempt(
        &self,
        _job: JobId,
        attempt: Attempt,
        me: WorkerId,
        _peers: &[(WorkerId, String)],
    ) -> Box<dyn PeerChannels> {
        Box::new(SimulatedChannels {
            network: self.network.clone(),
            attempt,
            me,
        })
    }
}

struct SimulatedChannels {
    network: Network,
    attempt: Attempt,
    me: WorkerId,
}

impl PeerChannels for SimulatedChannels {
    fn sender(&self, to: WorkerId, key: ChannelKey, producer: Waker) -> ChannelSender {
        // Nobody sleeps at the far end: the cluster looks in at every step.
        let (nobody, _never_parked) = Waker::new();
        let (sender, receiver) = local_channel(BATCHES, nobody, producer);
        let route = (self.attempt, self.me, to, key);
        self.network.lock().entry(route).or_default().from = Some(receiver);
        sender
    }

    fn receiver(&self, from: WorkerId, key: ChannelKey, consumer: Waker) -> ChannelReceiver {
        let (nobody, _never_parked) = Waker::new();
        let (sender, receiver) = local_channel(BATCHES, consumer, nobody);
        let route = (self.attempt, from, self.me, key);
        self.network.lock().entry(route).or_default().to = Some(sender);
        receiver
    }
}

impl Drop for SimulatedChannels {
    fn drop(&mut self) {
        for ((attempt, from, to, _), relay) in self.network.lock().iter_mut() {
            if *attempt != self.attempt {
                continue;
            }
            relay.closing |= *from == self.me;
            if *to == self.me {
                relay.to = None;
                relay.under_way.clear();
            }
        }
    }
}
