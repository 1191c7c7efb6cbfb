//! Which state backend the keyed state of a job lives in, and what it may take.

use serde::{Deserialize, Serialize};

use crate::error::{CodedError, ErrorCode};

/// The memory of a slot for state in RocksDB, where nothing else is set.
pub const DEFAULT_ROCKSDB_MEMORY_PER_SLOT: u64 = 256 << 20;

/// The state objects that checkpoints of the backend `hashmap` inline, where nothing else is set: those of up to so many bytes.
pub const DEFAULT_INLINE_THRESHOLD: u64 = 20 << 10;

/// The largest state of one subtask that the backend `memory` takes, where nothing else is set.
pub const DEFAULT_MEMORY_MAX_STATE: u64 = 5 << 20;

/// Bytes of state that one subtask can send along with its acknowledgement, whatever is set: messages to the job manager are
/// bounded by 16 MiB, and positions and schemas travel in the same one.
pub const MAX_INLINE_BYTES: u64 = 12 << 20;

/// Bytes of operator state and of inlined keyed state that one subtask can send along with its acknowledgement together: a mebibyte less
/// than the message may have, for handles and schemas.
pub const MAX_ACKNOWLEDGED_BYTES: u64 = 15 << 20;

/// Where the state of a running job lives, and what its checkpoints consist of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateBackendKind {
    /// Native values on the heap; checkpoints are files. Flink's `filesystem` of old.
    #[default]
    HashMap,
    /// RocksDB on the local disk, for more than memory holds; checkpoints are its files.
    RocksDb,
    /// Native values on the heap; a checkpoint is its metadata file alone, which the job manager writes. Flink's `jobmanager` of old.
    Memory,
}

/// Where the state of a checkpoint goes: Flink's name for half of what a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointStorageKind {
    /// Into files of its own.
    FileSystem,
    /// Into the metadata, which the job manager writes.
    JobManager,
}

/// Which state objects of a checkpoint travel inside of its metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Inlining {
    /// None.
    #[default]
    Off,
    /// Those of up to so many bytes.
    UpTo(u64),
    /// All; a state of a subtask that takes more than so many bytes is refused.
    All {
        /// Bytes.
        max_state: u64,
    },
}

/// Settings of the state backend that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendConflict {
    /// The files of a database are too large for metadata.
    #[error("the checkpoints of the state backend `rocksdb` are files: they cannot be stored with the job manager")]
    RocksDbInMemory,
    /// The backend `memory` is nothing else than checkpoints without files.
    #[error("the checkpoints of the state backend `memory` have no files: they cannot be stored in the file system")]
    MemoryInFiles,
}

impl BackendConflict {
    /// The error for a person.
    pub fn to_coded(&self) -> CodedError {
        let hint = match self {
            Self::RocksDbInMemory => "remove `execution.checkpointing.storage`, or set `state.backend.type: hashmap`",
            Self::MemoryInFiles => "set `state.backend.type: hashmap`, or remove `execution.checkpointing.storage`",
        };
        CodedError::new(ErrorCode::InvalidConfiguration, self.to_string()).with_hint(hint)
    }
}

impl StateBackendKind {
    /// The name that configuration and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::HashMap => "hashmap",
            Self::RocksDb => "rocksdb",
            Self::Memory => "memory",
        }
    }
}

/// The state backend of a job, every setting resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateBackendOptions {
    /// Which.
    pub kind: StateBackendKind,
    /// `rocksdb`: the bytes of memory for the state of one slot: decoded values, write buffers and block cache.
    pub rocksdb_memory_per_slot: u64,
    /// `hashmap`: the bytes of the largest state object that travels inside of the metadata of a checkpoint.
    pub inline_threshold: u64,
    /// `memory`: the bytes of the largest state of one subtask in a checkpoint.
    pub memory_max_state: u64,
    /// What is on the local disk of the last checkpoint is read after a failure instead of the store. The files of `rocksdb` are there
    /// anyway; on the heap, a copy is written of what is uploaded.
    pub local_recovery: bool,
}

impl Default for StateBackendOptions {
    fn default() -> Self {
        Self {
            kind: StateBackendKind::default(),
            rocksdb_memory_per_slot: DEFAULT_ROCKSDB_MEMORY_PER_SLOT,
            inline_threshold: DEFAULT_INLINE_THRESHOLD,
            memory_max_state: DEFAULT_MEMORY_MAX_STATE,
            local_recovery: false,
        }
    }
}

impl StateBackendOptions {
    /// Which state objects of a checkpoint travel inside of its metadata.
    pub fn inlining(&self) -> Inlining {
        match self.kind {
            StateBackendKind::HashMap if self.inline_threshold > 0 => Inlining::UpTo(self.inline_threshold),
            StateBackendKind::HashMap | StateBackendKind::RocksDb => Inlining::Off,
            StateBackendKind::Memory => Inlining::All {
                max_state: self.memory_max_state,
            },
        }
    }
}

