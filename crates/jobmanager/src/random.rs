//! The one place of the job manager that draws random names.

use streamd_core::id::{JobId, OperationId};
use uuid::Uuid;

/// A name that is new at every start of the job manager.
pub(crate) fn incarnation() -> String {
    Uuid::new_v4().simple().to_string()
}

/// The nonce of one writing of a snapshot's metadata.
pub(crate) fn nonce() -> String {
    Uuid::new_v4().simple().to_string()
}

/// 12 hexadecimal digits for the name of a savepoint's folder.
pub(crate) fn savepoint_digits() -> String {
    let mut digits = Uuid::new_v4().simple().to_string();
    digits.truncate(12);
    digits
}

/// A job id for a job that nobody else names.
pub(crate) fn job_id() -> JobId {
    JobId::from_bytes(*Uuid::new_v4().as_bytes())
}

/// An id for an operation that nobody else names.
pub(crate) fn operation_id() -> OperationId {
    OperationId::from_bytes(*Uuid::new_v4().as_bytes())
}
