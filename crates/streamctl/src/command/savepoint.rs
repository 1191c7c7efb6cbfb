//! `streamctl savepoint`: take a savepoint of a running job, or delete one.

use clap::Args;
use serde::Serialize;
use streamd_core::id::JobId;
use streamd_rpc::proto::{DisposeSavepointRequest, OperationKind};

use crate::arguments::{OperationArguments, job_id, no_job};
use crate::command::savepoint_query::SavepointQuery;
use crate::failure::Failure;
use crate::location::absolute;
use crate::operation::{Operation, Ran};
use crate::output::Output;
use crate::session::Session;

/// Take a savepoint of a running job, or delete one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  streamctl savepoint fd72014d4c864993a2e5a9287b4a9c5d /data/savepoints
  streamctl savepoint -d /data/savepoints/savepoint-fd7201-0123456789ab
  streamctl savepoint --detached fd72014d4c864993a2e5a9287b4a9c5d
  streamctl savepoint status --wait 0123456789abcdef0123456789abcdef
  streamctl savepoint list flights

A savepoint is complete when the command ends with exit code 0; its folder may then be moved. Of a job that is restarting
or failing the last completed checkpoint becomes a savepoint. With --timeout the savepoint is given up after that time, and
the job goes on.")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct SavepointCommand {
    #[command(subcommand)]
    query: Option<SavepointQuery>,
    /// Delete the savepoint at this path instead
    #[arg(short, long, value_name = "PATH", conflicts_with_all = ["job_id", "directory", "request_id", "detached"])]
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
    operation_id: &'a str,
    promoted_checkpoint: Option<u64>,
}

#[derive(Serialize)]
struct Begun<'a> {
    job_id: &'a str,
    operation_id: &'a str,
}

#[derive(Serialize)]
struct Disposed<'a> {
    savepoint_path: &'a str,
    disposed: bool,
}

impl SavepointCommand {
    /// Takes or deletes a savepoint.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        if let Some(query) = self.query {
            return query.execute(session, output).await;
        }
        match (self.dispose, self.job_id) {
            (Some(path), _) => dispose(&path, session, output).await,
            (None, Some(job_id)) => {
                let target = self.directory.as_deref().map(absolute).transpose()?;
                trigger(
                    Operation {
                        job_id,
                        kind: OperationKind::Savepoint,
                        target,
                        arguments: self.operation,
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
    output.announce(&format!("Triggering savepoint for job {job_id}."))?;
    output.announce("Waiting for response...")?;
    let (operation_id, done) = match operation.run(&client, session, output).await? {
        (id, Ran::Completed(done)) => (id, done),
        (id, Ran::Detached) => return begun(&job_id, &id, output),
    };
    if done.promoted_checkpoint > 0 {
        output.note(&promoted(done.promoted_checkpoint));
    }
    output.line(&format!("Savepoint completed. Path: {}", done.savepoint_path))?;
    output.line("You can resume your program from this savepoint with the run command.")?;
    output.object(&Completed {
        job_id,
        savepoint_path: &done.savepoint_path,
        bytes: done.bytes,
        duration_ms: done.duration_ms,
        operation_id: &operation_id,
        promoted_checkpoint: (done.promoted_checkpoint > 0).then_some(done.promoted_checkpoint),
    })
}

/// What the user of a promoted checkpoint should know.
pub fn promoted(checkpoint: u64) -> String {
    format!(
        "The job did not run: the savepoint is a copy of its last completed checkpoint, {checkpoint}. What it did after \
         that is not in it."
    )
}

/// Tells of an operation that the user does not wait for.
pub fn begun(job_id: &str, operation_id: &str, output: &mut Output) -> Result<(), Failure> {
    output.line(&format!(
        "Operation {operation_id} of job {job_id} has begun: follow it with `streamctl savepoint status {operation_id}`"
    ))?;
    output.object(&Begun { job_id, operation_id })
}

async fn dispose(path: &str, session: &Session, output: &mut Output) -> Result<(), Failure> {
    let uri = absolute(path)?;
    let client = session.connect().await?;
    output.announce(&format!("Disposing savepoint '{path}'."))?;
    output.announce("Waiting for response...")?;
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
