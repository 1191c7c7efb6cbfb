//! What ends a subtask.

use std::error::Error;
use std::fmt;

use streamd_core::error::chain;
use streamd_core::protocol::{Failure, FaultDomain};

/// What user functions return when they fail.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// An error that fails the subtask, and with it the attempt.
#[derive(Debug)]
pub struct TaskError {
    domain: FaultDomain,
    message: String,
    /// Whether a neighbour is gone: the consequence of something else, or of the end of the job.
    consequence: bool,
}

impl TaskError {
    /// The application's code or its data is at fault.
    pub fn user(context: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self {
            domain: FaultDomain::User,
            message: format!("{context}: {}", chain(error)),
            consequence: false,
        }
    }

    /// The world around is at fault: a disk, a connection.
    pub fn external(context: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self {
            domain: FaultDomain::External,
            message: format!("{context}: {}", chain(error)),
            consequence: false,
        }
    }

    /// A neighbour in the graph is gone: why, is for the job master to find out.
    pub fn neighbour_lost(message: impl Into<String>) -> Self {
        Self {
            domain: FaultDomain::External,
            message: message.into(),
            consequence: true,
        }
    }

    /// Whether the error is but the consequence of another.
    pub fn is_consequence(&self) -> bool {
        self.consequence
    }

    /// streamd itself is at fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self {
            domain: FaultDomain::Internal,
            message: message.into(),
            consequence: false,
        }
    }

    /// The same, with what it was at where the application's code is at fault.
    #[must_use]
    pub(crate) fn at(mut self, position: &str) -> Self {
        if self.domain == FaultDomain::User {
            self.message = format!("{}, {position}", self.message);
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
        Self {
            domain: FaultDomain::User,
            message: format!("{context} panicked: {}", text.replace('\n', " ")),
            consequence: false,
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for TaskError {}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        Self {
            domain: error.domain,
            message: error.message,
        }
    }
}
