//! What the configuration and a job's own `-D` settings say about the job.

use std::collections::BTreeMap;

use streamd_core::backend::StateBackendSettings;
use streamd_core::error::CodedError;
use streamd_core::graph::CheckpointSettings;
use streamd_core::options::{ByteSize, Configuration, Directories, keys};
use streamd_jobmanager::{JobDefaults, JobOptionsInputs};

use crate::job_manager::millis;

/// What jobs get where neither their code nor their command line says otherwise.
pub fn job_defaults(configuration: &Configuration, directories: &Directories) -> JobDefaults {
    JobDefaults {
        checkpointing: CheckpointSettings {
            interval_ms: configuration.get(keys::CHECKPOINTING_INTERVAL).map(millis),
            mode: Some(configuration.get(keys::CHECKPOINTING_MODE)),
            timeout_ms: Some(millis(configuration.get(keys::CHECKPOINTING_TIMEOUT))),
            min_pause_ms: Some(millis(configuration.get(keys::CHECKPOINTING_MIN_PAUSE))),
            max_concurrent: Some(configuration.get(keys::MAX_CONCURRENT_CHECKPOINTS)),
            tolerable_failed: Some(configuration.get(keys::TOLERABLE_FAILED_CHECKPOINTS)),
            retention: Some(configuration.get(keys::EXTERNALIZED_RETENTION)),
            incremental: Some(configuration.get(keys::INCREMENTAL_CHECKPOINTS)),
            compression: Some(configuration.get(keys::SNAPSHOT_COMPRESSION)),
        },
        num_retained: configuration.get(keys::NUM_RETAINED_CHECKPOINTS),
        state_backend: state_backend(configuration),
        restart_strategy: configuration.restart_strategy(),
        checkpoint_directory: Some(directories.checkpoints.clone()),
        savepoint_directory: configuration.get(keys::SAVEPOINTS_DIRECTORY),
        claim_mode: configuration.get(keys::CLAIM_MODE),
        max_parallelism: configuration.get(keys::MAX_PARALLELISM),
        slot_request_timeout_ms: millis(configuration.get(keys::SLOT_REQUEST_TIMEOUT)),
        cancel_timeout_ms: millis(configuration.get(keys::TASK_CANCELLATION_TIMEOUT)),
        ..JobDefaults::default()
    }
}

/// What the `-D` settings of one job say. Errors name the key.
pub fn job_settings(
    cluster: &Configuration,
    settings: &BTreeMap<String, String>,
) -> Result<JobOptionsInputs, CodedError> {
    let job = Configuration::default()
        .with_job_settings(settings)
        .map_err(|error| error.coded())?;
    let restart_strategy = cluster
        .restart_strategy_of_job(settings)
        .map_err(|error| error.coded())?;
    Ok(JobOptionsInputs {
        checkpointing: job.explicit_checkpointing(),
        num_retained: job.explicit(keys::NUM_RETAINED_CHECKPOINTS),
        state_backend: state_backend(&job),
        restart_strategy,
        checkpoint_directory: job.get(keys::CHECKPOINTS_DIRECTORY),
        savepoint_directory: job.get(keys::SAVEPOINTS_DIRECTORY),
        claim_mode: job.explicit(keys::CLAIM_MODE),
        max_parallelism: job.get(keys::MAX_PARALLELISM),
        slot_request_timeout_ms: job.explicit(keys::SLOT_REQUEST_TIMEOUT).map(millis),
    })
}

/// What is set of the state backend.
fn state_backend(configuration: &Configuration) -> StateBackendSettings {
    StateBackendSettings {
        kind: configuration.explicit(keys::STATE_BACKEND),
        storage: configuration.get(keys::CHECKPOINT_STORAGE),
        rocksdb_memory_per_slot: bytes(configuration.explicit(keys::ROCKSDB_MEMORY_PER_SLOT)),
        inline_threshold: bytes(configuration.explicit(keys::DATA_INLINE_THRESHOLD)),
        memory_max_state: bytes(configuration.explicit(keys::MEMORY_MAX_STATE_SIZE)),
        local_recovery: configuration.get(keys::LOCAL_RECOVERY),
    }
}

