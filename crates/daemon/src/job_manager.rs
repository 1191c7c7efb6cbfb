//! From the configuration to the options of a job manager.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{Configuration, Directories, StorageSettings, format_duration, host_and_port, keys};
use streamd_core::time::Clock;
use streamd_jobmanager::{JobManager, JobManagerOptions, RunningJobManager, leader_address};
use streamd_taskmanager::LeaderLookup;

use crate::configuration::Settings;
use crate::high_availability::{high_availability, is_elected, surroundings};
use crate::job_settings::{job_defaults, job_settings};

/// The options that the configuration gives a job manager. Makes nothing.
pub fn options(settings: &Settings) -> Result<JobManagerOptions, CodedError> {
    options_of(&settings.configuration, &settings.directories)
}

/// How task managers find the leader, where there may be several job managers.
pub fn leader_lookup(settings: &Settings) -> Option<LeaderLookup> {
    is_elected(&settings.configuration).then(|| {
        let storage = settings.directories.ha_storage.clone();
        streamd_jobmanager::configure_storage(StorageSettings::of(
            &settings.configuration,
            crate::configuration::environment(),
        ));
        let lookup = move || -> Pin<Box<dyn Future<Output = Option<String>> + Send>> {
            let storage = storage.clone();
            Box::pin(async move { leader_address(&storage).await })
        };
        Arc::new(lookup) as LeaderLookup
    })
}

/// Starts a job manager.
pub async fn start(
    settings: &Settings,
    options: JobManagerOptions,
    clock: Arc<dyn Clock>,
) -> Result<RunningJobManager, CodedError> {
    let configuration = settings.configuration.clone();
    let resolve = Arc::new(move |settings: &_, _graph: &_| job_settings(&configuration, settings));
    JobManager::start(options, clock, resolve).await
}

fn options_of(configuration: &Configuration, directories: &Directories) -> Result<JobManagerOptions, CodedError> {
    check_heartbeat(configuration)?;
    Ok(JobManagerOptions {
        bind_address: bind_address(configuration),
        heartbeat_interval_ms: millis(configuration.get(keys::HEARTBEAT_INTERVAL)),
        heartbeat_timeout_ms: millis(configuration.get(keys::HEARTBEAT_TIMEOUT)),
        describe_timeout_ms: millis(configuration.get(keys::APPLICATION_DESCRIBE_TIMEOUT)),
        artifact_limit_bytes: configuration.get(keys::APPLICATION_MAX_SIZE).0,
        default_parallelism: configuration.get(keys::PARALLELISM),
        job_defaults: job_defaults(configuration, directories),
        ended_jobs_kept: configuration.get(keys::JOB_STORE_MAX_CAPACITY) as usize,
        ended_jobs_kept_ms: millis(configuration.get(keys::JOB_STORE_EXPIRATION_TIME)),
        storage: Some(StorageSettings::of(configuration, crate::configuration::environment())),
        advertised_host: Some(configuration.get(keys::JOB_MANAGER_ADDRESS)),
        high_availability: high_availability(configuration, &surroundings())?,
        reconcile_timeout_ms: millis(configuration.get(keys::HA_RECONCILIATION_TIMEOUT)),
        ..JobManagerOptions::new(directories.ha_storage.clone())
    })
}

fn bind_address(configuration: &Configuration) -> String {
    let (host, port) = (
        configuration.get(keys::JOB_MANAGER_BIND_HOST),
        configuration.get(keys::JOB_MANAGER_PORT),
    );
    match host.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) => host_and_port(&host, port),
    }
}

/// One lost message must not end a job.
fn check_heartbeat(configuration: &Configuration) -> Result<(), CodedError> {
    let (interval, timeout) = (
        millis(configuration.get(keys::HEARTBEAT_INTERVAL)),
        millis(configuration.get(keys::HEARTBEAT_TIMEOUT)),
    );
    if timeout >= interval.saturating_mul(2) {
        return Ok(());
    }
    let message = format!(
        "`{}` ({}, from {}) is less than twice `{}` ({}, from {})",
        keys::HEARTBEAT_TIMEOUT.key(),
        format_duration(timeout),
        configuration.origin(keys::HEARTBEAT_TIMEOUT),
        keys::HEARTBEAT_INTERVAL.key(),
        format_duration(interval),
        configuration.origin(keys::HEARTBEAT_INTERVAL),
    );
    Err(CodedError::new(ErrorCode::InvalidConfiguration, message).with_hint("raise the one or lower the other"))
}

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options_from(settings: &[&str]) -> Result<JobManagerOptions, CodedError> {
        let settings = settings.iter().chain(&["process.working-dir=/w"]);
        let configuration = Configuration::default().with_arguments(settings).unwrap();
        let directories = Directories::of(&configuration, |_| None).unwrap();
        options_of(&configuration, &directories)
    }

    #[test]
    fn every_setting_reaches_the_job_manager() {
        let options = options_from(&[
            "jobmanager.bind-host=::",
            "jobmanager.rpc.port=0",
            "heartbeat.interval=1 s",
            "heartbeat.timeout=5 s",
            "application.describe-timeout=7 s",
            "application.max-size=1 mb",
            "parallelism.default=3",
            "jobstore.max-capacity=9",
            "jobstore.expiration-time=2 min",
        ])
        .unwrap();
        assert_eq!(options.bind_address, "[::]:0");
        assert_eq!(
            (options.heartbeat_interval_ms, options.heartbeat_timeout_ms),
            (1_000, 5_000)
        );
        assert_eq!(
            (options.describe_timeout_ms, options.artifact_limit_bytes),
            (7_000, 1 << 20)
        );
        assert_eq!((options.default_parallelism, options.ended_jobs_kept), (3, 9));
        assert_eq!(
            (options.ended_jobs_kept_ms, options.data_directory.as_str()),
            (120_000, "file:///w/ha")
        );
    }

    #[test]
    fn a_heartbeat_time_out_that_one_lost_message_reaches_is_refused() {
        let error = options_from(&["heartbeat.interval=8 s"]).unwrap_err();
        assert_eq!(
            error.message,
            "`heartbeat.timeout` (10 s, from the default) is less than twice `heartbeat.interval` (8 s, from `-D`)"
        );
    }
}
