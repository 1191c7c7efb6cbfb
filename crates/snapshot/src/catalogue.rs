//! The catalogue of savepoints: one durable record of each operation that was begun, and one of how it ended.
//!
//! ```text
//! <storage>/operations/<id>.begun.json    created before anything is written: where the savepoint goes
//! <storage>/operations/<id>.ended.json    created once the outcome is known
//! ```
//!
//! Records are created, never changed. An operation without an end was under way when its job manager ended; what became of
//! it is read off the place that its beginning names: a savepoint with metadata is complete, one without never will be.

use futures::{StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use streamd_core::error::CodedError;
use streamd_core::id::{CheckpointId, JobId, OperationId};
use streamd_core::time::WallTime;

use crate::error::SnapshotError;
use crate::layout;
use crate::record::{self, Creation};
use crate::store::Location;

/// The version of the records that this build writes.
const RECORD_VERSION: u32 = 1;

/// Bytes of a record at most: an error message is its longest part.
const MAX_RECORD_BYTES: u64 = 256 << 10;

/// Records that are read at once.
const READS_IN_FLIGHT: usize = 16;

/// How an operation began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationBegun {
    /// The version of the record.
    pub version: u32,
    /// The operation.
    pub operation_id: OperationId,
    /// Its job.
    pub job_id: JobId,
    /// The name of the job.
    pub job_name: String,
    /// What follows the savepoint: `savepoint` (nothing), `cancel`, `stop` or `drain`.
    pub kind: OperationVerb,
    /// The URI of the savepoint's folder.
    pub location: String,
    /// When it was asked for.
    pub requested_at: WallTime,
}

/// What follows a savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationVerb {
    /// Nothing.
    Savepoint,
    /// The job is cancelled.
    Cancel,
    /// The job is stopped.
    Stop,
    /// The job is drained.
    Drain,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationEnded {
    /// The version of the record.
    pub version: u32,
    /// The operation.
    pub operation_id: OperationId,
    /// When.
    pub ended_at: WallTime,
    /// What came of it.
    pub outcome: OperationOutcome,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationOutcome {
    /// A savepoint.
    Completed {
        /// The URI of its folder.
        savepoint_path: String,
        /// Its size.
        bytes: u64,
        /// Milliseconds from request to completion.
        duration_ms: u64,
        /// The checkpoint that it is a copy of, where the job did not run.
        promoted: Option<CheckpointId>,
    },
    /// None, or the job did not end as it should.
    Failed {
        /// Why.
        error: CodedError,
    },
}

impl OperationBegun {
    /// The version that this build writes.
    pub const VERSION: u32 = RECORD_VERSION;
}

impl OperationEnded {
    /// The record of an end.
    pub fn new(operation_id: OperationId, ended_at: WallTime, outcome: OperationOutcome) -> Self {
        Self {
            version: RECORD_VERSION,
            operation_id,
            ended_at,
            outcome,
        }
    }
}

/// What is recorded of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedOperation {
    /// How it began.
    pub begun: OperationBegun,
    /// How it ended; `None`: it is under way, or its job manager ended before it.
    pub ended: Option<OperationEnded>,
}

/// All records of a cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OperationCatalogue {
    base: Location,
}

impl OperationCatalogue {
    /// The catalogue below the folder that outlives job managers.
    pub fn new(base: Location) -> Self {
        Self { base }
    }

    /// Records that an operation begins. Where it is known already, returns what it began as: the same id is the same operation.
    pub async fn begin(&self, begun: &OperationBegun) -> Result<Option<OperationBegun>, SnapshotError> {
        let location = self.base.child(&layout::operation_begun(begun.operation_id))?;
        match record::create(&location, begun).await? {
            Creation::Created => Ok(None),
            Creation::Taken => Ok(read::<OperationBegun>(&location).await?.filter(|known| known != begun)),
        }
    }

    /// Records how an operation ended. The first record of an end stays.
    pub async fn end(&self, ended: &OperationEnded) -> Result<(), SnapshotError> {
        let location = self.base.child(&layout::operation_ended(ended.operation_id))?;
        record::create(&location, ended).await.map(drop)
    }

    /// Takes the record of an operation back that was refused: it never began.
    pub async fn withdraw(&self, id: OperationId) -> Result<(), SnapshotError> {
        self.base.child(&layout::operation_begun(id))?.delete().await?;
        Ok(self.base.child(layout::OPERATIONS)?.remove_if_empty().await?)
    }

    /// What is recorded of an operation.
    pub async fn find(&self, id: OperationId) -> Result<Option<RecordedOperation>, SnapshotError> {
        let Some(begun) = read::<OperationBegun>(&self.base.child(&layout::operation_begun(id))?).await? else {
            return Ok(None);
        };
        let ended = read(&self.base.child(&layout::operation_ended(id))?).await?;
        Ok(Some(RecordedOperation { begun, ended }))
    }

    async fn found(self, id: OperationId) -> Result<Option<RecordedOperation>, SnapshotError> {
        self.find(id).await
    }

    /// Every operation, the newest first. A record that cannot be read is an error, never skipped: who looks for a savepoint
    /// must not be told that there is none.
    pub async fn list(&self) -> Result<Vec<RecordedOperation>, SnapshotError> {
        let entries = self.base.child(layout::OPERATIONS)?.list().await?;
        let ids: Vec<OperationId> = entries
            .iter()
            .filter_map(|entry| layout::operation_of(&entry.name))
            .collect();
        let mut found: Vec<RecordedOperation> = futures::stream::iter(ids)
            .map(|id| self.clone().found(id))
            .buffer_unordered(READS_IN_FLIGHT)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await?;
        found.sort_by_key(|it| (std::cmp::Reverse(it.begun.requested_at), it.begun.operation_id));
        Ok(found)
    }

