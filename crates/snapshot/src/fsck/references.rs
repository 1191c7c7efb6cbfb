//! Who refers to what: the objects of every snapshot, by their full names.

use std::collections::BTreeSet;

use futures::StreamExt;
use streamd_core::id::JobId;
use streamd_core::snapshot::ObjectHandle;

use crate::completed::list_completed;
use crate::error::SnapshotError;
use crate::inspect::verify::all_objects;
use crate::layout;
use crate::read::{Found, find};
use crate::restore::resolve;
use crate::store::Location;

/// Snapshots that are read at once.
const READS_IN_FLIGHT: usize = 8;

/// A snapshot that refers to objects of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// The URI of its folder.
    pub folder: String,
    /// How many objects of the other it refers to.
    pub objects: u64,
}

/// The full names of a snapshot's objects, with what is recorded of each.
pub(crate) fn full_names(found: &Found) -> Result<Vec<(String, ObjectHandle)>, SnapshotError> {
    let folder = found.folder.uri();
    all_objects(found)
        .into_iter()
        .map(|object| Ok((resolve(&folder, &object.path)?.uri(), object)))
        .collect()
}

/// The other checkpoints, of any job whose folder lies beside, that refer to objects of this one or that are recorded as complete
/// in its folder. Fails where one of them cannot be read: it may refer to anything.
///
/// A snapshot outside of a job's folder has no neighbours.
pub async fn referrers_of(pointer: &str) -> Result<Vec<Referrer>, SnapshotError> {
    let found = find(pointer).await?;
    referrers(&found).await
}

pub(crate) async fn referrers(found: &Found) -> Result<Vec<Referrer>, SnapshotError> {
    let own: BTreeSet<String> = full_names(found)?.into_iter().map(|(uri, _object)| uri).collect();
    let mut referrers = Vec::new();
    if own.is_empty() || !layout::is_checkpoint_folder(&found.folder) {
        return Ok(referrers);
    }
    let Some(job) = found.folder.parent() else {
        return Ok(referrers);
    };
    let mut neighbours = Vec::new();
    for job in jobs_beside(&job).await? {
        neighbours.extend(checkpoints_of(&job).await?);
    }
    neighbours.retain(|folder| *folder != found.folder);
    let mut others = futures::stream::iter(neighbours)
        .map(|folder| async move {
            let found = find(&folder.uri()).await;
            (folder, found)
        })
        .buffered(READS_IN_FLIGHT);
    while let Some((folder, other)) = others.next().await {
        let other = match other {
            Ok(other) => other,
            // Given up, or just deleted by its job: what is not complete refers to nothing.
            Err(SnapshotError::NotFound { .. } | SnapshotError::NoMetadata { .. }) if !has_record(&folder).await? => {
                continue;
            }
            Err(error) => return Err(error),
        };
        let names = full_names(&other)?;
        let shared = names.iter().filter(|(uri, _object)| own.contains(uri)).count();
        if shared > 0 {
            referrers.push(Referrer {
                folder: folder.uri(),
                objects: shared as u64,
            });
        }
    }
    Ok(referrers)
}

/// The folders of jobs beside a job's, itself included.
async fn jobs_beside(job: &Location) -> Result<Vec<Location>, SnapshotError> {
    let is_job = |name: &str| name.parse::<JobId>().is_ok();
    let (Some(base), true) = (job.parent(), job.name().is_some_and(is_job)) else {
        return Ok(vec![job.clone()]);
    };
    let mut jobs = Vec::new();
    for name in base.list_names().await? {
        if let Some(name) = name.strip_suffix('/').filter(|name| is_job(name)) {
            jobs.push(base.child(name)?);
        }
    }
    Ok(jobs)
}

/// The folders of checkpoints in a job's, and those that its records of completion name.
pub(crate) async fn checkpoints_of(job: &Location) -> Result<Vec<Location>, SnapshotError> {
    let mut folders = Vec::new();
    for name in job.list_names().await? {
        if let Some(name) = name.strip_suffix('/') {
            let folder = job.child(name)?;
            if layout::is_checkpoint_folder(&folder) {
                folders.push(folder);
            }
        }
    }
    for record in list_completed(job).await? {
        let folder = job.child(&record.folder)?;
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    Ok(folders)
}

async fn has_record(folder: &Location) -> Result<bool, SnapshotError> {
    let (Some(job), Some(id)) = (folder.parent(), layout::checkpoint_of(folder)) else {
        return Ok(false);
    };
    Ok(job.child(&layout::completion_record(id))?.exists().await?)
}
