//! Why a store could not be reached, or refused; and how this is told to a person.

use streamd_core::error::{CodedError, ErrorCode, chain};
use streamd_core::options::KNOWN_SCHEMES;

/// Why the store could not be reached, or refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A location that cannot be understood.
    #[error("storage location `{uri}` is malformed: {reason}")]
    InvalidUri {
        /// What was given, without credentials.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A location of a kind of store that nobody here has heard of.
    #[error("storage location `{uri}` has the unknown scheme `{scheme}`: the schemes are `{}`", KNOWN_SCHEMES.join("`, `"))]
    UnknownScheme {
        /// What was given, without credentials.
        uri: String,
        /// Its scheme.
        scheme: String,
    },
    /// A location of a kind of store that this program was built without.
    #[error("`{uri}` cannot be opened: this program was built without the feature `{feature}` for `{scheme}://`")]
    NotBuilt {
        /// The store.
        uri: String,
        /// The scheme of its kind.
        scheme: &'static str,
        /// The cargo feature that it comes with.
        feature: &'static str,
    },
    /// Settings from which no client can be made.
    #[error("the settings for `{uri}` cannot be used: {reason}")]
    Settings {
        /// The store.
        uri: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A store that would be spoken to in the clear, through a network.
    #[error("`{uri}` is at `{endpoint}`, which is not encrypted and not on this machine")]
    Insecure {
        /// The store.
        uri: String,
        /// Its address.
        endpoint: String,
    },
    /// The store did not answer in time; what was asked of it may happen all the same.
    #[error("cannot {operation} `{uri}`: there was no answer within {seconds} s")]
    TimedOut {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        uri: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Fewer bytes came than the store had announced.
    #[error("only {actual} of {expected} bytes of `{uri}` arrived")]
    Incomplete {
        /// The object.
        uri: String,
        /// The announced length.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// A name that could reach beyond its folder, or that the store cannot hold.
    #[error("object name `{name}` is not allowed: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The object does not exist.
    #[error("there is no object `{uri}`")]
    NotFound {
        /// Where it was looked for.
        uri: String,
    },
    /// The object is larger than any of its kind may be.
    #[error("object `{uri}` has {length} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The object.
        uri: String,
        /// Its length.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// The store said no.
    #[error("cannot {operation} `{uri}`")]
    Failed {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        uri: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// A folder of the local file system could not be looked through.
    #[error("cannot list everything below `{uri}`")]
    Unlisted {
        /// The folder.
        uri: String,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// A folder of the local file system could not be tidied up.
    #[error("cannot remove the emptied folder `{uri}`")]
    Tidy {
        /// The folder.
        uri: String,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
}

impl StoreError {
    /// The stable code of the error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidUri { .. } | Self::UnknownScheme { .. } => ErrorCode::InvalidStorageUri,
            Self::NotBuilt { .. } => ErrorCode::StorageSchemeNotBuilt,
            Self::Settings { .. } => ErrorCode::InvalidStorageSettings,
            Self::Insecure { .. } => ErrorCode::InsecureStorageEndpoint,
            Self::TimedOut { .. } | Self::Incomplete { .. } => ErrorCode::StorageUnavailable,
            Self::InvalidName { .. } | Self::TooLarge { .. } => ErrorCode::SnapshotCorrupt,
            Self::NotFound { .. } => ErrorCode::SnapshotNotFound,
            Self::Failed { source, .. } => match source {
                object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                    ErrorCode::StorageDenied
                }
                // The store's own enum grows with its versions.
                _other if denied(source) => ErrorCode::StorageDenied,
                _other => ErrorCode::StorageUnavailable,
            },
            Self::Unlisted { source, .. } if denied(source) => ErrorCode::StorageDenied,
            Self::Unlisted { .. } | Self::Tidy { .. } => ErrorCode::StorageUnavailable,
        }
    }

    /// The error for a person, with the whole chain of causes and a hint.
    pub fn to_coded(&self) -> CodedError {
        let coded = CodedError::new(self.code(), chain(self));
        match self.hint() {
            Some(hint) => coded.with_hint(hint),
            None => coded,
        }
    }

    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::InvalidUri { .. } | Self::UnknownScheme { .. } => {
                Some("give an absolute path, like `/data/savepoints`, or a URI like `s3://bucket/savepoints`")
            }
            Self::NotBuilt { .. } => Some(
                "build it with the feature that docs/how-to/use-object-storage.md names: in an application, `streamd = { features = [\"s3\"] }`",
            ),
            Self::Settings { .. } => Some("docs/how-to/use-object-storage.md says what each store needs"),
            Self::Insecure { .. } => Some("write `https://`: plain HTTP is for servers on this machine"),
            Self::TimedOut { .. } | Self::Incomplete { .. } => Some("check the network, and that the store is up"),
            Self::Failed { .. } | Self::Unlisted { .. } if self.code() == ErrorCode::StorageDenied => {
                Some("check the rights of the key or user, and the clock of this machine")
            }
            Self::Failed { .. } | Self::Unlisted { .. } | Self::Tidy { .. } => {
                Some("check that the place exists, is writable and has room")
            }
            Self::InvalidName { .. } | Self::NotFound { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// How a server that refused is told of: only that it was asked to list says no more than this, in words.
const REFUSALS: [&str; 2] = [
    "Server returned non-2xx status code: 401 ",
    "Server returned non-2xx status code: 403 ",
];

/// Whether the file system, or a server that was to list, refused for want of rights: both are reported as generic errors.
fn denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && matches!(
                io.kind(),
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
            )
        {
            return true;
        }
        let told = error.to_string();
        if REFUSALS.iter().any(|refusal| told.starts_with(refusal)) {
            return true;
        }
        cause = error.source();
    }
    false
}
