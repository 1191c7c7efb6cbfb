//! A job in this process, on the same job master and the same slots as on a cluster, and the one who looks after it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, WorkerId};
use streamd_core::protocol::ExecutionState;
use streamd_core::time::{Clock, MonotonicTime, SystemClock};
use streamd_jobmanager::embedded::{
    EmbeddedJob, InProcessWorkers, JobResult, JobState, OperationKind, WorkerConnection, random_job_id,
};
use streamd_jobmanager::job_master::JobDetails;
use streamd_jobmanager::{
    Dropping, JobDefaults, JobOptionsInputs, JobRequest, job_options, job_spec, read_restore_point,
};
use streamd_runtime::pipeline::Pipeline;
use streamd_worker::worker::{Worker, WorkerIdentity, WorkerLink};

use super::JobExecutionResult;
use super::cluster::{init_tracing, io_threads};
use crate::environment::ByHand;
use crate::error::Result;

/// Where checkpoints of a job run by hand are kept: they serve its own restarts and go with the process.
const CHECKPOINTS: &str = "memory:///embedded/checkpoints";

/// How often a client looks while it waits for a checkpoint.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A job that runs in this process, to look at it and to tell it what to do. Flink's noun.
///
/// The same job master runs it as on a cluster, so that a test of an application with savepoints, failures and another parallelism
/// is a few lines, and tests what will happen there:
///
/// ```
/// use streamd::prelude::*;
///
/// fn job(output: &std::path::Path, parallelism: u32) -> StreamExecutionEnvironment {
///     let env = StreamExecutionEnvironment::new();
///     env.set_parallelism(parallelism);
///     env.enable_checkpointing(Duration::from_millis(10));
///     env.from_source(GeneratorSource::new(Some(2_000), |i| (i % 7, 1_u64)).rate(2_000), "numbers")
///         .uid("numbers")
///         .key_by(|number| number.0)
///         .reduce(|sum, number| sum.1 += number.1)
///         .uid("counts")
///         .sink_to(FileSink::json_lines(output))
///         .uid("output");
///     env
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let output = folder.path().join("output");
/// let before = job(&output, 1).execute_async("counts")?;
/// before.wait_for_checkpoints(2)?;
/// before.fail("to see that it recovers")?;
/// before.wait_for_restarts(1)?;
/// let savepoint = before.stop_with_savepoint(folder.path().display().to_string(), false)?;
///
/// let after = job(&output, 3);
/// after.restore_from(savepoint);
/// after.execute("counts")?;
///
/// let lines: usize = std::fs::read_dir(&output)?
///     .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap().lines().count())
///     .sum();
/// assert_eq!(lines, 2_000);
/// # Ok(())
/// # }
/// ```
///
/// A client that is dropped cancels its job.
pub struct JobClient {
    /// There until the job has been waited for.
    job: Option<EmbeddedJob>,
    runtime: tokio::runtime::Runtime,
    clock: Arc<dyn Clock>,
    began: MonotonicTime,
    job_id: JobId,
}

impl JobClient {
    /// Starts the job, from a snapshot if one is given.
    pub(crate) fn start(mut pipeline: Pipeline, by_hand: ByHand) -> Result<Self> {
        init_tracing("warn");
        let runtime = io_threads()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let job_id = random_job_id();
        let graph = pipeline.describe()?;
        let defaults = JobDefaults {
            checkpoint_directory: Some(CHECKPOINTS.to_owned()),
            ..JobDefaults::default()
        };
        let inputs = JobOptionsInputs {
            state_backend: by_hand.state_backend.unwrap_or_default(),
            ..JobOptionsInputs::default()
        };
        let restore = by_hand.restore.map(|path| runtime.block_on(read_restore_point(&path)));
        let (spec, warnings) = job_spec(JobRequest {
            job_id,
            options: job_options(&graph, &inputs, &defaults, 1)?,
            graph,
            restore: restore.transpose()?,
            dropping: Dropping::Nothing,
            max_parallelism: None,
            first_worker: WorkerId(1),
        })?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let began = clock.monotonic();
        let job = {
            let _entered = runtime.enter();
            EmbeddedJob::start(spec, launcher(pipeline, Arc::clone(&clock)), Arc::clone(&clock))
        };
        Ok(Self {
            job: Some(job),
            runtime,
            clock,
            began,
            job_id,
        })
    }

    /// The id of the job.
    pub fn job_id(&self) -> JobId {
        self.job_id
    }

