//! What a worker stands on: who runs what blocks, and how it reaches its peers. On a cluster these are threads and sockets; a
//! simulation puts its own in their place.

use std::pin::Pin;

use streamd_core::id::{Attempt, JobId, WorkerId};
use streamd_exchange::channel::{ChannelReceiver, ChannelSender};
use streamd_exchange::network::{AttemptNetwork, ChannelKey, DataPlane};
use streamd_exchange::wake::Waker;
use streamd_runtime::slot::Slot;
use tokio::runtime::Handle;

/// The stack of a slot's thread: user code runs on it.
const SLOT_STACK_BYTES: usize = 8 << 20;

/// Done when a slot has ended and nothing of it is left.
pub type SlotEnd = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs what blocks: slots, and the writers of snapshots.
pub trait Host: Send + Sync {
    /// Begins to run a slot; `number` is for people. Errors if there is nothing to run it on.
    fn run_slot(&self, number: u32, slot: Slot) -> std::io::Result<SlotEnd>;

    /// Runs the writer of a snapshot, beside the slots.
    fn run_writer(&self, write: Box<dyn FnOnce() + Send>);

    /// Where the I/O of slots and writers runs.
    fn io(&self) -> Handle;

    /// Stored bytes of each keyed state that are restored before the first record. What comes later comes when a thread has it.
    fn restored_at_once(&self) -> u64 {
        streamd_state::AT_ONCE_BYTES
    }
}

/// A thread for each slot, and the blocking threads of the I/O runtime for writers.
pub struct Threads {
    io: Handle,
}

impl Threads {
    /// Threads of this process.
    pub fn new(io: Handle) -> Self {
        Self { io }
    }
}

impl Host for Threads {
    fn run_slot(&self, number: u32, slot: Slot) -> std::io::Result<SlotEnd> {
        let thread = std::thread::Builder::new()
            .name(format!("slot-{number}"))
            .stack_size(SLOT_STACK_BYTES)
            .spawn(move || slot.run())?;
        let io = self.io.clone();
        Ok(Box::pin(async move {
            let joined = io.spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the thread of a slot panicked outside of user code");
            }
        }))
    }

    fn run_writer(&self, write: Box<dyn FnOnce() + Send>) {
        self.io.spawn_blocking(write);
    }

    fn io(&self) -> Handle {
        self.io.clone()
    }
}

/// How a worker reaches the other workers of its job.
pub trait Peers: Send + Sync {
    /// Where they reach it.
    fn address(&self) -> String;

    /// The channels of an attempt in which this process is worker `me`, until they are dropped.
    fn for_attempt(
        &self,
        job: JobId,
        attempt: Attempt,
        me: WorkerId,
        peers: &[(WorkerId, String)],
    ) -> Box<dyn PeerChannels>;
}

/// The channels between this worker and the others, for one attempt.
pub trait PeerChannels: Send + Sync {
    /// The producer's end of a channel to another worker. Never blocks.
    fn sender(&self, to: WorkerId, key: ChannelKey, producer: Waker) -> ChannelSender;

    /// The consumer's end of a channel from another worker.
    fn receiver(&self, from: WorkerId, key: ChannelKey, consumer: Waker) -> ChannelReceiver;
}

impl Peers for DataPlane {
    fn address(&self) -> String {
        self.local_addr().to_string()
    }

    fn for_attempt(
        &self,
        job: JobId,
        attempt: Attempt,
        me: WorkerId,
        peers: &[(WorkerId, String)],
    ) -> Box<dyn PeerChannels> {
        Box::new(Self::for_attempt(self, job, attempt, me, peers))
    }
}

impl PeerChannels for AttemptNetwork {
    fn sender(&self, to: WorkerId, key: ChannelKey, producer: Waker) -> ChannelSender {
        Self::sender(self, to, key, producer)
    }

    fn receiver(&self, from: WorkerId, key: ChannelKey, consumer: Waker) -> ChannelReceiver {
        Self::receiver(self, from, key, consumer)
    }
}
