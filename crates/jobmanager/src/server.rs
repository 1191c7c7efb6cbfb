//! A whole job manager: its components, started and shut down together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::host_and_port;
use streamd_core::time::Clock;
use streamd_rpc::incoming::incoming;
use streamd_rpc::{limits, proto};
use streamd_snapshot::{ArtifactStore, JobStore, LeaderRecords, Location, MAX_ARTIFACT_BYTES, OperationCatalogue};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthReporter;
use tracing::{error, info, warn};

use crate::dispatcher::{
    CheckpointFolders, Dispatcher, DispatcherOptions, OPERATIONS_KEPT, RegistryHandle, RegistryOptions,
};
use crate::fence::Fence;
use crate::grpc::{DispatcherService, StandbyService, TaskManagerLinkService, WorkerLinkService};
use crate::job_master::{Effects, WorkerTimeouts};
#[cfg(feature = "kubernetes")]
use crate::leadership;
use crate::leadership::{ByRecords, Candidate, Election, ElectionTimes, HighAvailability, Leadership, SignsOfLife};
use crate::options::{JobManagerOptions, ResolveJobOptions};
use crate::pins::Pins;
use crate::random;
use crate::resource_manager::{self, ResourceManagerOptions};

/// The service whose health clients look at.
type ServedDispatcher = proto::dispatcher_server::DispatcherServer<DispatcherService>;

/// How long the start waits for the store of the checkpoints: a job manager without it can still tell and cancel.
const CLAIM_PATIENCE: Duration = Duration::from_secs(10);

/// Numbers of workers that each leader has for itself.
const WORKERS_PER_LEADER: u64 = 1_000_000_000_000;

/// The job manager.
pub struct JobManager;

/// A job manager that runs, until it is shut down.
pub struct RunningJobManager {
    address: SocketAddr,
    registry: RegistryHandle,
    pins: Pins,
    fence: Fence,
    signs: Option<SignsOfLife>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    health: HealthReporter,
    grace: Duration,
}

impl JobManager {
    /// Binds the address and starts every component. `resolve` reads the `-D` settings of submissions.
    ///
    /// Errors if the address is taken or the data directory cannot be used; nothing runs then.
    pub async fn start(
        mut options: JobManagerOptions,
        clock: Arc<dyn Clock>,
        resolve: ResolveJobOptions,
    ) -> Result<RunningJobManager, CodedError> {
        if let Some(storage) = options.storage.take() {
            streamd_snapshot::store::configure(storage);
        }
        let data = make_folders(&mut options)?;
        let (listener, address) = bind(&options.bind_address).await?;
        let tasks = TaskTracker::new();
        let shutdown = CancellationToken::new();
        let candidate = Candidate {
            records: LeaderRecords::new(data.clone()),
            address: advertised(&options, address),
            clock: clock.clone(),
        };
        let (leadership, listener) = match &options.high_availability {
            HighAvailability::None => (candidate.take().await?, listener),
            HighAvailability::ObjectStore(times) => {
                let (records, address) = (candidate.records.clone(), candidate.address.clone());
                let election = ByRecords::new(records, address, clock.clone(), *times);
                stand_by(candidate, (election, *times), listener).await?
            }
            #[cfg(feature = "kubernetes")]
            HighAvailability::Kubernetes(times, lease) => {
                let election = leadership::kubernetes::open(lease, &candidate.address, *times, clock.clone()).await?;
                stand_by(candidate, (election, *times), listener).await?
            }
            #[cfg(not(feature = "kubernetes"))]
            HighAvailability::Kubernetes(..) => return Err(not_built()),
        };
        let Leadership { fence, epoch, signs } = leadership;
        let dispatcher = begin(&options, &data, (clock, fence.clone(), epoch), resolve, &tasks).await?;
        let (registry, pins) = (dispatcher.registry.clone(), dispatcher.pins.clone());
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<ServedDispatcher>().await;
        let router = router(&options, dispatcher, &tasks, &shutdown).add_service(health_service);
        let incoming = incoming(listener);
        let end = shutdown.clone();
        tasks.spawn(async move {
            if let Err(cause) = router
                .serve_with_incoming_shutdown(incoming, end.cancelled_owned())
                .await
            {
                error!(
                    error = streamd_core::error::chain(&cause),
                    "the job manager's server failed"
                );
            }
        });
        info!(%address, epoch, version = options.version, "job manager started");
        Ok(RunningJobManager {
            address,
            registry,
            pins,
            fence,
            signs,
            tasks,
            shutdown,
            health,
            grace: Duration::from_millis(options.shutdown_grace_ms),
        })
    }
}

