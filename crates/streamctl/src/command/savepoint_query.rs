//! `streamctl savepoint status` and `streamctl savepoint list`: what became of savepoints, whoever asked for them and whenever.

use clap::{Args, Subcommand};
use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::OperationId;
use streamd_rpc::proto::operation_details::Outcome;
use streamd_rpc::proto::{GetOperationRequest, ListOperationsRequest, OperationDetails, OperationKind};
use streamd_rpc::status::from_proto;

use super::checkpoint::SnapshotQuery;
use super::list::local_time;
use super::savepoint::promoted;
use super::savepoint_check::CheckQuery;
use crate::arguments::operation_id;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::offline::{Effect, run};
use crate::operation::{Calls, follow};
use crate::output::Output;
use crate::progress::size_text;
use crate::session::Session;

/// Questions about savepoints.
#[derive(Debug, Subcommand)]
pub enum SavepointQuery {
    /// What became of a savepoint, stop or cancellation with savepoint, by the id of its operation
    Status(StatusQuery),
    /// The savepoints that were taken, the newest first
    List(ListQuery),
    /// What becomes of the state of a snapshot in an application, before anything starts
    Check(CheckQuery),
    /// What is in a snapshot, and whether it is whole.
    #[command(flatten)]
    Look(SnapshotQuery),
}

/// `streamctl savepoint status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl savepoint status --wait 0123456789abcdef0123456789abcdef

Exit code 0 if it is complete or goes on, otherwise that of its failure. The outcome outlives the job manager.")]
pub struct StatusQuery {
    /// The operation
    #[arg(value_name = "ID", value_parser = operation_id)]
    id: OperationId,
    /// Wait for its end
    #[arg(short, long)]
    wait: bool,
}

/// `streamctl savepoint list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl savepoint list flights --output json")]
pub struct ListQuery {
    /// Only those of the job with this name or id
    #[arg(value_name = "JOB", default_value = "", hide_default_value = true)]
    job: String,
}

/// An operation for programs.
#[derive(Serialize)]
struct Listed<'a> {
    operation_id: &'a str,
    job_id: &'a str,
    job_name: &'a str,
    kind: &'static str,
    state: &'static str,
    requested_at_ms: i64,
    ended_at_ms: Option<i64>,
    savepoint_path: &'a str,
    bytes: Option<u64>,
    duration_ms: Option<u64>,
    promoted_checkpoint: Option<u64>,
    acknowledged_subtasks: Option<u32>,
    subtasks: Option<u32>,
    error: Option<CodedError>,
}

impl SavepointQuery {
    /// Asks.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Status(query) => query.execute(session, output).await,
            Self::List(query) => query.execute(session, output).await,
            Self::Check(query) => query.execute(session, output).await,
            Self::Look(query) => run(session.clone(), output, Effect::None, |offline, output| {
                query.execute(offline, output)
            }),
        }
    }
}

impl StatusQuery {
    async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let mut client = session.connect().await?;
        let id = self.id.to_string();
        if self.wait {
            let mut interrupt = Interrupt::listen()?;
            // Its failure is told below, with everything else.
            let calls = Calls::new(session, &client);
            let _told = match follow(calls, &id, session.timeout(), (&mut interrupt, output)).await {
                Err(left @ (Failure::Interrupted | Failure::ReaderGone)) => return Err(left),
                Err(Failure::Error(error)) if error.code == ErrorCode::DeadlineExceeded => {
                    return Err(Failure::Error(error));
                }
                ended => ended,
            };
            // It may be another one by now.
            client = session.connect().await?;
        }
        let request = GetOperationRequest { operation_id: id };
        let answer = session
            .within("the operation is not told", async {
                Ok(client.get_operation(request).await?)
            })
            .await?;
        let operation = answer.operation.ok_or_else(|| {
            CodedError::new(
                ErrorCode::ProtocolMismatch,
                "the job manager's answer lacks the operation",
            )
            .with_hint("use the streamctl of the cluster's version")
        })?;
        tell(&operation, output)
    }
}

