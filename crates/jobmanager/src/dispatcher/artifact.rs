//! What can go wrong with stored applications, for a person.

use streamd_core::error::{CodedError, ErrorCode};
use streamd_snapshot::ArtifactError;

/// What to do where other bytes came than were announced.
pub(crate) const CHANGED: &str = "the file changed while it was uploaded: once it is whole, do the same again";

/// An error of the application store, for a person.
pub(crate) fn artifact_error(error: &ArtifactError) -> CodedError {
    let told = |code| CodedError::new(code, streamd_core::error::chain(error));
    match error {
        ArtifactError::InvalidDigest { .. } => told(ErrorCode::InvalidArgument),
        ArtifactError::DigestMismatch { .. } => told(ErrorCode::InvalidArgument).with_hint(CHANGED),
        ArtifactError::TooLarge { .. } => told(ErrorCode::ApplicationTooLarge),
        ArtifactError::NotFound { .. } => told(ErrorCode::ApplicationNotFound),
        ArtifactError::Interrupted { source, .. } => match source.downcast_ref::<CodedError>() {
            // It has its own code and hint, which are told once.
            Some(cause) => CodedError {
                message: format!("{error}: {}", cause.message),
                ..cause.clone()
            },
            None => told(ErrorCode::InvalidArgument),
        },
        ArtifactError::Store(error) => error.to_coded(),
    }
}
