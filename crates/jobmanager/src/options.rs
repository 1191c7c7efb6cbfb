//! The settings of a job manager, and how the settings of one job are found: code before command line before
//! configuration before default.

use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_coordinator::event::{CheckpointOptions, JobOptions};
use streamd_core::backend::{StateBackendKind, StateBackendSettings};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::{
    CheckpointSettings, CheckpointingMode, ClaimMode, ExternalizedCheckpointRetention, JobGraph, RestartStrategy,
};
use streamd_core::options::StorageSettings;

use crate::job_master::Onlookers;
use crate::leadership::HighAvailability;

/// The settings of a job manager. Every time is in milliseconds.
#[derive(Debug, Clone)]
pub struct JobManagerOptions {
    /// `host:port` to listen on; port 0 picks a free one. Default `127.0.0.1:6123`.
    pub bind_address: String,
    /// The URI of the folder that applications are kept under (`<data_directory>/artifacts`).
    pub data_directory: String,
    /// The version that `GetCluster` reports.
    pub version: String,
    /// How often task managers say that they live. Default 2,500.
    pub heartbeat_interval_ms: u64,
    /// After how long a silent task manager or worker counts as lost. Default 10,000.
    pub heartbeat_timeout_ms: u64,
    /// How long an application may take to describe its job. Default 30,000.
    pub describe_timeout_ms: u64,
    /// The largest application in bytes. Default 256 MiB, which is also the most that is possible.
    pub artifact_limit_bytes: u64,
    /// The host by which the job manager is reached where it listens on every interface; `None`: by the address that it listens on.
    pub advertised_host: Option<String>,
    /// Whether there are other job managers.
    pub high_availability: HighAvailability,
    /// How long the workers of an earlier job manager may take to come back before their jobs go on from their last checkpoints.
    /// Default 10,000.
    pub reconcile_timeout_ms: u64,
    /// The parallelism of an application whose submission names none. Default 1.
    pub default_parallelism: u32,
    /// What jobs get where neither their code nor their command line says otherwise.
    pub job_defaults: JobDefaults,
    /// How many jobs that have ended are remembered. Default 1,000.
    pub ended_jobs_kept: usize,
    /// For how long jobs that have ended are remembered. Default one hour.
    pub ended_jobs_kept_ms: u64,
    /// How long a shutdown waits for what is under way. Default 5,000.
    pub shutdown_grace_ms: u64,
    /// How object stores are reached. Default: as the environment says.
    pub storage: Option<StorageSettings>,
    /// Who holds the machines of jobs to their invariants, beside their own assertions. Default: nobody.
    pub onlookers: Option<Onlookers>,
}

impl JobManagerOptions {
    /// The defaults, with applications kept under `data_directory` (a URI).
    pub fn new(data_directory: impl Into<String>) -> Self {
        Self {
            bind_address: "127.0.0.1:6123".to_owned(),
            data_directory: data_directory.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat_interval_ms: 2_500,
            heartbeat_timeout_ms: 10_000,
            describe_timeout_ms: 30_000,
            artifact_limit_bytes: 256 << 20,
            advertised_host: None,
            high_availability: HighAvailability::None,
            reconcile_timeout_ms: 10_000,
            default_parallelism: 1,
            job_defaults: JobDefaults::default(),
            ended_jobs_kept: 1_000,
            ended_jobs_kept_ms: 60 * 60 * 1_000,
            shutdown_grace_ms: 5_000,
            storage: None,
            onlookers: None,
        }
    }
}

/// The settings of every job of a cluster, as configured. A field that is `None` is not configured: streamd's default holds.
#[derive(Debug, Clone, PartialEq)]
pub struct JobDefaults {
    /// When and how checkpoints are taken.
    pub checkpointing: CheckpointSettings,
    /// How many completed checkpoints are kept. Default 1.
    pub num_retained: u32,
    /// Where keyed state lives.
    pub state_backend: StateBackendSettings,
    /// What to do when a job fails.
    pub restart_strategy: Option<RestartStrategy>,
    /// The URI of the folder under which each job makes its own for checkpoints.
    pub checkpoint_directory: Option<String>,
    /// The URI under which savepoints go where the request names no other.
    pub savepoint_directory: Option<String>,
    /// Whose the snapshots are that jobs start from.
    pub claim_mode: ClaimMode,
    /// The number of key groups of vertices whose code sets none; `None`: by their parallelism.
    pub max_parallelism: Option<u32>,
    /// Milliseconds to wait for slots before an attempt fails. Default 300,000, as Flink's.
    pub slot_request_timeout_ms: u64,
    /// Milliseconds to wait for workers to start and register before an attempt fails. Default 60,000.
    pub worker_start_timeout_ms: u64,
    /// Milliseconds to wait for subtasks to report CANCELED before their workers are stopped. Default 10,000.
    pub cancel_timeout_ms: u64,
}

