//! A state object that is read: a file, a part of a metadata file, bytes that are not in the store yet, or a copy on the local disk.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use streamd_core::snapshot::{Inline, ObjectHandle};

use super::format::{self, HEADER_BYTES, NATIVE_VERSION};
use crate::error::{SnapshotError, StoreError};
use crate::local_copies::{LocalCopies, LocalCopy};
use crate::metadata::DIGEST_BYTES;
use crate::restore::{ObjectSource, check_length, metadata_of, resolve};
use crate::store::Location;

/// Where the bytes of an object are.
#[derive(Debug, Clone)]
pub(super) enum StoredObject {
    /// In a file, from this byte on.
    In(Location, u64),
    /// Here; and what the object is called.
    Here(Bytes, String),
    /// On the local disk, whole when it was opened; and what it is a copy of, in which folder, should it be read in vain.
    Local(Arc<LocalCopy>, Box<(ObjectHandle, String)>),
}

impl StoredObject {
    /// Finds an object, and checks its length and its header.
    pub(super) async fn open(recorded: &ObjectHandle, source: ObjectSource<'_>) -> Result<Self, SnapshotError> {
        let object = match source.copies() {
            Some(copies) => Self::copied(recorded, copies, source.folder()).await,
            None => None,
        };
        let object = match object {
            Some(object) => object,
            None => Self::stored(recorded, source.folder()).await?,
        };
        object.check_header().await?;
        Ok(object)
    }

    /// The copy of an object, if there is one.
    async fn copied(recorded: &ObjectHandle, copies: &LocalCopies, folder: &str) -> Option<Self> {
        let of = Box::new((recorded.clone(), folder.to_owned()));
        let (copies, object) = (copies.clone(), recorded.clone());
        // Reads all of it.
        let found = tokio::task::spawn_blocking(move || copies.find(&object)).await;
        Some(Self::Local(Arc::new(found.ok().flatten()?), of))
    }

    async fn stored(recorded: &ObjectHandle, folder: &str) -> Result<Self, SnapshotError> {
        Ok(match &recorded.inline {
            None => Self::file(recorded, folder).await?,
            Some(Inline::BeforeEnd(before_end)) => Self::inlined(recorded, *before_end, folder).await?,
            Some(Inline::Here(content)) => Self::Here(Bytes::copy_from_slice(content), recorded.path.clone()),
        })
    }

    async fn file(recorded: &ObjectHandle, folder: &str) -> Result<Self, SnapshotError> {
        let location = resolve(folder, &recorded.path)?;
        check_length(&location, recorded.length, length_of(&location).await?)?;
        Ok(Self::In(location, 0))
    }

    async fn inlined(recorded: &ObjectHandle, before_end: u64, folder: &str) -> Result<Self, SnapshotError> {
        let location = metadata_of(folder, &recorded.path)?;
        let length = length_of(&location).await?;
        let start = before_end
            .checked_add(DIGEST_BYTES as u64)
            .and_then(|behind| length.checked_sub(behind))
            .filter(|_| recorded.length <= before_end);
        match start {
            Some(start) => Ok(Self::In(location, start)),
            None => Err(SnapshotError::Malformed {
                uri: location.uri(),
                reason: format!(
                    "`{}` is said to be {before_end} bytes before the end of its {length}",
                    recorded.path
                ),
            }),
        }
    }

    /// Some bytes of the object.
    pub(super) async fn get_range(&self, range: Range<u64>) -> Result<Bytes, SnapshotError> {
        match self {
            Self::In(location, start) => Ok(location.get_range(start + range.start..start + range.end).await?),
            Self::Here(bytes, _name) => {
                // As of a file: what is not there is not returned.
                let end = bytes.len().min(usize::try_from(range.end).unwrap_or(usize::MAX));
                let start = end.min(usize::try_from(range.start).unwrap_or(usize::MAX));
                Ok(bytes.slice(start..end))
            }
            Self::Local(copy, of) => {
                let (reader, piece) = (Arc::clone(copy), range.clone());
                match tokio::task::spawn_blocking(move || reader.read(piece)).await {
                    Ok(Ok(bytes)) => return Ok(bytes),
                    Ok(Err(error)) => {
                        tracing::warn!(file = %copy.path().display(), %error, "a local file cannot be read: it is fetched again");
                    }
                    Err(_interrupted) => {}
                }
                let (recorded, folder) = &**of;
                let stored = Self::stored(recorded, folder).await?;
                Box::pin(stored.get_range(range)).await
            }
        }
    }

    /// What messages call it.
    pub(super) fn uri(&self) -> String {
        match self {
            Self::In(location, _start) => location.uri(),
            Self::Here(_bytes, name) => name.clone(),
            Self::Local(copy, _of) => copy.path().display().to_string(),
        }
    }

    async fn check_header(&self) -> Result<(), SnapshotError> {
        let header = self.get_range(0..HEADER_BYTES).await?;
        let malformed = |reason: &str| SnapshotError::Malformed {
            uri: self.uri(),
            reason: reason.to_owned(),
        };
        if header.len() < HEADER_BYTES as usize || header[..8] != format::MAGIC {
            return Err(malformed("it does not begin as a state object does"));
        }
        let found = format::word(&header, 8);
        if found > NATIVE_VERSION {
            return Err(SnapshotError::NewerVersion {
                uri: self.uri(),
                found,
                supported: NATIVE_VERSION,
            });
        }
        if found == 0 || header[..] != format::header(found) {
            return Err(malformed("its header is damaged"));
        }
        Ok(())
    }
}

async fn length_of(location: &Location) -> Result<u64, SnapshotError> {
    let length = location.head().await?;
    Ok(length.ok_or_else(|| StoreError::NotFound { uri: location.uri() })?)
}
