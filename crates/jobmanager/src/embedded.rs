//! A whole job in one process: the same job master as on a cluster, with workers that are threads instead of processes.
//!
//! ```text
//!   EmbeddedJob ──▶ job master ◀──WorkerEvent── worker (a thread of this process)
//!                        └─────WorkerCommand──────▶
//! ```

use std::sync::Arc;

use futures::future::BoxFuture;
use streamd_coordinator::event::{JobSpec, OperationRequest, SlotId};
use streamd_coordinator::job::OperationStatus;
pub use streamd_coordinator::lifecycle::JobState;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::protocol::{ExecutionState, Failure, FaultDomain, WorkerCommand, WorkerEvent};
use streamd_core::time::Clock;
use streamd_snapshot::{Location, layout};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use streamd_coordinator::event::OperationKind;

use crate::fence::Fence;
use crate::job_master::{self, Effects, JobEnvironment, JobMasterHandle, LaunchRequest, WorkerLauncher};
use crate::pins::Pins;
use crate::random;

/// The name of the one task manager there is.
const TASK_MANAGER: &str = "embedded";

/// Commands and events that wait in either direction: as many as a link over the network holds.
const QUEUE: usize = 256;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobResult {
    /// FINISHED, CANCELED or FAILED.
    pub state: JobState,
    /// The last failure, if there was one.
    pub failure: Option<Failure>,
    /// How often the job was started again.
    pub restarts: u32,
}

impl JobResult {
    /// Whether the job processed and committed everything.
    pub fn is_finished(&self) -> bool {
        self.state == JobState::Finished
    }
}

/// A job that runs in this process.
pub struct EmbeddedJob {
    handle: JobMasterHandle,
    tasks: TaskTracker,
}

/// An id for a job that nobody else names.
pub fn random_job_id() -> JobId {
    random::job_id()
}

impl EmbeddedJob {
    /// Starts a job on the current Tokio runtime. `launcher` brings its workers; see [`InProcessWorkers`].
    pub fn start(spec: JobSpec, launcher: impl WorkerLauncher, clock: Arc<dyn Clock>) -> Self {
        let tasks = TaskTracker::new();
        let environment = JobEnvironment {
            clock,
            launcher: Arc::new(launcher),
            effects: Effects::new(tasks.clone(), Pins::default(), Fence::default()),
            journal: None,
            fence: Fence::default(),
            tasks: tasks.clone(),
            // A thread cannot be lost without its queue being closed.
            worker_timeouts: None,
        };
        let handle = job_master::spawn(spec, environment, None);
        handle.begin();
        Self { handle, tasks }
    }

    /// The job's master, to cancel it, to take savepoints, to look at it.
    pub fn handle(&self) -> &JobMasterHandle {
        &self.handle
    }

    /// Takes a savepoint into a new folder below `directory`, a path or URI; `kind` says what follows. Returns its URI.
    pub async fn savepoint(&self, kind: OperationKind, directory: &str) -> Result<String, CodedError> {
        let job = self.handle.job_id();
        let target = Location::open(directory).map_err(|error| error.to_coded())?;
        let id = random::operation_id();
        let request = OperationRequest {
            id,
            kind,
            target: Some(target.uri()),
            folder: layout::savepoint_name(job, &random::savepoint_digits()),
            timeout_ms: None,
        };
        self.handle.start_operation(request).await?;
        let gone = || {
            CodedError::new(
                ErrorCode::OutcomeUnknown,
                format!("job `{job}` ended, and its savepoint with it"),
            )
        };
        let mut operation = self.handle.operation(id).await?.ok_or_else(gone)?;
        let ended = operation
            .wait_for(|status| matches!(status, OperationStatus::Ended(_)))
            .await;
        match &*ended.map_err(|_closed| gone())? {
            OperationStatus::Ended(result) => result.clone().map(|completed| completed.savepoint_path),
            OperationStatus::InProgress(_) => Err(gone()),
        }
    }

    /// Has one subtask fail for this reason: the job goes back to its last checkpoint, as its restart strategy says. Errors if the
    /// job has no worker now.
    pub async fn fail_subtask(&self, reason: &str) -> Result<(), CodedError> {
        let details = self.handle.details().await?;
        let Some(worker) = details
            .workers
            .first()
            .filter(|_| details.status.state == JobState::Running)
        else {
            let job = self.handle.job_id();
            return Err(CodedError::new(
                ErrorCode::JobNotRunning,
                format!("job `{job}` is not running"),
            ));
        };
        let failed = WorkerEvent::SubtaskState {
            attempt: details.attempt,
            subtask: SubtaskId { vertex: 0, index: 0 },
            state: ExecutionState::Failed,
            failure: Some(Failure::new(FaultDomain::External, reason)),
        };
        self.handle.worker_event(worker.worker, failed).await;
        Ok(())
    }

