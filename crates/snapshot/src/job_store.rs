//! What must be known of a job for as long as it has not ended, and how it ended: whoever leads next goes on from here.
//!
//! ```text
//! <storage>/jobs/<job id>/job.json                               the submission, as it was accepted: claims the id
//!                        /attempts/<n, 10 digits>.json           attempt n is about to begin
//!                        /epochs/<epoch, 20 digits>.json         the leader of this epoch took the job over
//!                        /epochs/<epoch, 20 digits>.cancelled.json   cancels it, and so does whoever comes next
//!                        /epochs/<epoch, 20 digits>.suspended.json   let go of it in order
//!                        /epochs/<epoch, 20 digits>.ended.json       the job ended under it, before anything of the job is deleted
//!                        /committed/<id, 20 digits>.json         a savepoint that sinks commit: nothing older may be restored
//! ```
//!
//! All are created, never changed. An end without a submission is what is left of a job that is being forgotten; one that a leader wrote late,
//! after another had taken the job over, is none: the job has gone on.

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use streamd_core::barrier::SnapshotKind;
use streamd_core::graph::JobGraph;
use streamd_core::id::{Attempt, CheckpointId, JobId};
use streamd_core::protocol::Failure;
use streamd_core::time::WallTime;

use crate::completed::CompletionRecord;
use crate::error::SnapshotError;
use crate::layout;
use crate::publish::random_nonce;
use crate::record::{self, Creation};
use crate::store::Location;

/// The version of all records that this build writes.
const RECORD_VERSION: u32 = 1;

/// Bytes of a record at most: the largest plan, and the settings.
const MAX_RECORD_BYTES: u64 = 32 << 20;

/// Jobs that are read at once.
const READS_IN_FLIGHT: usize = 16;

/// A job as it was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The version of the record.
    pub version: u32,
    /// The job.
    pub job_id: JobId,
    /// The epoch of the leader that accepted it.
    pub leader_epoch: u64,
    /// When.
    pub submitted_at: WallTime,
    /// The request of the client, as the job manager keeps it: the same request again is recognised by it.
    pub submission: serde_json::Value,
    /// What the job runs: the plan as the application described it.
    pub graph: JobGraph,
    /// The number of key groups of each vertex.
    pub max_parallelism: Vec<u32>,
    /// The snapshot that it started from.
    pub restore: Option<StartSnapshot>,
    /// Every setting, resolved, as the job manager keeps them.
    pub options: serde_json::Value,
    /// What the user was told.
    pub warnings: Vec<String>,
    /// Unique to this writing.
    pub nonce: String,
}

impl JobRecord {
    /// The version that this build writes.
    pub const VERSION: u32 = RECORD_VERSION;
}

/// The snapshot that a job started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSnapshot {
    /// The URI of its folder.
    pub uri: String,
    /// Its number.
    pub checkpoint_id: CheckpointId,
    /// Checkpoint or savepoint.
    pub kind: SnapshotKind,
}

/// A failure of a job, and what followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFailure {
    /// What happened.
    #[serde(flatten)]
    pub failure: Failure,
    /// The attempt that failed.
    pub attempt: Attempt,
    /// When, for people.
    pub at: WallTime,
    /// Milliseconds from the end of the attempt to the next; `null` where none followed.
    pub restart_delay_ms: Option<u64>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResultRecord {
    /// The version of the record.
    pub version: u32,
    /// The job.
    pub job_id: JobId,
    /// `FINISHED`, `CANCELED` or `FAILED`.
    pub state: String,
    /// When.
    pub ended_at: WallTime,
    /// The attempt that was the last.
    pub attempt: Attempt,
    /// Its last failures, first to last.
    pub failures: Vec<RecordedFailure>,
    /// The epoch of the leader that saw it end.
    pub leader_epoch: u64,
}

impl JobResultRecord {
    /// The version that this build writes.
    pub const VERSION: u32 = RECORD_VERSION;
}

