//! The settings of the cluster and of its job: the job's own where they say what it does, the simulation's where they say how fast.

use std::sync::Arc;

use streamd_core::backend::StateBackendSettings;
use streamd_core::graph::{CheckpointSettings, RestartStrategy};
use streamd_jobmanager::leadership::ElectionTimes;
use streamd_jobmanager::unlinked::Onlookers;
use streamd_jobmanager::{HighAvailability, JobDefaults, JobManagerOptions, JobOptionsInputs, ResolveJobOptions};

use crate::dice::Dice;

/// Milliseconds after which a checkpoint that is not complete is given up.
pub(super) const CHECKPOINT_TIMEOUT_MS: u64 = 1_500;

/// A leader gives a sign of life so often that some are lost, and lets go before anybody takes its place.
const ELECTION: ElectionTimes = ElectionTimes {
    lease_duration_ms: 1_200,
    renew_deadline_ms: 800,
    retry_period_ms: 250,
};

/// The settings of one simulation.
pub(super) struct Settings {
    /// Of each job manager, but for its address.
    pub(super) managers: JobManagerOptions,
    /// Of the job.
    pub(super) resolve: ResolveJobOptions,
    /// How many job managers there are at a time.
    pub(super) places: u32,
    /// Slots of each task manager.
    pub(super) slots: u32,
}

impl Settings {
    /// What the dice say, for a cluster with this store.
    pub(super) fn thrown(dice: &mut Dice, store: &str, onlookers: Onlookers) -> Self {
        let checkpointing = CheckpointSettings {
            interval_ms: Some(dice.between(60, 300)),
            timeout_ms: Some(CHECKPOINT_TIMEOUT_MS),
            min_pause_ms: Some(0),
            max_concurrent: Some(dice.between(1, 2) as u32),
            tolerable_failed: dice.pick(&[0, 2, 1_000]).copied(),
            incremental: Some(dice.happens(500)),
            ..CheckpointSettings::default()
        };
        let inputs = JobOptionsInputs {
            checkpointing,
            num_retained: Some(dice.between(1, 3) as u32),
            state_backend: StateBackendSettings {
                inline_threshold: dice.happens(500).then_some(0),
                ..StateBackendSettings::default()
            },
            restart_strategy: Some(RestartStrategy::FixedDelay {
                attempts: 100_000,
                delay_ms: dice.between(1, 200),
            }),
            ..JobOptionsInputs::default()
        };
        let has_standby = dice.happens(500);
        let managers = JobManagerOptions {
            heartbeat_interval_ms: 800,
            heartbeat_timeout_ms: 2_500,
            describe_timeout_ms: 3_000,
            reconcile_timeout_ms: dice.between(500, 4_000),
            high_availability: match has_standby {
                true => HighAvailability::ObjectStore(ELECTION),
                false => HighAvailability::None,
            },
            job_defaults: JobDefaults {
                checkpoint_directory: Some(format!("{store}/checkpoints")),
                savepoint_directory: Some(format!("{store}/savepoints")),
                slot_request_timeout_ms: 20_000,
                worker_start_timeout_ms: 3_000,
                cancel_timeout_ms: 1_000,
                ..JobDefaults::default()
            },
            onlookers: Some(onlookers),
            ..JobManagerOptions::new(format!("{store}/ha"))
        };
        Self {
            managers,
            resolve: Arc::new(move |_none, _graph| Ok(inputs.clone())),
            places: if has_standby { 2 } else { 1 },
            slots: dice.between(1, 2) as u32,
        }
    }
}
