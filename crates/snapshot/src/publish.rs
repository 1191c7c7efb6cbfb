//! Making a snapshot visible: everything durable first, then the metadata by create-if-absent, then the record of completion.
//!
//! ```text
//!   tables of lists ──▶ every object is there ──▶ create `_metadata` ──▶ create completed/<id>.json (checkpoints)
//! ```
//!
//! A create that answers "already exists", or not at all, is never interpreted: the object is read back and compared.

use bytes::Bytes;
use streamd_core::barrier::SnapshotKind;
use streamd_core::snapshot::{METADATA_VERSION, ObjectHandle, SnapshotMetadata};
use xxhash_rust::xxh3::xxh3_128;

use crate::completed::CompletionRecord;
use crate::error::{SnapshotError, StoreError};
use crate::layout;
use crate::metadata::{self, ListTable};
use crate::read::{check_objects, objects_of};
use crate::store::{CreateError, Location, digest_text};
use crate::table::write_list;

/// A snapshot whose metadata is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The URI of its folder.
    pub uri: String,
    /// Bytes of the metadata and of every object that it refers to.
    pub bytes: u64,
}

/// Why a snapshot is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It is certainly not visible.
    #[error(transparent)]
    Failed(#[from] SnapshotError),
    /// An object that makes it visible was not created; if another writer was there first, this one is stale.
    #[error(transparent)]
    NotCreated(#[from] CreateError),
}

impl PublishError {
    /// Whether the snapshot may be visible all the same. Then nothing of it may be deleted.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Failed(_) | Self::NotCreated(CreateError::Failed(_)) => false,
            // What the other writer made visible lies in the same folder.
            Self::NotCreated(CreateError::Lost { .. } | CreateError::OutcomeUnknown { .. }) => true,
        }
    }

    /// What happened, on one line: with its code and what to do, where that is known.
    pub fn message(&self) -> String {
        match self {
            Self::Failed(error) => error.to_coded().on_one_line(),
            Self::NotCreated(CreateError::Failed(error)) => error.to_coded().on_one_line(),
            Self::NotCreated(CreateError::Lost { .. } | CreateError::OutcomeUnknown { .. }) => {
                streamd_core::error::chain(self)
            }
        }
    }
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// 32 random hexadecimal digits: the one place where this crate makes something up.
pub fn random_nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Publishes a snapshot whose objects are all written, in `folder`. `metadata.nonce` must be new.
///
/// Cancel-safe only in so far as nothing is ever half visible: whoever drops the future does not know the outcome.
pub async fn publish(folder: &Location, metadata: &SnapshotMetadata) -> Result<Published, PublishError> {
    let file = folder.child(layout::METADATA)?;
    let uri = file.uri();
    if metadata.version != METADATA_VERSION {
        let reason = format!("version {} cannot be written", metadata.version);
        return Err(SnapshotError::Malformed { uri, reason }.into());
    }
    metadata::validate(&uri, metadata)?;
    check_objects(metadata, &folder.uri()).await?;
    let encoded = match metadata.kind {
        SnapshotKind::Checkpoint => Encoded::new(&uri, metadata, &[])?,
        SnapshotKind::Savepoint => with_list_tables(folder, &uri, metadata).await?,
    };
    file.create(encoded.bytes.clone()).await?;
    if metadata.kind == SnapshotKind::Checkpoint {
        record_completion(folder, metadata, encoded.bytes.len() as u64).await?;
    }
    Ok(Published {
        uri: folder.uri(),
        bytes: encoded.bytes.len() as u64 + encoded.object_bytes,
    })
}

struct Encoded {
    bytes: Bytes,
    object_bytes: u64,
}

impl Encoded {
    fn new(uri: &str, metadata: &SnapshotMetadata, tables: &[ListTable]) -> Result<Self, SnapshotError> {
        let bytes = Bytes::from(metadata::encode(uri, metadata, tables)?);
        let keyed: u64 = objects_of(metadata).iter().map(|object| object.length).sum();
        let lists: u64 = tables.iter().map(|table| table.object.length).sum();
        Ok(Self {
            bytes,
            object_bytes: keyed + lists,
        })
    }
}

/// Moves the items of all lists into tables of their own: a savepoint is readable as a whole.
async fn with_list_tables(folder: &Location, uri: &str, metadata: &SnapshotMetadata) -> Result<Encoded, PublishError> {
    let mut metadata = metadata.clone();
    let mut tables = Vec::new();
    for operator in &mut metadata.operators {
        let (id, label) = (operator.id, operator.label());
        for list in operator.lists.iter_mut().filter(|list| !list.items.is_empty()) {
            let path = layout::list_table(id, &label, &list.name);
            let location = folder.child(&path)?;
            let bytes = Bytes::from(write_list(&label, list, &location.uri())?);
            let (length, digest) = (bytes.len() as u64, digest_text(xxh3_128(&bytes)));
            location.create(bytes).await?;
            let object = ObjectHandle {
                path,
                length,
                digest,
                inline: None,
            };
            tables.push(ListTable {
                operator: id,
                state: list.name.clone(),
                items: list.items.len() as u64,
                object,
            });
            list.items.clear();
        }
    }
    Ok(Encoded::new(uri, &metadata, &tables)?)
}

async fn record_completion(
    folder: &Location,
    metadata: &SnapshotMetadata,
    metadata_bytes: u64,
) -> Result<(), PublishError> {
    let misplaced = || SnapshotError::Malformed {
        uri: folder.uri(),
        reason: format!("it is not the folder of checkpoint {}", metadata.checkpoint_id),
    };
    let name = folder.name().ok_or_else(misplaced)?;
    let job_folder = folder.parent().ok_or_else(misplaced)?;
    let record = CompletionRecord::new(metadata, name, metadata_bytes);
    let location = job_folder.child(&layout::completion_record(metadata.checkpoint_id))?;
    Ok(location.create(Bytes::from(record.encode())).await?)
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
