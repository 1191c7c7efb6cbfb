//! What is said over links, without what differs between two runs of a seed.

use std::fmt::{self, Display};

use streamd_core::protocol::{WorkerCommand, WorkerEvent};

/// A command.
pub(super) struct Told<'a>(pub(super) &'a WorkerCommand);

impl Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            WorkerCommand::Deploy(deployment) => {
                write!(
                    f,
                    "to deploy attempt {} from {:?}, and to keep {} slots",
                    deployment.attempt,
                    deployment.restored,
                    deployment.kept.len()
                )
            }
            WorkerCommand::TriggerCheckpoint { barrier, .. } => write!(f, "to take snapshot {}", barrier.checkpoint),
            WorkerCommand::NotifyCheckpointComplete { checkpoint, .. } => write!(f, "that {checkpoint} is complete"),
            WorkerCommand::NotifyCheckpointAborted { checkpoint, .. } => write!(f, "that {checkpoint} is given up"),
            WorkerCommand::Drain { .. } => f.write_str("to drain"),
            WorkerCommand::Finish { .. } => f.write_str("to finish"),
            WorkerCommand::Cancel { attempt, kept } => write!(f, "to drop attempt {attempt} but for slots {kept:?}"),
            WorkerCommand::Shutdown => f.write_str("to end"),
            _other => f.write_str("something else"),
        }
    }
}

/// What a worker says.
pub(super) struct Said<'a>(pub(super) &'a WorkerEvent);

impl Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            WorkerEvent::Registered(_) => f.write_str("that it is there"),
            WorkerEvent::SubtaskState {
                attempt,
                subtask,
                state,
                ..
            } => {
                write!(f, "that {subtask} of attempt {attempt} is {}", state.name())
            }
            WorkerEvent::Acknowledge {
                checkpoint, subtask, ..
            } => write!(f, "that {subtask} has {checkpoint}"),
            WorkerEvent::Decline {
                checkpoint, subtask, ..
            } => write!(f, "that {subtask} declines {checkpoint}"),
            WorkerEvent::EndOfData { subtask, .. } => write!(f, "that the data of {subtask} has ended"),
            WorkerEvent::Heartbeat { attempt, .. } => write!(f, "that it lives, in attempt {attempt}"),
            _other => f.write_str("something else"),
        }
    }
}