impl Default for JobDefaults {
    fn default() -> Self {
        Self {
            checkpointing: CheckpointSettings::default(),
            num_retained: 1,
            state_backend: StateBackendSettings::default(),
            restart_strategy: None,
            checkpoint_directory: None,
            savepoint_directory: None,
            claim_mode: ClaimMode::NoClaim,
            max_parallelism: None,
            slot_request_timeout_ms: 300_000,
            worker_start_timeout_ms: 60_000,
            cancel_timeout_ms: 10_000,
        }
    }
}

/// The settings that the command line of one submission makes (`-D key=value`). A field that is `None` was not named.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobOptionsInputs {
    /// When and how checkpoints are taken.
    pub checkpointing: CheckpointSettings,
    /// How many completed checkpoints are kept.
    pub num_retained: Option<u32>,
    /// Where keyed state lives.
    pub state_backend: StateBackendSettings,
    /// What to do when the job fails.
    pub restart_strategy: Option<RestartStrategy>,
    /// The URI of the folder under which the job makes its own for checkpoints.
    pub checkpoint_directory: Option<String>,
    /// The URI under which savepoints go where the request names no other.
    pub savepoint_directory: Option<String>,
    /// Whose the snapshot is that the job starts from.
    pub claim_mode: Option<ClaimMode>,
    /// The number of key groups of vertices whose code sets none.
    pub max_parallelism: Option<u32>,
    /// Milliseconds to wait for slots before an attempt fails.
    pub slot_request_timeout_ms: Option<u64>,
}

/// Reads the `-D` settings of a submission. Errors name the key; the submission is then refused.
pub type ResolveJobOptions =
    Arc<dyn Fn(&BTreeMap<String, String>, &JobGraph) -> Result<JobOptionsInputs, CodedError> + Send + Sync>;

/// The settings of one job: what its command line says, before its code, before the configuration, before the default. Errors if they
/// contradict each other.
pub fn job_options(
    graph: &JobGraph,
    inputs: &JobOptionsInputs,
    defaults: &JobDefaults,
    leader_epoch: u64,
) -> Result<JobOptions, CodedError> {
    let checkpointing = checkpoint_options(
        [&inputs.checkpointing, &graph.checkpointing, &defaults.checkpointing],
        inputs.num_retained.unwrap_or(defaults.num_retained),
    );
    let state_backend = inputs.state_backend.resolve(&defaults.state_backend);
    let state_backend = state_backend.map_err(|conflict| conflict.to_coded())?;
    if checkpointing.incremental && state_backend.kind == StateBackendKind::Memory {
        return Err(nothing_to_build_upon());
    }
    let restart_strategy = [
        &inputs.restart_strategy,
        &graph.restart_strategy,
        &defaults.restart_strategy,
    ]
    .into_iter()
    .find_map(Clone::clone)
    .unwrap_or_else(|| default_restart_strategy(checkpointing.interval_ms.is_some()));
    Ok(JobOptions {
        checkpointing,
        state_backend,
        restart_strategy,
        checkpoint_directory: first(&inputs.checkpoint_directory, &defaults.checkpoint_directory),
        savepoint_directory: first(&inputs.savepoint_directory, &defaults.savepoint_directory),
        claim_mode: inputs.claim_mode.unwrap_or(defaults.claim_mode),
        leader_epoch,
        slot_request_timeout_ms: inputs
            .slot_request_timeout_ms
            .unwrap_or(defaults.slot_request_timeout_ms),
        worker_start_timeout_ms: defaults.worker_start_timeout_ms,
        cancel_timeout_ms: defaults.cancel_timeout_ms,
    })
}

/// A checkpoint of the backend `memory` has no files that another could refer to.
fn nothing_to_build_upon() -> CodedError {
    CodedError::new(
        ErrorCode::InvalidConfiguration,
        "the checkpoints of the state backend `memory` are always whole: `execution.checkpointing.incremental` is not possible",
    )
    .with_hint("set `execution.checkpointing.incremental: false`, or `state.backend.type: hashmap`")
}

