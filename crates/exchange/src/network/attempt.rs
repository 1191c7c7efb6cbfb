//! The network of one attempt of a job, as one worker sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use streamd_core::id::{Attempt, JobId, WorkerId};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::data_plane::Registry;
use super::error::NetworkError;
use super::handshake::{Hello, Refusal};
use super::inboxes::Inboxes;
use super::key::ChannelKey;
use super::options::DataPlaneOptions;
use super::outgoing::{self, OutgoingLink, Route};
use crate::channel::{ChannelReceiver, ChannelSender};
use crate::inbox::lock;
use crate::wake::Waker;

/// The channels between this worker and the others, for one attempt of a job. Made by
/// [`DataPlane::for_attempt`](super::DataPlane::for_attempt).
///
/// Dropping it closes it; [`close`](Self::close) lets one wait until nothing of it is left.
pub struct AttemptNetwork {
    core: Arc<AttemptCore>,
    registry: Arc<Registry>,
}

/// What the connections of an attempt share.
pub(crate) struct AttemptCore {
    pub(crate) job: JobId,
    pub(crate) attempt: Attempt,
    pub(crate) me: WorkerId,
    pub(crate) inboxes: Arc<Inboxes>,
    pub(crate) token: CancellationToken,
    options: Arc<DataPlaneOptions>,
    addresses: BTreeMap<WorkerId, String>,
    links: Mutex<Links>,
    tasks: TaskTracker,
    /// The data plane's: it waits for the connections of all attempts.
    plane_tasks: TaskTracker,
    handle: Handle,
}

/// What an attempt needs of the data plane that it lives in.
pub(crate) struct Host {
    pub(crate) handle: Handle,
    /// Cancelled with the data plane.
    pub(crate) token: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

#[derive(Default)]
struct Links {
    by_peer: BTreeMap<WorkerId, Arc<OutgoingLink>>,
    closed: bool,
}

impl AttemptCore {
    pub(crate) fn new(
        (job, attempt, me): (JobId, Attempt, WorkerId),
        peers: &[(WorkerId, String)],
        options: Arc<DataPlaneOptions>,
        host: Host,
    ) -> Arc<Self> {
        let Host {
            handle,
            token,
            tasks: plane_tasks,
        } = host;
        let addresses: BTreeMap<_, _> = peers.iter().filter(|(peer, _)| *peer != me).cloned().collect();
        Arc::new(Self {
            job,
            attempt,
            me,
            inboxes: Arc::new(Inboxes::new(options.credit, addresses.keys().copied())),
            token,
            options,
            addresses,
            links: Mutex::default(),
            tasks: TaskTracker::new(),
            plane_tasks,
            handle,
        })
    }

    /// Admits the connection of a peer; while the result is held, [`Closing`] waits.
    pub(crate) fn attach(&self, from: WorkerId) -> Result<TaskTrackerToken, Refusal> {
        let links = lock(&self.links);
        if links.closed {
            return Err(Refusal::StaleAttempt);
        }
        self.inboxes.attach(from)?;
        Ok(self.tasks.token())
    }

    /// The connection to a peer, made at the first channel to it.
    fn link(&self, to: WorkerId) -> Arc<OutgoingLink> {
        let mut links = lock(&self.links);
        if let Some(link) = links.by_peer.get(&to) {
            return Arc::clone(link);
        }
        let link = OutgoingLink::new(to);
        links.by_peer.insert(to, Arc::clone(&link));
        match self.addresses.get(&to) {
            _ if links.closed => link.lose(NetworkError::Closed),
            None => link.lose(NetworkError::UnknownPeer { peer: to }),
            Some(address) => {
                let route = Route {
                    address: address.clone(),
                    hello: Hello {
                        job: self.job,
                        attempt: self.attempt,
                        from: self.me,
                        to,
                    },
                    options: Arc::clone(&self.options),
                };
                let connection = outgoing::run(Arc::clone(&link), route, self.token.clone());
                self.tasks
                    .spawn_on(self.plane_tasks.track_future(connection), &self.handle);
            }
        }
        link
    }

    fn close(&self) {
        lock(&self.links).closed = true;
        self.token.cancel();
        self.inboxes.close();
        self.tasks.close();
    }
}

impl AttemptNetwork {
    pub(crate) fn new(core: Arc<AttemptCore>, registry: Arc<Registry>) -> Self {
        Self { core, registry }
    }

    /// The producer's end of a channel to another worker. Never blocks: the connection is made in the background, and a
    /// failure to make it is a loss of the channel.
    pub fn sender(&self, to: WorkerId, key: ChannelKey, producer: Waker) -> ChannelSender {
        self.core.link(to).open(key, &self.core.options, producer)
    }

    /// The consumer's end of a channel from another worker, which connects by itself. Elements that came before are there.
    pub fn receiver(&self, from: WorkerId, key: ChannelKey, consumer: Waker) -> ChannelReceiver {
        self.core.inboxes.receiver(from, key, consumer)
    }

    /// Closes all connections, from this call on. What may be sent without further credit is still sent, which includes
    /// the ends of channels whose senders and receivers were dropped: drop those first, and no peer takes it for a loss.
    ///
    /// The result can be awaited, to know that nothing of the attempt is left; dropping it changes nothing.
    pub fn close(self) -> Closing {
        let tasks = self.core.tasks.clone();
        drop(self);
        Closing::of(tasks)
    }
}

impl Drop for AttemptNetwork {
    fn drop(&mut self) {
        self.registry.deregister(&self.core);
        self.core.close();
    }
}

impl fmt::Debug for AttemptNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptNetwork")
            .field("job", &self.core.job)
            .field("attempt", &self.core.attempt)
            .field("worker", &self.core.me)
            .finish_non_exhaustive()
    }
}

/// Something that is closing: a future that is done when none of its tasks is left. It closes whether awaited or not.
pub struct Closing(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Closing {
    pub(crate) fn of(tasks: TaskTracker) -> Self {
        Self(Box::pin(async move { tasks.wait().await }))
    }
}

impl Future for Closing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}
