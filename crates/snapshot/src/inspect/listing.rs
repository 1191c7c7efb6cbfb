//! Which snapshots there are below a place, and which of them are complete.
//!
//! A checkpoint is complete if its `_metadata` can be read and the record of its completion speaks of that very file. Neither the
//! highest number nor the latest date means anything.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use streamd_core::barrier::SnapshotKind;
use streamd_core::id::{CheckpointId, JobId};
use streamd_core::time::WallTime;

use crate::completed::{CompletionRecord, list_completed};
use crate::error::SnapshotError;
use crate::layout;
use crate::read::{Found, find, objects_of};
use crate::store::Location;

/// How deep snapshots lie below a place at most: `<prefix>/<job id>/chk-<N>`, and one level for prefixes of prefixes.
const DEPTH: usize = 4;

/// Snapshots that are read at once.
const READS_IN_FLIGHT: usize = 8;

/// A folder that is a snapshot, or should be one.
#[derive(Debug)]
pub struct Listed {
    /// The URI of the folder.
    pub folder: String,
    /// The job, by the metadata, or else by the name of the folder around it.
    pub job_id: Option<JobId>,
    /// Its number, by the metadata, or else by its name.
    pub checkpoint_id: Option<CheckpointId>,
    /// Whether it can be used.
    pub standing: Standing,
    /// What its metadata says, where it can be read.
    pub summary: Option<Summary>,
}

/// Whether a snapshot can be used.
#[derive(Debug)]
pub enum Standing {
    /// Its metadata can be read, and its completion is recorded (a savepoint needs no record).
    Complete,
    /// Its metadata can be read, but no record says that it was completed: a job never recovers from it by itself.
    Unrecorded,
    /// There is no metadata: it is being written, or was given up.
    Incomplete,
    /// There is no metadata any more: what is left of it are objects that complete checkpoints refer to.
    Subsumed,
    /// It is there, or should be, and cannot be read.
    Unreadable(SnapshotError),
}

/// What the metadata of a snapshot says, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Checkpoint or savepoint.
    pub kind: SnapshotKind,
    /// The name of the job.
    pub job_name: String,
    /// When it was triggered.
    pub triggered_at: WallTime,
    /// Bytes of its metadata and of every object that it refers to.
    pub bytes: u64,
    /// The names of the folders beside its own that it refers into.
    pub beside: BTreeSet<String>,
}

/// The snapshots below a prefix, a job's folder, or at the place itself, by job and number. Reads only metadata and records.
///
/// A snapshot that cannot be read is listed with the reason. Fails only where the place cannot be listed.
pub async fn list_snapshots(place: &Location) -> Result<Vec<Listed>, SnapshotError> {
    let mut folders = Vec::new();
    collect_folders(place.clone(), DEPTH, &mut folders).await?;
    let listed: Vec<Vec<Listed>> = futures::stream::iter(folders)
        .map(|group| async move { group.listed().await })
        .buffer_unordered(READS_IN_FLIGHT)
        .collect()
        .await;
    let mut listed: Vec<Listed> = listed.into_iter().flatten().collect();
    listed.sort_by_cached_key(|one| {
        (
            one.job_id.map(|id| id.to_string()),
            one.checkpoint_id,
            one.folder.clone(),
        )
    });
    Ok(listed)
}

/// A folder with the snapshots directly in it, and whether there is a folder of records beside them.
struct Group {
    parent: Option<Location>,
    snapshots: Vec<Location>,
    has_records: bool,
    /// Whether the snapshot is what was asked for, rather than the folder that it is in.
    is_single: bool,
}

async fn collect_folders(place: Location, depth: usize, groups: &mut Vec<Group>) -> Result<(), SnapshotError> {
    let names = place.list_names().await?;
    if is_snapshot(&place, &names) {
        let parent = place.parent();
        let has_records = parent.is_some() && layout::is_checkpoint_folder(&place);
        groups.push(Group {
            parent,
            snapshots: vec![place],
            has_records,
            is_single: true,
        });
        return Ok(());
    }
    let mut group = Group {
        has_records: names
            .iter()
            .any(|name| name.strip_suffix('/') == Some(layout::COMPLETED)),
        parent: Some(place.clone()),
        snapshots: Vec::new(),
        is_single: false,
    };
    let folders = names.iter().filter_map(|name| name.strip_suffix('/'));
    for name in folders.filter(|name| *name != layout::COMPLETED) {
        // What the store lists and cannot be named is nothing of streamd's.
        let Ok(folder) = place.child(name) else { continue };
        if looks_like_snapshot(&folder) {
            group.snapshots.push(folder);
        } else if depth > 1 {
            let inside = folder.list_names().await?;
            if is_snapshot(&folder, &inside) {
                group.snapshots.push(folder);
            } else {
                Box::pin(collect_folders(folder, depth - 1, groups)).await?;
            }
        }
    }
    if group.has_records || !group.snapshots.is_empty() {
        groups.push(group);
    }
    Ok(())
}

fn is_snapshot(folder: &Location, names: &[String]) -> bool {
    names.iter().any(|name| name == layout::METADATA) || looks_like_snapshot(folder)
}

