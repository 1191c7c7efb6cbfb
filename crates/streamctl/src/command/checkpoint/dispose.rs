//! `streamctl checkpoint dispose`: deleting a checkpoint or savepoint, unless somebody needs it.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::snapshot::SnapshotMetadata;
use streamd_rpc::proto::{GetJobRequest, JobDetails, ListJobsRequest};
use streamd_snapshot::{Sharing, dispose_unused, read_snapshot};

use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::{Offline, confirm};
use crate::output::Output;

/// How long the job manager is waited for where the user says nothing: it is on this machine or near.
const ASKING: Duration = Duration::from_secs(5);

/// Delete a checkpoint or savepoint, unless somebody needs it
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl checkpoint dispose /data/checkpoints/fd72014d4c864993a2e5a9287b4a9c5d/chk-17 --yes

Refused while its job runs or another was started from it, if the job manager can be asked, and where another checkpoint refers to its \
files.")]
pub struct DisposeCommand {
    /// The snapshot: its folder or its `_metadata` file
    #[arg(value_name = "PATH")]
    path: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Keep the files that later checkpoints of the job use, and delete the rest
    #[arg(long)]
    keep_shared: bool,
}

#[derive(Serialize)]
struct Disposed<'a> {
    path: &'a str,
    disposed: bool,
}

impl DisposeCommand {
    /// Asks everybody, and deletes.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let pointer = absolute(&self.path)?;
        let stored = offline.wait(read_snapshot(&pointer))?;
        match offline.wait(jobs(offline)) {
            Ok(jobs) => jobs
                .iter()
                .try_for_each(|job| check_job(job, &stored.metadata, &stored.folder))?,
            Err(Failure::Error(error)) => output.note(&format!(
                "warning: nobody can say whether a job uses the snapshot: {}",
                error.message
            )),
            Err(other) => return Err(other),
        }
        confirm(&format!("Delete {} ({} bytes)?", stored.folder, stored.bytes), self.yes)?;
        let sharing = match self.keep_shared {
            true => Sharing::Keep,
            false => Sharing::Refuse,
        };
        let path = offline.wait(dispose_unused(&stored.folder, sharing))?;
        output.line(&format!("Disposed of {path}."))?;
        output.object(&Disposed {
            path: &path,
            disposed: true,
        })
    }
}

/// The jobs that have not ended, with all there is to know of them.
async fn jobs(offline: &Offline) -> Result<Vec<JobDetails>, Failure> {
    let ask = async {
        let client = offline.session().connect().await?;
        let mut jobs = Vec::new();
        for job in client.list_jobs(ListJobsRequest {}).await?.jobs {
            if job.end_time_ms == 0 {
                let request = GetJobRequest { job_id: job.job_id };
                jobs.extend(client.get_job(request).await?.job);
            }
        }
        Ok(jobs)
    };
    match tokio::time::timeout(offline.session().timeout().unwrap_or(ASKING), ask).await {
        Ok(answer) => answer,
        Err(_elapsed) => {
            Err(CodedError::new(ErrorCode::DeadlineExceeded, "the job manager does not answer in time").into())
        }
    }
}

fn check_job(job: &JobDetails, metadata: &SnapshotMetadata, folder: &str) -> Result<(), Failure> {
    let id = job.summary.as_ref().map_or("", |summary| summary.job_id.as_str());
    let is_checkpoint = metadata.kind == streamd_core::barrier::SnapshotKind::Checkpoint;
    let took_it = is_checkpoint && id == metadata.job_id.to_string();
    // What the job was started from is not read again once it has a checkpoint of its own.
    let used = job.last_checkpoint.as_ref().or(job.restored_from.as_ref());
    if !took_it && used.is_none_or(|snapshot| snapshot.uri != folder) {
        return Ok(());
    }
    let message = format!("snapshot `{folder}` is in use by job `{id}`, which has not ended");
    Err(CodedError::new(ErrorCode::SnapshotInUse, message)
        .with_hint("the job deletes its own checkpoints; wait until it has ended")
        .into())
}