/// That the user wants a job gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// The URI of the savepoint that he wanted before that; `None`: none.
    pub savepoint: Option<String>,
}

/// How far a job had come when a leader took it over. Whatever the leader before it completes after that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeoverRecord {
    /// The version of the record.
    pub version: u32,
    /// The epoch of the leader.
    pub leader_epoch: u64,
    /// The latest checkpoint that was complete.
    pub latest: Option<CheckpointId>,
    /// The cancellation that the leader before it had begun. Records of earlier builds have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation: Option<Cancellation>,
    /// Unique to this writing.
    pub nonce: String,
}

impl TakeoverRecord {
    /// A takeover that finds this checkpoint to be the latest, and the job cancelled or not.
    pub fn new(leader_epoch: u64, latest: Option<CheckpointId>, cancellation: Option<Cancellation>) -> Self {
        Self {
            version: RECORD_VERSION,
            leader_epoch,
            latest,
            cancellation,
            nonce: random_nonce(),
        }
    }

    /// Whether a checkpoint that another leader completed counts for this one and all after it.
    pub fn accepts(&self, record: &CompletionRecord) -> bool {
        record.leader_epoch >= self.leader_epoch || self.latest.is_some_and(|latest| record.checkpoint_id <= latest)
    }
}

/// A savepoint whose effects are committed, or about to be: the job never goes on from anything older.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedSavepoint {
    /// The version of the record.
    pub version: u32,
    /// Its number.
    pub checkpoint_id: CheckpointId,
    /// The URI of its folder.
    pub uri: String,
    /// The epoch of the leader that took it.
    pub leader_epoch: u64,
}

impl CommittedSavepoint {
    /// The record of a savepoint.
    pub fn new(checkpoint_id: CheckpointId, uri: String, leader_epoch: u64) -> Self {
        Self {
            version: RECORD_VERSION,
            checkpoint_id,
            uri,
            leader_epoch,
        }
    }
}

/// A statement that holds no more than its name and who made it.
#[derive(Serialize, Deserialize)]
struct Mark {
    version: u32,
    leader_epoch: u64,
    nonce: String,
}

impl Mark {
    fn new(leader_epoch: u64) -> Self {
        Self {
            version: RECORD_VERSION,
            leader_epoch,
            nonce: random_nonce(),
        }
    }
}

/// An attempt that is about to begin.
#[derive(Serialize, Deserialize)]
struct AttemptRecord {
    #[serde(flatten)]
    mark: Mark,
    /// The last failures before it, first to last. Records of earlier builds have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failures: Vec<RecordedFailure>,
}

/// A cancellation that is about to begin.
#[derive(Serialize, Deserialize)]
struct CancellationRecord {
    #[serde(flatten)]
    mark: Mark,
    #[serde(flatten)]
    cancellation: Cancellation,
}

/// Everything that is recorded of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredJob {
    /// What was accepted.
    pub record: JobRecord,
    /// How it ended; `None`: it has not.
    pub result: Option<JobResultRecord>,
    /// The last attempt that was about to begin.
    pub attempt: Attempt,
    /// The last failures before that, first to last.
    pub failures: Vec<RecordedFailure>,
    /// Every takeover, by epoch.
    pub takeovers: Vec<TakeoverRecord>,
    /// Whether it is being cancelled, be it by its last leader or by one before.
    pub cancellation: Option<Cancellation>,
    /// Whether its last leader let go of it in order: none of its workers is left.
    pub is_suspended: bool,
    /// The latest savepoint that was committed.
    pub committed: Option<CommittedSavepoint>,
}

/// The jobs of a cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobStore {
    base: Location,
}

impl JobStore {
    /// The jobs below the folder that outlives job managers.
    pub fn new(base: Location) -> Self {
        Self { base }
    }

    /// Records a job, and with that claims its id.
    pub async fn create(&self, record: &JobRecord) -> Result<Creation, SnapshotError> {
        record::create(&self.child(record.job_id, layout::JOB)?, record).await
    }

