//! Started by a task manager: write the plan, or work.

use std::path::Path;
use std::sync::Arc;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::plan::PlanDescriptor;
use streamd_core::time::SystemClock;
use streamd_runtime::pipeline::Pipeline;
use streamd_worker::options::WorkerOptions;
use tokio::runtime::Runtime;

use super::JobClient;
use crate::error::Result;

/// Threads for I/O: they only wait.
const IO_THREADS: usize = 2;

/// Writes the plan descriptor into the file, and ends the process.
pub(crate) fn describe(mut pipeline: Pipeline, plan_file: &Path) -> Result<JobClient> {
    let plan = PlanDescriptor {
        graph: pipeline.describe()?,
        built_with: Some(streamd_state::built_with()),
    };
    let plan = serde_json::to_vec(&plan);
    let plan =
        plan.map_err(|error| CodedError::caused(ErrorCode::Internal, "the plan cannot be written as JSON", &error))?;
    let written = std::fs::write(plan_file, plan);
    written.map_err(|error| {
        CodedError::caused(
            ErrorCode::DescribeFailed,
            format_args!("the plan file `{}` cannot be written", plan_file.display()),
            &error,
        )
    })?;
    std::process::exit(0)
}

/// Works until the job master sends the worker home, and ends the process.
pub(crate) fn worker(pipeline: Pipeline, options: WorkerOptions) -> Result<JobClient> {
    // The client of object stores tells of every request that it repeats; what comes of them is told by whoever asked for it.
    init_tracing("info,object_store=warn");
    streamd_state::huge_pages::leave_to_large_tables();
    let runtime = io_threads()?;
    match runtime.block_on(streamd_worker::link::run(
        pipeline,
        options,
        Arc::new(SystemClock::new()),
    )) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            tracing::error!(%error, hint = error.hint.as_deref().unwrap_or_default(), "the worker ends");
            std::process::exit(i32::from(error.code.remedy().exit_code()))
        }
    }
}

/// What the network and the stores need beside the threads of the slots.
pub(super) fn io_threads() -> Result<Runtime, CodedError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|error| CodedError::caused(ErrorCode::Internal, "the I/O threads cannot be started", &error))
}

/// Logs to the standard error, from this level on where `STREAMD_LOG` says nothing else. An application that has set up tracing itself keeps its own.
pub(super) fn init_tracing(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("STREAMD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // A full disk under the log must not end the job.
        .log_internal_errors(false)
        .try_init();
}