    /// Forgets the oldest operations that have ended, beyond the newest `kept`. Savepoints themselves are not touched.
    pub async fn prune(&self, kept: usize) -> Result<usize, SnapshotError> {
        let all = self.list().await?;
        let mut forgotten = 0;
        for old in all.iter().skip(kept).filter(|old| old.ended.is_some()) {
            let id = old.begun.operation_id;
            self.base.child(&layout::operation_begun(id))?.delete().await?;
            self.base.child(&layout::operation_ended(id))?.delete().await?;
            forgotten += 1;
        }
        Ok(forgotten)
    }
}

async fn read<T: DeserializeOwned>(location: &Location) -> Result<Option<T>, SnapshotError> {
    record::read(location, RECORD_VERSION, MAX_RECORD_BYTES).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(id: u8, at: i64) -> OperationBegun {
        OperationBegun {
            version: OperationBegun::VERSION,
            operation_id: OperationId::from_bytes([id; 16]),
            job_id: JobId::from_bytes([9; 16]),
            job_name: "flights".to_owned(),
            kind: OperationVerb::Savepoint,
            location: format!("file:///sp/{id}"),
            requested_at: WallTime(at),
        }
    }

    fn ended(id: u8) -> OperationEnded {
        let outcome = OperationOutcome::Completed {
            savepoint_path: format!("file:///sp/{id}"),
            bytes: 5,
            duration_ms: 6,
            promoted: Some(CheckpointId(7)),
        };
        OperationEnded::new(OperationId::from_bytes([id; 16]), WallTime(20), outcome)
    }

    fn catalogue() -> (tempfile::TempDir, OperationCatalogue) {
        let directory = tempfile::tempdir().unwrap();
        let base = Location::open(directory.path().to_str().unwrap()).unwrap();
        (directory, OperationCatalogue::new(base))
    }

    #[tokio::test]
    async fn what_is_recorded_is_found_by_whoever_opens_the_catalogue_next() {
        let (directory, first) = catalogue();
        assert_eq!(first.begin(&begun(1, 10)).await.unwrap(), None);
        assert_eq!(first.begin(&begun(2, 11)).await.unwrap(), None);
        first.end(&ended(1)).await.unwrap();
        let next = OperationCatalogue::new(Location::open(directory.path().to_str().unwrap()).unwrap());
        let found = next.find(OperationId::from_bytes([1; 16])).await.unwrap().unwrap();
        assert_eq!((found.begun, found.ended), (begun(1, 10), Some(ended(1))));
        let order: Vec<u8> = next
            .list()
            .await
            .unwrap()
            .iter()
            .map(|it| it.begun.operation_id.as_bytes()[0])
            .collect();
        assert_eq!(order, [2, 1]);
    }

    #[tokio::test]
    async fn the_same_id_is_the_same_operation_and_its_first_end_stays() {
        let (_directory, catalogue) = catalogue();
        catalogue.begin(&begun(1, 10)).await.unwrap();
        assert_eq!(catalogue.begin(&begun(1, 99)).await.unwrap(), Some(begun(1, 10)));
        catalogue.end(&ended(1)).await.unwrap();
        let other = OperationOutcome::Failed {
            error: CodedError::new(streamd_core::error::ErrorCode::SavepointFailed, "no"),
        };
        let id = OperationId::from_bytes([1; 16]);
        catalogue
            .end(&OperationEnded::new(id, WallTime(30), other))
            .await
            .unwrap();
        assert_eq!(catalogue.find(id).await.unwrap().unwrap().ended, Some(ended(1)));
    }

    #[tokio::test]
    async fn a_refused_operation_leaves_nothing() {
        let (directory, catalogue) = catalogue();
        catalogue.begin(&begun(1, 10)).await.unwrap();
        catalogue.withdraw(OperationId::from_bytes([1; 16])).await.unwrap();
        assert_eq!(catalogue.find(OperationId::from_bytes([1; 16])).await.unwrap(), None);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn the_oldest_that_have_ended_are_forgotten_and_those_under_way_never() {
        let (_directory, catalogue) = catalogue();
        for id in 1..=4 {
            catalogue.begin(&begun(id, i64::from(id))).await.unwrap();
        }
        catalogue.end(&ended(1)).await.unwrap();
        catalogue.end(&ended(4)).await.unwrap();
        assert_eq!(catalogue.prune(1).await.unwrap(), 1);
        let left: Vec<u8> = catalogue
            .list()
            .await
            .unwrap()
            .iter()
            .map(|it| it.begun.operation_id.as_bytes()[0])
            .collect();
        assert_eq!(left, [4, 3, 2]);
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_told_and_never_skipped() {
        let (directory, catalogue) = catalogue();
        catalogue.begin(&begun(1, 10)).await.unwrap();
        let file = directory
            .path()
            .join(layout::operation_begun(OperationId::from_bytes([1; 16])));
        for bad in ["", "{", "{\"version\": 2}", "{\"version\": 1}"] {
            std::fs::write(&file, bad).unwrap();
            assert!(catalogue.list().await.is_err(), "{bad}");
        }
    }
}