    /// Every job, those that are being forgotten left out. A record that cannot be read is an error, never skipped.
    pub async fn list(&self) -> Result<Vec<StoredJob>, SnapshotError> {
        let names = self.base.child(layout::JOBS)?.list_names().await?;
        let ids = names
            .iter()
            .filter_map(|name| name.strip_suffix('/')?.parse::<JobId>().ok());
        futures::stream::iter(ids.collect::<Vec<_>>())
            .map(|id| self.clone().found(id))
            .buffered(READS_IN_FLIGHT)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await
    }

    async fn found(self, job: JobId) -> Result<Option<StoredJob>, SnapshotError> {
        self.find(job).await
    }

    /// What is recorded of a job.
    pub async fn find(&self, job: JobId) -> Result<Option<StoredJob>, SnapshotError> {
        let Some(record) = self.read::<JobRecord>(job, layout::JOB).await? else {
            return Ok(None);
        };
        if record.job_id != job {
            return Err(self.misplaced(job, layout::JOB, &format!("job `{}`", record.job_id)));
        }
        let folder = self.base.child(&layout::job_records(job))?;
        let names: Vec<String> = folder.list().await?.into_iter().map(|entry| entry.name).collect();
        let attempt = names.iter().filter_map(|name| layout::attempt_of(name)).max();
        let begun = match attempt {
            Some(attempt) => self.read::<AttemptRecord>(job, &layout::attempt(attempt)).await?,
            None => None,
        };
        let mut takeovers = Vec::new();
        for name in &names {
            let Some(epoch) = layout::takeover_of(name) else {
                continue;
            };
            let Some(takeover) = self.read::<TakeoverRecord>(job, name).await? else {
                continue;
            };
            if takeover.leader_epoch != epoch {
                return Err(self.misplaced(job, name, &format!("epoch {}", takeover.leader_epoch)));
            }
            takeovers.push(takeover);
        }
        takeovers.sort_unstable_by_key(|takeover| takeover.leader_epoch);
        // A leader that cannot read a job's checkpoints yet cancels it without having taken it over; and one that led before the job was
        // submitted, and was stopped, may take it over when it goes on.
        let decided = names.iter().filter_map(|name| layout::decision_of(name));
        let epochs = takeovers.iter().map(|takeover| takeover.leader_epoch).chain(decided);
        let last_epoch = epochs.fold(record.leader_epoch, u64::max);
        let committed = match names.iter().filter(|name| layout::is_committed(name)).max() {
            Some(latest) => self.read(job, latest).await?,
            None => None,
        };
        let begun_before = takeovers.last().and_then(|takeover| takeover.cancellation.clone());
        Ok(Some(StoredJob {
            record,
            result: self.result(job, last_epoch, &names).await?,
            cancellation: match begun_before {
                None => self.cancellation(job, last_epoch, &names).await?,
                begun => begun,
            },
            attempt: attempt.unwrap_or(Attempt::NONE),
            failures: begun.map(|begun| begun.failures).unwrap_or_default(),
            takeovers,
            is_suspended: names.contains(&layout::suspension(last_epoch)),
            committed,
        }))
    }

    /// How a job ended under its last leader, who leads in this epoch, if it did.
    async fn result(&self, job: JobId, epoch: u64, names: &[String]) -> Result<Option<JobResultRecord>, SnapshotError> {
        let name = layout::end(epoch);
        if names.contains(&name) {
            return self.read(job, &name).await;
        }
        if !names.iter().any(|name| name == layout::JOB_RESULT) {
            return Ok(None);
        }
        let of_earlier_builds: Option<JobResultRecord> = self.read(job, layout::JOB_RESULT).await?;
        Ok(of_earlier_builds.filter(|result| result.leader_epoch >= epoch))
    }

    /// The cancellation that the leader of this epoch has begun, if it has.
    async fn cancellation(
        &self,
        job: JobId,
        epoch: u64,
        names: &[String],
    ) -> Result<Option<Cancellation>, SnapshotError> {
        let name = layout::cancellation(epoch);
        if !names.contains(&name) {
            return Ok(None);
        }
        let record: Option<CancellationRecord> = self.read(job, &name).await?;
        Ok(record.map(|record| record.cancellation))
    }