fn looks_like_snapshot(folder: &Location) -> bool {
    layout::is_checkpoint_folder(folder) || folder.name().is_some_and(layout::is_savepoint_name)
}

impl Group {
    async fn listed(self) -> Vec<Listed> {
        let records = match &self.parent {
            Some(parent) if self.has_records => list_completed(parent).await,
            _no_records => Ok(Vec::new()),
        };
        let by_folder: Result<BTreeMap<String, CompletionRecord>, String> = match records {
            Ok(records) => Ok(records
                .into_iter()
                .map(|record| (record.folder.clone(), record))
                .collect()),
            Err(error) => Err(streamd_core::error::chain(&error)),
        };
        let mut listed: Vec<Listed> = futures::stream::iter(&self.snapshots)
            .map(|folder| listed(folder, &by_folder))
            .buffered(READS_IN_FLIGHT)
            .collect()
            .await;
        mark_subsumed(&mut listed);
        // A single snapshot was asked for: what its neighbours' records say is not asked.
        if let (Ok(records), Some(parent), false) = (&by_folder, &self.parent, self.is_single) {
            for record in records.values() {
                let known = |one: &Location| one.name() == Some(record.folder.as_str());
                if !self.snapshots.iter().any(known) {
                    listed.push(vanished(parent, record));
                }
            }
        }
        listed
    }
}

fn mark_subsumed(listed: &mut [Listed]) {
    let complete = listed.iter().filter(|one| matches!(one.standing, Standing::Complete));
    let summaries = complete.filter_map(|one| one.summary.as_ref());
    let needed: BTreeSet<String> = summaries.flat_map(|summary| summary.beside.iter().cloned()).collect();
    for one in listed {
        let name = one.folder.rsplit('/').next().unwrap_or_default();
        if matches!(one.standing, Standing::Incomplete) && needed.contains(name) {
            one.standing = Standing::Subsumed;
        }
    }
}

/// A snapshot whose completion is recorded, and whose folder is gone.
fn vanished(parent: &Location, record: &CompletionRecord) -> Listed {
    let folder = format!("{}/{}", parent.uri(), record.folder);
    let error = SnapshotError::MetadataGone { folder: folder.clone() };
    Listed {
        folder,
        job_id: Some(record.job_id),
        checkpoint_id: Some(record.checkpoint_id),
        standing: Standing::Unreadable(error),
        summary: None,
    }
}

async fn listed(folder: &Location, records: &Result<BTreeMap<String, CompletionRecord>, String>) -> Listed {
    let uri = folder.uri();
    let by_name = Listed {
        job_id: folder.parent().and_then(|job| job.name()?.parse().ok()),
        checkpoint_id: layout::checkpoint_of(folder),
        folder: uri.clone(),
        standing: Standing::Incomplete,
        summary: None,
    };
    let record = folder.name().and_then(|name| records.as_ref().ok()?.get(name));
    match find(&uri).await {
        Ok(found) => {
            let standing = standing(folder, &found, records, record);
            Listed {
                job_id: Some(found.metadata.job_id),
                checkpoint_id: Some(found.metadata.checkpoint_id),
                folder: uri,
                standing,
                summary: Some(summary(&found)),
            }
        }
        Err(SnapshotError::NotFound { .. } | SnapshotError::NoMetadata { .. }) => match record {
            None => by_name,
            Some(_complete) => Listed {
                standing: Standing::Unreadable(SnapshotError::MetadataGone { folder: uri }),
                ..by_name
            },
        },
        Err(error) => Listed {
            standing: Standing::Unreadable(error),
            ..by_name
        },
    }
}

fn standing(
    folder: &Location,
    found: &Found,
    records: &Result<BTreeMap<String, CompletionRecord>, String>,
    record: Option<&CompletionRecord>,
) -> Standing {
    let malformed = |reason: String| {
        Standing::Unreadable(SnapshotError::Malformed {
            uri: folder.uri(),
            reason,
        })
    };
    if found.metadata.kind == SnapshotKind::Savepoint || !layout::is_checkpoint_folder(folder) {
        return Standing::Complete;
    }
    match (records, record) {
        (Err(reason), _) => malformed(format!("the records of completion cannot be read: {reason}")),
        (Ok(_), None) => Standing::Unrecorded,
        (Ok(_), Some(record)) if record.nonce == found.metadata.nonce && record.metadata_bytes == found.bytes => {
            Standing::Complete
        }
        (Ok(_), Some(_of_another)) => {
            malformed("its `_metadata` is not the one whose completion is recorded".to_owned())
        }
    }
}

fn summary(found: &Found) -> Summary {
    let objects = objects_of(&found.metadata);
    let keyed: u64 = objects.iter().map(|object| object.length).sum();
    let beside = objects.iter().filter_map(|object| layout::split_beside(&object.path));
    let lists: u64 = found.list_tables.iter().map(|table| table.object.length).sum();
    Summary {
        kind: found.metadata.kind,
        job_name: found.metadata.graph.name.clone(),
        triggered_at: found.metadata.triggered_at,
        bytes: found.bytes.saturating_add(keyed).saturating_add(lists),
        beside: beside.map(|(folder, _)| folder.to_owned()).collect(),
    }
}
