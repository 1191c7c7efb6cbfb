//! Savepoints and what follows them: started once, then asked after until they have ended.

use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, OperationId};
use streamd_rpc::client::DispatcherClient;
use streamd_rpc::proto::wait_operation_response::Outcome;
use streamd_rpc::proto::{OperationCompleted, OperationKind, StartOperationRequest, WaitOperationRequest};
use streamd_rpc::status::from_proto;

use crate::failure::Failure;
use crate::session::Session;

/// How long one call waits at the job manager before it is made anew: shorter than the time after which proxies cut a
/// silent connection.
const WAIT: Duration = Duration::from_secs(20);

/// A savepoint that the user wants.
pub struct Operation {
    /// Of which job.
    pub job_id: JobId,
    /// What follows it.
    pub kind: OperationKind,
    /// The URI of the folder it goes to; `None`: the configured one.
    pub target: Option<String>,
    /// Chosen by the user to be able to repeat the request.
    pub request_id: Option<OperationId>,
}

impl Operation {
    /// Starts the operation and waits until it has ended, or for as long as the user wants.
    pub async fn run(self, client: &DispatcherClient, session: &Session) -> Result<OperationCompleted, Failure> {
        let operation_id = self
            .request_id
            .unwrap_or_else(|| OperationId::from_bytes(*uuid::Uuid::new_v4().as_bytes()));
        let request = StartOperationRequest {
            job_id: self.job_id.to_string(),
            operation_id: operation_id.to_string(),
            kind: self.kind.into(),
            target_directory: self.target.unwrap_or_default(),
        };
        let operation_id = client.start_operation(request).await?.operation_id;
        let waited = session
            .within(
                &format!("the savepoint of job `{}` is not complete", self.job_id),
                async { wait(client, self.job_id, &operation_id).await.map_err(Failure::from) },
            )
            .await;
        waited.map_err(|failure| outcome_of(failure, self.job_id))
    }
}

async fn wait(client: &DispatcherClient, job_id: JobId, operation_id: &str) -> Result<OperationCompleted, CodedError> {
    loop {
        let request = WaitOperationRequest {
            job_id: job_id.to_string(),
            operation_id: operation_id.to_owned(),
            timeout_ms: u64::try_from(WAIT.as_millis()).expect("a constant of seconds"),
        };
        match client.wait_operation(request).await?.outcome {
            Some(Outcome::Completed(completed)) => return Ok(completed),
            Some(Outcome::Failed(error)) => return Err(from_proto(&error)),
            // The server has waited; where it has not, a pause keeps this loop from spinning.
            Some(Outcome::InProgress(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            None => {
                let message = "the job manager's answer lacks the outcome of the operation";
                return Err(CodedError::new(ErrorCode::ProtocolMismatch, message)
                    .with_hint("use the streamctl of the cluster's version"));
            }
        }
    }
}

/// Once an operation is started, a lost connection says nothing about what became of it.
fn outcome_of(failure: Failure, job_id: JobId) -> Failure {
    match failure {
        Failure::Error(error) if error.code == ErrorCode::JobManagerUnreachable => Failure::Error(
            CodedError::new(
                ErrorCode::OutcomeUnknown,
                format!(
                    "it is not known what became of the savepoint of job `{job_id}`: {}",
                    error.message
                ),
            )
            .with_hint("look with `streamctl list -a`, and into the savepoint directory"),
        ),
        Failure::Error(error) if error.code == ErrorCode::DeadlineExceeded => {
            Failure::Error(error.with_hint("the savepoint goes on; give more time with --timeout, or leave it out"))
        }
        other @ (Failure::Error(_) | Failure::Interrupted | Failure::ReaderGone) => other,
    }
}
