//! Why a message cannot be taken for what it claims to be.

use streamd_core::error::{CodedError, ErrorCode};

/// A message of the other side that is no message of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field that must be there is not.
    #[error("message lacks field `{field}`")]
    Missing {
        /// The message and the field.
        field: &'static str,
    },
    /// A field holds something impossible.
    #[error("field `{field}` is invalid: {reason}")]
    Invalid {
        /// The message and the field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl ConvertError {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }
}

impl From<ConvertError> for CodedError {
    fn from(error: ConvertError) -> Self {
        Self::new(ErrorCode::ProtocolMismatch, error.to_string())
    }
}
