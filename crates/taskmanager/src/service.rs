//! The life of a task manager: register, serve the link, register again when it breaks, and end without remains.

use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::TaskManagerId;
use streamd_core::time::Clock;
use streamd_rpc::client::job_manager_peer;
use streamd_rpc::limits::endpoint;
use streamd_rpc::proto;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::artifact::ArtifactCache;
use crate::crew::Crew;
use crate::describe::Describer;
use crate::directory::{WorkDirectory, not_writable, replace_private};
use crate::health::HealthService;
use crate::leaving::Leaving;
use crate::link::{EventSender, Link};
use crate::log::LogBook;
use crate::memory::MemoryWatch;
use crate::options::TaskManagerOptions;
use crate::process::Environment;
use crate::profile::Profiler;
use crate::session::{Session, SessionEnd};

/// The pause after the first failed attempt to register; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: a job manager that comes back is found this soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What every part of a task manager shares.
pub(crate) struct Shared {
    pub(crate) id: TaskManagerId,
    pub(crate) options: TaskManagerOptions,
    pub(crate) directory: WorkDirectory,
    pub(crate) artifacts: ArtifactCache,
    pub(crate) describer: Describer,
    pub(crate) profiler: Profiler,
    pub(crate) environment: Environment,
    pub(crate) memory: Arc<MemoryWatch>,
    pub(crate) leaving: Leaving,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Starts task managers.
#[derive(Debug)]
pub struct TaskManager;

impl TaskManager {
    /// Takes the working directory and begins to register. Returns before the job manager has answered: wait with
    /// [`RunningTaskManager::registered`].
    ///
    /// # Errors
    /// Malformed options, a directory that cannot be written or is in use, an address of the health service that is.
    pub async fn start(options: TaskManagerOptions, clock: Arc<dyn Clock>) -> Result<RunningTaskManager, CodedError> {
        endpoint(&options.job_manager)?;
        if options.slots == 0 {
            return Err(CodedError::new(
                ErrorCode::InvalidArgument,
                "a task manager must offer at least one slot",
            ));
        }
        let (registered, registration) = watch::channel(false);
        let health = HealthService::start(options.health_address, registration.clone()).await?;
        let service = Service::prepare(options, clock, registered)?;
        let id = service.shared.id.clone();
        let (leaving, drain_timeout) = (service.shared.leaving.clone(), service.shared.options.drain_timeout);
        let is_elected = service.shared.options.leader_lookup.is_some();
        let shutdown = service.shutdown.clone();
        let (done, outcome) = watch::channel(None);
        // Ends by the shutdown token or by itself, and tells its outcome either way; a panic closes the channel.
        tokio::spawn(async move {
            let result = service.run().await;
            health.stop().await;
            done.send_replace(Some(result));
        });
        Ok(RunningTaskManager {
            id,
            leaving,
            drain_timeout,
            is_elected,
            shutdown,
            registration,
            outcome,
        })
    }
}

/// A task manager at work. Dropping it shuts it down without waiting.
#[derive(Debug)]
pub struct RunningTaskManager {
    id: TaskManagerId,
    leaving: Leaving,
    drain_timeout: Duration,
    /// Whether another job manager takes the place of one that dies.
    is_elected: bool,
    shutdown: CancellationToken,
    registration: watch::Receiver<bool>,
    outcome: watch::Receiver<Option<Result<(), CodedError>>>,
}

impl RunningTaskManager {
    /// The name under which it registers.
    pub fn id(&self) -> &TaskManagerId {
        &self.id
    }

    /// Waits until the job manager has accepted it.
    ///
    /// # Errors
    /// What ended it before that.
    pub async fn registered(&self) -> Result<(), CodedError> {
        let mut registration = self.registration.clone();
        let accepted = registration.wait_for(|registered| *registered).await.is_ok();
        match accepted {
            true => Ok(()),
            false => self.finished().await.and_then(|()| Err(ended(&self.id))),
        }
    }

    /// Waits until it has ended: after a shutdown, or because the job manager was out of reach for too long.
    ///
    /// # Errors
    /// Why it ended, if nobody asked it to.
    pub async fn finished(&self) -> Result<(), CodedError> {
        let mut outcome = self.outcome.clone();
        match outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
            Ok(Some(result)) => result,
            Ok(None) | Err(_) => Err(CodedError::new(
                ErrorCode::Internal,
                format!("task manager `{}` panicked", self.id),
            )),
        }
    }

