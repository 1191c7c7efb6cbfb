//! The states of a job, Flink's.

/// The state of a job.
///
/// ```text
///   INITIALIZING ─▶ CREATED ─▶ RUNNING ◀──▶ RESTARTING
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

    /// Flink's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Created => "CREATED",
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