impl RunningJobManager {
    /// Where it listens: with the port that was picked if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until another job manager leads. Whatever this one did is then the other's to go on with: it must end, and
    /// [`abandon`](Self::abandon) is how.
    pub async fn superseded(&self) -> CodedError {
        self.fence.revoked().await;
        self.fence.error()
    }

    /// Ends without touching any job: another job manager has them. Workers and task managers lose their links, and find it.
    pub async fn abandon(self) {
        self.health.set_not_serving::<ServedDispatcher>().await;
        self.pins.close();
        drop(self.registry);
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.grace, self.tasks.wait()).await.is_err() {
            warn!(
                tasks = self.tasks.len(),
                "the job manager ends while tasks are under way"
            );
        }
        info!("job manager ended");
    }

    /// Ends, and lets a standby go on with the jobs at once; their workers run on meanwhile.
    async fn hand_over(mut self, signs: SignsOfLife) {
        // First nothing is done any more, then another one may.
        self.fence.revoke("this job manager ends");
        self.signs = None;
        let grace = self.grace;
        self.abandon().await;
        if tokio::time::timeout(grace, signs.resign()).await.is_err() {
            warn!("standbys wait for the end of the lease");
        }
    }

    /// Accepts nothing new, suspends every job (its workers are told to exit; its snapshots stay), and ends. Waits for each of
    /// the three for at most the grace period.
    pub async fn shutdown(mut self) {
        info!("job manager shuts down");
        if let Some(signs) = self.signs.take() {
            return self.hand_over(signs).await;
        }
        self.health.set_not_serving::<ServedDispatcher>().await;
        let jobs = self.registry.close().await.unwrap_or_default();
        let suspended = join_all(jobs.iter().map(|job| job.suspend()));
        if tokio::time::timeout(self.grace, suspended).await.is_err() {
            warn!("workers of some jobs did not exit in time");
        }
        drop(jobs);
        // What is held for a suspended job stays for the one that is going on from where it was.
        self.abandon().await;
    }
}

/// Waits until this job manager leads; says meanwhile who does to whoever asks.
async fn stand_by(
    candidate: Candidate,
    (election, times): (impl Election, ElectionTimes),
    listener: TcpListener,
) -> Result<(Leadership, TcpListener), CodedError> {
    let not_shared = |error: std::io::Error| {
        CodedError::caused(
            ErrorCode::Internal,
            "the listener of the job manager cannot be shared",
            &error,
        )
    };
    let listener = listener.into_std().map_err(not_shared)?;
    let shared = listener.try_clone().map_err(not_shared)?;
    let shared = TcpListener::from_std(shared).map_err(not_shared)?;
    let (leader, known) = watch::channel(None);
    let elected = CancellationToken::new();
    // Ends with the wait, however that ends.
    let _end = elected.clone().drop_guard();
    let redirects = limits::server()
        .add_service(HealthServer::new(StandbyService { leader: known }))
        .serve_with_incoming_shutdown(incoming(shared), elected.clone().cancelled_owned());
    let redirecting = tokio::spawn(redirects);
    info!(
        address = candidate.address,
        "job manager waits as a standby unless it is elected"
    );
    let leadership = candidate.win(election, times, &leader).await;
    elected.cancel();
    if let Ok(Err(error)) = redirecting.await {
        warn!(
            error = streamd_core::error::chain(&error),
            "the standby's server ended early"
        );
    }
    Ok((leadership, TcpListener::from_std(listener).map_err(not_shared)?))
}

