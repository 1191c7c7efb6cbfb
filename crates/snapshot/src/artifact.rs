//! Application binaries, by their content: what is stored under a digest has that digest.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};

use crate::error::StoreError;
use crate::layout;
use crate::store::{Created, Location};

/// Bytes of an application at most.
pub const MAX_ARTIFACT_BYTES: u64 = 256 << 20;

/// Why an application could not be stored or found.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The name is no SHA-256.
    #[error("`{sha256}` is no SHA-256: the expected format is 64 lower-case hexadecimal digits")]
    InvalidDigest {
        /// What was given, at most 64 characters.
        sha256: String,
    },
    /// More bytes came than an application may have.
    #[error("application `{sha256}` has more than {MAX_ARTIFACT_BYTES} bytes")]
    TooLarge {
        /// Its name.
        sha256: String,
    },
    /// The bytes are not those that the name promises.
    #[error("application `{sha256}` arrived with the SHA-256 `{actual}`")]
    DigestMismatch {
        /// Its name.
        sha256: String,
        /// The digest of what came.
        actual: String,
    },
    /// No application of that name is stored.
    #[error("there is no application `{sha256}`")]
    NotFound {
        /// Its name.
        sha256: String,
    },
    /// The bytes stopped coming.
    #[error("application `{sha256}` did not arrive")]
    Interrupted {
        /// Its name.
        sha256: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The application store.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    base: Location,
}

impl ArtifactStore {
    /// A store below this folder.
    pub fn new(base: Location) -> Self {
        Self { base }
    }

    /// Whether an application of this digest is stored.
    pub async fn has(&self, sha256: &str) -> Result<bool, ArtifactError> {
        Ok(self.location(sha256)?.exists().await?)
    }

    /// Stores an application, piece by piece. It becomes visible as a whole, and only if its digest is the promised one and it
    /// ends within [`MAX_ARTIFACT_BYTES`]. Where it is stored already, nothing is read and nothing written.
    pub async fn put<S, E>(&self, sha256: &str, mut pieces: S) -> Result<Created, ArtifactError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let location = self.location(sha256)?;
        if location.exists().await? {
            return Ok(Created::AlreadyExists);
        }
        let mut upload = location.upload();
        let mut hasher = Sha256::new();
        while let Some(piece) = pieces.next().await {
            let failure = match piece {
                Ok(piece) if upload.length() + piece.len() as u64 <= MAX_ARTIFACT_BYTES => {
                    hasher.update(&piece);
                    upload.write(&piece).await?;
                    continue;
                }
                Ok(_too_much) => ArtifactError::TooLarge {
                    sha256: sha256.to_owned(),
                },
                Err(error) => ArtifactError::Interrupted {
                    sha256: sha256.to_owned(),
                    source: error.into(),
                },
            };
            upload.abort().await?;
            return Err(failure);
        }
        let actual: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if actual != sha256 {
            upload.abort().await?;
            return Err(ArtifactError::DigestMismatch {
                sha256: sha256.to_owned(),
                actual,
            });
        }
        upload.finish().await?;
        Ok(Created::Created)
    }

    /// The length and the bytes of an application, piece by piece. Whoever runs it checks the digest of what arrived.
    pub async fn get(
        &self,
        sha256: &str,
    ) -> Result<(u64, BoxStream<'static, Result<Bytes, StoreError>>), ArtifactError> {
        match self.location(sha256)?.get_stream().await {
            Ok(found) => Ok(found),
            Err(StoreError::NotFound { .. }) => Err(ArtifactError::NotFound {
                sha256: sha256.to_owned(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    fn location(&self, sha256: &str) -> Result<Location, ArtifactError> {
        let is_digest = sha256.len() == 64 && sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_digest {
            let sha256 = sha256.chars().take(64).filter(|c| !c.is_control()).collect();
            return Err(ArtifactError::InvalidDigest { sha256 });
        }
        Ok(layout::artifact(&self.base, sha256)?)
    }
}

#[cfg(test)]
#[path = "artifact_tests.rs"]
mod tests;
