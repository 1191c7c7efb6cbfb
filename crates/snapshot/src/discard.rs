//! Deleting snapshots: streamd's own when they are no longer needed, the user's when he says so.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::snapshot::ObjectHandle;

use crate::error::SnapshotError;
use crate::fsck::references::checkpoints_of;
use crate::layout;
use crate::read::{find, objects_of};
use crate::store::{Location, delete_all};

/// Deletes a checkpoint, or what there is of a snapshot that was given up: its record of completion, its metadata, its objects,
/// in this order, so that what is half deleted never looks complete. May be repeated. A complete savepoint is refused: it is
/// the user's (see [`dispose`]).
pub async fn discard(folder: &Location) -> Result<(), SnapshotError> {
    if !layout::is_checkpoint_folder(folder) && folder.child(layout::METADATA)?.exists().await? {
        return Err(SnapshotError::NotOurs { uri: folder.uri() });
    }
    unpublish(folder).await?;
    folder.delete_folder().await?;
    if let Some(parent) = folder.parent().filter(|_job| layout::is_checkpoint_folder(folder)) {
        parent.remove_if_empty().await?;
    }
    tracing::debug!(snapshot = %folder, "discarded snapshot");
    Ok(())
}

/// Deletes the record of completion and the metadata of a checkpoint whose objects others refer to: it is none any more, and they
/// stay. May be repeated.
pub async fn unpublish(folder: &Location) -> Result<(), SnapshotError> {
    if layout::is_checkpoint_folder(folder) {
        delete_record(folder).await?;
    }
    folder.child(layout::METADATA)?.delete().await?;
    Ok(())
}

/// Deletes objects by their URIs. What is gone already is fine.
pub async fn delete_objects(uris: &[String]) -> Result<(), SnapshotError> {
    Ok(delete_all(uris.iter().map(|uri| Location::open(uri)).collect()).await?)
}

/// Deletes a complete snapshot on behalf of its owner: its metadata, and exactly the objects that this refers to and no other
/// checkpoint of the job has or refers to. Anything else in the folder stays. Returns the URI of the folder.
pub async fn dispose(pointer: &str) -> Result<String, SnapshotError> {
    let found = find(pointer).await?;
    let folder = found.folder;
    let needed = needed_by_others(&folder).await?;
    unpublish(&folder).await?;
    let lists: Vec<ObjectHandle> = found.list_tables.into_iter().map(|table| table.object).collect();
    let objects = objects_of(&found.metadata);
    let ours = folder.name().unwrap_or_default();
    for object in objects.iter().chain(&lists).filter(|object| !object.is_elsewhere()) {
        // The metadata was checked to name only what is below the folder.
        if !needed.contains(&(ours.to_owned(), object.path.clone())) {
            folder.child(&object.path)?.delete().await?;
        }
    }
    if let Some(job_folder) = folder.parent().filter(|_job| layout::is_checkpoint_folder(&folder)) {
        let beside = objects.iter().filter_map(|object| layout::split_beside(&object.path));
        let unneeded =
            beside.filter(|(folder, object)| !needed.contains(&((*folder).to_owned(), (*object).to_owned())));
        delete_beside(&job_folder, unneeded).await?;
    }
    folder.remove_empty_folders().await?;
    tracing::info!(snapshot = %folder, "disposed of snapshot");
    Ok(folder.uri())
}

/// Deletes objects that earlier checkpoints of the job wrote, and what is left of their folders. One that has metadata may be a
/// checkpoint whose record is not there yet: its objects stay.
async fn delete_beside(
    job_folder: &Location,
    objects: impl Iterator<Item = (&str, &str)>,
) -> Result<(), SnapshotError> {
    let mut by_folder: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (folder, object) in objects {
        by_folder.entry(folder).or_default().push(object);
    }
    for (folder, objects) in by_folder {
        let folder = job_folder.child(folder)?;
        if folder.child(layout::METADATA)?.exists().await? {
            continue;
        }
        for object in objects {
            folder.child(object)?.delete().await?;
        }
        folder.remove_empty_folders().await?;
    }
    Ok(())
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

/// The objects that the other checkpoints of the job have or refer to, by folder and name, recorded as complete or not. One that cannot
/// be read is an error: what it refers to is unknown, so nothing may go.
async fn needed_by_others(ours: &Location) -> Result<BTreeSet<(String, String)>, SnapshotError> {
    let mut needed = BTreeSet::new();
    let Some(job_folder) = ours.parent().filter(|_job| layout::is_checkpoint_folder(ours)) else {
        return Ok(needed);
    };
    for folder in checkpoints_of(&job_folder).await? {
        if folder == *ours {
            continue;
        }
        let other = match find(&folder.uri()).await {
            Ok(other) => other,
            // Given up, or subsumed: nobody can restore it.
            Err(SnapshotError::NotFound { .. } | SnapshotError::NoMetadata { .. }) => continue,
            Err(error) => return Err(error),
        };
        let name = folder.name().unwrap_or_default();
        for object in objects_of(&other.metadata) {
            let (folder, object) = layout::split_beside(&object.path).unwrap_or((name, &object.path));
            needed.insert((folder.to_owned(), object.to_owned()));
        }
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
