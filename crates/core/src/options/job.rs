//! What a configuration says about the checkpoints and restarts of jobs, as jobs describe them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::configuration::Configuration;
use super::error::ConfigurationError;
use super::keys;
use crate::graph::{CheckpointSettings, RestartStrategy};

impl Configuration {
    /// What somebody set of checkpointing; the rest is `None`.
    pub fn explicit_checkpointing(&self) -> CheckpointSettings {
        CheckpointSettings {
            interval_ms: self.get(keys::CHECKPOINTING_INTERVAL).map(millis),
            mode: self.explicit(keys::CHECKPOINTING_MODE),
            timeout_ms: self.explicit(keys::CHECKPOINTING_TIMEOUT).map(millis),
            min_pause_ms: self.explicit(keys::CHECKPOINTING_MIN_PAUSE).map(millis),
            max_concurrent: self.explicit(keys::MAX_CONCURRENT_CHECKPOINTS),
            tolerable_failed: self.explicit(keys::TOLERABLE_FAILED_CHECKPOINTS),
            retention: self.explicit(keys::EXTERNALIZED_RETENTION),
            incremental: self.explicit(keys::INCREMENTAL_CHECKPOINTS),
            compression: self.explicit(keys::SNAPSHOT_COMPRESSION),
        }
    }

    /// The restart strategy, if somebody set one.
    pub fn restart_strategy(&self) -> Option<RestartStrategy> {
        let strategy = match self.get(keys::RESTART_STRATEGY)?.as_str() {
            "fixed-delay" | "fixeddelay" => RestartStrategy::FixedDelay {
                attempts: self.get(keys::FIXED_DELAY_ATTEMPTS),
                delay_ms: millis(self.get(keys::FIXED_DELAY_DELAY)),
            },
            "failure-rate" | "failurerate" => RestartStrategy::FailureRate {
                max_failures: self.get(keys::FAILURE_RATE_MAX),
                interval_ms: millis(self.get(keys::FAILURE_RATE_INTERVAL)),
                delay_ms: millis(self.get(keys::FAILURE_RATE_DELAY)),
            },
            "exponential-delay" | "exponentialdelay" => RestartStrategy::ExponentialDelay {
                initial_backoff_ms: millis(self.get(keys::EXPONENTIAL_DELAY_INITIAL)),
                max_backoff_ms: millis(self.get(keys::EXPONENTIAL_DELAY_MAX)),
                multiplier_percent: percent(self.get(keys::EXPONENTIAL_DELAY_MULTIPLIER)),
                reset_after_ms: millis(self.get(keys::EXPONENTIAL_DELAY_RESET)),
                jitter_percent: percent(self.get(keys::EXPONENTIAL_DELAY_JITTER)),
                attempts: self.get(keys::EXPONENTIAL_DELAY_ATTEMPTS),
            },
            // The table lets through `none` and its other names, and nothing else.
            _none => RestartStrategy::None,
        };
        Some(strategy)
    }

    /// The restart strategy that the settings of a job ask for, if they name any of it. This configuration is the cluster's: a job may
    /// name the strategy and leave its delay to the cluster, or the other way round.
    pub fn restart_strategy_of_job(
        &self,
        settings: &BTreeMap<String, String>,
    ) -> Result<Option<RestartStrategy>, ConfigurationError> {
        let job = Self::default().with_job_settings(settings)?;
        if !job.settings().any(|(key, _, _)| key.starts_with("restart-strategy.")) {
            return Ok(None);
        }
        Ok(self.clone().with_job_settings(settings)?.restart_strategy())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A factor as a percentage: 1.5 is 150.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the table bounds each factor between 0 and 1000"
)]
fn percent(factor: f64) -> u32 {
    (factor * 100.0).round() as u32
}
