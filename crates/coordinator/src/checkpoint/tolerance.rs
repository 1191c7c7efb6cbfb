//! How many checkpoints in a row may fail.

use streamd_core::id::CheckpointId;

/// Whether a failed checkpoint is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The job goes on.
    Tolerated,
    /// The job fails.
    Exceeded,
}

/// Counts consecutive failures of checkpoints. An id fails at most once, since it is pending no more after that.
#[derive(Debug, Clone)]
pub struct Tolerance {
    tolerable: u32,
    consecutive: u32,
    last_success: Option<CheckpointId>,
}

impl Tolerance {
    /// This many failures in a row are tolerated.
    pub fn new(tolerable: u32) -> Self {
        Self {
            tolerable,
            consecutive: 0,
            last_success: None,
        }
    }

    /// A checkpoint is complete: the count begins anew.
    pub fn on_success(&mut self, id: CheckpointId) {
        self.consecutive = 0;
        self.last_success = self.last_success.max(Some(id));
    }

    /// A checkpoint failed. One that is older than the last success says nothing about the job's health.
    pub fn on_failure(&mut self, id: CheckpointId) -> Verdict {
        if self.last_success > Some(id) {
            return Verdict::Tolerated;
        }
        self.consecutive = self.consecutive.saturating_add(1);
        if self.consecutive > self.tolerable {
            Verdict::Exceeded
        } else {
            Verdict::Tolerated
        }
    }

    /// A new attempt begins: what happened to the last one is not held against it.
    pub fn reset(&mut self) {
        self.consecutive = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_count_and_a_success_resets_them() {
        let mut tolerance = Tolerance::new(1);
        assert_eq!(tolerance.on_failure(CheckpointId(1)), Verdict::Tolerated);
        tolerance.on_success(CheckpointId(2));
        assert_eq!(tolerance.on_failure(CheckpointId(3)), Verdict::Tolerated);
        assert_eq!(tolerance.on_failure(CheckpointId(4)), Verdict::Exceeded);
    }

    #[test]
    fn a_failure_of_an_id_below_the_last_success_is_ignored() {
        let mut tolerance = Tolerance::new(0);
        tolerance.on_success(CheckpointId(5));
        assert_eq!(tolerance.on_failure(CheckpointId(4)), Verdict::Tolerated);
        assert_eq!(tolerance.on_failure(CheckpointId(6)), Verdict::Exceeded);
    }

    #[test]
    fn a_new_attempt_begins_with_a_count_of_nothing() {
        let mut tolerance = Tolerance::new(1);
        assert_eq!(tolerance.on_failure(CheckpointId(1)), Verdict::Tolerated);
        tolerance.reset();
        assert_eq!(tolerance.on_failure(CheckpointId(2)), Verdict::Tolerated);
        assert_eq!(tolerance.on_failure(CheckpointId(3)), Verdict::Exceeded);
    }
}