fn bytes(size: Option<ByteSize>) -> Option<u64> {
    size.map(|size| size.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamd_core::error::ErrorCode;
    use streamd_core::graph::RestartStrategy;
    use streamd_core::options::Scope;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_job_says_only_what_it_was_told() {
        let nothing = job_settings(&Configuration::default(), &BTreeMap::new()).unwrap();
        assert_eq!(nothing, JobOptionsInputs::default());
        let some = settings(&[
            ("execution.checkpointing.interval", "1 s"),
            ("state.savepoints.dir", "/sp"),
        ]);
        let some = job_settings(&Configuration::default(), &some).unwrap();
        assert_eq!(
            (some.checkpointing.interval_ms, some.checkpointing.timeout_ms),
            (Some(1_000), None)
        );
        assert_eq!(some.savepoint_directory.as_deref(), Some("file:///sp"));
    }

    #[test]
    fn a_job_and_its_cluster_share_a_restart_strategy() {
        let cluster = Configuration::default()
            .with_arguments(["restart-strategy.fixed-delay.delay=3 s"])
            .unwrap();
        let job = settings(&[
            ("restart-strategy", "fixed-delay"),
            ("restart-strategy.fixed-delay.attempts", "7"),
        ]);
        assert_eq!(
            job_settings(&cluster, &job).unwrap().restart_strategy,
            Some(RestartStrategy::FixedDelay {
                attempts: 7,
                delay_ms: 3_000
            })
        );
        assert_eq!(cluster.restart_strategy(), None);
    }

    #[test]
    fn an_exponential_delay_grows_by_a_percentage() {
        let configuration = Configuration::default()
            .with_arguments(["restart-strategy.type=exponential-delay"])
            .unwrap();
        assert_eq!(
            configuration.restart_strategy(),
            Some(RestartStrategy::ExponentialDelay {
                initial_backoff_ms: 1_000,
                max_backoff_ms: 60_000,
                multiplier_percent: 150,
                reset_after_ms: 3_600_000,
                jitter_percent: 10,
                attempts: None,
            })
        );
    }

    #[test]
    fn the_other_spellings_of_a_strategy_mean_the_same() {
        let strategy = |name: &str| {
            let configuration =
                Configuration::default().with_arguments([format!("restart-strategy.type={name}").as_str()]);
            configuration.unwrap().restart_strategy()
        };
        for (other, name) in [
            ("off", "none"),
            ("disable", "none"),
            ("fixeddelay", "fixed-delay"),
            ("failurerate", "failure-rate"),
            ("exponentialdelay", "exponential-delay"),
        ] {
            assert_eq!(strategy(other), strategy(name), "{other}");
        }
        assert_eq!(
            strategy("failure-rate"),
            Some(RestartStrategy::FailureRate {
                max_failures: 1,
                interval_ms: 60_000,
                delay_ms: 1_000
            })
        );
    }

    /// A value for each key that a job may set, other than its default. A key that is missing here is a key that nobody has
    /// shown to take effect.
    const TAKING_EFFECT: &[(&str, &str)] = &[
        ("execution.state-recovery.from-local", "false"),
        ("execution.checkpointing.interval", "7 s"),
        ("execution.checkpointing.mode", "AT_LEAST_ONCE"),
        ("execution.checkpointing.timeout", "7 s"),
        ("execution.checkpointing.min-pause", "7 s"),
        ("execution.checkpointing.max-concurrent-checkpoints", "7"),
        ("execution.checkpointing.tolerable-failed-checkpoints", "7"),
        (
            "execution.checkpointing.externalized-checkpoint-retention",
            "RETAIN_ON_CANCELLATION",
        ),
        ("execution.checkpointing.num-retained", "7"),
        ("execution.checkpointing.dir", "/c"),
        ("execution.checkpointing.savepoint-dir", "/s"),
        ("execution.state-recovery.claim-mode", "CLAIM"),
        ("pipeline.max-parallelism", "256"),
        ("restart-strategy.type", "none"),
        ("restart-strategy.fixed-delay.attempts", "7"),
        ("restart-strategy.fixed-delay.delay", "7 s"),
        ("restart-strategy.failure-rate.max-failures-per-interval", "7"),
        ("restart-strategy.failure-rate.failure-rate-interval", "7 s"),
        ("restart-strategy.failure-rate.delay", "7 s"),
        ("restart-strategy.exponential-delay.jitter-factor", "0.7"),
        ("restart-strategy.exponential-delay.attempts-before-reset-backoff", "7"),
        ("restart-strategy.exponential-delay.initial-backoff", "7 s"),
        ("restart-strategy.exponential-delay.max-backoff", "7 s"),
        ("restart-strategy.exponential-delay.backoff-multiplier", "7"),
        ("restart-strategy.exponential-delay.reset-backoff-threshold", "7 s"),
        ("slot.request.timeout", "7 s"),
        ("execution.checkpointing.incremental", "true"),
        ("execution.checkpointing.snapshot-compression", "lz4"),
        ("state.backend.type", "rocksdb"),
        ("state.backend.rocksdb.memory.fixed-per-slot", "7 mb"),
        ("state.backend.memory.max-state-size", "7 mb"),
        ("execution.checkpointing.storage", "jobmanager"),
        ("execution.checkpointing.data-inline-threshold", "7 kb"),
    ];

    /// Keys of jobs that do not reach the job master but the application: the dispatcher and the workers read them, and
    /// tests of the whole system show that they do.
    const TAKING_EFFECT_ELSEWHERE: &[&str] = &["parallelism.default"];

    /// What a job's settings come to, given a strategy whose details are among them.
    fn effect(key: &str, set: Option<&str>) -> JobOptionsInputs {
        let strategy = ["fixed-delay", "failure-rate", "exponential-delay"]
            .into_iter()
            .find(|strategy| key.contains(strategy))
            .unwrap_or("fixed-delay");
        let mut all = settings(&[("restart-strategy.type", strategy)]);
        all.extend(set.map(|value| (key.to_owned(), value.to_owned())));
        job_settings(&Configuration::default(), &all).unwrap()
    }

    #[test]
    fn every_key_that_a_job_may_set_takes_effect() {
        let of_jobs = keys::ALL.iter().filter(|definition| definition.scope == Scope::Job);
        for definition in of_jobs.filter(|definition| !TAKING_EFFECT_ELSEWHERE.contains(&definition.key)) {
            let key = definition.key;
            let (_, value) = TAKING_EFFECT
                .iter()
                .find(|(known, _)| *known == key)
                .unwrap_or_else(|| panic!("nobody has shown that a job's `{key}` takes effect"));
            assert_ne!(
                effect(key, Some(value)),
                effect(key, None),
                "a job's `{key}` is ignored"
            );
        }
    }

    #[test]
    fn the_old_spellings_take_effect_as_well() {
        for (old, value, new) in [
            (
                "execution.savepoint-restore-mode",
                "CLAIM",
                "execution.state-recovery.claim-mode",
            ),
            (
                "state.checkpoints.num-retained",
                "7",
                "execution.checkpointing.num-retained",
            ),
            ("state.savepoints.dir", "/s", "execution.checkpointing.savepoint-dir"),
        ] {
            assert_eq!(effect(old, Some(value)), effect(new, Some(value)), "{old}");
        }
        let legacy = settings(&[("execution.state-recovery.claim-mode", "LEGACY")]);
        assert!(job_settings(&Configuration::default(), &legacy).is_err());
    }

    #[test]
    fn a_setting_of_the_cluster_is_refused() {
        let error = job_settings(&Configuration::default(), &settings(&[("heartbeat.timeout", "1 s")])).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidConfiguration);
        assert!(error.message.contains("`heartbeat.timeout`"), "{error}");
    }

    #[test]
    fn the_cluster_gives_jobs_its_defaults() {
        let configuration = Configuration::default()
            .with_arguments([
                "process.working-dir=/w",
                "task.cancellation.timeout=4 s",
                "slot.request.timeout=2 s",
            ])
            .unwrap();
        let directories = Directories::of(&configuration, |_| None).unwrap();
        let defaults = job_defaults(&configuration, &directories);
        assert_eq!(defaults.checkpoint_directory.as_deref(), Some("file:///w/checkpoints"));
        assert_eq!((defaults.savepoint_directory, defaults.restart_strategy), (None, None));
        assert_eq!(
            (defaults.cancel_timeout_ms, defaults.slot_request_timeout_ms),
            (4_000, 2_000)
        );
        assert_eq!(
            (defaults.checkpointing.interval_ms, defaults.checkpointing.timeout_ms),
            (None, Some(600_000))
        );
    }
}
