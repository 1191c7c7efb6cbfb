//! Holds a reader to a number of records per second.

use std::sync::Arc;
use std::time::Duration;

use streamd_core::time::{Clock, MonotonicTime};

/// The shortest wait. A fast paced source hands out a small batch this often, instead of single records without pause.
const TICK_MS: u64 = 10;

/// How much of a delay is made up for. A source that was held back for longer goes on at its rate, not in a burst.
const MAX_ARREARS_MS: u64 = 1000;

/// Counts records against the clock. One for each reader: the rate is a subtask's.
pub(crate) struct Pacer {
    records_per_second: u64,
    clock: Arc<dyn Clock>,
    start: Option<MonotonicTime>,
    /// Records since `start`.
    spent: u64,
}

impl Pacer {
    /// 0 records per second stand for no limit.
    pub(crate) fn new(records_per_second: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            records_per_second,
            clock,
            start: None,
            spent: 0,
        }
    }

    /// How many records may follow now, at most `limit`; or how long to wait for the next.
    pub(crate) fn allow(&mut self, limit: usize) -> Result<usize, Duration> {
        if self.records_per_second == 0 {
            return Ok(limit);
        }
        let now = self.clock.monotonic();
        let mut elapsed = now.since(*self.start.get_or_insert(now));
        let arrears = elapsed.saturating_sub(self.time_of(self.spent));
        if arrears > MAX_ARREARS_MS {
            elapsed = MAX_ARREARS_MS;
            self.start = Some(MonotonicTime(now.0 - elapsed));
            self.spent = 0;
        }
        // The first record is due at once.
        let due = u128::from(elapsed) * u128::from(self.records_per_second) / 1000 + 1;
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        match due.saturating_sub(self.spent) {
            0 => {
                let wait = self.time_of(self.spent).saturating_sub(elapsed);
                Err(Duration::from_millis(wait.max(TICK_MS)))
            }
            due => Ok(usize::try_from(due).unwrap_or(usize::MAX).min(limit)),
        }
    }

    /// Counts records that were handed out.
    pub(crate) fn spend(&mut self, records: usize) {
        self.spent += records as u64;
    }

    /// Milliseconds after `start` at which the record with this number (from 0) is due, rounded up.
    fn time_of(&self, record: u64) -> u64 {
        let millis = (u128::from(record) * 1000).div_ceil(u128::from(self.records_per_second));
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use streamd_core::time::ManualClock;

    use super::*;

    /// Runs for `millis`, waiting as told; returns the number of records.
    fn records_in(millis: u64, rate: u64, limit: usize) -> u64 {
        let clock = Arc::new(ManualClock::default());
        let mut pacer = Pacer::new(rate, clock.clone());
        let mut records = 0;
        while clock.monotonic().0 < millis {
            match pacer.allow(limit) {
                Ok(allowed) => {
                    assert!(allowed > 0 && allowed <= limit);
                    pacer.spend(allowed);
                    records += allowed as u64;
                }
                Err(wait) => {
                    let wait = u64::try_from(wait.as_millis()).unwrap();
                    assert!(wait > 0);
                    clock.advance(wait);
                }
            }
        }
        records
    }

    #[test]
    fn a_reader_keeps_its_rate_whether_slow_or_fast() {
        for (rate, expected) in [(1, 10), (3, 30), (100, 1000), (1000, 10_000), (1_000_000, 10_000_000)] {
            let records = records_in(10_000, rate, 4096);
            let tolerance = rate / 50 + 1;
            assert!(
                records.abs_diff(expected) <= tolerance,
                "{records} records at {rate} per second"
            );
        }
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Pacer::new(0, Arc::new(ManualClock::default())).allow(7), Ok(7));
    }

    #[test]
    fn a_long_delay_is_not_made_up_for_in_one_burst() {
        let clock = Arc::new(ManualClock::default());
        let mut pacer = Pacer::new(100, clock.clone());
        assert_eq!(pacer.allow(10_000), Ok(1));
        pacer.spend(1);
        clock.advance(3_600_000);
        assert_eq!(pacer.allow(10_000), Ok(101));
        pacer.spend(101);
        assert!(pacer.allow(10_000).is_err());
    }
}
