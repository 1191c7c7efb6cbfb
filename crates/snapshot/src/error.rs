//! What can be wrong with stored bytes, exactly; and how each wrong is told to a person.

use streamd_core::error::{CodedError, ErrorCode, chain};
use streamd_core::id::OperatorId;
use streamd_core::row::RowError;

use crate::layout;
pub use crate::store::StoreError;

/// What is wrong with a snapshot, or why it could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store, not the snapshot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing is at the place.
    #[error("there is no snapshot at `{uri}`")]
    NotFound {
        /// The place.
        uri: String,
    },
    /// A folder without `_metadata`: no snapshot, or one that was never completed.
    #[error("folder `{uri}` holds no `_metadata`, but {}", listed(.entries))]
    NoMetadata {
        /// The folder.
        uri: String,
        /// Names of things in it, at most ten.
        entries: Vec<String>,
    },
    /// A record says that the checkpoint is complete, and it has no metadata.
    #[error("checkpoint `{folder}` is recorded as complete, and has no `_metadata`")]
    MetadataGone {
        /// Its folder.
        folder: String,
    },
    /// The file does not begin as a metadata file does.
    #[error("file `{uri}` is no streamd snapshot metadata")]
    NotMetadata {
        /// The file.
        uri: String,
    },
    /// The object is shorter than it must be.
    #[error("`{uri}` is truncated: {expected} bytes are expected, {actual} are there")]
    Truncated {
        /// The object.
        uri: String,
        /// The length that it should have, at least.
        expected: u64,
        /// The length that it has.
        actual: u64,
    },
    /// The object is longer than it must be.
    #[error("`{uri}` is too long: {expected} bytes are expected, {actual} are there")]
    TooLong {
        /// The object.
        uri: String,
        /// The length that it should have.
        expected: u64,
        /// The length that it has.
        actual: u64,
    },
    /// The bytes are not those that were written.
    #[error("`{uri}` is corrupt: its digest is `{actual}` instead of `{expected}`")]
    DigestMismatch {
        /// The object.
        uri: String,
        /// The recorded digest.
        expected: String,
        /// The digest of what is there.
        actual: String,
    },
    /// Written by a newer streamd.
    #[error("`{uri}` is of format version {found}, newer than version {supported} that this streamd reads")]
    NewerVersion {
        /// The object.
        uri: String,
        /// Its version.
        found: u32,
        /// The newest version that can be read.
        supported: u32,
    },
    /// Intact, but impossible.
    #[error("`{uri}` is malformed: {reason}")]
    Malformed {
        /// The object.
        uri: String,
        /// What is impossible.
        reason: String,
    },
    /// A block of a native state object is damaged.
    #[error("block at byte {offset} of state object `{uri}` is corrupt: {reason}")]
    CorruptBlock {
        /// The object.
        uri: String,
        /// Where the block begins.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// An object that the metadata refers to is gone.
    #[error("{} refers to `{path}`, which does not exist", snapshot(.folder))]
    MissingObject {
        /// The snapshot's folder; empty for a reader who knows the object alone, by its URI.
        folder: String,
        /// The object, as the metadata names it.
        path: String,
    },
    /// A complete savepoint was to be deleted as if it were streamd's.
    #[error("`{uri}` is a complete savepoint, which only its owner may delete")]
    NotOurs {
        /// The savepoint's folder.
        uri: String,
    },
    /// A snapshot was to be deleted that others refer to.
    #[error("snapshot `{uri}` is in use by {}", listed(.by))]
    InUse {
        /// The snapshot's folder.
        uri: String,
        /// Who refers to it: URIs of snapshots.
        by: Vec<String>,
    },
    /// A type that cannot be stored.
    #[error("state `{state}` cannot be stored: {reason}")]
    UnsupportedType {
        /// The state.
        state: String,
        /// What about its type.
        reason: String,
    },
    /// Bytes that are no row of their state's type.
    #[error("state `{state}` holds a row that does not fit its type")]
    Row {
        /// The state.
        state: String,
        /// What does not fit.
        #[source]
        source: RowError,
    },
    /// The caller broke the order of a table: a bug.
    #[error("state `{state}` was written wrongly: {reason}")]
    Misuse {
        /// The state.
        state: String,
        /// What happened.
        reason: String,
    },
    /// The Parquet library failed.
    #[error("cannot {operation} Parquet table `{uri}`")]
    Parquet {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The table.
        uri: String,
        /// What the library said.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// The same operator is in the metadata twice, or the like.
    #[error("operator `{operator}` in `{uri}` is impossible: {reason}")]
    ImpossibleOperator {
        /// The metadata.
        uri: String,
        /// The operator.
        operator: OperatorId,
        /// What is impossible.
        reason: String,
    },
    /// A file of the local disk, on its way into a snapshot or out of one.
    #[error("cannot {operation} the local file `{}`", path.display())]
    Local {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// State in the files of a RocksDB database, which only the backend reads.
    #[error("state `{state}` is in the files of a RocksDB database, which this program cannot read")]
    NeedsRocksDb {
        /// The state.
        state: String,
    },
    /// A state that is too large to travel inside of the metadata, as the backend `memory` has it.
    #[error(
        "state `{state}` of operator `{operator}` takes {bytes} bytes, more than the {limit} that the state backend `memory` allows"
    )]
    StateTooLarge {
        /// The state.
        state: String,
        /// What people call the operator.
        operator: String,
        /// Its size in this subtask.
        bytes: u64,
        /// The largest size.
        limit: u64,
    },
    /// The states of a subtask are together too large to travel inside of the metadata.
    #[error(
        "the states of the subtask take {bytes} bytes together, more than the {limit} that it can send to the job manager"
    )]
    StatesTooLarge {
        /// Their size.
        bytes: u64,
        /// The largest size.
        limit: u64,
    },
    /// The operator state of a subtask is too large to travel inside of the metadata, as it always does.
    #[error(
        "the operator state of a subtask takes {bytes} bytes, most of them in operator `{operator}`: more than the {limit} that it can send to the job manager"
    )]
    OperatorStateTooLarge {
        /// What people call the operator that has the most.
        operator: String,
        /// The size of all of it.
        bytes: u64,
        /// The largest size.
        limit: u64,
    },
    /// Everything that travels inside of the metadata is together too large.
    #[error("the metadata `{uri}` would have {bytes} bytes, more than the {limit} that can be read again")]
    MetadataTooLarge {
        /// The metadata.
        uri: String,
        /// How many bytes it would have, at least.
        bytes: u64,
        /// The most that it may have.
        limit: u64,
    },
    /// The folder of checkpoints is another cluster's.
    #[error("folder `{folder}` belongs to another cluster, the one of `{storage}`")]
    Claimed {
        /// The folder.
        folder: String,
        /// Where that cluster keeps its applications and records.
        storage: String,
    },
    /// The rows of a state could not be had where they are.
    #[error("state `{state}` could not be read")]
    Producer {
        /// The state.
        state: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Whoever received the rows of a restore refused one.
    #[error("state `{state}` could not be restored")]
    Consumer {
        /// The state.
        state: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl SnapshotError {
    /// Whether bytes are there and are not those that were written, so that reading them again gives the same: unlike those that are
    /// not there, which a store may yet bring back.
    pub fn is_damage(&self) -> bool {
        self.code() == ErrorCode::SnapshotCorrupt
            && !matches!(self, Self::MissingObject { .. } | Self::MetadataGone { .. })
    }

    /// The stable code of the error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Store(error) => error.code(),
            Self::NotFound { .. } | Self::NoMetadata { .. } => ErrorCode::SnapshotNotFound,
            Self::NewerVersion { .. } => ErrorCode::SnapshotVersion,
            Self::UnsupportedType { .. } | Self::Consumer { .. } => ErrorCode::IncompatibleState,
            Self::Misuse { .. } | Self::NotOurs { .. } => ErrorCode::Internal,
            Self::Local { .. } | Self::Producer { .. } => ErrorCode::LocalStateFailed,
            Self::NeedsRocksDb { .. } => ErrorCode::BackendNotBuilt,
            Self::InUse { .. } => ErrorCode::SnapshotInUse,
            Self::StateTooLarge { .. }
            | Self::StatesTooLarge { .. }
            | Self::OperatorStateTooLarge { .. }
            | Self::MetadataTooLarge { .. } => ErrorCode::StateTooLarge,
            Self::Claimed { .. } => ErrorCode::FolderClaimed,
            Self::NotMetadata { .. }
            | Self::Truncated { .. }
            | Self::TooLong { .. }
            | Self::DigestMismatch { .. }
            | Self::Malformed { .. }
            | Self::CorruptBlock { .. }
            | Self::MetadataGone { .. }
            | Self::MissingObject { .. }
            | Self::Row { .. }
            | Self::Parquet { .. }
            | Self::ImpossibleOperator { .. } => ErrorCode::SnapshotCorrupt,
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

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.hint(),
            Self::NotFound { uri } if is_numbered(uri) => Some(
                "a job deletes its older checkpoints as it takes new ones: see `streamctl checkpoint list`, or take a savepoint, which stays",
            ),
            Self::NotFound { .. } => Some("check the path; a snapshot is a folder that holds a file `_metadata`"),
            Self::NoMetadata { .. } => {
                Some("give the folder that holds `_metadata`; a snapshot without it was never completed")
            }
            Self::MetadataGone { .. } => {
                Some("bring its folder back from where there is a copy, or use another snapshot")
            }
            Self::NotMetadata { .. } => Some("give the `_metadata` file of a snapshot, or its folder"),
            Self::NewerVersion { .. } => Some("use the version of streamd that wrote it, or a newer one"),
            Self::Truncated { .. }
            | Self::TooLong { .. }
            | Self::DigestMismatch { .. }
            | Self::Malformed { .. }
            | Self::CorruptBlock { .. }
            | Self::ImpossibleOperator { .. } => Some("copy the snapshot again from where it came, or use another one"),
            Self::InUse { .. } => Some(
                "dispose of those first, or keep what they share with `streamctl checkpoint dispose --keep-shared`",
            ),
            Self::MissingObject { .. } => Some("move or copy a snapshot as a whole folder"),
            Self::Local { .. } => {
                Some("check the directory `io.tmp.dirs` of the task manager: its rights and its free room")
            }
            Self::NeedsRocksDb { .. } => Some(
                "take a savepoint, which every backend and every command reads, or build this program (the application, or `streamctl`) with the feature `rocksdb`",
            ),
            Self::StateTooLarge { .. } => Some(
                "take a savepoint and go on from it with `state.backend.type: hashmap`, or raise `state.backend.memory.max-state-size`",
            ),
            Self::StatesTooLarge { .. } => Some(
                "take a savepoint and go on from it with `state.backend.type: hashmap`, or at a higher parallelism",
            ),
            Self::OperatorStateTooLarge { .. } => Some(
                "keep what grows with the data in keyed state; or run at a higher parallelism, where each subtask has less of a list",
            ),
            Self::MetadataTooLarge { .. } => Some(
                "keep less in it: `state.backend.type: hashmap` instead of `memory`, a smaller `execution.checkpointing.data-inline-threshold`, or fewer subtasks",
            ),
            Self::Claimed { .. } => Some(
                "give this cluster a folder of its own with `execution.checkpointing.dir`; if the other is gone for good, `streamctl checkpoint release` takes the folder from it",
            ),
            Self::UnsupportedType { .. }
            | Self::Row { .. }
            | Self::Misuse { .. }
            | Self::NotOurs { .. }
            | Self::Parquet { .. }
            | Self::Producer { .. }
            | Self::Consumer { .. } => None,
        }
    }
}

fn snapshot(folder: &str) -> String {
    match folder.is_empty() {
        true => "the snapshot".to_owned(),
        false => format!("snapshot `{folder}`"),
    }
}

/// Whether a path ends in the name of a checkpoint's folder.
fn is_numbered(uri: &str) -> bool {
    let name = uri.trim_end_matches('/').rsplit('/').next();
    name.is_some_and(|name| layout::checkpoint_number(name).is_some())
}

fn listed(entries: &[String]) -> String {
    if entries.is_empty() {
        return "nothing at all".to_owned();
    }
    let names: Vec<String> = entries.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_the_reader_cannot_name_is_not_told_with_an_empty_name() {
        let missing = |folder: &str| SnapshotError::MissingObject {
            folder: folder.to_owned(),
            path: "s3://b/chk-3/x.state".to_owned(),
        };
        for (folder, told) in [
            (
                "",
                "the snapshot refers to `s3://b/chk-3/x.state`, which does not exist",
            ),
            (
                "s3://b/chk-4",
                "snapshot `s3://b/chk-4` refers to `s3://b/chk-3/x.state`, which does not exist",
            ),
        ] {
            assert_eq!(missing(folder).to_string(), told);
        }
    }
}
