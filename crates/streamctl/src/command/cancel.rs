//! `streamctl cancel`: end a job now, perhaps with a savepoint first.

use clap::Args;
use serde::Serialize;
use streamd_core::id::JobId;
use streamd_rpc::proto::{CancelJobRequest, OperationKind};

use crate::arguments::{OperationArguments, no_job, parsed_job_id};
use crate::command::savepoint::{begun, promoted};
use crate::failure::Failure;
use crate::location::absolute;
use crate::operation::{Operation, Ran};
use crate::output::Output;
use crate::session::Session;

/// Cancel a job
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  streamctl cancel fd72014d4c864993a2e5a9287b4a9c5d
  streamctl cancel -s /data/savepoints fd72014d4c864993a2e5a9287b4a9c5d
  streamctl cancel -s fd72014d4c864993a2e5a9287b4a9c5d

With -s, nothing that the job does after the savepoint takes effect. If the savepoint fails, the job goes on. Of a job that \
is restarting or failing, the last completed checkpoint becomes the savepoint.")]
pub struct CancelCommand {
    /// Take a savepoint first, under DIR [default: state.savepoints.dir]
    #[arg(short = 's', long = "withSavepoint", visible_alias = "with-savepoint", value_name = "DIR", num_args = 0..=1)]
    with_savepoint: Option<Option<String>>,
    /// The job
    #[arg(value_name = "JOBID")]
    job_id: Option<String>,
    #[command(flatten)]
    operation: OperationArguments,
}

#[derive(Serialize)]
struct Canceled<'a> {
    job_id: &'a str,
    canceled: bool,
    savepoint_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    promoted_checkpoint: Option<u64>,
}

impl CancelCommand {
    /// Cancels.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let (job, savepoint) = match (self.job_id, self.with_savepoint) {
            // As in Flink: `cancel -s X` with nothing else means job X and the default directory.
            (None, Some(Some(only))) => (only, Some(None)),
            (Some(job), savepoint) => (job, savepoint),
            (None, None | Some(None)) => return Err(no_job("cancel")),
        };
        let job_id = parsed_job_id(&job)?;
        match savepoint {
            None => cancel(job_id, session, output).await,
            Some(directory) => {
                let target = directory.as_deref().map(absolute).transpose()?;
                let operation = Operation {
                    job_id,
                    kind: OperationKind::CancelWithSavepoint,
                    target,
                    arguments: self.operation,
                };
                cancel_with_savepoint(operation, directory.as_deref(), session, output).await
            }
        }
    }
}

async fn cancel(job_id: JobId, session: &Session, output: &mut Output) -> Result<(), Failure> {
    let job_id = job_id.to_string();
    let client = session.connect().await?;
    output.announce(&format!("Cancelling job {job_id}."))?;
    let request = CancelJobRequest { job_id: job_id.clone() };
    session
        .within("the job is not cancelled", async {
            Ok(client.cancel_job(request).await?)
        })
        .await?;
    output.line(&format!("Cancelled job {job_id}."))?;
    output.object(&Canceled {
        job_id: &job_id,
        canceled: true,
        savepoint_path: None,
        promoted_checkpoint: None,
    })
}

async fn cancel_with_savepoint(
    operation: Operation,
    directory: Option<&str>,
    session: &Session,
    output: &mut Output,
) -> Result<(), Failure> {
    let job_id = operation.job_id.to_string();
    let client = session.connect().await?;
    let place = directory.unwrap_or("default savepoint directory");
    output.announce(&format!("Cancelling job {job_id} with savepoint to {place}."))?;
    let done = match operation.run(&client, session, output).await? {
        (_id, Ran::Completed(done)) => done,
        (id, Ran::Detached) => return begun(&job_id, &id, output),
    };
    if done.promoted_checkpoint > 0 {
        output.note(&promoted(done.promoted_checkpoint));
    }
    output.line(&format!(
        "Cancelled job {job_id}. Savepoint stored in {}.",
        done.savepoint_path
    ))?;
    output.object(&Canceled {
        job_id: &job_id,
        canceled: true,
        savepoint_path: Some(&done.savepoint_path),
        promoted_checkpoint: (done.promoted_checkpoint > 0).then_some(done.promoted_checkpoint),
    })
}