/// Settings of the state backend. A field that is `None` was not set here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateBackendSettings {
    /// See [`StateBackendOptions::kind`].
    pub kind: Option<StateBackendKind>,
    /// Where the state of checkpoints goes: with the job manager, `hashmap` becomes `memory`.
    pub storage: Option<CheckpointStorageKind>,
    /// See [`StateBackendOptions::rocksdb_memory_per_slot`].
    pub rocksdb_memory_per_slot: Option<u64>,
    /// See [`StateBackendOptions::inline_threshold`].
    pub inline_threshold: Option<u64>,
    /// See [`StateBackendOptions::memory_max_state`].
    pub memory_max_state: Option<u64>,
    /// See [`StateBackendOptions::local_recovery`].
    pub local_recovery: Option<bool>,
}

impl StateBackendSettings {
    /// These settings, else the defaults of the cluster, else streamd's.
    pub fn resolve(&self, defaults: &Self) -> Result<StateBackendOptions, BackendConflict> {
        let otherwise = StateBackendOptions::default();
        let kind = self.kind.or(defaults.kind).unwrap_or(otherwise.kind);
        let kind = match (kind, self.storage.or(defaults.storage)) {
            (kind, None) => kind,
            (StateBackendKind::HashMap | StateBackendKind::Memory, Some(CheckpointStorageKind::JobManager)) => {
                StateBackendKind::Memory
            }
            (StateBackendKind::HashMap | StateBackendKind::RocksDb, Some(CheckpointStorageKind::FileSystem)) => kind,
            (StateBackendKind::RocksDb, Some(CheckpointStorageKind::JobManager)) => {
                return Err(BackendConflict::RocksDbInMemory);
            }
            (StateBackendKind::Memory, Some(CheckpointStorageKind::FileSystem)) => {
                return Err(BackendConflict::MemoryInFiles);
            }
        };
        let first = |set: Option<u64>, default: Option<u64>, otherwise| set.or(default).unwrap_or(otherwise);
        Ok(StateBackendOptions {
            kind,
            rocksdb_memory_per_slot: first(
                self.rocksdb_memory_per_slot,
                defaults.rocksdb_memory_per_slot,
                otherwise.rocksdb_memory_per_slot,
            ),
            inline_threshold: first(
                self.inline_threshold,
                defaults.inline_threshold,
                otherwise.inline_threshold,
            ),
            memory_max_state: first(
                self.memory_max_state,
                defaults.memory_max_state,
                otherwise.memory_max_state,
            ),
            local_recovery: self
                .local_recovery
                .or(defaults.local_recovery)
                .unwrap_or(kind == StateBackendKind::RocksDb),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_decides_before_its_cluster_and_the_cluster_before_streamd() {
        let job = StateBackendSettings {
            kind: Some(StateBackendKind::RocksDb),
            ..StateBackendSettings::default()
        };
        let cluster = StateBackendSettings {
            kind: Some(StateBackendKind::HashMap),
            rocksdb_memory_per_slot: Some(7),
            ..StateBackendSettings::default()
        };
        let resolved = job.resolve(&cluster).unwrap();
        assert_eq!(
            (resolved.kind, resolved.rocksdb_memory_per_slot),
            (StateBackendKind::RocksDb, 7)
        );
        let nothing = StateBackendSettings::default();
        assert_eq!(nothing.resolve(&nothing).unwrap(), StateBackendOptions::default());
    }

    #[test]
    fn state_on_the_heap_whose_checkpoints_are_with_the_job_manager_is_the_backend_memory() {
        let settings = |kind, storage| StateBackendSettings {
            kind,
            storage,
            ..StateBackendSettings::default()
        };
        let resolved = |kind, storage| {
            let cluster = settings(None, storage);
            settings(kind, None).resolve(&cluster).map(|options| options.kind)
        };
        use CheckpointStorageKind::{FileSystem, JobManager};
        use StateBackendKind::{HashMap, Memory, RocksDb};
        assert_eq!(resolved(None, Some(JobManager)), Ok(Memory));
        assert_eq!(resolved(Some(HashMap), Some(JobManager)), Ok(Memory));
        assert_eq!(resolved(Some(Memory), None), Ok(Memory));
        assert_eq!(resolved(None, Some(FileSystem)), Ok(HashMap));
        assert_eq!(resolved(Some(RocksDb), Some(FileSystem)), Ok(RocksDb));
        assert_eq!(
            resolved(Some(RocksDb), Some(JobManager)),
            Err(BackendConflict::RocksDbInMemory)
        );
        assert_eq!(
            resolved(Some(Memory), Some(FileSystem)),
            Err(BackendConflict::MemoryInFiles)
        );
    }

    #[test]
    fn small_state_of_the_heap_is_inlined_and_all_state_of_memory() {
        let options = |kind| StateBackendOptions {
            kind,
            ..StateBackendOptions::default()
        };
        assert_eq!(options(StateBackendKind::HashMap).inlining(), Inlining::UpTo(20_480));
        assert_eq!(options(StateBackendKind::RocksDb).inlining(), Inlining::Off);
        let all = Inlining::All { max_state: 5_242_880 };
        assert_eq!(options(StateBackendKind::Memory).inlining(), all);
        let never = StateBackendOptions {
            inline_threshold: 0,
            ..StateBackendOptions::default()
        };
        assert_eq!(never.inlining(), Inlining::Off);
    }
}
