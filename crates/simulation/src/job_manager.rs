//! A job manager of the simulation: the real one without its server, on a runtime of its own whose time stands still between
//! steps. To drop the runtime is to kill the process.

use std::sync::Arc;

use streamd_coordinator::lifecycle::JobState;
use streamd_core::error::CodedError;
use streamd_core::id::JobId;
use streamd_core::protocol::ExecutionState;
use streamd_core::time::ManualClock;
use streamd_jobmanager::job_master::JobMasterHandle;
use streamd_jobmanager::unlinked::UnlinkedJobManager;
use streamd_jobmanager::unlinked::proto::SubmitJobRequest;
use streamd_jobmanager::{JobManagerOptions, ResolveJobOptions};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// How often everything that can run is let run in one step. Chains of messages between tasks go on within a round; what timers wake
/// takes another one.
const ROUNDS: usize = 2;

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

/// The answer to a client.
pub(crate) type Reply = Result<(), CodedError>;

/// The answer, once, if it is there.
fn answer_of(waiting: &mut Option<JoinHandle<Reply>>, runtime: &Runtime) -> Option<Reply> {
    let answered = waiting.take_if(|request| request.is_finished())?;
    runtime.block_on(answered).ok()
}

/// One process.
pub(crate) struct JobManager {
    /// Where it listens: there is one at a time in each place.
    pub(crate) place: u32,
    stage: Stage,
    job: Option<JobMasterHandle>,
    submission: Option<JoinHandle<Reply>>,
    cancellation: Option<JoinHandle<Reply>>,
    /// `Some`: it is stopped, since so many milliseconds.
    stopped_ms: Option<u64>,
    runtime: Runtime,
}

enum Stage {
    /// It waits to lead, or recovers jobs.
    Starting(JoinHandle<Result<UnlinkedJobManager, CodedError>>),
    Leading(Arc<UnlinkedJobManager>),
    /// It could not begin.
    Failed,
}

/// What has become of a job manager.
pub(crate) enum News {
    Leads(u64),
    CannotBegin(CodedError),
    Superseded(u64),
}

impl JobManager {
    /// Starts the process.
    pub(crate) fn start(
        place: u32,
        options: JobManagerOptions,
        clock: Arc<ManualClock>,
        resolve: ResolveJobOptions,
    ) -> std::io::Result<Self> {
        let runtime = still_runtime()?;
        let starting = runtime.spawn(UnlinkedJobManager::lead(options, clock, resolve));
        Ok(Self {
            place,
            stage: Stage::Starting(starting),
            job: None,
            submission: None,
            cancellation: None,
            stopped_ms: None,
            runtime,
        })
    }

    /// Lets everything run that can, unless it is stopped. Returns what is new.
    pub(crate) fn drive(&mut self) -> Option<News> {
        if self.is_stopped() {
            return None;
        }
        drive(&self.runtime);
        match &mut self.stage {
            Stage::Starting(starting) if starting.is_finished() => {
                let started = self.runtime.block_on(starting).ok()?;
                match started {
                    Ok(leader) => {
                        let epoch = leader.epoch();
                        self.stage = Stage::Leading(Arc::new(leader));
                        Some(News::Leads(epoch))
                    }
                    Err(error) => {
                        self.stage = Stage::Failed;
                        Some(News::CannotBegin(error))
                    }
                }
            }
            Stage::Leading(leader) if leader.is_superseded() => Some(News::Superseded(leader.epoch())),
            Stage::Starting(_) | Stage::Leading(_) | Stage::Failed => None,
        }
    }

    pub(crate) fn advance(&mut self, millis: u64) {
        match &mut self.stopped_ms {
            Some(stopped) => *stopped += millis,
            None => advance(&self.runtime, millis),
        }
    }

    /// As by SIGSTOP.
    pub(crate) fn stop(&mut self) {
        self.stopped_ms.get_or_insert(0);
    }

