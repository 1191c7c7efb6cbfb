//! Creating an object that decides something, and finding out what became of it.
//!
//! A create that answers "already exists", or not at all, is never interpreted: the object is read back and compared. Its bytes hold
//! a nonce, so that equal bytes mean the same writing.
//!
//! ```text
//!   create ──▶ created ───────────────────────────────────────────────▶ done
//!     │  └───▶ already exists ─▶ read: ours ──────────────────────────▶ done
//!     │                          read: another's ─────────────────────▶ lost
//!     │                          read: nothing ─▶ (a race in the store) again
//!     └──────▶ error ──────────▶ read: ours ──────────────────────────▶ done (in a file: unknown, it may not be on the disk)
//!                                read: another's ─────────────────────▶ lost
//!                                read: nothing, and it was a refusal ─▶ failed
//!                                read: nothing, and nobody knows ─────▶ again, then unknown
//! ```

use bytes::Bytes;
use object_store::Error;

use super::location::{Created, Location};
use crate::error::StoreError;

/// How often a create is tried whose outcome cannot be seen. Each try has repetitions of its own within the client.
const TRIES: u32 = 3;

/// Why an object was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// It certainly does not exist, and will not.
    #[error(transparent)]
    Failed(#[from] StoreError),
    /// Another writer was there first.
    #[error("`{uri}` was written by somebody else before")]
    Lost {
        /// The object.
        uri: String,
    },
    /// It may exist, or come to exist.
    #[error("whether `{uri}` was written is unknown")]
    OutcomeUnknown {
        /// The object.
        uri: String,
        /// What the store said.
        #[source]
        source: StoreError,
    },
}

/// What reading back has found.
enum There {
    Nothing,
    Ours,
    Another,
}

impl Location {
    /// Creates an object that must not exist yet, and is durable afterwards. Its bytes must be this writer's alone: hold a nonce.
    pub async fn create(&self, bytes: Bytes) -> Result<(), CreateError> {
        let mut last = None;
        for _try in 0..TRIES {
            let error = match self.put_create(bytes.clone()).await {
                Ok(Created::Created) => return Ok(()),
                Ok(Created::AlreadyExists) => None,
                Err(error) => Some(error),
            };
            let there = match self.read_back(&bytes).await {
                Ok(there) => there,
                Err(source) => return Err(self.unknown(error.unwrap_or(source))),
            };
            match (there, error) {
                (There::Ours, None) => return Ok(()),
                (There::Ours, Some(error)) => return self.written_with_an_error(error),
                (There::Another, _) => return Err(CreateError::Lost { uri: self.uri() }),
                (There::Nothing, Some(error)) if self.was_refused(&error) && last.is_none() => return Err(error.into()),
                (There::Nothing, error) => {
                    tracing::debug!(object = %self, error = ?error, "nobody knows what became of a create: once more");
                    last = Some(error.unwrap_or_else(|| StoreError::NotFound { uri: self.uri() }));
                }
            }
        }
        let source = last.unwrap_or_else(|| StoreError::NotFound { uri: self.uri() });
        Err(self.unknown(source))
    }

    /// A file that is there after a failed write may have failed to reach the disk; an object of a store is there or not.
    fn written_with_an_error(&self, error: StoreError) -> Result<(), CreateError> {
        match self.is_local() {
            true => Err(self.unknown(error)),
            false => Ok(()),
        }
    }

    /// Whether an error means that nothing happened, and nothing will: a request without an answer may still be carried out.
    fn was_refused(&self, error: &StoreError) -> bool {
        self.is_local()
            || match error {
                StoreError::Failed { source, .. } => matches!(
                    source,
                    Error::PermissionDenied { .. }
                        | Error::Unauthenticated { .. }
                        | Error::NotFound { .. }
                        | Error::NotSupported { .. }
                        | Error::NotImplemented { .. }
                ),
                StoreError::TimedOut { .. } => false,
                _before_any_request => true,
            }
    }

    fn unknown(&self, source: StoreError) -> CreateError {
        CreateError::OutcomeUnknown {
            uri: self.uri(),
            source,
        }
    }

    /// Compares what is there; a longer object is told apart without reading it.
    async fn read_back(&self, ours: &Bytes) -> Result<There, StoreError> {
        match self.get(ours.len() as u64).await {
            Ok(bytes) if bytes == *ours => Ok(There::Ours),
            Ok(_) | Err(StoreError::TooLarge { .. }) => Ok(There::Another),
            Err(StoreError::NotFound { .. }) => Ok(There::Nothing),
            Err(error) => Err(error),
        }
    }
}