fn tell(operation: &OperationDetails, output: &mut Output) -> Result<(), Failure> {
    output.object(&listed(operation))?;
    let verb = kind_text(operation.kind());
    let job = format!("job {} ({})", operation.job_id, operation.job_name);
    output.line(&format!(
        "Operation {}: {verb} of {job}, requested {}",
        operation.operation_id,
        local_time(operation.requested_at_ms)
    ))?;
    match &operation.outcome {
        Some(Outcome::Completed(completed)) => {
            if completed.promoted_checkpoint > 0 {
                output.line(&promoted(completed.promoted_checkpoint))?;
            }
            output.line(&format!("Savepoint completed. Path: {}", completed.savepoint_path))
        }
        Some(Outcome::InProgress(progress)) => output.line(&format!(
            "It goes on: {} of {} subtasks, {}",
            progress.acknowledged_subtasks,
            progress.subtasks,
            size_text(progress.bytes)
        )),
        Some(Outcome::Failed(error)) => Err(from_proto(error).into()),
        None => Ok(()),
    }
}

impl ListQuery {
    async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let client = session.connect().await?;
        let request = ListOperationsRequest { job: self.job };
        let answer = session
            .within("the savepoints are not listed", async {
                Ok(client.list_operations(request).await?)
            })
            .await?;
        if answer.operations.is_empty() {
            return output.line("No savepoints are recorded.");
        }
        for operation in &answer.operations {
            output.object(&listed(operation))?;
            output.line(&line(operation))?;
        }
        Ok(())
    }
}

/// One line: time, job, state, size, path.
fn line(operation: &OperationDetails) -> String {
    let row = listed(operation);
    let size = row.bytes.map_or_else(|| "-".to_owned(), size_text);
    let what = match row.error {
        Some(error) => format!("{} [{}]", error.message, error.code),
        None => row.savepoint_path.to_owned(),
    };
    format!(
        "{} : {} : {} : {} ({}) {size} {what}",
        local_time(row.requested_at_ms),
        row.job_id,
        row.job_name,
        row.state,
        row.kind
    )
}

fn listed(operation: &OperationDetails) -> Listed<'_> {
    let mut row = Listed {
        operation_id: &operation.operation_id,
        job_id: &operation.job_id,
        job_name: &operation.job_name,
        kind: kind_text(operation.kind()),
        state: "UNKNOWN",
        requested_at_ms: operation.requested_at_ms,
        ended_at_ms: (operation.ended_at_ms > 0).then_some(operation.ended_at_ms),
        savepoint_path: &operation.location,
        bytes: None,
        duration_ms: None,
        promoted_checkpoint: None,
        acknowledged_subtasks: None,
        subtasks: None,
        error: None,
    };
    match &operation.outcome {
        Some(Outcome::Completed(completed)) => {
            row.state = if operation.missing { "MISSING" } else { "COMPLETED" };
            row.savepoint_path = &completed.savepoint_path;
            row.bytes = Some(completed.bytes);
            row.duration_ms = Some(completed.duration_ms);
            row.promoted_checkpoint = (completed.promoted_checkpoint > 0).then_some(completed.promoted_checkpoint);
        }
        Some(Outcome::InProgress(progress)) => {
            row.state = "IN_PROGRESS";
            row.acknowledged_subtasks = Some(progress.acknowledged_subtasks);
            row.subtasks = Some(progress.subtasks);
            row.bytes = Some(progress.bytes);
        }
        Some(Outcome::Failed(error)) => {
            row.state = "FAILED";
            row.error = Some(from_proto(error));
        }
        None => {}
    }
    row
}

fn kind_text(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::Savepoint | OperationKind::Unspecified => "savepoint",
        OperationKind::CancelWithSavepoint => "cancel with savepoint",
        OperationKind::Stop => "stop",
        OperationKind::Drain => "drain",
    }
}
