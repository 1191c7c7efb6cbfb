//! Deleting snapshots: streamd's own when they are no longer needed, the user's when he says so.

use std::collections::BTreeSet;

use streamd_core::snapshot::ObjectHandle;

use crate::completed::list_completed;
use crate::error::SnapshotError;
use crate::layout;
use crate::read::{find, objects_of};
use crate::store::Location;

/// Deletes a checkpoint, or what there is of a snapshot that was given up: its record of completion, its metadata, its objects,
/// in this order, so that what is half deleted never looks complete. May be repeated. A complete savepoint is refused: it is
/// the user's (see [`dispose`]).
pub async fn discard(folder: &Location) -> Result<(), SnapshotError> {
    let metadata = folder.child(layout::METADATA)?;
    if layout::is_checkpoint_folder(folder) {
        delete_record(folder).await?;
    } else if metadata.exists().await? {
        return Err(SnapshotError::NotOurs { uri: folder.uri() });
    }
    metadata.delete().await?;
    folder.delete_folder().await?;
    if let Some(parent) = folder.parent().filter(|_job| layout::is_checkpoint_folder(folder)) {
        parent.remove_if_empty().await?;
    }
    tracing::debug!(snapshot = %folder, "discarded snapshot");
    Ok(())
}

/// Deletes a complete snapshot on behalf of its owner: its metadata, and exactly the objects in its folder that this refers to and
/// no other checkpoint of the job does. Anything else in the folder stays. Returns the URI of the folder.
pub async fn dispose(pointer: &str) -> Result<String, SnapshotError> {
    let found = find(pointer).await?;
    let folder = found.folder;
    let needed = needed_by_others(&folder).await?;
    if layout::is_checkpoint_folder(&folder) {
        delete_record(&folder).await?;
    }
    folder.child(layout::METADATA)?.delete().await?;
    let lists: Vec<ObjectHandle> = found.list_tables.into_iter().map(|table| table.object).collect();
    for object in objects_of(&found.metadata).iter().chain(&lists) {
        // What lies elsewhere is an earlier checkpoint's. Else the metadata was checked to name only what is below the folder.
        if !object.is_elsewhere() && !needed.contains(&object.path) {
            folder.child(&object.path)?.delete().await?;
        }
    }
    folder.remove_empty_folders().await?;
    tracing::info!(snapshot = %folder, "disposed of snapshot");
    Ok(folder.uri())
}

/// Deletes a snapshot that its owner gave to a job. As [`dispose`], and it may be repeated: what is gone already is fine.
pub async fn discard_claimed(pointer: &str) -> Result<(), SnapshotError> {
    let folder = match dispose(pointer).await {
        Ok(folder) => Location::open(&folder)?,
        Err(SnapshotError::NotFound { .. } | SnapshotError::NoMetadata { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(job) = folder.parent().filter(|_job| layout::is_checkpoint_folder(&folder)) {
        job.remove_if_empty().await?;
    }
    Ok(())
}

/// The objects in the folder of a checkpoint that other complete checkpoints of the job refer to, by name. One of those that cannot
/// be read is an error: what it refers to is unknown, so nothing may go.
async fn needed_by_others(folder: &Location) -> Result<BTreeSet<String>, SnapshotError> {
    let mut needed = BTreeSet::new();
    let (Some(name), Some(job_folder)) = (folder.name(), folder.parent()) else {
        return Ok(needed);
    };
    if !layout::is_checkpoint_folder(folder) {
        return Ok(needed);
    }
    for record in list_completed(&job_folder).await? {
        if record.folder == name {
            continue;
        }
        let other = match find(&job_folder.child(&record.folder)?.uri()).await {
            Ok(other) => other,
            // Given up between its record and its metadata: nobody can restore it.
            Err(SnapshotError::NotFound { .. } | SnapshotError::NoMetadata { .. }) => continue,
            Err(error) => return Err(error),
        };
        let objects = objects_of(&other.metadata);
        let ours = objects.iter().filter_map(|object| layout::split_beside(&object.path));
        needed.extend(
            ours.filter(|(beside, _)| *beside == name)
                .map(|(_, object)| object.to_owned()),
        );
    }
    Ok(needed)
}

async fn delete_record(folder: &Location) -> Result<(), SnapshotError> {
    let (Some(job_folder), Some(id)) = (folder.parent(), layout::checkpoint_of(folder)) else {
        return Ok(());
    };
    job_folder.child(&layout::completion_record(id))?.delete().await?;
    job_folder.child(layout::COMPLETED)?.remove_if_empty().await?;
    Ok(())
}