fn first(inputs: &Option<String>, defaults: &Option<String>) -> Option<String> {
    inputs.clone().or_else(|| defaults.clone())
}

/// Resolves checkpointing from settings in order of precedence.
fn checkpoint_options(settings: [&CheckpointSettings; 3], num_retained: u32) -> CheckpointOptions {
    fn pick<T>(settings: [&CheckpointSettings; 3], field: impl Fn(&CheckpointSettings) -> Option<T>) -> Option<T> {
        settings.into_iter().find_map(field)
    }
    CheckpointOptions {
        interval_ms: pick(settings, |s| s.interval_ms),
        mode: pick(settings, |s| s.mode).unwrap_or(CheckpointingMode::ExactlyOnce),
        timeout_ms: pick(settings, |s| s.timeout_ms).unwrap_or(600_000),
        min_pause_ms: pick(settings, |s| s.min_pause_ms).unwrap_or(0),
        max_concurrent: pick(settings, |s| s.max_concurrent).unwrap_or(1),
        tolerable_failed: pick(settings, |s| s.tolerable_failed).unwrap_or(0),
        retention: pick(settings, |s| s.retention)
            .unwrap_or(ExternalizedCheckpointRetention::NoExternalizedCheckpoints),
        num_retained,
        incremental: pick(settings, |s| s.incremental).unwrap_or(false),
        compression: pick(settings, |s| s.compression).unwrap_or_default(),
    }
}

/// As Flink 2.x: a job that takes checkpoints restarts without end, ever further apart; one that takes none does not restart.
fn default_restart_strategy(checkpointing: bool) -> RestartStrategy {
    if checkpointing {
        RestartStrategy::ExponentialDelay {
            initial_backoff_ms: 1_000,
            max_backoff_ms: 60_000,
            multiplier_percent: 150,
            reset_after_ms: 60 * 60 * 1_000,
            jitter_percent: 10,
            attempts: None,
        }
    } else {
        RestartStrategy::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> JobGraph {
        JobGraph {
            version: 1,
            name: "job".to_owned(),
            vertices: Vec::new(),
            edges: Vec::new(),
            checkpointing: CheckpointSettings::default(),
            restart_strategy: None,
        }
    }

    fn interval(ms: u64) -> CheckpointSettings {
        CheckpointSettings {
            interval_ms: Some(ms),
            ..CheckpointSettings::default()
        }
    }

    #[test]
    fn the_command_line_goes_before_code_before_configuration() {
        let mut graph = graph();
        let mut inputs = JobOptionsInputs::default();
        let mut defaults = JobDefaults::default();
        let resolved = |graph: &JobGraph, inputs: &JobOptionsInputs, defaults: &JobDefaults| {
            let options = job_options(graph, inputs, defaults, 1).unwrap();
            options.checkpointing.interval_ms
        };
        assert_eq!(resolved(&graph, &inputs, &defaults), None);
        defaults.checkpointing = interval(3);
        assert_eq!(resolved(&graph, &inputs, &defaults), Some(3));
        graph.checkpointing = interval(2);
        assert_eq!(resolved(&graph, &inputs, &defaults), Some(2));
        inputs.checkpointing = interval(1);
        assert_eq!(resolved(&graph, &inputs, &defaults), Some(1));
    }

    #[test]
    fn a_backend_whose_checkpoints_have_no_files_is_not_incremental() {
        let mut inputs = JobOptionsInputs::default();
        inputs.state_backend.kind = Some(StateBackendKind::Memory);
        let options = |inputs: &JobOptionsInputs| job_options(&graph(), inputs, &JobDefaults::default(), 1);
        assert_eq!(options(&inputs).unwrap().state_backend.kind, StateBackendKind::Memory);
        inputs.checkpointing.incremental = Some(true);
        let refused = options(&inputs).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidConfiguration);
        assert!(refused.message.contains("`memory`"), "{refused}");
    }

    #[test]
    fn only_a_job_that_takes_checkpoints_restarts_by_default() {
        let defaults = JobDefaults::default();
        let strategy = |graph: &JobGraph| {
            job_options(graph, &JobOptionsInputs::default(), &defaults, 1)
                .unwrap()
                .restart_strategy
        };
        assert_eq!(strategy(&graph()), RestartStrategy::None);
        let checkpointed = JobGraph {
            checkpointing: interval(1_000),
            ..graph()
        };
        assert!(matches!(
            strategy(&checkpointed),
            RestartStrategy::ExponentialDelay { .. }
        ));
    }
}
