//! The address of the job manager: announced in a file, because the port may have been picked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{ADDRESS_FILE, Configuration, host_and_port, keys};

use tracing::info;

use crate::configuration::Settings;
use crate::job_manager::leader_lookup;
use crate::lock::not_writable;

/// The pause between two looks for the file: nothing beside the start of a process.
const PAUSE: Duration = Duration::from_millis(20);

/// The pause between two looks for the record of a leader: a request to the store each.
const PAUSE_OF_STORE: Duration = Duration::from_millis(500);

/// Where a job manager that listens on `local` is reached: there, or by its configured name if it listens on every interface.
pub fn job_manager_address(configuration: &Configuration, local: SocketAddr) -> String {
    match local.ip().is_unspecified() {
        true => host_and_port(&configuration.get(keys::JOB_MANAGER_ADDRESS), local.port()),
        false => local.to_string(),
    }
}

/// The address of the job manager; where it is still to be written down, waits for as long as a task manager looks for its
/// job manager: the two may be started in any order. Where job managers are elected, the storage says who leads as well. Cancel safe.
pub async fn find_address(settings: &Settings) -> Result<String, CodedError> {
    let address = read_address(settings);
    let Err(missing) = address else {
        return address;
    };
    info!(reason = %missing, "waiting for the job manager");
    let written = async {
        loop {
            tokio::time::sleep(PAUSE).await;
            if let Ok(address) = read_address(settings) {
                return address;
            }
        }
    };
    let elected = async {
        let Some(lookup) = leader_lookup(settings) else {
            return std::future::pending().await;
        };
        loop {
            if let Some(address) = lookup().await {
                return address;
            }
            tokio::time::sleep(PAUSE_OF_STORE).await;
        }
    };
    let patience = settings.configuration.get(keys::TASK_MANAGER_REGISTRATION_TIMEOUT);
    tokio::select! {
        address = written => Ok(address),
        address = elected => Ok(address),
        () = tokio::time::sleep(patience) => Err(missing),
    }
}

/// Where the job manager of this machine writes its address; `None` where the configuration names it.
pub fn address_file(settings: &Settings) -> Option<PathBuf> {
    match settings.configuration.job_manager_address() {
        Some(_) => None,
        None => Some(settings.directories.pid.join(ADDRESS_FILE)),
    }
}

/// The address that the configuration names, or that the job manager of this machine has written down.
fn read_address(settings: &Settings) -> Result<String, CodedError> {
    if let Some(address) = settings.configuration.job_manager_address() {
        return Ok(address);
    }
    let file = settings.directories.pid.join(ADDRESS_FILE);
    let address = std::fs::read_to_string(&file).map_err(|error| {
        let what = format!("the job manager's address is not in `{}`", file.display());
        CodedError::caused(ErrorCode::JobManagerUnreachable, what, &error)
            .with_hint("start the job manager first, or name it with -m HOST:PORT")
    })?;
    Ok(address.trim().to_owned())
}

/// The file with the address. Exists for as long as the job manager takes calls.
pub struct AddressFile(PathBuf);

impl AddressFile {
    /// Writes the file, whole or not at all.
    pub fn write(directory: &Path, address: &str) -> Result<Self, CodedError> {
        let file = directory.join(ADDRESS_FILE);
        let unfinished = directory.join(format!("{ADDRESS_FILE}.{}", std::process::id()));
        std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&unfinished, format!("{address}\n")))
            .and_then(|()| std::fs::rename(&unfinished, &file))
            .map_err(|error| not_writable("the pid directory", directory, &error))?;
        Ok(Self(file))
    }

    /// Removes the file.
    pub fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(file = %self.0.display(), %error, "the address file cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_every_interface_answers_to_is_given_by_name() {
        let configuration = Configuration::default()
            .with_arguments(["jobmanager.rpc.address=node-1"])
            .unwrap();
        let address = |local: &str| job_manager_address(&configuration, local.parse().unwrap());
        assert_eq!(address("0.0.0.0:7000"), "node-1:7000");
        assert_eq!(address("127.0.0.1:7000"), "127.0.0.1:7000");
        assert_eq!(address("[::1]:7000"), "[::1]:7000");
    }

    #[test]
    fn the_address_is_in_the_file_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let file = AddressFile::write(&directory.path().join("pid"), "127.0.0.1:1").unwrap();
        let path = directory.path().join("pid").join(ADDRESS_FILE);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "127.0.0.1:1\n");
        file.remove();
        assert!(!path.exists());
    }
}
