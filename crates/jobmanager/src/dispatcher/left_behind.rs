//! Operations whose job manager ended before they did: nobody works on them any more, and what became of them is read from what there
//! is (invariant I18).
//!
//! ```text
//!   no savepoint ──────────────────────────────────────────────────────▶ failed, the job was not touched
//!   a savepoint, and the job goes on after it ─────────────────────────▶ completed, unless it was to end the job: then told so
//!   a savepoint, and the records say that the job ends with it ─▶ the job has not ended yet: under way
//!                                                               └─────▶ it has: completed
//! ```

use streamd_coordinator::job::{OperationProgress, OperationStage, OperationStatus};
use streamd_coordinator::lifecycle::JobState;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_snapshot::{
    JobResultRecord, OperationBegun, OperationEnded, OperationOutcome, OperationVerb, SnapshotError, StoredJob,
    StoredSnapshot, read_snapshot,
};

use super::operation::{KnownOperation, record_end, status_of};
use super::submission::Dispatcher;

impl Dispatcher {
    pub(super) async fn left_behind(&self, begun: OperationBegun) -> Result<KnownOperation, CodedError> {
        let outcome = match read_snapshot(&begun.location).await {
            Ok(snapshot) => self.with_savepoint(&begun, &snapshot).await?,
            Err(SnapshotError::NotFound { .. } | SnapshotError::NoMetadata { .. }) => Some(without_savepoint(&begun)),
            Err(error) => return Err(error.to_coded()),
        };
        let Some(outcome) = outcome else {
            return Ok(KnownOperation {
                begun,
                status: OperationStatus::InProgress(ENDING),
                ended_at: None,
                missing: false,
            });
        };
        let ended = OperationEnded::new(begun.operation_id, self.clock.wall(), outcome);
        record_end(&self.catalogue, ended.clone()).await;
        Ok(KnownOperation {
            begun,
            ended_at: Some(ended.ended_at),
            status: status_of(ended.outcome),
            missing: false,
        })
    }

    /// The outcome of an operation whose savepoint is complete; `None` while its job is about to end with it.
    async fn with_savepoint(
        &self,
        begun: &OperationBegun,
        snapshot: &StoredSnapshot,
    ) -> Result<Option<OperationOutcome>, CodedError> {
        let completed = OperationOutcome::Completed {
            savepoint_path: begun.location.clone(),
            bytes: snapshot.bytes,
            duration_ms: 0,
            promoted: None,
        };
        let state = match begun.kind {
            OperationVerb::Savepoint => return Ok(Some(completed)),
            OperationVerb::Cancel => JobState::Canceled,
            OperationVerb::Stop | OperationVerb::Drain => JobState::Finished,
        };
        let job = self.jobs.find(begun.job_id).await.map_err(|error| error.to_coded())?;
        let job = job.filter(|job| ends_with(job, begun.kind, snapshot));
        Ok(match job.map(|job| job.result) {
            Some(None) => None,
            Some(Some(JobResultRecord { state: ended, .. })) if ended == state.name() => Some(completed),
            Some(Some(_)) | None => Some(not_ended(begun)),
        })
    }
}

/// What the operation looks like while its job ends under another job manager.
const ENDING: OperationProgress = OperationProgress {
    stage: OperationStage::Ending,
    acknowledged: 0,
    subtasks: 0,
    bytes: 0,
};

/// Whether the records say that the savepoint is the last that the job did: it is being cancelled with it; or it is committed, and
/// no attempt has begun after it.
fn ends_with(job: &StoredJob, verb: OperationVerb, savepoint: &StoredSnapshot) -> bool {
    let last = match verb {
        OperationVerb::Savepoint => None,
        OperationVerb::Cancel => job.cancellation.as_ref().and_then(|it| it.savepoint.as_ref()),
        OperationVerb::Stop | OperationVerb::Drain => {
            let committed = job.committed.as_ref().map(|savepoint| &savepoint.uri);
            committed.filter(|_| job.attempt == savepoint.metadata.attempt)
        }
    };
    last == Some(&savepoint.folder)
}

fn without_savepoint(begun: &OperationBegun) -> OperationOutcome {
    let message = format!(
        "savepoint of job {} failed: the job manager ended before it was complete",
        begun.job_id
    );
    let error =
        CodedError::new(ErrorCode::SavepointFailed, message).with_hint("take the savepoint again, once the job runs");
    OperationOutcome::Failed { error }
}

fn not_ended(begun: &OperationBegun) -> OperationOutcome {
    let message = format!(
        "the savepoint `{}` is complete, but the job manager ended before job {} did",
        begun.location, begun.job_id
    );
    let error = CodedError::new(ErrorCode::StopFailed, message)
        .with_hint("the savepoint is valid; look with `streamctl list -a` whether the job runs");
    OperationOutcome::Failed { error }
}
