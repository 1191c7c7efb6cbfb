//! Started by hand: the whole job in this process, on the same job master and the same slots as on a cluster.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::WorkerId;
use streamd_core::time::{Clock, SystemClock};
use streamd_jobmanager::embedded::{InProcessWorkers, JobResult, WorkerConnection, random_job_id, run_job};
use streamd_jobmanager::{Dropping, JobDefaults, JobOptionsInputs, JobRequest, job_options, job_spec};
use streamd_runtime::pipeline::Pipeline;
use streamd_worker::worker::{Worker, WorkerIdentity, WorkerLink};

use super::JobExecutionResult;
use super::cluster::init_tracing;
use crate::error::Result;

/// Where checkpoints of a job run by hand are kept: they serve its own restarts and go with the process.
const CHECKPOINTS: &str = "memory:///embedded/checkpoints";

/// Threads for I/O: they only wait.
const IO_THREADS: usize = 2;

/// Runs the job to its end in this process.
pub(crate) fn embedded(mut pipeline: Pipeline) -> Result<JobExecutionResult> {
    init_tracing("warn");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let began = clock.monotonic();
    let job_id = random_job_id();
    let graph = pipeline.describe()?;
    let defaults = JobDefaults {
        checkpoint_directory: Some(CHECKPOINTS.to_owned()),
        ..JobDefaults::default()
    };
    let options = job_options(&graph, &JobOptionsInputs::default(), &defaults, 1)?;
    let request = JobRequest {
        job_id,
        graph,
        restore: None,
        dropping: Dropping::Nothing,
        max_parallelism: None,
        options,
        first_worker: WorkerId(1),
    };
    let (spec, warnings) = job_spec(request)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("io")
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|error| CodedError::caused(ErrorCode::Internal, "the I/O threads cannot be started", &error))?;
    let result = runtime.block_on(run_job(
        spec,
        launcher(pipeline, Arc::clone(&clock)),
        Arc::clone(&clock),
    ));
    finished(
        result,
        JobExecutionResult {
            job_id,
            net_runtime: Duration::from_millis(clock.monotonic().since(began)),
        },
    )
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
            None,
            Arc::clone(&clock),
        );
        tokio::spawn(worker.run(WorkerLink { commands, events }));
    })
}

fn finished(result: JobResult, finished: JobExecutionResult) -> Result<JobExecutionResult> {
    if result.is_finished() {
        return Ok(finished);
    }
    let cause = result
        .failure
        .map_or_else(|| "it was cancelled".to_owned(), |failure| failure.message);
    Err(CodedError::new(ErrorCode::JobFailed, format!("the job failed: {cause}")).into())
}
