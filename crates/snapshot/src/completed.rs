//! Which checkpoints of a job are complete: the record in the store, and the few that are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use streamd_core::id::{Attempt, CheckpointId, JobId};
use streamd_core::snapshot::SnapshotMetadata;
use streamd_core::time::WallTime;

use crate::error::SnapshotError;
use crate::layout;
use crate::store::Location;

/// The version of the record that this build writes.
const RECORD_VERSION: u32 = 1;

/// Bytes of a record at most: it holds a dozen short values.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// The durable statement that a checkpoint is complete: created once, after its metadata, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionRecord {
    /// The version of the record.
    pub version: u32,
    /// The job.
    pub job_id: JobId,
    /// The checkpoint.
    pub checkpoint_id: CheckpointId,
    /// The name of its folder, beside the folder of the records.
    pub folder: String,
    /// Bytes of its metadata.
    pub metadata_bytes: u64,
    /// The epoch of the job manager that completed it.
    pub leader_epoch: u64,
    /// The attempt of the job that took it.
    pub attempt: Attempt,
    /// The nonce of its metadata.
    pub nonce: String,
    /// When it was triggered, for people.
    pub triggered_at: WallTime,
}

impl CompletionRecord {
    pub(crate) fn new(metadata: &SnapshotMetadata, folder: &str, metadata_bytes: u64) -> Self {
        Self {
            version: RECORD_VERSION,
            job_id: metadata.job_id,
            checkpoint_id: metadata.checkpoint_id,
            folder: folder.to_owned(),
            metadata_bytes,
            leader_epoch: metadata.leader_epoch,
            attempt: metadata.attempt,
            nonce: metadata.nonce.clone(),
            triggered_at: metadata.triggered_at,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("a record is plain data with text keys");
        json.push(b'\n');
        json
    }
}

/// The records of completion in a job's folder, oldest first. One that cannot be read is an error, never skipped: what comes after
/// it must not be mistaken for the latest.
pub async fn list_completed(job_folder: &Location) -> Result<Vec<CompletionRecord>, SnapshotError> {
    let folder = job_folder.child(layout::COMPLETED)?;
    let mut records = Vec::new();
    for entry in folder.list().await? {
        let location = folder.child(&entry.name)?;
        let bytes = location.get(MAX_RECORD_BYTES).await?;
        let malformed = |reason: String| SnapshotError::Malformed {
            uri: location.uri(),
            reason,
        };
        let record: CompletionRecord = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if record.version > RECORD_VERSION {
            let (found, supported) = (record.version, RECORD_VERSION);
            return Err(SnapshotError::NewerVersion {
                uri: location.uri(),
                found,
                supported,
            });
        }
        if layout::completion_record(record.checkpoint_id) != format!("{}/{}", layout::COMPLETED, entry.name) {
            return Err(malformed(format!("it speaks of checkpoint {}", record.checkpoint_id)));
        }
        records.push(record);
    }
    records.sort_unstable_by_key(|record| record.checkpoint_id);
    Ok(records)
}

/// A complete checkpoint that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedCheckpoint {
    /// Which.
    pub id: CheckpointId,
    /// The URI of its folder.
    pub folder: String,
}

/// The complete checkpoints that a job keeps: the latest few. Savepoints never enter: they are the user's, count for nothing and
/// push nothing out. A plain value: whoever owns it discards what it gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedCheckpointStore {
    retained: usize,
    checkpoints: BTreeMap<CheckpointId, CompletedCheckpoint>,
}

impl CompletedCheckpointStore {
    /// A store that keeps the `retained` latest, and never fewer than one.
    pub fn new(retained: u32) -> Self {
        Self {
            retained: retained.max(1) as usize,
            checkpoints: BTreeMap::new(),
        }
    }

    /// Takes a checkpoint in, in any order, and returns those to discard, oldest first.
    #[must_use = "what is given up must be discarded"]
    pub fn add(&mut self, checkpoint: CompletedCheckpoint) -> Vec<CompletedCheckpoint> {
        self.checkpoints.insert(checkpoint.id, checkpoint);
        let mut given_up = Vec::new();
        while self.checkpoints.len() > self.retained {
            given_up.extend(self.checkpoints.pop_first().map(|(_id, checkpoint)| checkpoint));
        }
        given_up
    }

    /// The checkpoint with the greatest id: the only one that a job may recover from. Where it cannot be read, the job stops: no
    /// older one is ever taken in its place.
    pub fn latest(&self) -> Option<&CompletedCheckpoint> {
        self.checkpoints.last_key_value().map(|(_id, checkpoint)| checkpoint)
    }

    /// All that are kept, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &CompletedCheckpoint> {
        self.checkpoints.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(id: u64) -> CompletedCheckpoint {
        CompletedCheckpoint {
            id: CheckpointId(id),
            folder: format!("file:///c/chk-{id}"),
        }
    }

    #[test]
    fn the_latest_is_the_one_of_the_greatest_id_whenever_it_came() {
        let mut store = CompletedCheckpointStore::new(2);
        assert_eq!(store.add(checkpoint(5)), []);
        assert_eq!(store.add(checkpoint(3)), []);
        assert_eq!(store.latest(), Some(&checkpoint(5)));
        assert_eq!(store.add(checkpoint(7)), [checkpoint(3)]);
        assert_eq!(store.add(checkpoint(1)), [checkpoint(1)]);
        assert_eq!(store.iter().map(|kept| kept.id.0).collect::<Vec<_>>(), [5, 7]);
    }

    #[test]
    fn one_checkpoint_is_kept_even_if_none_is_asked_for() {
        let mut store = CompletedCheckpointStore::new(0);
        assert_eq!(store.add(checkpoint(1)), []);
        assert_eq!(store.add(checkpoint(2)), [checkpoint(1)]);
    }

    /// I13.
    #[tokio::test]
    async fn a_record_of_a_newer_version_or_of_another_checkpoint_is_refused_and_the_rest_with_it() {
        let record = |id: u64| CompletionRecord {
            version: RECORD_VERSION,
            job_id: JobId::from_bytes([1; 16]),
            checkpoint_id: CheckpointId(id),
            folder: format!("chk-{id}"),
            metadata_bytes: 1,
            leader_epoch: 1,
            attempt: Attempt(1),
            nonce: String::new(),
            triggered_at: WallTime(0),
        };
        let newer = CompletionRecord {
            version: RECORD_VERSION + 1,
            ..record(2)
        };
        for second in [newer, record(3)] {
            let job = Location::open(&format!("memory://{}/job", crate::publish::random_nonce())).unwrap();
            let put = async |id: u64, record: &CompletionRecord| {
                let place = job.child(&layout::completion_record(CheckpointId(id))).unwrap();
                place.put_create(record.encode()).await.unwrap();
            };
            put(1, &record(1)).await;
            assert_eq!(list_completed(&job).await.unwrap(), [record(1)]);
            put(2, &second).await;
            let refused = list_completed(&job).await.unwrap_err();
            match second.version > RECORD_VERSION {
                true => assert!(matches!(refused, SnapshotError::NewerVersion { .. }), "{refused:?}"),
                false => assert!(matches!(refused, SnapshotError::Malformed { .. }), "{refused:?}"),
            }
        }
    }
}