    /// Has the jobs that are here move elsewhere, where there is room for them, and gives them no others. Returns when they have, when
    /// they cannot, when there is no job manager to ask, or after the time that the options allow; [`shutdown`](Self::shutdown) is what
    /// follows. A job manager that dies meanwhile is followed by the next one, which is asked then. Cancel safe.
    pub async fn drain(&self) {
        let mut registration = self.registration.clone();
        let has_whom_to_ask = *registration.borrow() || self.is_elected;
        if self.drain_timeout.is_zero() || !has_whom_to_ask {
            return;
        }
        info!(task_manager = %self.id, timeout = ?self.drain_timeout, "the jobs that are here are to move elsewhere");
        self.leaving.ask();
        tokio::select! {
            () = self.leaving.settled() => {}
            () = gone(&mut registration) => {}
            () = tokio::time::sleep(self.drain_timeout) => {
                warn!(timeout = ?self.drain_timeout, "not all jobs have moved in time");
            }
        }
    }

    /// Ends all workers, then the link, and returns when nothing is left.
    ///
    /// # Errors
    /// Why it had ended before, if it had.
    pub async fn shutdown(self) -> Result<(), CodedError> {
        self.shutdown.cancel();
        self.finished().await
    }
}

impl Drop for RunningTaskManager {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A job manager that was followed before another one was.
fn stale(link: &Link, followed: u64) -> CodedError {
    let peer = job_manager_peer(&link.job_manager);
    let epoch = link.leader_epoch;
    CodedError::new(
        ErrorCode::LeadershipLost,
        format!("{peer} led in epoch {epoch}, and another one leads since epoch {followed}"),
    )
}

/// Waits until nobody registers any more.
async fn gone(registration: &mut watch::Receiver<bool>) {
    while registration.changed().await.is_ok() {}
}

fn ended(id: &TaskManagerId) -> CodedError {
    CodedError::new(ErrorCode::ClusterShuttingDown, format!("task manager `{id}` has ended"))
}

struct Service {
    shared: Arc<Shared>,
    /// Where the job manager was last.
    job_manager: String,
    /// The greatest epoch of a job manager that was followed.
    leader_epoch: u64,
    book: LogBook,
    crew: Crew,
    events: EventSender,
    registered: watch::Sender<bool>,
    shutdown: CancellationToken,
}

impl Service {
    fn prepare(
        options: TaskManagerOptions,
        clock: Arc<dyn Clock>,
        registered: watch::Sender<bool>,
    ) -> Result<Self, CodedError> {
        let directory = WorkDirectory::open(&options.work_dir, options.local_state_dir.as_deref())?;
        let artifacts = ArtifactCache::open(directory.artifacts())
            .map_err(|error| not_writable("directory of applications", &directory.artifacts(), &error))?;
        let book = LogBook::open(&options.log_dir, options.log_retention)
            .map_err(|error| not_writable("log directory", &options.log_dir, &error))?;
        book.remove_expired(clock.wall());
        let environment = Environment::inherited(&options.inherit_environment);
        let random = uuid::Uuid::new_v4().simple().to_string();
        let shared = Shared {
            id: TaskManagerId(format!("{}-{}", options.host, &random[..12])),
            describer: Describer {
                environment: environment.clone(),
                directory: directory.descriptions(),
                limits: options.describe.clone(),
            },
            profiler: Profiler::new(directory.profiles()),
            memory: MemoryWatch::new(options.worker_memory_bytes),
            options,
            directory,
            artifacts,
            environment,
            leaving: Leaving::default(),
            clock,
        };
        Ok(Self {
            job_manager: shared.options.job_manager.clone(),
            leader_epoch: 0,
            crew: Crew::new(shared.options.worker_grace, shared.directory.of_jobs()),
            events: EventSender::default(),
            shared: Arc::new(shared),
            book,
            registered,
            shutdown: CancellationToken::new(),
        })
    }

