//! The data plane of a worker: a listener that outlives attempts, and the register of those that run.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use streamd_core::id::{Attempt, JobId, WorkerId};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempt::{AttemptCore, AttemptNetwork, Closing, Host};
use super::error::NetworkError;
use super::handshake::{HandshakeError, Hello, MAX_TOKEN_BYTES, Refusal, answer, listen};
use super::incoming::Incoming;
use super::options::DataPlaneOptions;
use crate::inbox::lock;

/// Connections that may be in their handshake, or wait for their attempt, at once: the peers of a large job that all
/// arrive before this worker is deployed.
const MAX_HANDSHAKES: usize = 1024;
/// The pause after the system refuses to accept, as it does when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The data plane of a worker. Lives as long as the process; each attempt gets an [`AttemptNetwork`] from it.
///
/// Dropping it closes it, the attempts included.
pub struct DataPlane {
    local_addr: SocketAddr,
    options: Arc<DataPlaneOptions>,
    registry: Arc<Registry>,
    handle: Handle,
    token: CancellationToken,
    tasks: TaskTracker,
}

/// The attempts that connections may be for.
pub(crate) struct Registry {
    entries: Mutex<BTreeMap<(JobId, WorkerId), Entry>>,
    /// Tells those who wait for an attempt that there is another one.
    changed: watch::Sender<()>,
}

enum Entry {
    Open(Arc<AttemptCore>),
    /// The attempt with this number was the last, and is over.
    Over(Attempt),
}

enum Found {
    Open(Arc<AttemptCore>),
    Stale,
    NotYet,
}

impl Registry {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::default(),
            changed: watch::Sender::new(()),
        })
    }

    fn register(&self, core: &Arc<AttemptCore>) {
        lock(&self.entries).insert((core.job, core.me), Entry::Open(Arc::clone(core)));
        self.changed.send_replace(());
    }

    /// The attempt is over, unless a newer one took its place.
    pub(crate) fn deregister(&self, core: &Arc<AttemptCore>) {
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.get_mut(&(core.job, core.me))
            && matches!(entry, Entry::Open(open) if Arc::ptr_eq(open, core))
        {
            *entry = Entry::Over(core.attempt);
        }
    }

    fn find(&self, hello: &Hello) -> Found {
        match lock(&self.entries).get(&(hello.job, hello.to)) {
            None => Found::NotYet,
            Some(Entry::Over(attempt)) if hello.attempt <= *attempt => Found::Stale,
            Some(Entry::Over(_)) => Found::NotYet,
            Some(Entry::Open(core)) if hello.attempt < core.attempt => Found::Stale,
            Some(Entry::Open(core)) if hello.attempt > core.attempt => Found::NotYet,
            Some(Entry::Open(core)) => Found::Open(Arc::clone(core)),
        }
    }

    /// The attempt that a connection is for; waits for one that did not start here yet, for as long as `patience`.
    async fn resolve(&self, hello: &Hello, patience: Duration) -> Result<Arc<AttemptCore>, Refusal> {
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                match self.find(hello) {
                    Found::Open(core) => return Ok(core),
                    Found::Stale => return Err(Refusal::StaleAttempt),
                    Found::NotYet => {}
                }
                if changed.changed().await.is_err() {
                    return Err(Refusal::NotReady);
                }
            }
        };
        timeout(patience, found).await.unwrap_or(Err(Refusal::NotReady))
    }
}

impl DataPlane {
    /// Listens at `address` (port 0 takes any free one) and serves connections on the runtime of `handle`.
    ///
    /// May be called outside of the runtime.
    pub fn bind(
        address: impl ToSocketAddrs + fmt::Display,
        options: DataPlaneOptions,
        handle: Handle,
    ) -> Result<Self, NetworkError> {
        if options.token.len() > MAX_TOKEN_BYTES {
            return Err(NetworkError::TokenTooLong {
                size: options.token.len(),
                limit: MAX_TOKEN_BYTES,
            });
        }
        let listener = {
            let _context = handle.enter();
            StdListener::bind(&address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            })
        };
        let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (local_addr, listener) = bound.map_err(|source| NetworkError::Bind {
            address: address.to_string(),
            source,
        })?;
        let plane = Self {
            local_addr,
            options: Arc::new(options),
            registry: Registry::new(),
            handle,
            token: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let door = Door {
            registry: Arc::clone(&plane.registry),
            options: Arc::clone(&plane.options),
            token: plane.token.clone(),
        };
        plane
            .tasks
            .spawn_on(door.accept(listener, plane.tasks.clone()), &plane.handle);
        Ok(plane)
    }

