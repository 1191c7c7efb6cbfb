//! Why a question about a snapshot has no answer, or a change of it is refused.

use std::path::PathBuf;

use streamd_core::error::{CodedError, ErrorCode, chain};

use crate::error::{SnapshotError, StoreError};
use crate::json::ValueError;

/// Names that an error message lists.
const LISTED: usize = 10;

/// What is wrong with a question about a snapshot, or with a change of it.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The snapshot itself cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// No operator of the snapshot is called so.
    #[error("snapshot `{folder}` holds no operator `{operator}`, but {}", listed(.known))]
    NoSuchOperator {
        /// The snapshot.
        folder: String,
        /// What was asked for.
        operator: String,
        /// The labels of those there are.
        known: Vec<String>,
    },
    /// Several operators are called so.
    #[error("several operators of snapshot `{folder}` are called `{operator}`: {}", listed(.known))]
    AmbiguousOperator {
        /// The snapshot.
        folder: String,
        /// What was asked for.
        operator: String,
        /// Their labels.
        known: Vec<String>,
    },
    /// The operator has no state of this name.
    #[error("operator `{operator}` has no state `{state}`, but {}", listed(.known))]
    NoSuchState {
        /// The operator.
        operator: String,
        /// What was asked for.
        state: String,
        /// The names of those there are.
        known: Vec<String>,
    },
    /// The operator has several states, and none was named.
    #[error("operator `{operator}` has several states: {}", listed(.known))]
    StateNotNamed {
        /// The operator.
        operator: String,
        /// Their names.
        known: Vec<String>,
    },
    /// The state has no such key.
    #[error("state `{state}` of operator `{operator}` has no key {key}")]
    NoSuchKey {
        /// The operator.
        operator: String,
        /// The state.
        state: String,
        /// The key, as JSON.
        key: String,
    },
    /// A list was asked for a key.
    #[error("state `{state}` of operator `{operator}` is a list: it has no keys")]
    NotKeyed {
        /// The operator.
        operator: String,
        /// The state.
        state: String,
    },
    /// A key or value that is none of the state's type.
    #[error("{what} `{text}` does not fit state `{state}`")]
    Value {
        /// `key` or `value`.
        what: &'static str,
        /// What was given, shortened.
        text: String,
        /// The state.
        state: String,
        /// What does not fit.
        #[source]
        source: Box<ValueError>,
    },
    /// A change that cannot be understood, or that contradicts another.
    #[error("change {number} is malformed: {reason}")]
    Change {
        /// Which, from 1: of the command line, or the line of the file.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// Something is where the result should go.
    #[error("`{target}` exists already")]
    TargetExists {
        /// The place.
        target: String,
    },
    /// The place cannot take a savepoint.
    #[error("a savepoint cannot be written to `{target}`: {reason}")]
    BadTarget {
        /// The place.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// A local file could not be written.
    #[error("cannot {operation} `{}`", .path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Whether the new savepoint is there is unknown.
    #[error("whether savepoint `{target}` was written is unknown")]
    OutcomeUnknown {
        /// The place.
        target: String,
        /// What happened.
        #[source]
        source: Box<crate::store::CreateError>,
    },
}

impl From<StoreError> for InspectError {
    fn from(error: StoreError) -> Self {
        Self::Snapshot(error.into())
    }
}

impl InspectError {
    /// The stable code of the error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Snapshot(error) => error.code(),
            Self::NoSuchOperator { .. } | Self::NoSuchState { .. } | Self::NoSuchKey { .. } => ErrorCode::StateNotFound,
            Self::AmbiguousOperator { .. } | Self::StateNotNamed { .. } | Self::NotKeyed { .. } => {
                ErrorCode::InvalidArgument
            }
            Self::Value { .. } | Self::Change { .. } => ErrorCode::InvalidStateValue,
            Self::TargetExists { .. } => ErrorCode::TargetExists,
            Self::BadTarget { .. } => ErrorCode::InvalidStorageUri,
            Self::File { .. } => ErrorCode::OutputFailed,
            Self::OutcomeUnknown { .. } => ErrorCode::OutcomeUnknown,
        }
    }

    /// The error for a person, with the whole chain of causes and a hint.
    pub fn to_coded(&self) -> CodedError {
        let hint = match self {
            Self::Snapshot(error) => return error.to_coded(),
            Self::NoSuchOperator { .. } | Self::NoSuchState { .. } => "list them with `streamctl state list PATH`",
            Self::AmbiguousOperator { .. } => "name it by its uid or by the 32 digits of its id",
            Self::StateNotNamed { .. } => "name the state after the operator",
            Self::NoSuchKey { .. } => "look at some keys with `streamctl state show PATH UID STATE`",
            Self::NotKeyed { .. } => "print the list with `streamctl state show PATH UID STATE`",
            Self::Value { .. } => {
                "types are listed by `streamctl state list PATH`; values are written as it prints them"
            }
            Self::Change { .. } => {
                "write one object a line: {\"key\": …, \"value\": …} or {\"key\": …, \"remove\": true}"
            }
            Self::TargetExists { .. } => "name a place where nothing is yet: nothing is ever overwritten",
            Self::BadTarget { .. } => "name a new folder, like `/data/savepoints/repaired`",
            Self::File { .. } => "check that the place exists, is writable and has room",
            Self::OutcomeUnknown { .. } => "look whether the savepoint is whole with `streamctl savepoint verify PATH`",
        };
        CodedError::new(self.code(), chain(self)).with_hint(hint)
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none at all".to_owned();
    }
    let shown: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    match names.len().checked_sub(LISTED) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _all => shown.join(", "),
    }
}
