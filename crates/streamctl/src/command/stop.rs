//! `streamctl stop`: end a job with a savepoint whose effects are committed.

use clap::Args;
use serde::Serialize;
use streamd_rpc::proto::OperationKind;

use crate::arguments::{OperationArguments, no_job, parsed_job_id};
use crate::command::savepoint::begun;
use crate::failure::Failure;
use crate::location::absolute;
use crate::operation::{Operation, Ran};
use crate::output::Output;
use crate::session::Session;

/// Stop a job with a savepoint, and commit what it wrote
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  streamctl stop -p /data/savepoints fd72014d4c864993a2e5a9287b4a9c5d
  streamctl stop --drain fd72014d4c864993a2e5a9287b4a9c5d

The job FINISHES once everything up to the savepoint is committed. With --drain the input ends first, and everything is
flushed: for a job that is not to be resumed. A job that is restarting or failing has nobody to commit its output:
end it with `streamctl cancel -s`.")]
pub struct StopCommand {
    /// The folder under which the savepoint gets its own [default: state.savepoints.dir]
    #[arg(short = 'p', long = "savepointPath", visible_alias = "savepoint-path", value_name = "DIR", num_args = 0..=1)]
    savepoint_path: Option<Option<String>>,
    /// End the input and flush everything first
    #[arg(short, long)]
    drain: bool,
    /// The job
    #[arg(value_name = "JOBID")]
    job_id: Option<String>,
    #[command(flatten)]
    operation: OperationArguments,
}

#[derive(Serialize)]
struct Stopped<'a> {
    job_id: &'a str,
    drained: bool,
    savepoint_path: &'a str,
    bytes: u64,
    duration_ms: u64,
}

impl StopCommand {
    /// Stops.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let (job, directory) = match (self.job_id, self.savepoint_path) {
            // As in Flink: `stop -p X` with nothing else means job X and the default directory.
            (None, Some(Some(only))) => (only, None),
            (Some(job), directory) => (job, directory.flatten()),
            (None, None | Some(None)) => return Err(no_job("stop")),
        };
        let operation = Operation {
            job_id: parsed_job_id(&job)?,
            kind: if self.drain {
                OperationKind::Drain
            } else {
                OperationKind::Stop
            },
            target: directory.as_deref().map(absolute).transpose()?,
            arguments: self.operation,
        };
        let job_id = operation.job_id.to_string();
        let client = session.connect().await?;
        let verb = if self.drain { "Draining" } else { "Suspending" };
        output.announce(&format!("{verb} job \"{job_id}\" with a savepoint."))?;
        output.announce(&format!("Triggering stop-with-savepoint for job {job_id}."))?;
        output.announce("Waiting for response...")?;
        let done = match operation.run(&client, session, output).await? {
            (_id, Ran::Completed(done)) => done,
            (id, Ran::Detached) => return begun(&job_id, &id, output),
        };
        output.line(&format!("Savepoint completed. Path: {}", done.savepoint_path))?;
        output.object(&Stopped {
            job_id: &job_id,
            drained: self.drain,
            savepoint_path: &done.savepoint_path,
            bytes: done.bytes,
            duration_ms: done.duration_ms,
        })
    }
}
