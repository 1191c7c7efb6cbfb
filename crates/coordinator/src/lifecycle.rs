//! The states of a job, Flink's.

/// The state of a job.
///
/// ```text
///   INITIALIZING ─▶ CREATED ─▶ RUNNING ◀──▶ RESTARTING
///                      │          ▲ │╲          ▲
///                      ▼          │ │ ╲         │
///                 RECONCILING ────┴─┼──╲────────┘     (and from RECONCILING to FAILING and CANCELLING)
///                                 │  ╲          │
///                                 │   ▼         ▼
///                                 │  FAILING ─▶ FAILED
///                                 ├─▶ CANCELLING ─▶ CANCELED
///                                 └─▶ FINISHED
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// Accepted; the plan is checked and the snapshot read.
    Initializing,
    /// Ready, nothing asked for yet.
    Created,
    /// Another job manager led before: its workers, which run on, are waited for.
    Reconciling,
    /// Slots are asked for, subtasks start or run.
    Running,
    /// Subtasks are being dropped, or the delay before the next attempt runs.
    Restarting,
    /// A failure that no restart follows: subtasks are being dropped.
    Failing,
    /// Failed for good.
    Failed,
    /// The user wants it gone: subtasks are being dropped.
    Cancelling,
    /// Cancelled.
    Canceled,
    /// Everything is processed and committed.
    Finished,
}

impl JobState {
    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Finished)
    }

    /// Whether the job may go from this state to that one.
    pub fn can_transition_to(self, to: Self) -> bool {
        use JobState::{
            Canceled, Cancelling, Created, Failed, Failing, Finished, Initializing, Reconciling, Restarting, Running,
        };
        matches!(
            (self, to),
            (Initializing, Created | Failed | Canceled)
                | (Created, Running | Reconciling | Cancelling)
                | (Reconciling, Running | Restarting | Failing | Cancelling)
                | (Running, Restarting | Failing | Cancelling | Finished)
                | (Restarting, Running | Failing | Cancelling)
                | (Failing, Failed | Cancelling)
                | (Cancelling, Canceled)
        )
    }

    /// Flink's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Created => "CREATED",
            Self::Reconciling => "RECONCILING",
            Self::Running => "RUNNING",
            Self::Restarting => "RESTARTING",
            Self::Failing => "FAILING",
            Self::Failed => "FAILED",
            Self::Cancelling => "CANCELLING",
            Self::Canceled => "CANCELED",
            Self::Finished => "FINISHED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [JobState; 10] = [
        JobState::Initializing,
        JobState::Created,
        JobState::Reconciling,
        JobState::Running,
        JobState::Restarting,
        JobState::Failing,
        JobState::Failed,
        JobState::Cancelling,
        JobState::Canceled,
        JobState::Finished,
    ];

    #[test]
    fn the_matrix_of_job_states_is_as_drawn() {
        let drawn = [
            (JobState::Initializing, "CREATED FAILED CANCELED"),
            (JobState::Created, "RUNNING RECONCILING CANCELLING"),
            (JobState::Reconciling, "RUNNING RESTARTING FAILING CANCELLING"),
            (JobState::Running, "RESTARTING FAILING CANCELLING FINISHED"),
            (JobState::Restarting, "RUNNING FAILING CANCELLING"),
            (JobState::Failing, "FAILED CANCELLING"),
            (JobState::Failed, ""),
            (JobState::Cancelling, "CANCELED"),
            (JobState::Canceled, ""),
            (JobState::Finished, ""),
        ];
        for (from, targets) in drawn {
            for to in ALL {
                let expected = targets.split(' ').any(|name| name == to.name());
                assert_eq!(from.can_transition_to(to), expected, "{} -> {}", from.name(), to.name());
            }
        }
    }

    #[test]
    fn nothing_follows_a_terminal_state() {
        for from in ALL.into_iter().filter(|state| state.is_terminal()) {
            assert!(ALL.into_iter().all(|to| !from.can_transition_to(to)));
        }
    }
}
