//! From the configuration to the options of a task manager.

use std::path::PathBuf;
use std::sync::Arc;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{Configuration, Directories, StorageSettings, keys};
use streamd_core::time::Clock;
use streamd_taskmanager::{RunningTaskManager, TaskManager, TaskManagerOptions};

use crate::configuration::Settings;
use crate::job_manager::leader_lookup;

/// Task managers of one cluster on one machine. Each has directories of its own, by number.
const MAX_ON_ONE_MACHINE: u32 = 256;

/// Starts a task manager with the options that the configuration gives it, in the first directories that no other one uses.
/// `address_file` is where a job manager that is started again writes its address.
pub async fn start(
    settings: &Settings,
    job_manager: &str,
    address_file: Option<PathBuf>,
    clock: Arc<dyn Clock>,
) -> Result<RunningTaskManager, CodedError> {
    check_bind_host(&settings.configuration)?;
    let mut number = 0;
    loop {
        let options = TaskManagerOptions {
            address_file: address_file.clone(),
            leader_lookup: leader_lookup(settings),
            ..options(&settings.configuration, &settings.directories, job_manager, number)
        };
        match TaskManager::start(options, clock.clone()).await {
            Err(error) if error.code == ErrorCode::AlreadyRunning && number + 1 < MAX_ON_ONE_MACHINE => number += 1,
            outcome => return outcome,
        }
    }
}

fn options(
    configuration: &Configuration,
    directories: &Directories,
    job_manager: &str,
    number: u32,
) -> TaskManagerOptions {
    let name = format!("taskmanager-{number}");
    TaskManagerOptions {
        host: configuration.get(keys::TASK_MANAGER_HOST),
        data_host: configuration.get(keys::TASK_MANAGER_BIND_HOST),
        slots: configuration.get(keys::TASK_MANAGER_SLOTS).unwrap_or_else(processors),
        registration_timeout: configuration.get(keys::TASK_MANAGER_REGISTRATION_TIMEOUT),
        local_state_dir: configuration.get(keys::LOCAL_STATE_DIRECTORY),
        drain_timeout: configuration.get(keys::TASK_MANAGER_DRAIN_TIMEOUT),
        worker_memory_bytes: configuration.get(keys::TASK_MANAGER_MEMORY).map(|size| size.0),
        worker_log_bytes: configuration.get(keys::WORKER_LOG_MAX_SIZE).0,
        log_retention: configuration.get(keys::WORKER_LOG_RETENTION),
        storage: StorageSettings::of(configuration, crate::configuration::environment()),
        ..TaskManagerOptions::new(
            job_manager,
            directories.temporary.join(&name),
            directories.log.join(&name),
        )
    }
}

/// Workers listen only when a job comes: a host that they could not listen on is better told now.
fn check_bind_host(configuration: &Configuration) -> Result<(), CodedError> {
    let host = configuration.get(keys::TASK_MANAGER_BIND_HOST);
    match std::net::TcpListener::bind((host.as_str(), 0)) {
        Ok(_free) => Ok(()),
        Err(error) => Err(CodedError::caused(
            ErrorCode::InvalidConfiguration,
            format!("workers cannot listen on `{host}`"),
            &error,
        )
        .with_hint(format!(
            "set `{}` to an address of this machine",
            keys::TASK_MANAGER_BIND_HOST.key()
        ))),
    }
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_setting_reaches_the_task_manager() {
        let configuration = Configuration::default()
            .with_arguments([
                "process.working-dir=/w",
                "taskmanager.host=node-1",
                "taskmanager.bind-host=10.0.0.1",
                "taskmanager.numberOfTaskSlots=3",
                "taskmanager.memory.process.size=512 mb",
                "taskmanager.registration.timeout=2 s",
                "taskmanager.shutdown.drain-timeout=3 s",
                "taskmanager.state.local.root-dirs=/fast",
                "taskmanager.worker-log.max-size=1 mb",
                "taskmanager.worker-log.retention=1 d",
            ])
            .unwrap();
        let directories = Directories::of(&configuration, |_| None).unwrap();
        let options = options(&configuration, &directories, "h:1", 2);
        assert_eq!(
            (options.job_manager.as_str(), options.host.as_str(), options.slots),
            ("h:1", "node-1", 3)
        );
        assert_eq!(
            (
                options.data_host.as_str(),
                options.worker_log_bytes,
                options.worker_memory_bytes
            ),
            ("10.0.0.1", 1 << 20, Some(512 << 20))
        );
        assert_eq!(
            (
                options.registration_timeout,
                options.drain_timeout,
                options.log_retention
            ),
            (
                Duration::from_secs(2),
                Duration::from_secs(3),
                Duration::from_secs(86_400)
            )
        );
        assert_eq!(
            (options.work_dir, options.local_state_dir, options.log_dir),
            (
                PathBuf::from("/w/tmp/taskmanager-2"),
                Some(PathBuf::from("/fast")),
                PathBuf::from("/w/log/taskmanager-2")
            )
        );
    }
}