    async fn run(mut self) -> Result<(), CodedError> {
        let id = self.shared.id.clone();
        loop {
            let registered = self.register().await;
            let Ok(Some(link)) = registered else {
                self.crew.end_all().await;
                info!(task_manager = %id, "task manager ended");
                return registered.map(drop);
            };
            self.leader_epoch = link.leader_epoch;
            self.tell_workers(&link.job_manager);
            info!(task_manager = %id, slots = self.shared.options.slots, "registered");
            self.registered.send_replace(true);
            let kept = (&mut self.book, &mut self.crew);
            let end = Session::serve(Arc::clone(&self.shared), kept, link, &self.shutdown).await;
            self.registered.send_replace(false);
            match end {
                SessionEnd::Shutdown => {
                    info!(task_manager = %id, "task manager ended");
                    return Ok(());
                }
                SessionEnd::Lost(error) if error.code == ErrorCode::ClusterShuttingDown => {
                    info!(task_manager = %id, "the job manager has shut down; waiting for the next one");
                }
                SessionEnd::Lost(error) => warn!(task_manager = %id, %error, "link lost; registering again"),
            }
        }
    }

    /// Tries to register until it is accepted; `None` if the task manager shuts down before.
    async fn register(&mut self) -> Result<Option<Link>, CodedError> {
        let timeout = self.shared.options.registration_timeout;
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let deadline = self.shared.clock.monotonic().plus(timeout_ms);
        let mut pause = FIRST_PAUSE;
        let mut told = None;
        loop {
            self.settle_if_idle();
            self.look_up().await;
            let attempt = tokio::select! {
                attempt = Link::open(&self.job_manager, self.registration(), &self.events) => attempt,
                () = self.shutdown.cancelled() => return Ok(None),
            };
            let error = match attempt {
                Ok(link) if link.leader_epoch < self.leader_epoch => {
                    self.events.disconnect();
                    stale(&link, self.leader_epoch)
                }
                Ok(link) => return Ok(Some(link)),
                Err(error) => error,
            };
            if self.shared.clock.monotonic() >= deadline {
                return Err(self.gave_up(&error));
            }
            // The same refusal every two seconds says nothing new.
            if told.as_ref() != Some(&error) {
                match error.code {
                    // Not started yet, stopping or stopped: as good a reason to wait as any.
                    ErrorCode::JobManagerUnreachable | ErrorCode::ClusterShuttingDown | ErrorCode::NotLeader => {
                        info!(reason = %error, "waiting for the job manager");
                    }
                    _refused => warn!(%error, "task manager cannot register yet"),
                }
                told = Some(error);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.shutdown.cancelled() => return Ok(None),
            }
        }
    }

    /// Nobody need be waited for who could have jobs move where there are none.
    fn settle_if_idle(&mut self) {
        self.crew.reap_ended();
        if self.shared.leaving.is_asked() && self.crew.is_idle() {
            self.shared.leaving.settle("");
        }
    }

    /// Follows the job manager to where it wrote that it is. While it writes nothing, it is looked for where it was.
    async fn look_up(&mut self) {
        let written = self.shared.options.address_file.as_ref().map(std::fs::read_to_string);
        let mut found = written.and_then(Result::ok);
        if let Some(lookup) = &self.shared.options.leader_lookup {
            found = tokio::select! {
                leader = lookup() => leader.or(found),
                () = self.shutdown.cancelled() => found,
            };
        }
        if let Some(address) = found
            && address.trim() != self.job_manager
        {
            address.trim().clone_into(&mut self.job_manager);
            info!(job_manager = self.job_manager, "the job manager has another address");
        }
    }

    /// Writes down where the job manager is, for workers that run already.
    fn tell_workers(&self, address: &str) {
        let file = self.shared.directory.job_manager_file();
        if let Err(error) = replace_private(&file, address) {
            warn!(file = %file.display(), %error, "workers cannot be told where the job manager is");
        }
    }

    fn gave_up(&self, last: &CodedError) -> CodedError {
        let message = format!(
            "task manager could not register at {} within {:?}: {}",
            job_manager_peer(&self.job_manager),
            self.shared.options.registration_timeout,
            last.message
        );
        CodedError {
            message,
            ..last.clone()
        }
    }

    fn registration(&self) -> proto::TaskManagerRegistration {
        proto::TaskManagerRegistration {
            task_manager_id: self.shared.id.0.clone(),
            host: self.shared.options.host.clone(),
            slots: self.shared.options.slots,
            process_id: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            workers: self.crew.announcement(),
            drained: self.crew.is_drained(),
        }
    }
}
