//! Small durable records: versioned JSON, created once, never changed.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{SnapshotError, StoreError};
use crate::store::{CreateError, Location};

/// What every record begins with, whatever its kind and age.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The bytes of a record.
pub(crate) fn encoded(record: &impl Serialize) -> Bytes {
    let mut json = serde_json::to_vec_pretty(record).expect("a record is plain data with text keys");
    json.push(b'\n');
    Bytes::from(json)
}

/// Reads a record of at most `limit` bytes; `None` where there is none. One of a version above `supported` is told apart from
/// one that is malformed.
pub(crate) async fn read<T: DeserializeOwned>(
    location: &Location,
    supported: u32,
    limit: u64,
) -> Result<Option<T>, SnapshotError> {
    let bytes = match location.get(limit).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let malformed = |error: serde_json::Error| SnapshotError::Malformed {
        uri: location.uri(),
        reason: error.to_string(),
    };
    let Versioned { version } = serde_json::from_slice(&bytes).map_err(malformed)?;
    if version > supported {
        return Err(SnapshotError::NewerVersion {
            uri: location.uri(),
            found: version,
            supported,
        });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(malformed)
}

/// Whether a record is this writer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It was not there, and is now.
    Created,
    /// Somebody else's is there. It stays.
    Taken,
}

/// Creates a record, which must hold a nonce or be the same whoever writes it.
pub(crate) async fn create(location: &Location, record: &impl Serialize) -> Result<Creation, SnapshotError> {
    match location.create(encoded(record)).await {
        Ok(()) => Ok(Creation::Created),
        Err(CreateError::Lost { .. }) => Ok(Creation::Taken),
        Err(CreateError::Failed(error) | CreateError::OutcomeUnknown { source: error, .. }) => Err(error.into()),
    }
}
