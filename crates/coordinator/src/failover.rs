//! The restart strategies: whether and when a job that failed begins again.

use streamd_core::graph::RestartStrategy;
use streamd_core::time::MonotonicTime;

/// What follows a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Begin again after this time.
    Restart {
        /// Milliseconds to wait once the old attempt is gone.
        delay_ms: u64,
    },
    /// Give up.
    Suppress {
        /// Flink's name of the strategy, with its parameters.
        strategy: String,
    },
}

/// Counts failures and decides. One per job, for its whole life.
///
/// Unlike Flink's, the exponential delay has no jitter: all restarts of a cluster's jobs are spread by their failures,
/// and a decision that draws no dice can be replayed.
#[derive(Debug, Clone)]
pub struct Failover {
    strategy: RestartStrategy,
    failures: u32,
    backoff: Option<Backoff>,
}

/// The exponential delay's memory.
#[derive(Debug, Clone, Copy)]
struct Backoff {
    last_failure: MonotonicTime,
    delay_ms: u64,
}

impl Failover {
    /// A job that has not failed yet.
    pub fn new(strategy: RestartStrategy) -> Self {
        Self {
            strategy,
            failures: 0,
            backoff: None,
        }
    }

    /// Counts a failure of a running attempt, and decides.
    pub fn on_failure(&mut self, now: MonotonicTime) -> Decision {
        self.failures = self.failures.saturating_add(1);
        match self.strategy {
            RestartStrategy::None => Decision::Suppress {
                strategy: "NoRestartBackoffTimeStrategy".to_owned(),
            },
            RestartStrategy::FixedDelay { attempts, delay_ms } if self.failures <= attempts => {
                Decision::Restart { delay_ms }
            }
            RestartStrategy::FixedDelay { attempts, delay_ms } => Decision::Suppress {
                strategy: format!(
                    "FixedDelayRestartBackoffTimeStrategy(maxNumberRestartAttempts={attempts}, \
                     backoffTimeMS={delay_ms})"
                ),
            },
            RestartStrategy::ExponentialDelay {
                initial_backoff_ms,
                max_backoff_ms,
                multiplier_percent,
                reset_after_ms,
            } => {
                let delay_ms = match self.backoff {
                    Some(last) if now.since(last.last_failure) < reset_after_ms.saturating_add(last.delay_ms) => {
                        grown(last.delay_ms, multiplier_percent).min(max_backoff_ms)
                    }
                    Some(_) | None => initial_backoff_ms.min(max_backoff_ms),
                };
                self.backoff = Some(Backoff {
                    last_failure: now,
                    delay_ms,
                });
                Decision::Restart { delay_ms }
            }
        }
    }
}

/// At least one millisecond more, so that a delay of 0 grows as well.
fn grown(delay_ms: u64, multiplier_percent: u32) -> u64 {
    let product = u128::from(delay_ms) * u128::from(multiplier_percent) / 100;
    u64::try_from(product)
        .unwrap_or(u64::MAX)
        .max(delay_ms.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay(failover: &mut Failover, at: u64) -> Option<u64> {
        match failover.on_failure(MonotonicTime(at)) {
            Decision::Restart { delay_ms } => Some(delay_ms),
            Decision::Suppress { .. } => None,
        }
    }

    #[test]
    fn without_a_strategy_the_first_failure_is_the_last() {
        assert_eq!(delay(&mut Failover::new(RestartStrategy::None), 0), None);
    }

    #[test]
    fn a_fixed_number_of_restarts_is_counted_over_the_whole_life_of_the_job() {
        let mut failover = Failover::new(RestartStrategy::FixedDelay {
            attempts: 2,
            delay_ms: 7,
        });
        assert_eq!(delay(&mut failover, 0), Some(7));
        assert_eq!(delay(&mut failover, 1_000_000_000), Some(7));
        assert_eq!(delay(&mut failover, 2_000_000_000), None);
    }

    #[test]
    fn the_exponential_delay_grows_to_its_maximum_and_resets_after_a_quiet_time() {
        let mut failover = Failover::new(RestartStrategy::ExponentialDelay {
            initial_backoff_ms: 1_000,
            max_backoff_ms: 3_000,
            multiplier_percent: 150,
            reset_after_ms: 60_000,
        });
        let delays: Vec<_> = (0..5).map(|n| delay(&mut failover, n * 10_000)).collect();
        assert_eq!(delays, [1_000, 1_500, 2_250, 3_000, 3_000].map(Some));
        // 3 s of delay and 60 s of quiet: one millisecond short of it, then exactly.
        assert_eq!(delay(&mut failover, 40_000 + 62_999), Some(3_000));
        assert_eq!(delay(&mut failover, 102_999 + 63_000), Some(1_000));
    }

    #[test]
    fn an_exponential_delay_of_nothing_still_grows() {
        let mut failover = Failover::new(RestartStrategy::ExponentialDelay {
            initial_backoff_ms: 0,
            max_backoff_ms: 10,
            multiplier_percent: 200,
            reset_after_ms: 60_000,
        });
        let delays: Vec<_> = (0..4).map(|_| delay(&mut failover, 0)).collect();
        assert_eq!(delays, [0, 1, 2, 4].map(Some));
    }
}
