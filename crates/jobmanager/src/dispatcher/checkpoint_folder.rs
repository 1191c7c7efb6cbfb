//! The folders that jobs of this cluster write checkpoints into: nobody else's, and no two jobs the same.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::JobId;
use streamd_core::time::Clock;
use streamd_snapshot::{Location, SnapshotError, claim_folder, claim_of, cluster_identity, layout};

/// Claims folders of checkpoints for this cluster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CheckpointFolders {
    /// Where the cluster says who it is.
    storage: Location,
    clock: Arc<dyn Clock>,
    /// What is known to be this cluster's: a claim is looked at once.
    claimed: Arc<Mutex<BTreeSet<String>>>,
}

impl CheckpointFolders {
    pub(crate) fn new(storage: Location, clock: Arc<dyn Clock>) -> Self {
        Self {
            storage,
            clock,
            claimed: Arc::default(),
        }
    }

    /// Makes a folder this cluster's. Errors if it is another's ([`ErrorCode::FolderClaimed`]), or if nobody can say.
    pub(crate) async fn claim(&self, folder: &str) -> Result<(), CodedError> {
        let claim = async || -> Result<(), SnapshotError> {
            let folder = Location::open(folder)?;
            if self.is_claimed(&folder) {
                return Ok(());
            }
            let cluster = cluster_identity(&self.storage, self.clock.wall()).await?;
            claim_folder(&folder, (&cluster, &self.storage), self.clock.wall()).await?;
            self.claimed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(folder.uri());
            Ok(())
        };
        claim().await.map_err(|error| error.to_coded())
    }

    fn is_claimed(&self, folder: &Location) -> bool {
        let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.contains(&folder.uri())
    }

    /// Errors if an earlier job of this id has left checkpoints: those of a new one would have the same names.
    pub(crate) async fn check_new(&self, folder: &str, job: JobId) -> Result<(), CodedError> {
        let names = async || -> Result<Vec<String>, SnapshotError> {
            Ok(layout::job_folder(&Location::open(folder)?, job)?.list_names().await?)
        };
        let names = names().await.map_err(|error| error.to_coded())?;
        if !names.iter().any(|name| is_of_checkpoints(name)) {
            return Ok(());
        }
        let message = format!("an earlier job `{job}` has left checkpoints in `{folder}`");
        Err(CodedError::new(ErrorCode::DuplicateJob, message)
            .with_hint("submit with a new job id; `-s` or `--resume` goes on from what the earlier job has left"))
    }

    /// What a user should know who starts a job from this snapshot: another cluster may delete it.
    pub(crate) async fn warning(&self, snapshot: &str) -> Option<String> {
        let folder = Location::open(snapshot).ok()?;
        let base = layout::is_checkpoint_folder(&folder)
            .then(|| folder.parent()?.parent())
            .flatten()?;
        if self.is_claimed(&base) {
            return None;
        }
        // Whoever cannot read the claim has read the snapshot: nothing depends on it.
        let claim = claim_of(&base).await.ok().flatten()?;
        let own = cluster_identity(&self.storage, self.clock.wall()).await.ok()?;
        (claim.cluster_id != own.cluster_id).then(|| {
            format!(
                "checkpoint `{snapshot}` belongs to the cluster of `{}`: if its job still runs there, it may be deleted before this \
                 job has a checkpoint of its own; a savepoint would not be",
                claim.storage
            )
        })
    }
}

fn is_of_checkpoints(name: &str) -> bool {
    let name = name.strip_suffix('/').unwrap_or(name);
    name == layout::COMPLETED || layout::checkpoint_number(name).is_some()
}
