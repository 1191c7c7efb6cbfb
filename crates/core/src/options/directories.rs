//! Where the processes of a cluster keep their files.

use std::path::PathBuf;

use super::configuration::Configuration;
use super::keys;
use super::location::absolute_location;
use crate::error::{CodedError, ErrorCode};

/// The file in the configuration directory.
pub const CONFIGURATION_FILE: &str = "streamd.yaml";

/// The file in the pid directory that holds the `host:port` of the running job manager, on one line.
pub const ADDRESS_FILE: &str = "jobmanager.address";

/// The directories of a cluster, each as it is set or in its place below the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// What everything else lies in by default.
    pub working: PathBuf,
    /// What must outlive the job manager: a URI.
    pub ha_storage: String,
    /// Checkpoints: a URI.
    pub checkpoints: String,
    /// What task managers and workers need while they run.
    pub temporary: PathBuf,
    /// Logs.
    pub log: PathBuf,
    /// Process ids and the [`ADDRESS_FILE`].
    pub pid: PathBuf,
}

impl Directories {
    /// The directories that a configuration names. `variable` looks up an environment variable.
    ///
    /// Errors if the working directory is neither set nor to be derived from the user's home directory.
    pub fn of(configuration: &Configuration, variable: impl Fn(&str) -> Option<String>) -> Result<Self, CodedError> {
        let working = match configuration.get(keys::WORKING_DIRECTORY) {
            Some(directory) => directory,
            None => default_working_directory(variable)?,
        };
        let below = |name: &str| working.join(name);
        let uri_below = |name: &str| {
            let path = below(name);
            let shown = path.to_string_lossy();
            absolute_location(&shown).map_err(|error| {
                let message = format!("the working directory `{}` cannot be used: {error}", working.display());
                CodedError::new(ErrorCode::InvalidConfiguration, message)
            })
        };
        Ok(Self {
            ha_storage: configuration
                .get(keys::HA_STORAGE_DIRECTORY)
                .map_or_else(|| uri_below("ha"), Ok)?,
            checkpoints: configuration
                .get(keys::CHECKPOINTS_DIRECTORY)
                .map_or_else(|| uri_below("checkpoints"), Ok)?,
            temporary: configuration
                .get(keys::TEMPORARY_DIRECTORY)
                .unwrap_or_else(|| below("tmp")),
            log: configuration.get(keys::LOG_DIRECTORY).unwrap_or_else(|| below("log")),
            pid: configuration.get(keys::PID_DIRECTORY).unwrap_or_else(|| below("pid")),
            working,
        })
    }
}

impl Configuration {
    /// The `host:port` at which the job manager is reached; `None` where it picks its port, and writes the address into the
    /// [`ADDRESS_FILE`].
    pub fn job_manager_address(&self) -> Option<String> {
        match self.get(keys::JOB_MANAGER_PORT) {
            0 => None,
            port => Some(host_and_port(&self.get(keys::JOB_MANAGER_ADDRESS), port)),
        }
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn default_working_directory(variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf, CodedError> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("streamd"))
        .ok_or_else(|| {
            CodedError::new(
                ErrorCode::InvalidConfiguration,
                "no working directory is configured and there is no home directory",
            )
            .with_hint("set `process.working-dir`, or the environment variable `STREAMD_DATA_DIR`")
        })
}
