//! Whose a folder of checkpoints is: two clusters that write and delete in one folder would each take the other's files for
//! its own.
//!
//! ```text
//! <storage>/cluster.json           who a cluster is: made once, found again by every later job manager of the cluster
//! <checkpoints>/claimed-by.json    the cluster that writes and deletes here by itself
//! ```
//!
//! Both are created, never changed. Reading is free: any cluster may start jobs from any folder, and folders of savepoints are the
//! user's and nobody's to claim.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use streamd_core::time::WallTime;

use crate::error::{SnapshotError, StoreError};
use crate::layout;
use crate::publish::random_nonce;
use crate::record::{self, encoded};
use crate::store::{CreateError, Location};

/// The version of both records that this build writes.
const RECORD_VERSION: u32 = 1;

/// Bytes of a record at most: it holds a few names.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// Who a cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// The version of the record.
    pub version: u32,
    /// 32 random digits.
    pub cluster_id: String,
    /// When the cluster first had a job manager.
    pub created_at: WallTime,
}

/// Whose a folder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderClaim {
    /// The version of the record.
    pub version: u32,
    /// The cluster.
    pub cluster_id: String,
    /// Where that cluster keeps its applications and records, for people.
    pub storage: String,
    /// Since when.
    pub claimed_at: WallTime,
    /// Unique to this writing.
    pub nonce: String,
}

/// The identity of the cluster that keeps its records in this folder; made if it has none.
pub async fn cluster_identity(storage: &Location, now: WallTime) -> Result<ClusterIdentity, SnapshotError> {
    let location = storage.child(layout::CLUSTER)?;
    if let Some(known) = read::<ClusterIdentity>(&location).await? {
        return Ok(known);
    }
    let new = ClusterIdentity {
        version: RECORD_VERSION,
        cluster_id: random_nonce(),
        created_at: now,
    };
    match location.create(encoded(&new)).await {
        Ok(()) => Ok(new),
        Err(error) => there_or(&location, error).await,
    }
}

/// Claims a folder of checkpoints for a cluster. Fine where it is the cluster's already; [`SnapshotError::Claimed`] where it is
/// another's.
pub async fn claim_folder(
    folder: &Location,
    (cluster, storage): (&ClusterIdentity, &Location),
    now: WallTime,
) -> Result<(), SnapshotError> {
    let location = folder.child(layout::CLAIM)?;
    let claim = match read::<FolderClaim>(&location).await? {
        Some(known) => known,
        None => {
            let new = FolderClaim {
                version: RECORD_VERSION,
                cluster_id: cluster.cluster_id.clone(),
                storage: storage.uri(),
                claimed_at: now,
                nonce: random_nonce(),
            };
            match location.create(encoded(&new)).await {
                Ok(()) => new,
                Err(error) => there_or(&location, error).await?,
            }
        }
    };
    if claim.cluster_id == cluster.cluster_id {
        return Ok(());
    }
    Err(SnapshotError::Claimed {
        folder: folder.uri(),
        storage: claim.storage,
    })
}

/// Whose a folder of checkpoints is; `None`: nobody's.
pub async fn claim_of(folder: &Location) -> Result<Option<FolderClaim>, SnapshotError> {
    read(&folder.child(layout::CLAIM)?).await
}

/// Takes a folder of checkpoints from the cluster that has it. Nothing else in it changes.
pub async fn release_folder(folder: &Location) -> Result<(), SnapshotError> {
    Ok(folder.child(layout::CLAIM)?.delete().await?)
}

/// What another writer has created first; the error where nobody has.
async fn there_or<T: DeserializeOwned>(location: &Location, error: CreateError) -> Result<T, SnapshotError> {
    let there = read(location).await?;
    there.ok_or_else(|| match error {
        CreateError::Failed(error) | CreateError::OutcomeUnknown { source: error, .. } => error.into(),
        // It was there a moment ago, and is not any more: somebody is releasing it.
        CreateError::Lost { uri } => StoreError::NotFound { uri }.into(),
    })
}

async fn read<T: DeserializeOwned>(location: &Location) -> Result<Option<T>, SnapshotError> {
    record::read(location, RECORD_VERSION, MAX_RECORD_BYTES).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Location {
        Location::open(&format!("memory://{}/{name}", random_nonce())).unwrap()
    }

    async fn cluster(storage: &Location) -> ClusterIdentity {
        cluster_identity(storage, WallTime(1)).await.unwrap()
    }

    #[tokio::test]
    async fn a_cluster_is_the_same_however_often_it_comes_back() {
        let (storage, folder) = (place("ha"), place("checkpoints"));
        let first = cluster(&storage).await;
        claim_folder(&folder, (&first, &storage), WallTime(2)).await.unwrap();
        let again = cluster(&storage).await;
        assert_eq!(first, again);
        claim_folder(&folder, (&again, &storage), WallTime(3)).await.unwrap();
        assert_eq!(claim_of(&folder).await.unwrap().unwrap().claimed_at, WallTime(2));
    }

    #[tokio::test]
    async fn a_second_cluster_is_refused_until_the_folder_is_released() {
        let (one, two, folder) = (place("ha"), place("ha"), place("checkpoints"));
        claim_folder(&folder, (&cluster(&one).await, &one), WallTime(1))
            .await
            .unwrap();
        let second = cluster(&two).await;
        let refused = claim_folder(&folder, (&second, &two), WallTime(1)).await.unwrap_err();
        let coded = refused.to_coded();
        assert_eq!(coded.code, streamd_core::error::ErrorCode::FolderClaimed);
        assert!(
            coded.message.contains(&one.uri()) && coded.message.contains(&folder.uri()),
            "{coded}"
        );
        release_folder(&folder).await.unwrap();
        claim_folder(&folder, (&second, &two), WallTime(1)).await.unwrap();
    }

    #[tokio::test]
    async fn of_clusters_that_claim_at_once_one_has_it() {
        let folder = place("checkpoints");
        let claims = (0..8).map(|_| {
            let folder = folder.clone();
            async move {
                let storage = place("ha");
                claim_folder(&folder, (&cluster(&storage).await, &storage), WallTime(1))
                    .await
                    .is_ok()
            }
        });
        let won = futures::future::join_all(claims).await;
        assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
    }

    #[tokio::test]
    async fn a_claim_that_cannot_be_read_is_nobody_elses_leave_to_write() {
        let (storage, folder) = (place("ha"), place("checkpoints"));
        let claim = folder.child(layout::CLAIM).unwrap();
        claim.put_create("{").await.unwrap();
        let cluster = cluster(&storage).await;
        let refused = claim_folder(&folder, (&cluster, &storage), WallTime(1)).await;
        assert!(matches!(refused, Err(SnapshotError::Malformed { .. })), "{refused:?}");
        claim.delete().await.unwrap();
        let newer = r#"{"version":2,"cluster_id":"x","storage":"s","claimed_at":1,"nonce":"n"}"#;
        claim.put_create(newer).await.unwrap();
        let refused = claim_folder(&folder, (&cluster, &storage), WallTime(1)).await;
        assert!(
            matches!(refused, Err(SnapshotError::NewerVersion { .. })),
            "{refused:?}"
        );
    }
}
