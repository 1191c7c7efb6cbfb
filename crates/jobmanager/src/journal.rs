//! What a job master records of its job, so that the next leader can go on: always by the leader alone, always before the effect.

use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{Attempt, CheckpointId, JobId};
use streamd_snapshot::{Cancellation, CommittedSavepoint, Creation, JobResultRecord, JobStore, RecordedFailure};
use tracing::warn;

use crate::fence::Fence;

/// The pauses before a record is written again, within one try.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// What is recorded.
enum Entry {
    Attempt(Attempt, Vec<RecordedFailure>),
    End(JobResultRecord),
    Cancellation(Cancellation),
    Suspension,
    Commit(CommittedSavepoint),
}

/// The records of one job. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal {
    store: JobStore,
    job: JobId,
    epoch: u64,
    fence: Fence,
}

impl Journal {
    /// The records of a job, as the leader of this epoch writes them.
    pub(crate) fn new(store: JobStore, job: JobId, epoch: u64, fence: Fence) -> Self {
        Self {
            store,
            job,
            epoch,
            fence,
        }
    }

    /// Records an attempt, and the failures before it, before anything of it begins.
    pub(crate) async fn begin_attempt(
        &self,
        attempt: Attempt,
        failures: Vec<RecordedFailure>,
    ) -> Result<(), CodedError> {
        self.persist(&Entry::Attempt(attempt, failures)).await
    }

    /// Records the end of the job before anything of it is deleted.
    pub(crate) async fn end(&self, result: JobResultRecord) -> Result<(), CodedError> {
        self.persist(&Entry::End(result)).await
    }

    /// Records that the job is being cancelled, perhaps after this savepoint, before the user is told.
    pub(crate) async fn cancel(&self, savepoint: Option<String>) -> Result<(), CodedError> {
        self.persist(&Entry::Cancellation(Cancellation { savepoint })).await
    }

    /// Records that nothing of the job runs any more, although it has not ended.
    pub(crate) async fn suspend(&self) -> Result<(), CodedError> {
        self.persist(&Entry::Suspension).await
    }

    /// Records a savepoint before sinks commit it.
    pub(crate) async fn commit(&self, checkpoint: CheckpointId, uri: &str) -> Result<(), CodedError> {
        let savepoint = CommittedSavepoint::new(checkpoint, uri.to_owned(), self.epoch);
        self.persist(&Entry::Commit(savepoint)).await
    }

    async fn persist(&self, entry: &Entry) -> Result<(), CodedError> {
        for pause in PAUSES {
            let written = self.write(entry).await;
            // Whoever does not lead any more need not try again.
            if written.is_ok() || self.fence.is_revoked() {
                return written;
            }
            tokio::time::sleep(pause).await;
        }
        let written = self.write(entry).await;
        if let Err(error) = &written {
            warn!(job_id = %self.job, %error, "a record of the job is not written");
        }
        written
    }

    async fn write(&self, entry: &Entry) -> Result<(), CodedError> {
        self.fence.check().await?;
        match entry {
            Entry::Attempt(attempt, failures) => {
                let begun = self.store.begin_attempt(self.job, *attempt, failures, self.epoch).await;
                match begun {
                    Ok(Creation::Created) => Ok(()),
                    Ok(Creation::Taken) => {
                        self.fence
                            .revoke("another job manager has begun the next attempt of a job");
                        Err(self.fence.error())
                    }
                    Err(error) => Err(error.to_coded()),
                }
            }
            Entry::End(result) => {
                let ended = self.store.end(result).await.map_err(|error| error.to_coded())?;
                if ended.state == result.state {
                    // Whoever was stopped while this was written tells nobody, and deletes nothing.
                    return self.fence.check().await;
                }
                let (job, first, second) = (self.job, ended.state, &result.state);
                let message = format!("job `{job}` is recorded as {first}, and was to end as {second}");
                Err(CodedError::new(ErrorCode::Internal, message))
            }
            Entry::Cancellation(cancellation) => {
                let cancelled = self.store.cancel(self.job, cancellation, self.epoch).await;
                cancelled.map_err(|error| error.to_coded())?;
                // Whoever has taken the job over meanwhile does not know of it.
                self.fence.check().await
            }
            Entry::Suspension => {
                let suspended = self.store.suspend(self.job, self.epoch).await;
                suspended.map_err(|error| error.to_coded())
            }
            Entry::Commit(savepoint) => {
                let committed = self.store.commit(self.job, savepoint).await;
                committed.map(drop).map_err(|error| error.to_coded())
            }
        }
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
