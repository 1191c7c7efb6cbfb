//! How a task manager tells a program to be a worker: by its environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, TaskManagerId, WorkerId};
use streamd_core::options::StorageSettings;

/// Whose worker this process is.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The job (`STREAMD_JOB_ID`).
    pub job_id: JobId,
    /// The number of the worker (`STREAMD_WORKER_ID`).
    pub worker: WorkerId,
    /// The task manager that started it (`STREAMD_TASK_MANAGER_ID`).
    pub task_manager: TaskManagerId,
    /// `host:port` of the job manager (`STREAMD_JOB_MANAGER`).
    pub job_manager: String,
    /// Where the task manager says who the job manager is now (`STREAMD_JOB_MANAGER_FILE`).
    pub job_manager_file: Option<PathBuf>,
    /// How long the worker goes on without a job manager (`STREAMD_JOB_MANAGER_PATIENCE_MS`).
    pub job_manager_patience: Duration,
    /// How often the job manager wants a sign of life (`STREAMD_HEARTBEAT_INTERVAL_MS`); `None`: as often as the worker likes.
    pub heartbeat: Option<Duration>,
    /// The address that the data plane binds and is reached at (`STREAMD_DATA_HOST`).
    pub data_host: String,
    /// A directory of its own, which the task manager removes after it (`STREAMD_WORK_DIR`).
    pub local_directory: PathBuf,
    /// Where it finds what earlier workers of the job left for it, and leaves things itself (`STREAMD_LOCAL_STATE_DIR`).
    pub recovery_directory: Option<PathBuf>,
    /// How to reach object stores (the file `STREAMD_STORAGE_FILE`, gone once it is read); `None` to use the environment.
    pub storage: Option<StorageSettings>,
}

impl WorkerOptions {
    /// Reads the environment, and the file of secrets that it names. Errors name the variable that is missing or malformed.
    pub fn from_env() -> Result<Self, CodedError> {
        Ok(Self {
            job_id: parsed("STREAMD_JOB_ID")?,
            worker: WorkerId(parsed("STREAMD_WORKER_ID")?),
            task_manager: TaskManagerId(required("STREAMD_TASK_MANAGER_ID")?),
            job_manager: required("STREAMD_JOB_MANAGER")?,
            job_manager_file: std::env::var_os("STREAMD_JOB_MANAGER_FILE").map(PathBuf::from),
            job_manager_patience: match std::env::var_os("STREAMD_JOB_MANAGER_PATIENCE_MS") {
                Some(_) => Duration::from_millis(parsed("STREAMD_JOB_MANAGER_PATIENCE_MS")?),
                None => Duration::ZERO,
            },
            heartbeat: match std::env::var_os("STREAMD_HEARTBEAT_INTERVAL_MS") {
                Some(_) => Some(Duration::from_millis(parsed("STREAMD_HEARTBEAT_INTERVAL_MS")?)),
                None => None,
            },
            data_host: std::env::var("STREAMD_DATA_HOST").unwrap_or_else(|_| "127.0.0.1".to_owned()),
            local_directory: std::env::var_os("STREAMD_WORK_DIR").map_or_else(std::env::temp_dir, PathBuf::from),
            recovery_directory: std::env::var_os("STREAMD_LOCAL_STATE_DIR").map(PathBuf::from),
            storage: std::env::var_os("STREAMD_STORAGE_FILE")
                .map(take_storage_settings)
                .transpose()?,
        })
    }
}

/// Reads the file, and removes it: it has served its purpose, and user code runs next.
fn take_storage_settings(path: OsString) -> Result<StorageSettings, CodedError> {
    let path = PathBuf::from(path);
    let read = std::fs::read_to_string(&path).and_then(|text| std::fs::remove_file(&path).map(|()| text));
    let text = read.map_err(|error| {
        let what = format!("the settings of object stores are not in `{}`", path.display());
        CodedError::caused(ErrorCode::InvalidConfiguration, what, &error)
    })?;
    StorageSettings::from_json(&text).ok_or_else(|| {
        let what = format!("`{}` holds no settings of object stores", path.display());
        CodedError::new(ErrorCode::InvalidConfiguration, what)
    })
}

fn required(name: &str) -> Result<String, CodedError> {
    std::env::var(name).map_err(|_| {
        CodedError::new(
            ErrorCode::InvalidConfiguration,
            format!("a worker was started without the variable `{name}`"),
        )
        .with_hint("workers are started by a task manager: submit the application with `streamctl run`")
    })
}

fn parsed<T: std::str::FromStr>(name: &str) -> Result<T, CodedError>
where
    T::Err: std::fmt::Display,
{
    let text = required(name)?;
    text.parse()
        .map_err(|error| CodedError::new(ErrorCode::InvalidConfiguration, format!("variable `{name}`: {error}")))
}
