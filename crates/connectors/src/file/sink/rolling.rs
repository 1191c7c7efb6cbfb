//! When a part is large or old enough.

use std::time::Duration;

use streamd_core::time::MonotonicTime;

/// When the part that is being written ends and the next one begins. Flink's noun.
///
/// However a part ends, it becomes visible when the next checkpoint is complete, and never before. Times are looked at when
/// records are written and at each checkpoint: between two checkpoints nothing could be seen of it anyway.
///
/// ```
/// # use std::time::Duration;
/// # use streamd_connectors::file::sink::RollingPolicy;
/// let small = RollingPolicy::on_checkpoint().max_part_size(16 * 1024 * 1024);
/// let hourly = RollingPolicy::by_size_and_time().rollover_interval(Duration::from_secs(3600));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollingPolicy {
    on_checkpoint: bool,
    max_part_bytes: Option<u64>,
    rollover_ms: Option<u64>,
    inactivity_ms: Option<u64>,
}

/// The defaults of Flink.
const PART_BYTES: u64 = 128 * 1024 * 1024;
const ROLLOVER: Duration = Duration::from_secs(60);

impl RollingPolicy {
    /// Parts end at every checkpoint, so all output is visible as soon as it may be. The default.
    pub const fn on_checkpoint() -> Self {
        Self {
            on_checkpoint: true,
            max_part_bytes: None,
            rollover_ms: None,
            inactivity_ms: None,
        }
    }

    /// Parts go on over checkpoints until they have 128 MiB, are a minute old, or were not written to for a minute: fewer and
    /// larger files, visible later. Flink's default. Formats that end with something of their own, as Parquet, end at every
    /// checkpoint all the same.
    pub fn by_size_and_time() -> Self {
        Self {
            on_checkpoint: false,
            ..Self::on_checkpoint()
        }
        .max_part_size(PART_BYTES)
        .rollover_interval(ROLLOVER)
        .inactivity_interval(ROLLOVER)
    }

    /// Ends a part once it has at least this many bytes. It may have more by one batch of records.
    #[must_use]
    pub fn max_part_size(mut self, bytes: u64) -> Self {
        self.max_part_bytes = Some(bytes);
        self
    }

    /// Ends a part once it is this old.
    #[must_use]
    pub fn rollover_interval(mut self, interval: Duration) -> Self {
        self.rollover_ms = Some(millis(interval));
        self
    }

    /// Ends a part once nothing was written to it for this long.
    #[must_use]
    pub fn inactivity_interval(mut self, interval: Duration) -> Self {
        self.inactivity_ms = Some(millis(interval));
        self
    }

    pub(super) fn rolls_on_checkpoint(&self) -> bool {
        self.on_checkpoint
    }

    /// Whether a part with so many bytes ends now, by its size and its times.
    pub(super) fn is_due(&self, bytes: u64, began: MonotonicTime, written: MonotonicTime, now: MonotonicTime) -> bool {
        let is_large = self.max_part_bytes.is_some_and(|most| bytes >= most);
        let is_old = self.rollover_ms.is_some_and(|most| now.since(began) >= most);
        let is_left = self.inactivity_ms.is_some_and(|most| now.since(written) >= most);
        is_large || is_old || is_left
    }
}

impl Default for RollingPolicy {
    fn default() -> Self {
        Self::on_checkpoint()
    }
}

fn millis(interval: Duration) -> u64 {
    u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_when_it_is_large_or_old_or_left_alone() {
        let at = MonotonicTime;
        let policy = RollingPolicy::on_checkpoint()
            .max_part_size(100)
            .rollover_interval(Duration::from_millis(50))
            .inactivity_interval(Duration::from_millis(20));
        assert!(!policy.is_due(99, at(0), at(30), at(49)));
        assert!(policy.is_due(100, at(0), at(0), at(0)));
        assert!(policy.is_due(1, at(0), at(49), at(50)));
        assert!(policy.is_due(1, at(0), at(10), at(30)));
        assert!(!RollingPolicy::on_checkpoint().is_due(u64::MAX, at(0), at(0), at(u64::MAX)));
    }
}
