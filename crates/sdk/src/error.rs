//! The error of an application's `main`.

use std::fmt;

use streamd_core::error::CodedError;
use streamd_runtime::error::TaskError;

/// The result of building or running a job.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a job could not be built, described or run: one line with a stable code, and a hint.
///
/// Returned from `main` it prints as a person wants to read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(CodedError);

impl Error {
    /// The error with its parts.
    pub fn coded(&self) -> &CodedError {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)?;
        match &self.0.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<CodedError> for Error {
    fn from(error: CodedError) -> Self {
        Self(error)
    }
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        Self(error.into())
    }
}