    /// The state of the job, in Flink's word: `RUNNING`, `RESTARTING`, `FINISHED` and so on.
    pub fn job_status(&self) -> &'static str {
        self.job().handle().status().borrow().state.name()
    }

    /// How often the job was started again after a failure.
    pub fn restarts(&self) -> u32 {
        self.job().handle().status().borrow().restarts
    }

    /// Waits until the job has completed so many checkpoints since it was started. Errors if it ends before.
    pub fn wait_for_checkpoints(&self, count: u64) -> Result<()> {
        self.wait_until(&format!("{count} checkpoints"), |details| {
            details.checkpoints.completed >= count
        })
    }

    /// Waits until the job was started again so often after failures, and all of it runs. Errors if it ends before.
    pub fn wait_for_restarts(&self, count: u32) -> Result<()> {
        self.wait_until(&format!("{count} restarts"), |details| {
            let mut subtasks = details.vertices.iter().flatten();
            details.status.restarts >= count && subtasks.all(|subtask| subtask.state == ExecutionState::Running)
        })
    }

    fn wait_until(&self, what: &str, reached: impl Fn(&JobDetails) -> bool) -> Result<()> {
        let job = self.job().handle();
        self.runtime.block_on(async {
            loop {
                let details = job.details().await?;
                if reached(&details) {
                    return Ok(());
                }
                if details.status.is_over() {
                    let message = format!("the job ended before it had {what}");
                    return Err(CodedError::new(ErrorCode::JobTerminated, message).into());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
    }

    /// Takes a savepoint below a folder, a path or URI, and returns where it is. The job goes on.
    pub fn trigger_savepoint(&self, directory: impl AsRef<str>) -> Result<String> {
        self.savepoint(OperationKind::Savepoint, directory.as_ref())
    }

    /// Takes a savepoint, has the sinks commit what is before it, and ends the job. With `advance_to_end_of_time` the input ends first:
    /// windows and timers give their last results, and the job is not meant to be resumed.
    pub fn stop_with_savepoint(self, directory: impl AsRef<str>, advance_to_end_of_time: bool) -> Result<String> {
        let kind = match advance_to_end_of_time {
            true => OperationKind::Drain,
            false => OperationKind::Stop,
        };
        let path = self.savepoint(kind, directory.as_ref())?;
        self.wait()?;
        Ok(path)
    }

    /// Takes a savepoint and cancels the job. If the savepoint fails the job goes on.
    pub fn cancel_with_savepoint(self, directory: impl AsRef<str>) -> Result<String> {
        let path = self.savepoint(OperationKind::CancelWithSavepoint, directory.as_ref())?;
        self.end()?;
        Ok(path)
    }

    /// Cancels the job, and returns when it is gone.
    pub fn cancel(self) -> Result<()> {
        self.runtime.block_on(self.job().handle().cancel())?;
        self.end().map(drop)
    }

    /// Has a subtask fail for this reason, as if its machine had gone away: the job goes back to its last checkpoint, as its restart
    /// strategy says. For tests. Errors if the job is not running.
    pub fn fail(&self, reason: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.job().fail_subtask(reason))?)
    }

    /// Waits until the job has ended. Errors if it has not finished well. Flink calls it `getJobExecutionResult`.
    pub fn wait(self) -> Result<JobExecutionResult> {
        let (clock, began, job_id) = (Arc::clone(&self.clock), self.began, self.job_id);
        let result = self.end()?;
        if result.is_finished() {
            return Ok(JobExecutionResult {
                job_id,
                net_runtime: Duration::from_millis(clock.monotonic().since(began)),
            });
        }
        let cause = result
            .failure
            .filter(|_| result.state != JobState::Canceled)
            .map_or_else(|| "it was cancelled".to_owned(), |failure| failure.message);
        Err(CodedError::new(ErrorCode::JobFailed, format!("the job failed: {cause}")).into())
    }

    fn job(&self) -> &EmbeddedJob {
        self.job
            .as_ref()
            .expect("the job is taken out only where the client goes")
    }

    fn savepoint(&self, kind: OperationKind, directory: &str) -> Result<String> {
        Ok(self.runtime.block_on(self.job().savepoint(kind, directory))?)
    }

    fn end(mut self) -> Result<JobResult> {
        let job = self
            .job
            .take()
            .expect("the job is taken out only where the client goes");
        Ok(self.runtime.block_on(job.wait()))
    }
}

impl Drop for JobClient {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.runtime.block_on(async {
                // One that has ended by itself cannot be cancelled: either way it is over.
                let _over = job.handle().cancel().await;
                job.wait().await;
            });
        }
    }
}

/// Starts the one worker of the process when the job master asks for it.
fn launcher(
    pipeline: Pipeline,
    clock: Arc<dyn Clock>,
) -> InProcessWorkers<impl Fn(WorkerConnection) + Send + Sync + 'static> {
    let pipeline = Mutex::new(Some(pipeline));
    InProcessWorkers::new(move |connection: WorkerConnection| {
        // The worker outlives every attempt of the job, so that it is asked for once.
        let Some(pipeline) = pipeline.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            tracing::error!("a second worker was asked for in one process");
            return;
        };
        let WorkerConnection {
            worker,
            job_id,
            task_manager,
            commands,
            events,
        } = connection;
        let worker = Worker::new(
            WorkerIdentity {
                job_id,
                worker,
                task_manager,
                local_directory: std::env::temp_dir(),
                recovery_directory: None,
            },
            pipeline,
            Arc::clone(&clock),
        );
        tokio::spawn(worker.run(WorkerLink { commands, events }));
    })
}
