//! Savepoints and stops, as clients ask for them.

use std::time::Duration;

use streamd_coordinator::event::{OperationKind, OperationRequest};
use streamd_coordinator::job::OperationStatus;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, OperationId};
use streamd_rpc::proto;
use streamd_snapshot::{Location, layout};

use crate::job_master::JobMasterHandle;
use crate::random;

/// The longest that one call waits for an operation: below the deadline that clients give a call.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Reads a request for an operation on `job`. Errors name the field.
pub(crate) fn operation_request(
    job: JobId,
    request: &proto::StartOperationRequest,
) -> Result<OperationRequest, CodedError> {
    let kind = match request.kind() {
        proto::OperationKind::Savepoint => OperationKind::Savepoint,
        proto::OperationKind::CancelWithSavepoint => OperationKind::CancelWithSavepoint,
        proto::OperationKind::Stop => OperationKind::Stop,
        proto::OperationKind::Drain => OperationKind::Drain,
        proto::OperationKind::Unspecified => {
            return Err(CodedError::new(
                ErrorCode::InvalidArgument,
                "the request names no kind of operation",
            ));
        }
    };
    let target = match request.target_directory.as_str() {
        "" => None,
        path => Some(absolute(path)?),
    };
    Ok(OperationRequest {
        id: parse_operation_id(&request.operation_id)?,
        kind,
        target,
        folder: layout::savepoint_name(job, &random::savepoint_digits()),
    })
}

/// The URI of an absolute path or URI. Relative paths are refused: the job manager's working directory is not the client's.
pub(crate) fn absolute(path: &str) -> Result<String, CodedError> {
    Location::open(path)
        .map(|location| location.uri())
        .map_err(|error| error.to_coded())
}

/// The operation once it has ended, or as it is after the time-out.
pub(crate) async fn wait_operation(
    job: &JobMasterHandle,
    request: &proto::WaitOperationRequest,
) -> Result<OperationStatus, CodedError> {
    let id = parse_operation_id(&request.operation_id)?;
    let mut status = job.operation(id).await?.ok_or_else(|| {
        let message = format!("job `{}` has no operation `{id}`", job.job_id());
        CodedError::new(ErrorCode::OperationNotFound, message).with_hint("start the operation again")
    })?;
    let limit = Duration::from_millis(request.timeout_ms).min(LONGEST_WAIT);
    let ended = status.wait_for(|status| matches!(status, OperationStatus::Ended(_)));
    // Late or no longer told: either way the answer is how far it is.
    let _late = tokio::time::timeout(limit, ended).await.map(|ended| ended.map(drop));
    let status = status.borrow().clone();
    Ok(status)
}

fn parse_operation_id(text: &str) -> Result<OperationId, CodedError> {
    text.parse()
        .map_err(|error| CodedError::caused(ErrorCode::InvalidArgument, "malformed request", &error))
}
