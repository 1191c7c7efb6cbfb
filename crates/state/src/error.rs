//! What can go wrong with keyed state.

use streamd_core::error::ErrorCode;
use streamd_core::key_group::{HashRange, KeyGroupRange};
use streamd_core::migration::Mismatch;
use streamd_core::row::{MAX_TYPE_DEPTH, RowError};
use streamd_snapshot::Uncovered;

/// Why a state could not be registered or restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Two states of an operator have the same name.
    #[error("state `{state}` is registered twice by one operator")]
    DuplicateState {
        /// The name.
        state: String,
    },
    /// A state without a name could not be found again.
    #[error("a state has an empty name")]
    EmptyName,
    /// An application may not call a state so.
    #[error("the name of state `{state}` begins with `~`, as only those of streamd's own states do")]
    ReservedName {
        /// The name.
        state: String,
    },
    /// Values that are over before they are written.
    #[error("the time to live of state `{state}` is {millis} ms: it must be longer than nothing")]
    TimeToLive {
        /// The name of the state.
        state: String,
        /// The time to live.
        millis: i64,
    },
    /// A type nests deeper than snapshots can describe.
    #[error("the type of state `{state}` nests {depth} deep, more than {MAX_TYPE_DEPTH}")]
    TypeTooDeep {
        /// The name of the state.
        state: String,
        /// The depth of its key or value type.
        depth: usize,
    },
    /// A snapshot holds a state that the operator has not registered.
    #[error("state `{state}` is not registered by the operator")]
    UnknownState {
        /// The name.
        state: String,
    },
    /// The snapshot's state has another schema than the application's.
    #[error("state `{state}` does not fit the application: {mismatch}")]
    IncompatibleSchema {
        /// The name of the state.
        state: String,
        /// What does not fit.
        mismatch: Box<Mismatch>,
    },
    /// Stored bytes are no value of the type they are declared to be.
    #[error("a {part} of state `{state}` cannot be decoded")]
    MalformedRow {
        /// The name of the state.
        state: String,
        /// `key` or `value`.
        part: &'static str,
        /// What is wrong with the bytes.
        #[source]
        source: RowError,
    },
    /// A row belongs to another subtask.
    #[error("a row of state `{state}` is in key group {key_group}, outside the subtask's {key_groups}")]
    ForeignKeyGroup {
        /// The name of the state.
        state: String,
        /// The group that the row's key hashes to.
        key_group: u32,
        /// The groups of the subtask.
        key_groups: KeyGroupRange,
    },
    /// The same key came twice.
    #[error("state `{state}` has two rows for one key, in key group {key_group}")]
    DuplicateKey {
        /// The name of the state.
        state: String,
        /// The group of the key.
        key_group: u32,
    },
    /// A row is stored under a key group that its key does not hash to.
    #[error("a row of state `{state}` is stored in key group {stored} but its key belongs to {key_group}")]
    MisplacedRow {
        /// The name of the state.
        state: String,
        /// The group it was found in.
        stored: u32,
        /// The group of its key.
        key_group: u32,
    },
    /// A row is stored with keys of other hashes than its own.
    #[error(
        "a row of state `{state}` is stored with the hashes from {} to {}, which its key does not have",
        .hashes.start,
        .hashes.end
    )]
    MisplacedKey {
        /// The name of the state.
        state: String,
        /// The upper halves of hashes that the keys there must have.
        hashes: HashRange,
    },
    /// A row is due before the snapshot says that anything stored with it is.
    #[error("a row of state `{state}` is due at {time}, earlier than anything that is said to be stored with it")]
    EarlyMoment {
        /// The name of the state.
        state: String,
        /// When it is due.
        time: i64,
    },
    /// What was left of a restore could not be read, or is not what the snapshot has.
    #[error("the rest of the state cannot be restored: {reason}")]
    NotRestored {
        /// Why.
        reason: String,
        /// The code of that.
        code: ErrorCode,
        /// Whether reading again gives the same.
        is_damage: bool,
    },
    /// The program lacks the backend that the job is to run on.
    #[error("the application was built without the state backend `{backend}`")]
    NotBuilt {
        /// The backend.
        backend: &'static str,
    },
    /// The local database failed.
    #[cfg(feature = "rocksdb")]
    #[error(transparent)]
    Database(crate::rocksdb::DatabaseError),
    /// A row of the local database is no value of its state.
    #[cfg(feature = "rocksdb")]
    #[error("a row of local state cannot be decoded")]
    LocalRow(#[source] RowError),
    /// The parts of a state do not make up the whole that the subtask needs.
    #[error("state `{state}` of the snapshot has {wrong}")]
    Coverage {
        /// The name of the state.
        state: String,
        /// The groups that are missing or stored more than once.
        wrong: Uncovered,
    },
}

impl StateError {
    /// Whether the snapshot is at fault that state is restored from, so that reading it again gives the same.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::NotRestored { is_damage, .. } => *is_damage,
            error => error.code() == ErrorCode::SnapshotCorrupt,
        }
    }

    /// The stable code of the error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::DuplicateState { .. }
            | Self::EmptyName
            | Self::ReservedName { .. }
            | Self::TimeToLive { .. }
            | Self::TypeTooDeep { .. } => ErrorCode::InvalidJobGraph,
            Self::UnknownState { .. } => ErrorCode::UnclaimedState,
            Self::NotRestored { code, .. } => *code,
            Self::NotBuilt { .. } => ErrorCode::BackendNotBuilt,
            #[cfg(feature = "rocksdb")]
            Self::Database(_) | Self::LocalRow(_) => ErrorCode::LocalStateFailed,
            Self::IncompatibleSchema { .. } => ErrorCode::IncompatibleState,
            Self::MalformedRow { .. }
            | Self::ForeignKeyGroup { .. }
            | Self::DuplicateKey { .. }
            | Self::MisplacedRow { .. }
            | Self::MisplacedKey { .. }
            | Self::EarlyMoment { .. }
            | Self::Coverage { .. } => ErrorCode::SnapshotCorrupt,
        }
    }
}

#[cfg(feature = "rocksdb")]
impl From<crate::rocksdb::DatabaseError> for StateError {
    fn from(error: crate::rocksdb::DatabaseError) -> Self {
        match error {
            crate::rocksdb::DatabaseError::NotRestored {
                reason,
                code,
                is_damage,
            } => Self::NotRestored {
                reason,
                code,
                is_damage,
            },
            error => Self::Database(error),
        }
    }
}

#[cfg(feature = "rocksdb")]
impl From<crate::rocksdb::TableError> for StateError {
    fn from(error: crate::rocksdb::TableError) -> Self {
        match error {
            crate::rocksdb::TableError::Database(error) => error.into(),
            crate::rocksdb::TableError::Row(error) => Self::LocalRow(error),
        }
    }
}