#[cfg(not(feature = "kubernetes"))]
fn not_built() -> CodedError {
    let message =
        "`high-availability.type` is `kubernetes`, and this program was built without the feature `kubernetes`";
    CodedError::new(ErrorCode::HighAvailabilityUnsupported, message)
        .with_hint("build `streamd` with its default features, or set `object-store`")
}

/// The address by which others reach a job manager that listens here.
fn advertised(options: &JobManagerOptions, local: SocketAddr) -> String {
    match &options.advertised_host {
        Some(host) if local.ip().is_unspecified() => host_and_port(host, local.port()),
        Some(_) | None => local.to_string(),
    }
}

/// Makes the folder of checkpoints this cluster's, so that one of another cluster is told at the start. Where nobody can say now whose
/// it is, the first job that takes checkpoints asks again.
async fn claim(folders: &CheckpointFolders, checkpoints: &str) -> Result<(), CodedError> {
    match tokio::time::timeout(CLAIM_PATIENCE, folders.claim(checkpoints)).await {
        Ok(Err(error)) if error.code == ErrorCode::FolderClaimed => Err(error),
        Ok(Err(error)) => {
            warn!(folder = checkpoints, %error, "nobody can say whose the folder of checkpoints is");
            Ok(())
        }
        Err(_late) => {
            warn!(
                folder = checkpoints,
                "the store of the folder of checkpoints does not answer"
            );
            Ok(())
        }
        Ok(Ok(())) => Ok(()),
    }
}

/// Makes the folders that the job manager needs, and returns the one that outlives it.
pub(crate) fn make_folders(options: &mut JobManagerOptions) -> Result<Location, CodedError> {
    let data = Location::open(&options.data_directory).map_err(|error| error.to_coded())?;
    make_folder(&data)?;
    if options.job_defaults.checkpoint_directory.is_none() {
        // Flink keeps such checkpoints in the job manager's memory; here they outlive it beside the applications.
        let checkpoints = data.child("checkpoints").map_err(|error| error.to_coded())?;
        options.job_defaults.checkpoint_directory = Some(checkpoints.uri());
    }
    if let Some(checkpoints) = &options.job_defaults.checkpoint_directory {
        make_folder(&Location::open(checkpoints).map_err(|error| error.to_coded())?)?;
    }
    Ok(data)
}

/// Makes a folder of this machine, so that one that cannot be made is told at the start and not to the first job.
fn make_folder(folder: &Location) -> Result<(), CodedError> {
    let Some(path) = folder.local_path() else {
        return Ok(());
    };
    std::fs::create_dir_all(&path).map_err(|error| {
        let what = format!("the folder `{}` cannot be made", path.display());
        CodedError::caused(ErrorCode::DirectoryNotWritable, what, &error)
            .with_hint("give the user of this process write access, or set another folder in conf/streamd.yaml")
    })
}

async fn bind(address: &str) -> Result<(TcpListener, SocketAddr), CodedError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, local))
    };
    bound.await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            CodedError::new(ErrorCode::AddressInUse, format!("address `{address}` is in use"))
                .with_hint("stop the process that holds it, or set another `jobmanager.rpc.port` (0 picks a free one)")
        }
        _ => CodedError::caused(
            ErrorCode::InvalidConfiguration,
            format!("cannot listen on `{address}`"),
            &error,
        )
        .with_hint("set `jobmanager.bind-host` to an address of this machine"),
    })
}

