//! A job manager of the simulation: the real job master with its effects, on a runtime of its own whose time stands still
//! between steps. To drop the runtime is to kill the process.

use std::sync::Arc;

use futures::future::BoxFuture;
use streamd_coordinator::event::{JobSpec, RestorePoint};
use streamd_coordinator::lifecycle::JobState;
use streamd_core::error::CodedError;
use streamd_core::id::JobId;
use streamd_core::protocol::ExecutionState;
use streamd_jobmanager::embedded::{EmbeddedJob, Onlooker, Watch, WorkerTimeouts};
use streamd_jobmanager::job_master::{JobMasterHandle, LaunchRequest, WorkerLauncher};
use streamd_jobmanager::read_restore_point;
use streamd_snapshot::{Location, layout, list_completed};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::clock::SimulatedClock;
use crate::trace::Trace;

/// Milliseconds without a sign of life after which a worker is lost: two heartbeats and a half.
const HEARTBEAT_TIMEOUT_MS: u64 = 2_500;

/// How often everything that can run is let run in one step: a chain of messages between tasks takes a few.
const ROUNDS: usize = 6;

/// A runtime on which time passes only by [`advance`].
pub(crate) fn still_runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
}

/// Lets everything run that can.
pub(crate) fn drive(runtime: &Runtime) {
    runtime.block_on(async {
        for _ in 0..ROUNDS {
            tokio::task::yield_now().await;
        }
    });
}

/// Lets time pass.
pub(crate) fn advance(runtime: &Runtime, millis: u64) {
    runtime.block_on(tokio::time::advance(std::time::Duration::from_millis(millis)));
}

/// A job manager with its one job.
pub(crate) struct JobManager {
    pub(crate) epoch: u64,
    job: EmbeddedJob,
    requests: mpsc::UnboundedReceiver<LaunchRequest>,
    runtime: Runtime,
}

impl JobManager {
    /// Starts the job. An onlooker holds its machine to the invariants.
    pub(crate) fn start(runtime: Runtime, spec: JobSpec, clock: Arc<SimulatedClock>, trace: Arc<Trace>) -> Self {
        let (asked, requests) = mpsc::unbounded_channel();
        let epoch = spec.options.leader_epoch;
        let timeouts = WorkerTimeouts {
            start_ms: HEARTBEAT_TIMEOUT_MS,
            heartbeat_ms: HEARTBEAT_TIMEOUT_MS,
        };
        let told_at = Arc::clone(&clock);
        let onlooker = Onlooker::new(&spec, move |violation| trace.violated(told_at.now(), violation));
        let watch = Watch {
            worker_timeouts: Some(timeouts),
            onlooker: Some(onlooker),
        };
        let job = {
            let _entered = runtime.enter();
            EmbeddedJob::start_watched(spec, Launcher(asked), clock, watch)
        };
        Self {
            epoch,
            job,
            requests,
            runtime,
        }
    }

    pub(crate) fn drive(&self) {
        drive(&self.runtime);
    }

    pub(crate) fn advance(&self, millis: u64) {
        advance(&self.runtime, millis);
    }

    /// Does something with the job's master.
    pub(crate) fn with<R>(&self, act: impl AsyncFnOnce(&JobMasterHandle) -> R) -> R {
        self.runtime.block_on(act(self.job.handle()))
    }

    pub(crate) fn next_request(&mut self) -> Option<LaunchRequest> {
        self.requests.try_recv().ok()
    }

    /// The state of the job, and how it last failed; `None` if its master is no more.
    pub(crate) fn state(&self) -> (JobState, u32) {
        let status = self.job.handle().status();
        let status = status.borrow();
        (status.state, status.restarts)
    }

    /// Whether every subtask runs.
    pub(crate) fn runs_wholly(&self) -> bool {
        let details = self.with(async |job| job.details().await);
        let is_running = |state: ExecutionState| state == ExecutionState::Running;
        details.is_ok_and(|details| {
            details
                .vertices
                .iter()
                .flatten()
                .all(|subtask| is_running(subtask.state))
        })
    }

    /// The process dies, in the middle of whatever it does.
    pub(crate) fn kill(self) {
        let Self { job, runtime, .. } = self;
        runtime.shutdown_background();
        drop(job);
    }
}

/// What a new job manager finds of a job: its latest checkpoint. An error is the store's.
pub(crate) async fn find_latest(directory: &str, job: JobId) -> Result<Option<RestorePoint>, CodedError> {
    let coded = |error: streamd_snapshot::StoreError| error.to_coded();
    let base = Location::open(directory).map_err(coded)?;
    let folder = layout::job_folder(&base, job).map_err(coded)?;
    let completed = list_completed(&folder).await.map_err(|error| error.to_coded())?;
    match completed.last() {
        Some(record) => {
            let uri = folder.child(&record.folder).map_err(coded)?.uri();
            read_restore_point(&uri).await.map(Some)
        }
        None => Ok(None),
    }
}

/// Passes on what the job asks for.
struct Launcher(mpsc::UnboundedSender<LaunchRequest>);

impl WorkerLauncher for Launcher {
    fn launch(&self, _job: JobMasterHandle, request: LaunchRequest) -> BoxFuture<'static, ()> {
        // The simulation that reads them may be over.
        let _over = self.0.send(request);
        Box::pin(std::future::ready(()))
    }
}
