//! A failure as those who ask see it: whose fault, its code, what to do about it, and what the job did.

use streamd_core::error::ErrorCode;
use streamd_core::id::Attempt;
use streamd_core::protocol::{Failure, FailureKind, FaultDomain};
use streamd_core::time::WallTime;

/// A failure of a job, and what followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRecord {
    /// What happened.
    pub failure: Failure,
    /// The attempt that failed.
    pub attempt: Attempt,
    /// When, for people.
    pub at: WallTime,
    /// Milliseconds from the end of the attempt to the next; `None` where none followed.
    pub restart_delay_ms: Option<u64>,
}

impl FailureRecord {
    /// The code that the message carries, else that of its class.
    pub fn code(&self) -> ErrorCode {
        code_in(&self.failure.message).unwrap_or(match self.failure.domain {
            FaultDomain::User => ErrorCode::UserCodeFailed,
            FaultDomain::External => ErrorCode::SurroundingsFailed,
            FaultDomain::Internal => ErrorCode::Internal,
        })
    }

    /// What to do about it: whether another try can help.
    pub fn hint(&self) -> &'static str {
        if self.failure.kind == FailureKind::DamagedSnapshot {
            return "every try reads the same bytes: copy the snapshot again from where it is whole, or start from another one \
                    with -s; checkpoints that this job has are kept";
        }
        if self.failure.kind == FailureKind::OutputLost {
            return "go on from an older snapshot with -s to compute it again, or accept the gap: give the sink another uid, and go on \
                    from the last one with -s and --allowNonRestoredState; checkpoints that this job has are kept";
        }
        if self.code() == ErrorCode::WorkerMemoryExceeded {
            return "let the job keep less in memory (`state.backend.type: rocksdb`, a time to live), or give its workers more \
                    (`taskmanager.memory.process.size`), then go on from the last snapshot with `streamctl run --resume`";
        }
        if self.code() == ErrorCode::GraphMismatch {
            return "have the application build the same job in every process: not by the time, chance, the process or the order of \
                    a hash map; then submit it again";
        }
        match self.failure.domain {
            FaultDomain::User => {
                "the same record fails again: correct the application or its data, then go on from the last snapshot with \
                 `streamctl run --resume`"
            }
            FaultDomain::External => {
                "another try helps once the cause is gone: see to it, then go on from the last snapshot with \
                 `streamctl run --resume`"
            }
            FaultDomain::Internal => "this is a bug in streamd: report it with the logs of the job",
        }
    }
}

/// The first code in brackets, as [`CodedError`](streamd_core::error::CodedError) writes them.
fn code_in(message: &str) -> Option<ErrorCode> {
    message.split("[SD-").skip(1).find_map(|rest| {
        let (digits, _) = rest.split_once(']')?;
        ErrorCode::from_number(digits.parse().ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(domain: FaultDomain, message: &str) -> FailureRecord {
        FailureRecord {
            failure: Failure::new(domain, message),
            attempt: Attempt(1),
            at: WallTime(0),
            restart_delay_ms: None,
        }
    }

    #[test]
    fn a_failure_has_the_code_that_it_names_or_that_of_its_class() {
        for (domain, message, code) in [
            (FaultDomain::User, "line 7 is no flight", "SD-0421"),
            (FaultDomain::External, "killed by signal 9", "SD-0422"),
            (FaultDomain::Internal, "subtask failed for no reason", "SD-0901"),
            (
                FaultDomain::User,
                "another graph [SD-0208]: one operator more",
                "SD-0208",
            ),
            (FaultDomain::External, "odd words [SD-x] [SD-9999] [SD-0601]", "SD-0601"),
        ] {
            assert_eq!(record(domain, message).code().to_string(), code, "{message}");
        }
    }

    #[test]
    fn whoever_builds_another_graph_each_time_is_not_told_to_look_at_his_records() {
        let differs = record(
            FaultDomain::User,
            "`worker-1` built a different job graph [SD-0208]: one operator more",
        );
        assert!(
            differs.hint().contains("the same job in every process"),
            "{}",
            differs.hint()
        );
        assert!(!differs.hint().contains("record"), "{}", differs.hint());
    }
}
