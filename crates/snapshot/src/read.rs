//! Finding a snapshot by what a person gives, reading what it says, and checking that what it refers to is there.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use streamd_core::snapshot::{ObjectHandle, SnapshotMetadata};
use xxhash_rust::xxh3::Xxh3;

use crate::error::{SnapshotError, StoreError};
use crate::layout;
use crate::metadata::{self, ListTable, MAX_METADATA_BYTES};
use crate::restore::{check_length, missing, resolve};
use crate::store::{Location, digest_text};
use crate::table::read_list;

/// Objects that are looked at at once.
const CHECKS_IN_FLIGHT: usize = 16;

/// Names in a folder that an error message lists.
const LISTED_NAMES: usize = 10;

/// A snapshot as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSnapshot {
    /// What it says. The items of lists are filled in, wherever they were kept.
    pub metadata: SnapshotMetadata,
    /// The URI of the folder that its `_metadata` is in, without a slash at its end.
    pub folder: String,
    /// The version of the format that its `_metadata` is written in. What it says is turned into that of the present one.
    pub version: u32,
    /// Bytes of its metadata and of every object that it refers to.
    pub bytes: u64,
}

/// Reads a snapshot. `pointer` is its folder or its `_metadata` file, as a URI or an absolute path; where it was moved or renamed
/// plays no part. Never writes, never deletes.
pub async fn read_snapshot(pointer: &str) -> Result<StoredSnapshot, SnapshotError> {
    let found = find(pointer).await?;
    let Found {
        mut metadata,
        list_tables,
        folder,
        ..
    } = found;
    let mut bytes = objects_of(&metadata)
        .iter()
        .fold(found.bytes, |bytes, object| bytes.saturating_add(object.length));
    for table in &list_tables {
        fill_list(&mut metadata, table, &folder).await?;
        bytes = bytes.saturating_add(table.object.length);
    }
    Ok(StoredSnapshot {
        metadata,
        folder: folder.uri(),
        version: found.version,
        bytes,
    })
}

/// Checks that every object that a snapshot refers to exists with its recorded length: what must hold before it is relied upon.
pub async fn check_objects(metadata: &SnapshotMetadata, folder: &str) -> Result<(), SnapshotError> {
    on_objects(metadata, folder, |location, object| async move {
        let length = location
            .head()
            .await?
            .ok_or(StoreError::NotFound { uri: location.uri() })?;
        check_length(&location, object.length, length)
    })
    .await
}

/// Checks the digest of every object that a snapshot refers to, reading all of them.
pub async fn verify_objects(metadata: &SnapshotMetadata, folder: &str) -> Result<(), SnapshotError> {
    on_objects(metadata, folder, |location, object| async move {
        check_digest(&location, &object).await
    })
    .await
}

/// Reads an object and compares its length and digest with what is recorded, in the memory of one piece.
pub(crate) async fn check_digest(location: &Location, object: &ObjectHandle) -> Result<(), SnapshotError> {
    let (length, mut pieces) = location.get_stream().await?;
    check_length(location, object.length, length)?;
    let (mut hasher, mut read) = (Xxh3::new(), 0);
    while let Some(piece) = pieces.try_next().await? {
        hasher.update(&piece);
        read += piece.len() as u64;
    }
    check_length(location, object.length, read)?;
    let actual = digest_text(hasher.digest128());
    if actual != object.digest {
        let (uri, expected) = (location.uri(), object.digest.clone());
        return Err(SnapshotError::DigestMismatch { uri, expected, actual });
    }
    Ok(())
}

/// A metadata file that has been read, but not the tables of lists.
pub(crate) struct Found {
    pub metadata: SnapshotMetadata,
    pub list_tables: Vec<ListTable>,
    pub folder: Location,
    /// The version of the metadata file.
    pub version: u32,
    /// Bytes of the metadata file.
    pub bytes: u64,
}

pub(crate) async fn find(pointer: &str) -> Result<Found, SnapshotError> {
    let folder = layout::snapshot_folder(&Location::open(pointer)?);
    let file = folder.child(layout::METADATA)?;
    let bytes = match file.get(MAX_METADATA_BYTES).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Err(not_found(&folder).await),
        Err(error) => return Err(error.into()),
    };
    let (metadata, list_tables) = metadata::decode(&file.uri(), &bytes)?;
    Ok(Found {
        metadata,
        list_tables,
        folder,
        version: metadata::version_of(&bytes),
        bytes: bytes.len() as u64,
    })
}

/// Says what is there instead of a snapshot.
async fn not_found(folder: &Location) -> SnapshotError {
    let uri = folder.uri();
    match folder.head().await {
        Ok(Some(_length)) => return SnapshotError::NotMetadata { uri },
        Ok(None) => {}
        Err(error) => return error.into(),
    }
    let is_folder = match folder.local_path() {
        Some(path) => tokio::fs::metadata(path).await.is_ok_and(|meta| meta.is_dir()),
        None => false,
    };
    match folder.list_names().await {
        Ok(names) if names.is_empty() && !is_folder => SnapshotError::NotFound { uri },
        Ok(names) => SnapshotError::NoMetadata {
            uri,
            entries: names.into_iter().take(LISTED_NAMES).collect(),
        },
        Err(error) => error.into(),
    }
}

async fn fill_list(metadata: &mut SnapshotMetadata, table: &ListTable, folder: &Location) -> Result<(), SnapshotError> {
    let uri = folder.uri();
    let list = metadata
        .operators
        .iter_mut()
        .filter(|operator| operator.id == table.operator)
        .flat_map(|operator| &mut operator.lists)
        .find(|list| list.name == table.state && list.items.is_empty());
    let Some(list) = list else {
        return Err(SnapshotError::ImpossibleOperator {
            uri,
            operator: table.operator,
            reason: format!("table `{}` belongs to no list of it", table.object.path),
        });
    };
    let object = folder.child(&table.object.path)?;
    let read = read_list(list, table.items, &table.object, &object).await;
    read.map_err(|error| missing(error, &uri, &table.object.path))
}

/// Every object that the keyed states refer to, once; what is inlined is part of the metadata, and no object.
pub(crate) fn objects_of(metadata: &SnapshotMetadata) -> Vec<ObjectHandle> {
    let handles = metadata.operators.iter().flat_map(|operator| &operator.keyed);
    let objects: BTreeMap<&str, &ObjectHandle> = handles
        .flat_map(|handle| &handle.objects)
        .filter(|object| object.inline.is_none())
        .map(|object| (object.path.as_str(), object))
        .collect();
    objects.into_values().cloned().collect()
}

async fn on_objects<F, C>(metadata: &SnapshotMetadata, folder: &str, check: C) -> Result<(), SnapshotError>
where
    C: Fn(Location, ObjectHandle) -> F,
    F: Future<Output = Result<(), SnapshotError>>,
{
    let check = &check;
    futures::stream::iter(objects_of(metadata))
        .map(|object| async move {
            let path = object.path.clone();
            let checked = check(resolve(folder, &path)?, object).await;
            checked.map_err(|error| missing(error, folder, &path))
        })
        .buffer_unordered(CHECKS_IN_FLIGHT)
        .try_collect::<()>()
        .await
}