    /// Records that an attempt is about to begin after these failures, and forgets the one before the last. `Taken`: another leader has
    /// begun it.
    pub async fn begin_attempt(
        &self,
        job: JobId,
        attempt: Attempt,
        failures: &[RecordedFailure],
        leader_epoch: u64,
    ) -> Result<Creation, SnapshotError> {
        let record = AttemptRecord {
            mark: Mark::new(leader_epoch),
            failures: failures.to_vec(),
        };
        let creation = record::create(&self.child(job, &layout::attempt(attempt))?, &record).await?;
        if let Some(old) = attempt.0.checked_sub(2).filter(|old| *old > 0) {
            self.child(job, &layout::attempt(Attempt(old)))?.delete().await?;
        }
        Ok(creation)
    }

    /// Records that a leader takes the job over.
    pub async fn take_over(&self, job: JobId, takeover: &TakeoverRecord) -> Result<Creation, SnapshotError> {
        record::create(&self.child(job, &layout::takeover(takeover.leader_epoch))?, takeover).await
    }

    /// Records that the leader cancels a job.
    pub async fn cancel(
        &self,
        job: JobId,
        cancellation: &Cancellation,
        leader_epoch: u64,
    ) -> Result<Creation, SnapshotError> {
        let record = CancellationRecord {
            mark: Mark::new(leader_epoch),
            cancellation: cancellation.clone(),
        };
        record::create(&self.child(job, &layout::cancellation(leader_epoch))?, &record).await
    }

    /// Records that the leader lets go of a job none of whose workers is left.
    pub async fn suspend(&self, job: JobId, leader_epoch: u64) -> Result<(), SnapshotError> {
        record::create(
            &self.child(job, &layout::suspension(leader_epoch))?,
            &Mark::new(leader_epoch),
        )
        .await
        .map(drop)
    }

    /// Records a savepoint before anything of it is committed.
    pub async fn commit(&self, job: JobId, savepoint: &CommittedSavepoint) -> Result<Creation, SnapshotError> {
        record::create(
            &self.child(job, &layout::committed(savepoint.checkpoint_id))?,
            savepoint,
        )
        .await
    }

    /// Records how a job ended under a leader. Its first result stays; returns it.
    pub async fn end(&self, result: &JobResultRecord) -> Result<JobResultRecord, SnapshotError> {
        let name = layout::end(result.leader_epoch);
        match record::create(&self.child(result.job_id, &name)?, result).await? {
            Creation::Created => Ok(result.clone()),
            Creation::Taken => {
                let first = self.read(result.job_id, &name).await?;
                Ok(first.unwrap_or_else(|| result.clone()))
            }
        }
    }

    /// Forgets a job that has ended. Its submission goes first, so that half of it never looks like a job that is to go on.
    pub async fn forget(&self, job: JobId) -> Result<(), SnapshotError> {
        self.child(job, layout::JOB)?.delete().await?;
        Ok(self.base.child(&layout::job_records(job))?.delete_folder().await?)
    }

    /// The error of a record that is not what its name says.
    fn misplaced(&self, job: JobId, name: &str, subject: &str) -> SnapshotError {
        SnapshotError::Malformed {
            uri: format!("{}/{}/{name}", self.base.uri(), layout::job_records(job)),
            reason: format!("it speaks of {subject}"),
        }
    }

    fn child(&self, job: JobId, name: &str) -> Result<Location, SnapshotError> {
        Ok(self.base.child(&layout::job_records(job))?.child(name)?)
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, job: JobId, name: &str) -> Result<Option<T>, SnapshotError> {
        record::read(&self.child(job, name)?, RECORD_VERSION, MAX_RECORD_BYTES).await
    }
}

#[cfg(test)]
#[path = "job_store_tests.rs"]
mod tests;
