//! Which checkpoints lie in a folder of checkpoints, whoever took them: for a job that is to go on where an earlier one ended.

use futures::{StreamExt, TryStreamExt};
use streamd_core::id::{CheckpointId, JobId};
use streamd_core::time::WallTime;

use crate::completed::list_completed;
use crate::error::SnapshotError;
use crate::layout;
use crate::read::find;
use crate::store::Location;

/// Folders of jobs that are looked into at once.
const JOBS_IN_FLIGHT: usize = 8;

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedCheckpoint {
    /// The job that took it.
    pub job_id: JobId,
    /// The name of that job.
    pub job_name: String,
    /// Its number.
    pub checkpoint_id: CheckpointId,
    /// When it was triggered.
    pub triggered_at: WallTime,
    /// The URI of its folder.
    pub uri: String,
}

/// The latest complete checkpoint of every job that has a folder in `base`, by job. One whose record or metadata cannot be read
/// is an error: an older one must not pass for the latest.
pub async fn list_retained(base: &Location) -> Result<Vec<RetainedCheckpoint>, SnapshotError> {
    let names = base.list_names().await?;
    let mut jobs = Vec::new();
    for name in &names {
        if let Some(Ok(job)) = name.strip_suffix('/').map(str::parse::<JobId>) {
            jobs.push(layout::job_folder(base, job)?);
        }
    }
    let found: Vec<Option<RetainedCheckpoint>> = futures::stream::iter(jobs)
        .map(latest_of)
        .buffered(JOBS_IN_FLIGHT)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

async fn latest_of(folder: Location) -> Result<Option<RetainedCheckpoint>, SnapshotError> {
    let Some(latest) = list_completed(&folder).await?.pop() else {
        return Ok(None);
    };
    let checkpoint = folder.child(&latest.folder)?;
    let metadata = match find(&checkpoint.uri()).await {
        Ok(found) => found.metadata,
        // Deleted between the two looks: its job is running, and has a newer one.
        Err(SnapshotError::NotFound { .. } | SnapshotError::NoMetadata { .. })
            if !folder
                .child(&layout::completion_record(latest.checkpoint_id))?
                .exists()
                .await? =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Ok(Some(RetainedCheckpoint {
        job_id: metadata.job_id,
        job_name: metadata.graph.name,
        checkpoint_id: metadata.checkpoint_id,
        triggered_at: metadata.triggered_at,
        uri: checkpoint.uri(),
    }))
}
