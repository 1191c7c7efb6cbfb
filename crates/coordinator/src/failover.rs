//! The restart strategies: whether and when a job that failed begins again.

use std::collections::VecDeque;

use streamd_core::graph::RestartStrategy;
use streamd_core::id::JobId;
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

/// What ended an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A process of the job is gone.
    Loss,
    /// The same, and the attempt had completed a checkpoint.
    LossAfterProgress,
    /// Anything else.
    Failure,
}

/// Counts failures and decides. One per job, for its whole life.
///
/// Draws no dice: the jitter of the exponential delay follows from the id of the job and the number of the restart, so that
/// a decision can be replayed, and jobs that failed together still come back apart.
///
/// Unlike Flink's, the exponential delay lets the loss of a process pass without delay, after a quiet time or where the attempt
/// had completed a checkpoint. A delay spares a world that is ailing, and keeps a job that gets nowhere from trying in a hot
/// loop; one process that died after all went well says nothing about the world, and whoever waits for its job loses a second
/// for nothing. A second loss before the next checkpoint waits as any failure does.
#[derive(Debug, Clone)]
pub struct Failover {
    strategy: RestartStrategy,
    seed: u64,
    /// Failures so far.
    failures: u32,
    /// When the latest failures happened, as many as the failure rate needs to know.
    recent: VecDeque<MonotonicTime>,
    backoff: Option<Backoff>,
}

/// The exponential delay's memory of one episode: failures without a quiet time in between.
#[derive(Debug, Clone, Copy)]
struct Backoff {
    last_failure: MonotonicTime,
    /// How long the last restart waited.
    waited_ms: u64,
    /// How long the next one waits, before jitter.
    next_ms: u64,
    restarts: u32,
}

impl Failover {
    /// A job that has not failed yet.
    pub fn new(strategy: RestartStrategy, job: JobId) -> Self {
        let (high, low) = job.as_bytes().split_at(8);
        let number = |half: &[u8]| half.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        Self {
            strategy,
            seed: mixed(number(high)) ^ number(low),
            failures: 0,
            recent: VecDeque::new(),
            backoff: None,
        }
    }

    /// Counts a failure of a running attempt, and decides.
    pub fn on_failure(&mut self, now: MonotonicTime, trouble: Trouble) -> Decision {
        self.failures = self.failures.saturating_add(1);
        match self.strategy {
            RestartStrategy::None => suppressed("NoRestartBackoffTimeStrategy"),
            RestartStrategy::FixedDelay { attempts, delay_ms } if self.failures <= attempts => {
                Decision::Restart { delay_ms }
            }
            RestartStrategy::FixedDelay { attempts, delay_ms } => suppressed(format!(
                "FixedDelayRestartBackoffTimeStrategy(maxNumberRestartAttempts={attempts}, backoffTimeMS={delay_ms})"
            )),
            RestartStrategy::FailureRate {
                max_failures,
                interval_ms,
                delay_ms,
            } => {
                if self.is_frequent(now, max_failures, interval_ms) {
                    return suppressed(format!(
                        "FailureRateRestartBackoffTimeStrategy(failuresIntervalMS={interval_ms},backoffTimeMS={delay_ms},\
                         maxFailuresPerInterval={max_failures})"
                    ));
                }
                Decision::Restart { delay_ms }
            }
            RestartStrategy::ExponentialDelay { .. } => self.back_off(now, trouble),
        }
    }

    /// Whether more failures than these fall within the interval, the one at hand included.
    fn is_frequent(&mut self, now: MonotonicTime, max_failures: u32, interval_ms: u64) -> bool {
        self.recent.retain(|failure| now.since(*failure) <= interval_ms);
        self.recent.push_back(now);
        // Those that are left out fell within the interval too: with them gone there are still enough.
        while self.recent.len() > max_failures as usize + 1 {
            self.recent.pop_front();
        }
        self.recent.len() > max_failures as usize
    }

    fn back_off(&mut self, now: MonotonicTime, trouble: Trouble) -> Decision {
        let RestartStrategy::ExponentialDelay {
            initial_backoff_ms,
            max_backoff_ms,
            multiplier_percent,
            reset_after_ms,
            jitter_percent,
            attempts,
        } = self.strategy
        else {
            return suppressed("NoRestartBackoffTimeStrategy");
        };
        let initial_ms = initial_backoff_ms.min(max_backoff_ms);
        let episode = self
            .backoff
            .filter(|it| now.since(it.last_failure) < reset_after_ms.saturating_add(it.waited_ms));
        let restarts = episode.map_or(0, |it| it.restarts).saturating_add(1);
        if attempts.is_some_and(|attempts| restarts > attempts) {
            return suppressed(format!(
                "ExponentialDelayRestartBackoffTimeStrategy(initialBackoffMS={initial_backoff_ms}, \
                 maxBackoffMS={max_backoff_ms}, backoffMultiplier={}, resetBackoffThresholdMS={reset_after_ms}, \
                 jitterFactor={}, attemptsBeforeResetBackoff={})",
                f64::from(multiplier_percent) / 100.0,
                f64::from(jitter_percent) / 100.0,
                attempts.unwrap_or(u32::MAX)
            ));
        }
        let (delay_ms, next_ms) = match (episode, trouble) {
            (None, Trouble::Loss) | (None | Some(_), Trouble::LossAfterProgress) => (0, initial_ms),
            (Some(_), Trouble::Loss) | (None | Some(_), Trouble::Failure) => {
                let base_ms = episode.map_or(initial_ms, |it| it.next_ms);
                let delay_ms = self.jittered(base_ms, jitter_percent).clamp(initial_ms, max_backoff_ms);
                (delay_ms, grown(base_ms, multiplier_percent).min(max_backoff_ms))
            }
        };
        self.backoff = Some(Backoff {
            last_failure: now,
            waited_ms: delay_ms,
            next_ms,
            restarts,
        });
        Decision::Restart { delay_ms }
    }

    /// A delay moved by up to so many percent, up or down, by a number that only the job and the count of failures decide.
    fn jittered(&self, delay_ms: u64, percent: u32) -> u64 {
        let most = u128::from(delay_ms) * u128::from(percent) / 100;
        let drawn = u128::from(mixed(self.seed ^ u64::from(self.failures)) >> 32);
        // Between nothing and twice the most, as evenly as 32 bits can say.
        let moved = (drawn * (2 * most + 1)) >> 32;
        let moved = u64::try_from(u128::from(delay_ms) + moved - most);
        moved.unwrap_or(u64::MAX)
    }
}

fn suppressed(strategy: impl Into<String>) -> Decision {
    Decision::Suppress {
        strategy: strategy.into(),
    }
}

/// SplitMix64's finaliser: neighbouring numbers come out far apart.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// At least one millisecond more, so that a delay of 0 grows as well.
fn grown(delay_ms: u64, multiplier_percent: u32) -> u64 {
    let product = u128::from(delay_ms) * u128::from(multiplier_percent) / 100;
    u64::try_from(product)
        .unwrap_or(u64::MAX)
        .max(delay_ms.saturating_add(1))
}

#[cfg(test)]
mod tests;
