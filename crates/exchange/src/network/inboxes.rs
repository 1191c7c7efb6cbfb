//! The inboxes of one attempt, by worker and channel: where a connection that arrives and a consumer that is built meet,
//! whichever comes first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use streamd_core::id::WorkerId;

use super::error::NetworkError;
use super::handshake::Refusal;
use super::key::ChannelKey;
use crate::channel::{ChannelLoss, ChannelReceiver};
use crate::inbox::{Inbox, lock};
use crate::wake::Waker;

/// The inboxes of one attempt.
pub(crate) struct Inboxes {
    credit: u32,
    peers: Mutex<BTreeMap<WorkerId, Peer>>,
}

/// What there is of one producing worker.
#[derive(Default)]
struct Peer {
    channels: BTreeMap<ChannelKey, Arc<Inbox>>,
    /// Whether its connection came. There is one per attempt: a second could not continue where the first broke.
    attached: bool,
    /// Why there is no connection any more, nor will be.
    loss: Option<ChannelLoss>,
}

impl Inboxes {
    pub(crate) fn new(credit: u32, peers: impl Iterator<Item = WorkerId>) -> Self {
        Self {
            credit,
            peers: Mutex::new(peers.map(|peer| (peer, Peer::default())).collect()),
        }
    }

    /// The consumer's end of a channel. Lost from the start if the peer is unknown or gone, or the channel taken.
    pub(crate) fn receiver(&self, from: WorkerId, key: ChannelKey, consumer: Waker) -> ChannelReceiver {
        let mut peers = lock(&self.peers);
        let Some(peer) = peers.get_mut(&from) else {
            return self.lost_receiver(NetworkError::UnknownPeer { peer: from }, consumer);
        };
        let inbox = peer.inbox(key, self.credit);
        if !inbox.bind(consumer.clone()) {
            return self.lost_receiver(NetworkError::DuplicateConsumer { peer: from, key }, consumer);
        }
        ChannelReceiver::remote(inbox)
    }

    fn lost_receiver(&self, error: NetworkError, consumer: Waker) -> ChannelReceiver {
        let inbox = Arc::new(Inbox::remote(self.credit));
        inbox.bind(consumer);
        inbox.connection_lost(ChannelLoss::Connection(Arc::new(error)));
        ChannelReceiver::remote(inbox)
    }

    /// A connection from the worker arrives.
    pub(crate) fn attach(&self, from: WorkerId) -> Result<(), Refusal> {
        let mut peers = lock(&self.peers);
        let peer = peers.get_mut(&from).ok_or(Refusal::UnknownPeer)?;
        if peer.loss.is_some() && !peer.attached {
            return Err(Refusal::StaleAttempt);
        }
        if peer.attached {
            return Err(Refusal::AlreadyConnected);
        }
        peer.attached = true;
        Ok(())
    }

    /// The inbox of a channel that a connection opens.
    pub(crate) fn open(&self, from: WorkerId, key: ChannelKey) -> Arc<Inbox> {
        lock(&self.peers).entry(from).or_default().inbox(key, self.credit)
    }

    /// The connection from the worker is gone, and with it all of its channels, those too that it has not opened yet.
    pub(crate) fn lose(&self, from: WorkerId, error: NetworkError) {
        let loss = ChannelLoss::Connection(Arc::new(error));
        let mut peers = lock(&self.peers);
        if let Some(peer) = peers.get_mut(&from) {
            peer.lose(&loss);
        }
    }

    /// The attempt is closed: nothing will come from anybody.
    pub(crate) fn close(&self) {
        let loss = ChannelLoss::Connection(Arc::new(NetworkError::Closed));
        lock(&self.peers).values_mut().for_each(|peer| peer.lose(&loss));
    }
}

impl Peer {
    fn inbox(&mut self, key: ChannelKey, credit: u32) -> Arc<Inbox> {
        let inbox = self.channels.entry(key).or_insert_with(|| {
            let inbox = Inbox::remote(credit);
            if let Some(loss) = &self.loss {
                inbox.connection_lost(loss.clone());
            }
            Arc::new(inbox)
        });
        Arc::clone(inbox)
    }

    fn lose(&mut self, loss: &ChannelLoss) {
        let loss = self.loss.get_or_insert_with(|| loss.clone());
        for inbox in self.channels.values() {
            inbox.connection_lost(loss.clone());
        }
    }
}
