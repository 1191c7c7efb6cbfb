//! `streamctl savepoint`: take a savepoint of a running job, or delete one.

use clap::Args;
use serde::Serialize;
use streamd_core::id::JobId;
use streamd_rpc::proto::{DisposeSavepointRequest, OperationKind};

use crate::arguments::{OperationArguments, job_id, no_job};
use crate::failure::Failure;
use crate::location::absolute;
use crate::operation::Operation;
use crate::output::Output;
use crate::session::Session;

/// Take a savepoint of a running job, or delete one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  streamctl savepoint fd72014d4c864993a2e5a9287b4a9c5d /data/savepoints
  streamctl savepoint -d /data/savepoints/savepoint-fd7201-0123456789ab

A savepoint is complete when the command ends with exit code 0; its folder may then be moved.")]
pub struct SavepointCommand {
    /// Delete the savepoint at this path instead
    #[arg(short, long, value_name = "PATH", conflicts_with_all = ["job_id", "directory", "request_id"])]
    dispose: Option<String>,
    /// The job
    #[arg(value_name = "JOBID", value_parser = job_id, required_unless_present = "dispose")]
    job_id: Option<JobId>,
    /// The folder under which the savepoint gets its own [default: state.savepoints.dir]
    #[arg(value_name = "DIR")]
    directory: Option<String>,
    #[command(flatten)]
    operation: OperationArguments,
}

#[derive(Serialize)]
struct Completed<'a> {
    job_id: String,
    savepoint_path: &'a str,
    bytes: u64,
    duration_ms: u64,
}

#[derive(Serialize)]
struct Disposed<'a> {
    savepoint_path: &'a str,
    disposed: bool,
}

impl SavepointCommand {
    /// Takes or deletes a savepoint.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        match (self.dispose, self.job_id) {
            (Some(path), _) => dispose(&path, session, output).await,
            (None, Some(job_id)) => {
                let target = self.directory.as_deref().map(absolute).transpose()?;
                let request_id = self.operation.request_id;
                trigger(
                    Operation {
                        job_id,
                        kind: OperationKind::Savepoint,
                        target,
                        request_id,
                    },
                    session,
                    output,
                )
                .await
            }
            (None, None) => Err(no_job("savepoint")),
        }
    }
}

async fn trigger(operation: Operation, session: &Session, output: &mut Output) -> Result<(), Failure> {
    let job_id = operation.job_id.to_string();
    let client = session.connect().await?;
    output.line(&format!("Triggering savepoint for job {job_id}."))?;
    output.line("Waiting for response...")?;
    let done = operation.run(&client, session).await?;
    output.line(&format!("Savepoint completed. Path: {}", done.savepoint_path))?;
    output.line("You can resume your program from this savepoint with the run command.")?;
    output.object(&Completed {
        job_id,
        savepoint_path: &done.savepoint_path,
        bytes: done.bytes,
        duration_ms: done.duration_ms,
    })
}

async fn dispose(path: &str, session: &Session, output: &mut Output) -> Result<(), Failure> {
    let uri = absolute(path)?;
    let client = session.connect().await?;
    output.line(&format!("Disposing savepoint '{path}'."))?;
    output.line("Waiting for response...")?;
    let request = DisposeSavepointRequest { path: uri.clone() };
    session
        .within("the savepoint is not deleted", async {
            Ok(client.dispose_savepoint(request).await?)
        })
        .await?;
    output.line(&format!("Savepoint '{path}' disposed."))?;
    output.object(&Disposed {
        savepoint_path: &uri,
        disposed: true,
    })
}
