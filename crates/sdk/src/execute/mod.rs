//! The ways in which `execute` runs a job, by how this process was started.

mod cluster;
mod job_client;

use std::path::PathBuf;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::JobId;
use streamd_worker::options::WorkerOptions;

use crate::error::Result;

pub(crate) use cluster::{describe, worker};
pub use job_client::JobClient;

/// How this process was started.
pub(crate) enum Mode {
    /// By a task manager that wants the plan, in this file.
    Describe(PathBuf),
    /// By a task manager, as a worker.
    Worker(Box<WorkerOptions>),
    /// By hand.
    Embedded,
}

impl Mode {
    pub(crate) fn of_this_process() -> Result<Self> {
        match std::env::var("STREAMD_MODE").as_deref() {
            Err(_) | Ok("") => Ok(Self::Embedded),
            Ok("describe") => match std::env::var_os("STREAMD_PLAN_FILE") {
                Some(file) => Ok(Self::Describe(file.into())),
                None => Err(CodedError::new(
                    ErrorCode::InvalidConfiguration,
                    "a description was asked for without the variable `STREAMD_PLAN_FILE`",
                )
                .into()),
            },
            Ok("worker") => Ok(Self::Worker(Box::new(WorkerOptions::from_env()?))),
            Ok(other) => {
                let error = CodedError::new(
                    ErrorCode::InvalidConfiguration,
                    format!("variable `STREAMD_MODE` is `{other}`"),
                );
                Err(error
                    .with_hint("it is set by task managers to `describe` or `worker`; unset it to run the job by hand")
                    .into())
            }
        }
    }
}

/// The parallelism of steps that set none: what the task manager says, else as many as this machine runs at once.
pub(crate) fn default_parallelism() -> u32 {
    let told = std::env::var("STREAMD_PARALLELISM")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|told| *told > 0);
    told.unwrap_or_else(|| match std::env::var_os("STREAMD_MODE") {
        Some(_) => 1,
        None => std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
    })
}

/// What became of a job that has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobExecutionResult {
    /// The id that the job had.
    pub job_id: JobId,
    /// How long it ran.
    pub net_runtime: Duration,
}