/// Begins everything that a job manager is but its server. Nobody may be served before: who asks after a job of an earlier job
/// manager, or comes back to one, then finds it.
pub(crate) async fn begin(
    options: &JobManagerOptions,
    data: &Location,
    leader: (Arc<dyn Clock>, Fence, u64),
    resolve: ResolveJobOptions,
    tasks: &TaskTracker,
) -> Result<Dispatcher, CodedError> {
    let dispatcher = dispatcher(options, data, leader, resolve, tasks);
    if let Some(checkpoints) = &options.job_defaults.checkpoint_directory {
        claim(&dispatcher.folders, checkpoints).await?;
    }
    dispatcher.recover().await?;
    dispatcher.fence.watch();
    Ok(dispatcher)
}

fn dispatcher(
    options: &JobManagerOptions,
    data: &Location,
    (clock, fence, epoch): (Arc<dyn Clock>, Fence, u64),
    resolve: ResolveJobOptions,
    tasks: &TaskTracker,
) -> Dispatcher {
    let jobs = JobStore::new(data.clone());
    let resource_manager = resource_manager::spawn(
        ResourceManagerOptions {
            heartbeat_interval_ms: options.heartbeat_interval_ms,
            heartbeat_timeout_ms: options.heartbeat_timeout_ms,
            describe_timeout_ms: options.describe_timeout_ms,
            leader_epoch: epoch,
        },
        clock.clone(),
        tasks,
    );
    let catalogue = OperationCatalogue::new(data.clone());
    tasks.spawn(prune(catalogue.clone()));
    let kept = RegistryOptions {
        ended_jobs_kept: options.ended_jobs_kept,
        ended_jobs_kept_ms: options.ended_jobs_kept_ms,
        first_worker: (epoch - 1) * WORKERS_PER_LEADER,
    };
    let pins = Pins::default();
    let folders = CheckpointFolders::new(data.clone(), clock.clone());
    Dispatcher {
        options: Arc::new(DispatcherOptions {
            default_parallelism: options.default_parallelism,
            leader_epoch: epoch,
            reconcile_ms: options.reconcile_timeout_ms,
            worker_timeouts: WorkerTimeouts {
                // A worker runs the main that described the job.
                start_ms: options.describe_timeout_ms,
                heartbeat_ms: options.heartbeat_timeout_ms,
            },
            job_defaults: options.job_defaults.clone(),
            resolve,
            onlookers: options.onlookers.clone(),
        }),
        registry: RegistryHandle::spawn(kept, jobs.clone(), clock.clone(), tasks),
        jobs,
        started_at: clock.wall(),
        clock,
        artifacts: ArtifactStore::new(data.clone()),
        catalogue,
        resource_manager,
        effects: Effects::new(tasks.clone(), pins.clone(), fence.clone()),
        fence,
        pins,
        folders,
        tasks: tasks.clone(),
    }
}

/// Forgets the oldest operations, once at each start.
async fn prune(catalogue: OperationCatalogue) {
    if let Err(error) = catalogue.prune(OPERATIONS_KEPT).await {
        let error = streamd_core::error::chain(&error);
        warn!(error, "old records of operations are not forgotten");
    }
}

fn router(
    options: &JobManagerOptions,
    dispatcher: Dispatcher,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> limits::Router {
    let task_managers = TaskManagerLinkService {
        resource_manager: dispatcher.resource_manager.clone(),
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
    };
    let workers = WorkerLinkService {
        leader_epoch: dispatcher.options.leader_epoch,
        registry: dispatcher.registry.clone(),
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
    };
    let clients = DispatcherService {
        dispatcher,
        version: options.version.clone(),
        incarnation: random::incarnation(),
        artifact_limit_bytes: options.artifact_limit_bytes.min(MAX_ARTIFACT_BYTES),
        shutdown: shutdown.clone(),
    };
    limits::server()
        .add_service(limits::dispatcher_server(clients))
        .add_service(limits::task_manager_link_server(task_managers))
        .add_service(limits::worker_link_server(workers))
}
