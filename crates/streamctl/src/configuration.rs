//! The configuration of the client, and with it the address of the job manager.

use std::fs::File;
use std::path::Path;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{
    ADDRESS_FILE, CONFIGURATION_FILE, Configuration, ConfigurationError, Directories, Place, Problem,
};

/// Reads the file in the configuration directory, if one is named, and the environment.
pub fn load(directory: Option<&Path>) -> Result<Configuration, CodedError> {
    let configuration = match directory {
        None => Configuration::default(),
        Some(directory) => with_file(&directory.join(CONFIGURATION_FILE)).map_err(|error| error.coded())?,
    };
    configuration.with_environment(variable).map_err(|error| error.coded())
}

fn with_file(path: &Path) -> Result<Configuration, ConfigurationError> {
    let shown = path.display().to_string();
    let file = open(path).map_err(|error| ConfigurationError {
        place: Place::File {
            path: shown.clone(),
            line: 0,
        },
        key: None,
        problem: Problem::Unreadable(error.to_string()),
    })?;
    Configuration::default().with_file(&shown, file)
}

/// The `host:port` that the configuration names. Where the port is 0, the job manager has picked one and written it down.
pub fn job_manager_address(configuration: &Configuration) -> Result<String, CodedError> {
    if let Some(address) = configuration.job_manager_address() {
        return Ok(address);
    }
    let file = Directories::of(configuration, variable)?.pid.join(ADDRESS_FILE);
    let address = std::fs::read_to_string(&file).map_err(|error| {
        let what = format!("the job manager's address is not in `{}`", file.display());
        CodedError::caused(ErrorCode::JobManagerUnreachable, what, &error)
            .with_hint("start the cluster with bin/start-cluster.sh, or name another with -m HOST:PORT")
    })?;
    Ok(address.trim().to_owned())
}

/// Opens a regular file: a pipe would keep its reader for ever.
fn open(path: &Path) -> std::io::Result<File> {
    match std::fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(std::io::Error::other("it is no regular file")),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
