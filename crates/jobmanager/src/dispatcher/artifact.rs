//! What can go wrong with stored applications, for a person.

use streamd_core::error::{CodedError, ErrorCode};
use streamd_snapshot::ArtifactError;

/// An error of the application store, for a person.
pub(crate) fn artifact_error(error: &ArtifactError) -> CodedError {
    let code = match error {
        ArtifactError::InvalidDigest { .. } | ArtifactError::DigestMismatch { .. } => ErrorCode::InvalidArgument,
        ArtifactError::TooLarge { .. } => ErrorCode::ApplicationTooLarge,
        ArtifactError::NotFound { .. } => ErrorCode::ApplicationNotFound,
        ArtifactError::Interrupted { .. } => ErrorCode::InvalidArgument,
        ArtifactError::Store(error) => return error.to_coded(),
    };
    CodedError::new(code, streamd_core::error::chain(error))
}