    /// Where peers reach this data plane.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The network of an attempt in which this process is worker `me`. Connections for it are accepted from now on, those
    /// for older attempts of the job refused. An older attempt's network is to be closed before.
    pub fn for_attempt(
        &self,
        job: JobId,
        attempt: Attempt,
        me: WorkerId,
        peers: &[(WorkerId, String)],
    ) -> AttemptNetwork {
        let core = AttemptCore::new(
            (job, attempt, me),
            peers,
            Arc::clone(&self.options),
            Host {
                handle: self.handle.clone(),
                token: self.token.child_token(),
                tasks: self.tasks.clone(),
            },
        );
        self.registry.register(&core);
        AttemptNetwork::new(core, Arc::clone(&self.registry))
    }

    /// Closes the listener and every connection, from this call on; awaiting the result waits until they are gone.
    pub fn close(self) -> Closing {
        let tasks = self.tasks.clone();
        drop(self);
        Closing::of(tasks)
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.token.cancel();
        self.tasks.close();
    }
}

impl fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPlane")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

/// The accepting side: lets connections in.
#[derive(Clone)]
struct Door {
    registry: Arc<Registry>,
    options: Arc<DataPlaneOptions>,
    token: CancellationToken,
}

impl Door {
    async fn accept(self, listener: TcpListener, tasks: TaskTracker) {
        let waiting = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        loop {
            let accepted = tokio::select! {
                accepted = accept_one(&listener, &waiting) => accepted,
                () = self.token.cancelled() => return,
            };
            let door = self.clone();
            if let Some((stream, address, place)) = accepted {
                tasks.spawn(async move { door.serve(stream, address, place).await });
            }
        }
    }

    /// One connection, from its first byte to its last.
    async fn serve(self, mut stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
        let admitted = tokio::select! {
            admitted = self.admit(&mut stream) => admitted,
            () = self.token.cancelled() => return,
        };
        let (core, hello) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                tracing::warn!(%address, %error, "a connection to the data plane was not let in");
                return;
            }
        };
        let attached = core.attach(hello.from);
        let verdict = attached.as_ref().map(|_| ()).map_err(|refusal| *refusal);
        let answered = answer(&mut stream, verdict).await;
        drop(place);
        let _attached = match (attached, answered) {
            (Ok(attached), Ok(())) => attached,
            (Ok(_), Err(error)) => {
                tracing::warn!(%address, peer = %hello.from, %error, "a worker left during its handshake");
                core.inboxes
                    .lose(hello.from, NetworkError::PeerClosed { peer: hello.from });
                return;
            }
            (Err(refusal), _) => {
                tracing::warn!(%address, peer = %hello.from, %refusal, "a worker was not let in");
                return;
            }
        };
        tracing::debug!(job_id = %core.job, attempt = %core.attempt, peer = %hello.from, "a worker connected");
        let incoming = Incoming::new(hello.from, Arc::clone(&core.inboxes));
        incoming.run(stream, &self.options, core.token.clone()).await;
    }

    /// Who connects, and the attempt that it is for; tells those who are refused.
    async fn admit(&self, stream: &mut TcpStream) -> Result<(Arc<AttemptCore>, Hello), HandshakeError> {
        stream.set_nodelay(true).map_err(HandshakeError::Io)?;
        let heard = timeout(self.options.handshake_timeout, listen(stream, &self.options.token)).await;
        let admitted = match heard.unwrap_or(Err(HandshakeError::Timeout)) {
            Ok(hello) => self
                .registry
                .resolve(&hello, self.options.park_timeout)
                .await
                .map(|core| (core, hello))
                .map_err(HandshakeError::Refused),
            Err(error) => Err(error),
        };
        if let Err(HandshakeError::Refused(refusal)) = &admitted {
            answer(stream, Err(*refusal)).await?;
        }
        admitted
    }
}

async fn accept_one(
    listener: &TcpListener,
    waiting: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(waiting).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, place)),
        Err(error) => {
            tracing::warn!(%error, "the data plane cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