    /// Waits until the job has ended, its workers are gone, and everything in the background is done.
    pub async fn wait(self) -> JobResult {
        let mut status = self.handle.status();
        // The master outlives its handle, so that the sender is there.
        let _gone = status.wait_for(|status| status.is_over()).await.map(drop);
        self.handle.suspend().await;
        let result = {
            let status = status.borrow();
            JobResult {
                state: status.state,
                failure: status.last_failure.as_ref().map(|record| record.failure.clone()),
                restarts: status.restarts,
            }
        };
        drop(self.handle);
        self.tasks.close();
        self.tasks.wait().await;
        result
    }
}

/// The worker's end of its link to the job master. The worker says [`WorkerEvent::Registered`] first. It ends when `commands`
/// closes, and drops `events` when it has ended.
pub struct WorkerConnection {
    /// The number of the worker.
    pub worker: WorkerId,
    /// The job that it works for.
    pub job_id: JobId,
    /// The task manager that its registration names.
    pub task_manager: TaskManagerId,
    /// What it is told.
    pub commands: mpsc::Receiver<WorkerCommand>,
    /// What it says.
    pub events: mpsc::Sender<WorkerEvent>,
}

/// Starts workers in this process, by a function that must not block. There are as many slots as a job asks for.
pub struct InProcessWorkers<F> {
    start: F,
    tasks: TaskTracker,
}

impl<F: Fn(WorkerConnection) + Send + Sync + 'static> InProcessWorkers<F> {
    /// A launcher that calls `start` for each worker, which then runs on threads or tasks of its own.
    pub fn new(start: F) -> Self {
        Self {
            start,
            tasks: TaskTracker::new(),
        }
    }

    fn start_worker(&self, job: JobMasterHandle, worker: WorkerId, task_manager: TaskManagerId) {
        let (commands, command_queue) = mpsc::channel(QUEUE);
        let (events, event_queue) = mpsc::channel(QUEUE);
        let connection = WorkerConnection {
            worker,
            job_id: job.job_id(),
            task_manager,
            commands: command_queue,
            events,
        };
        self.tasks.spawn(forward(job, worker, commands, event_queue));
        (self.start)(connection);
    }
}

impl<F: Fn(WorkerConnection) + Send + Sync + 'static> WorkerLauncher for InProcessWorkers<F> {
    fn launch(&self, job: JobMasterHandle, request: LaunchRequest) -> BoxFuture<'static, ()> {
        match request {
            LaunchRequest::RequestSlots { count } => {
                let task_manager = TaskManagerId(TASK_MANAGER.to_owned());
                let slots = (0..count).map(|slot| SlotId {
                    task_manager: task_manager.clone(),
                    slot,
                });
                let slots = slots.collect();
                Box::pin(async move { job.slots_allocated(slots).await })
            }
            LaunchRequest::StartWorker { worker, task_manager } => {
                self.start_worker(job, worker, task_manager);
                Box::pin(std::future::ready(()))
            }
            // A worker that is to stop sees its commands close; slots are nobody's.
            LaunchRequest::AdoptWorker { .. }
            | LaunchRequest::AdoptSlots { .. }
            | LaunchRequest::ReleaseSlots
            | LaunchRequest::StopWorker { .. }
            | LaunchRequest::Forget => Box::pin(std::future::ready(())),
        }
    }
}

/// Attaches a worker by its first word, then passes on what it says, until it ends.
async fn forward(
    job: JobMasterHandle,
    worker: WorkerId,
    commands: mpsc::Sender<WorkerCommand>,
    mut events: mpsc::Receiver<WorkerEvent>,
) {
    if let Some(WorkerEvent::Registered(registration)) = events.recv().await {
        match job.attach_worker(registration, commands).await {
            Ok(()) => {
                while let Some(event) = events.recv().await {
                    job.worker_event(worker, event).await;
                }
            }
            Err(error) => warn!(%worker, %error, "worker refused"),
        }
    }
    let failure = Failure::new(FaultDomain::Internal, format!("`{worker}` ended without a word"));
    job.worker_lost(worker, failure).await;
}