    /// As by SIGCONT: the time that has passed, passes at once.
    pub(crate) fn go_on(&mut self) {
        if let Some(missed) = self.stopped_ms.take() {
            advance(&self.runtime, missed);
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped_ms.is_some()
    }

    /// The epoch in which it believes to lead, be it stopped or not.
    pub(crate) fn epoch(&self) -> Option<u64> {
        match &self.stage {
            Stage::Leading(leader) => Some(leader.epoch()),
            Stage::Starting(_) | Stage::Failed => None,
        }
    }

    /// Whether it answers as a leader.
    pub(crate) fn is_serving(&self) -> bool {
        !self.is_stopped() && self.epoch().is_some()
    }

    /// Does something with it, if it serves.
    pub(crate) fn with<R>(&self, act: impl AsyncFnOnce(&UnlinkedJobManager) -> R) -> Option<R> {
        match &self.stage {
            Stage::Leading(leader) if !self.is_stopped() => Some(self.runtime.block_on(act(leader))),
            Stage::Leading(_) | Stage::Starting(_) | Stage::Failed => None,
        }
    }

    /// A client submits the job. The answer comes later, if at all.
    pub(crate) fn submit(&mut self, request: SubmitJobRequest) {
        if let Stage::Leading(leader) = &self.stage {
            let leader = Arc::clone(leader);
            let submission = self.runtime.spawn(async move { leader.submit(request).await });
            self.submission = Some(submission);
        }
    }

    /// The answer to the client, once.
    pub(crate) fn submitted(&mut self) -> Option<Reply> {
        match self.is_stopped() {
            true => None,
            false => answer_of(&mut self.submission, &self.runtime),
        }
    }

    /// A client wants the job cancelled, unless one waits for the answer already.
    pub(crate) fn cancel(&mut self, job: JobId) {
        if let (Stage::Leading(leader), None) = (&self.stage, &self.cancellation) {
            let leader = Arc::clone(leader);
            let cancellation = self.runtime.spawn(async move { leader.job(job).await?.cancel().await });
            self.cancellation = Some(cancellation);
        }
    }

    /// The answer to that, once.
    pub(crate) fn cancelled(&mut self) -> Option<Reply> {
        match self.is_stopped() {
            true => None,
            false => answer_of(&mut self.cancellation, &self.runtime),
        }
    }

    /// Whether a client waits for an answer.
    pub(crate) fn is_submitting(&self) -> bool {
        self.submission.is_some()
    }

    /// The state of the job, and how often it was restarted; nothing if this job manager does not know it, or is stopped.
    pub(crate) fn job_state(&mut self, job: JobId) -> Option<(JobState, u32)> {
        if !self.is_serving() {
            return None;
        }
        // A job that could not be read at first gets another master once it can.
        let is_known = |job: &JobMasterHandle| job.status().borrow().state != JobState::Initializing;
        if !self.job.as_ref().is_some_and(is_known) {
            self.job = self.with(async |leader| leader.job(job).await).and_then(Result::ok);
        }
        let status = self.job.as_ref()?.status();
        let status = status.borrow();
        Some((status.state, status.restarts))
    }

    /// Does something with the job's master, if every subtask runs.
    pub(crate) fn with_running_job(&self, act: impl AsyncFnOnce(&JobMasterHandle)) -> bool {
        let Some(job) = self.job.as_ref().filter(|_| self.is_serving()) else {
            return false;
        };
        self.runtime.block_on(async {
            let is_running = |state: ExecutionState| state == ExecutionState::Running;
            let runs = job.details().await.is_ok_and(|details| {
                let mut subtasks = details.vertices.iter().flatten();
                details.status.state == JobState::Running && subtasks.all(|subtask| is_running(subtask.state))
            });
            if runs {
                act(job).await;
            }
            runs
        })
    }

    /// The process dies, in the middle of whatever it does.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_background();
    }
}
