//! Deleting a snapshot for its owner, with a look at who else needs it.

use crate::discard::dispose;
use crate::error::SnapshotError;
use crate::fsck::references::referrers;
use crate::layout;
use crate::read::find;
use crate::store::Location;

/// What becomes of objects that other checkpoints of the same job refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nothing is deleted at all where there is one.
    Refuse,
    /// They stay, and everything else goes.
    Keep,
}

/// Deletes a complete snapshot: record, metadata, objects, in this order, and no folder stays behind empty. Returns its URI.
///
/// Refused where a checkpoint of another job refers to it, where a neighbour cannot be read (it may refer to anything), and, unless
/// told to keep what is shared, where another checkpoint of its job does.
pub async fn dispose_unused(pointer: &str, sharing: Sharing) -> Result<String, SnapshotError> {
    let found = find(pointer).await?;
    let job = found.folder.parent().map(|job| format!("{}/", job.uri()));
    let referrers = referrers(&found).await?;
    let is_of_its_job = |folder: &str| job.as_deref().is_some_and(|job| folder.starts_with(job));
    let refused: Vec<String> = referrers
        .into_iter()
        .map(|referrer| referrer.folder)
        .filter(|folder| sharing == Sharing::Refuse || !is_of_its_job(folder))
        .collect();
    if !refused.is_empty() {
        let uri = found.folder.uri();
        return Err(SnapshotError::InUse { uri, by: refused });
    }
    let uri = dispose(pointer).await?;
    remove_emptied_job(&Location::open(&uri)?).await?;
    Ok(uri)
}

/// The folder of a job that has no checkpoint left must not stay behind.
async fn remove_emptied_job(checkpoint: &Location) -> Result<(), SnapshotError> {
    if let Some(job) = checkpoint
        .parent()
        .filter(|_job| layout::is_checkpoint_folder(checkpoint))
    {
        job.child(layout::COMPLETED)?.remove_if_empty().await?;
        job.remove_if_empty().await?;
    }
    Ok(())
}
