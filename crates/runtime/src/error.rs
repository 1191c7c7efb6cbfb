//! What ends a subtask.

use std::error::Error;
use std::fmt;

use streamd_core::error::{ErrorCode, chain};
use streamd_core::protocol::{Failure, FailureKind, FaultDomain};

/// What user functions return when they fail.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// An error that fails the subtask, and with it the attempt.
#[derive(Debug)]
pub struct TaskError {
    failure: Failure,
    /// Whether a neighbour is gone: the consequence of something else, or of the end of the job.
    consequence: bool,
}

impl TaskError {
    /// The application's code or its data is at fault.
    pub fn user(context: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Failure::new(FaultDomain::User, format!("{context}: {}", chain(error))).into()
    }

    /// The world around is at fault: a disk, a connection.
    pub fn external(context: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Failure::new(FaultDomain::External, format!("{context}: {}", chain(error))).into()
    }

    /// The snapshot that state is restored from is damaged.
    pub fn damaged_snapshot(context: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        let message = format!("{context} [{}]: {}", ErrorCode::SnapshotCorrupt, chain(error));
        let failure = Failure {
            kind: FailureKind::DamagedSnapshot,
            ..Failure::new(FaultDomain::External, message)
        };
        failure.into()
    }

    /// Output that was prepared cannot be committed any more.
    pub fn output_lost(context: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        let failure = Failure {
            kind: FailureKind::OutputLost,
            ..Failure::new(FaultDomain::External, format!("{context}: {}", chain(error)))
        };
        failure.into()
    }

    /// A neighbour in the graph is gone: why, is for the job master to find out.
    pub fn neighbour_lost(message: impl Into<String>) -> Self {
        Self {
            failure: Failure::new(FaultDomain::External, message),
            consequence: true,
        }
    }

    /// Whether the error is but the consequence of another.
    pub fn is_consequence(&self) -> bool {
        self.consequence
    }

    /// streamd itself is at fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Failure::new(FaultDomain::Internal, message).into()
    }

    /// The same, with what it was at where the application's code is at fault.
    #[must_use]
    pub(crate) fn at(mut self, position: &str) -> Self {
        if self.failure.domain == FaultDomain::User {
            self.failure.message = format!("{}, {position}", self.failure.message);
        }
        self
    }

    /// User code panicked with this payload.
    pub fn panicked(context: impl fmt::Display, payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned());
        Failure::new(
            FaultDomain::User,
            format!("{context} panicked: {}", text.replace('\n', " ")),
        )
        .into()
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.failure.message)
    }
}

impl Error for TaskError {}

impl From<Failure> for TaskError {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            consequence: false,
        }
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        error.failure
    }
}
