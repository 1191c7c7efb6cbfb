//! When the next periodic checkpoint is due.

use streamd_core::time::MonotonicTime;

use crate::event::CheckpointOptions;

/// The timer of periodic checkpoints: a fixed rate, held back by the minimum pause and by checkpoints under way.
///
/// A tick that comes late runs at once; ticks that were missed altogether are one.
#[derive(Debug, Clone)]
pub struct Schedule {
    interval_ms: Option<u64>,
    min_pause_ms: u64,
    max_concurrent: usize,
    next: Option<MonotonicTime>,
    last_end: Option<MonotonicTime>,
}

impl Schedule {
    /// A timer that stands still.
    pub fn new(options: &CheckpointOptions) -> Self {
        Self {
            // An interval shorter than the pause would only produce ticks that the pause holds back.
            interval_ms: options
                .interval_ms
                .map(|interval| interval.max(options.min_pause_ms).max(1)),
            min_pause_ms: options.min_pause_ms,
            max_concurrent: usize::try_from(options.max_concurrent.max(1)).unwrap_or(usize::MAX),
            next: None,
            last_end: None,
        }
    }

    /// The job runs: the first checkpoint is due after one interval.
    pub fn start(&mut self, now: MonotonicTime) {
        self.next = self.interval_ms.map(|interval| now.plus(interval));
    }

    /// No periodic checkpoints until the next start.
    pub fn stop(&mut self) {
        self.next = None;
    }

    /// A checkpoint was completed or given up: the pause begins.
    pub fn on_end(&mut self, now: MonotonicTime) {
        self.last_end = Some(now);
    }

    /// Whether a checkpoint is to be triggered now, with this many under way. Saying yes moves the timer on.
    pub fn is_due(&mut self, now: MonotonicTime, under_way: usize) -> bool {
        let (Some(next), Some(interval)) = (self.next, self.interval_ms) else {
            return false;
        };
        if next > now || under_way >= self.max_concurrent {
            return false;
        }
        if let Some(rested) = self
            .last_end
            .map(|end| end.plus(self.min_pause_ms))
            .filter(|rested| *rested > now)
        {
            self.next = Some(rested);
            return false;
        }
        let missed = now.since(next) / interval;
        self.next = Some(next.plus(interval.saturating_mul(missed.saturating_add(1))));
        true
    }

    /// When to ask again. While as many are under way as may be, the end of one of them is the moment to ask.
    pub fn deadline(&self, under_way: usize) -> Option<MonotonicTime> {
        self.next.filter(|_| under_way < self.max_concurrent)
    }
}

#[cfg(test)]
mod tests {
    use streamd_core::graph::{CheckpointingMode, ExternalizedCheckpointRetention};

    use super::*;

    fn schedule(interval_ms: u64, min_pause_ms: u64, max_concurrent: u32) -> Schedule {
        let mut schedule = Schedule::new(&CheckpointOptions {
            interval_ms: Some(interval_ms),
            mode: CheckpointingMode::ExactlyOnce,
            timeout_ms: 1_000,
            min_pause_ms,
            max_concurrent,
            tolerable_failed: 0,
            retention: ExternalizedCheckpointRetention::default(),
            num_retained: 1,
            incremental: false,
            compression: streamd_core::barrier::Compression::None,
        });
        schedule.start(MonotonicTime(0));
        schedule
    }

    #[test]
    fn ticks_come_at_a_fixed_rate_and_missed_ones_are_one() {
        let mut schedule = schedule(10, 0, 1);
        assert!(!schedule.is_due(MonotonicTime(9), 0));
        assert!(schedule.is_due(MonotonicTime(12), 0));
        assert_eq!(schedule.deadline(0), Some(MonotonicTime(20)));
        assert!(schedule.is_due(MonotonicTime(55), 0));
        assert!(!schedule.is_due(MonotonicTime(55), 0));
        assert_eq!(schedule.deadline(0), Some(MonotonicTime(60)));
    }

    #[test]
    fn a_tick_within_the_pause_is_moved_to_its_end() {
        let mut schedule = schedule(10, 8, 1);
        assert!(schedule.is_due(MonotonicTime(10), 0));
        schedule.on_end(MonotonicTime(19));
        assert!(!schedule.is_due(MonotonicTime(20), 0));
        assert_eq!(schedule.deadline(0), Some(MonotonicTime(27)));
        assert!(schedule.is_due(MonotonicTime(27), 0));
    }

    #[test]
    fn no_more_run_at_once_than_may() {
        for most in [1, 2, 5] {
            let mut schedule = schedule(10, 0, most);
            let most = most as usize;
            assert!(schedule.is_due(MonotonicTime(10), most - 1));
            assert!(!schedule.is_due(MonotonicTime(20), most));
            assert_eq!(schedule.deadline(most), None);
            assert!(schedule.is_due(MonotonicTime(21), most - 1));
        }
    }
}
