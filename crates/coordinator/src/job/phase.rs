//! Where a job is in its life. Finer than the state that users see: each phase holds what is valid only in it.
//!
//! ```text
//!   Created ─▶ WaitingForSlots ─▶ WaitingForWorkers ─▶ Starting ─▶ Running ─▶ Ended
//!     │              ▲                    │                │ ▲        │
//!     └▶ Reconciling ┼────────────────────┼────────────────┼─┘        │
//!                    │                    └── failure ─────┴──────────┤
//!              BackingOff/Settling ◀── Dropping ◀─────────────────────┤
//!                                      Failing, Cancelling ◀──────────┘──▶ Ended
//! ```

use streamd_core::id::OperationId;
use streamd_core::protocol::Failure;
use streamd_core::time::MonotonicTime;

use crate::action::CompletedOperation;
use crate::job::recovery::Reunion;
use crate::lifecycle::JobState;
use crate::placement::Placement;

/// A phase of a job's life.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// Nothing was asked for yet.
    Created,
    /// An attempt of another job manager may run on: its workers are waited for.
    Reconciling {
        /// When those that are missing are given up.
        deadline: MonotonicTime,
        /// What those say that are back.
        reunion: Reunion,
        /// Whether the user wants the job gone. Its workers are waited for all the same: what they write would outlive it.
        is_cancelled: bool,
    },
    /// The attempt waits for slots; nothing of it exists.
    WaitingForSlots {
        /// When the attempt fails for want of them.
        deadline: MonotonicTime,
    },
    /// The attempt has slots and waits for worker processes; nothing is deployed.
    WaitingForWorkers {
        /// What goes where.
        placement: Placement,
        /// When the attempt fails for want of them.
        deadline: MonotonicTime,
    },
    /// Everything is deployed, and some subtasks do not run yet. No snapshot is under way.
    Starting,
    /// Every subtask runs, or has finished on command. Only here are snapshots triggered.
    Running(Course),
    /// The attempt has failed and its subtasks are being dropped; another attempt follows.
    Dropping {
        /// When the workers that have not dropped theirs are stopped.
        deadline: MonotonicTime,
        /// Milliseconds from the end of the dropping to the next attempt.
        delay_ms: u64,
    },
    /// Nothing of the old attempt is left; the restart delay runs.
    BackingOff {
        /// When it ends.
        until: MonotonicTime,
    },
    /// The delay is over, but a publication of the old attempt has no outcome yet, or a savepoint that ends the job: what to
    /// restore is not decided, or whether.
    Settling,
    /// The attempt has failed and its subtasks are being dropped; nothing follows.
    Failing {
        /// When the workers that have not dropped theirs are stopped.
        deadline: MonotonicTime,
        /// Why there is no other attempt.
        failure: Failure,
    },
    /// The user wants the job gone; its subtasks are being dropped.
    Cancelling {
        /// When the workers that have not dropped theirs are stopped.
        deadline: MonotonicTime,
        /// The cancel-with-savepoint that led here, whose savepoint is complete.
        savepoint: Option<Stopped>,
    },
    /// Over. Absorbs everything.
    Ended(JobState),
}

/// Where a running attempt is heading.
#[derive(Debug, Clone)]
pub(super) enum Course {
    /// Onwards.
    Processing,
    /// All input has ended; once a checkpoint that was triggered after that is complete, the subtasks can finish.
    LastCheckpoint,
    /// The sources are told to end; once all data has ended, the savepoint follows.
    Draining {
        /// The drain.
        operation: OperationId,
    },
    /// The savepoint after which the job ends is under way. The sources stand still behind its barrier.
    Stopping {
        /// The stop, drain or cancel-with-savepoint.
        operation: OperationId,
    },
    /// Everything is committed, and the subtasks are told to finish.
    Finishing {
        /// The stop or drain that led here.
        stop: Option<Stopped>,
    },
}

/// An operation whose savepoint is complete and whose job is about to end.
#[derive(Debug, Clone)]
pub(super) struct Stopped {
    pub(super) operation: OperationId,
    pub(super) result: CompletedOperation,
}

impl Phase {
    /// What users see of the phase.
    pub(super) fn job_state(&self) -> JobState {
        match self {
            Self::Created => JobState::Created,
            Self::Reconciling {
                is_cancelled: false, ..
            } => JobState::Reconciling,
            Self::WaitingForSlots { .. } | Self::WaitingForWorkers { .. } | Self::Starting | Self::Running(_) => {
                JobState::Running
            }
            Self::Dropping { .. } | Self::BackingOff { .. } | Self::Settling => JobState::Restarting,
            Self::Failing { .. } => JobState::Failing,
            Self::Cancelling { .. } | Self::Reconciling { is_cancelled: true, .. } => JobState::Cancelling,
            Self::Ended(state) => *state,
        }
    }

    /// Whether subtasks of the current attempt are at work.
    pub(super) fn is_deployed(&self) -> bool {
        matches!(self, Self::Starting | Self::Running(_))
    }
}
