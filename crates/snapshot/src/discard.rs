//! Deleting snapshots: streamd's own when they are no longer needed, the user's when he says so.

use streamd_core::snapshot::ObjectHandle;

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

/// Deletes a complete snapshot on behalf of its owner: its metadata, and exactly the objects that this refers to. Anything else in
/// the folder stays. Returns the URI of the folder.
pub async fn dispose(pointer: &str) -> Result<String, SnapshotError> {
    let found = find(pointer).await?;
    let folder = found.folder;
    if layout::is_checkpoint_folder(&folder) {
        delete_record(&folder).await?;
    }
    folder.child(layout::METADATA)?.delete().await?;
    let lists: Vec<ObjectHandle> = found.list_tables.into_iter().map(|table| table.object).collect();
    for object in objects_of(&found.metadata).iter().chain(&lists) {
        // The metadata was checked to name only what is below the folder.
        folder.child(&object.path)?.delete().await?;
    }
    folder.remove_empty_folders().await?;
    tracing::info!(snapshot = %folder, "disposed of snapshot");
    Ok(folder.uri())
}

async fn delete_record(folder: &Location) -> Result<(), SnapshotError> {
    let (Some(job_folder), Some(id)) = (folder.parent(), layout::checkpoint_of(folder)) else {
        return Ok(());
    };
    job_folder.child(&layout::completion_record(id))?.delete().await?;
    job_folder.child(layout::COMPLETED)?.remove_if_empty().await?;
    Ok(())
}
