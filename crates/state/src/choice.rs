//! Which backend the state of a job is in, and what the backends of one process share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::id::OperatorId;
use streamd_core::plan::BuiltWith;

use crate::error::StateError;
#[cfg(feature = "rocksdb")]
use crate::rocksdb::{LocalFiles, SharedMemory, SlotMemory};

/// The backend of a job, in one worker. Made once for an attempt.
#[derive(Debug, Clone, Default)]
pub struct BackendChoice {
    options: StateBackendOptions,
    /// Where local files go.
    directory: PathBuf,
    /// Where they stay for the next attempt.
    recovery: Option<PathBuf>,
    #[cfg(feature = "rocksdb")]
    rocksdb: Option<SharedMemory>,
}

/// The backend of a job, in one slot.
#[derive(Debug, Clone, Default)]
pub struct SlotBackend {
    choice: BackendChoice,
    #[cfg(feature = "rocksdb")]
    memory: Option<SlotMemory>,
}

/// Whose state it is: the names that the local files of an operator go by.
#[derive(Debug, Clone)]
pub struct StatePlace {
    /// The operator.
    pub operator: OperatorId,
    /// The vertex and the index of the subtask.
    pub subtask: (u32, u32),
    /// A random name of this execution.
    pub nonce: String,
}

impl BackendChoice {
    /// The choice for a worker of this many slots, which keeps local files in a directory of its own.
    ///
    /// Errors if the application was built without the backend.
    pub fn new(options: StateBackendOptions, slots: usize, directory: PathBuf) -> Result<Self, StateError> {
        check_built(options.kind)?;
        #[cfg(not(feature = "rocksdb"))]
        let _only_with_rocksdb = slots;
        Ok(Self {
            #[cfg(feature = "rocksdb")]
            rocksdb: (options.kind == StateBackendKind::RocksDb)
                .then(|| SharedMemory::new(options.rocksdb_memory_per_slot, slots)),
            options,
            directory,
            recovery: None,
        })
    }

    /// The same, with files that earlier attempts left in a directory, and leaving files there. What subtasks have left that are not
    /// among those `deployed` here, as vertex and index, goes.
    #[must_use]
    pub fn recovering_from(self, directory: Option<&Path>, deployed: &BTreeSet<(u32, u32)>) -> Self {
        let is_wanted = self.options.kind == StateBackendKind::RocksDb && self.options.local_recovery;
        let recovery = directory.filter(|_| is_wanted).map(Path::to_owned);
        #[cfg(feature = "rocksdb")]
        if let Some(directory) = &recovery {
            crate::rocksdb::forget_others(directory, deployed);
        }
        #[cfg(not(feature = "rocksdb"))]
        let _only_with_rocksdb = deployed;
        Self { recovery, ..self }
    }

    /// What was chosen.
    pub fn options(&self) -> &StateBackendOptions {
        &self.options
    }

    /// The backend in one more slot.
    pub fn slot(&self) -> SlotBackend {
        SlotBackend {
            #[cfg(feature = "rocksdb")]
            memory: self.rocksdb.as_ref().map(SharedMemory::slot),
            choice: self.clone(),
        }
    }
}

impl SlotBackend {
    /// What was chosen.
    pub fn options(&self) -> &StateBackendOptions {
        &self.choice.options
    }

    /// Where the state of an operator lives.
    pub(crate) fn store(&self, place: &StatePlace) -> Result<Store, StateError> {
        match self.choice.options.kind {
            StateBackendKind::HashMap | StateBackendKind::Memory => Ok(Store::Heap),
            #[cfg(feature = "rocksdb")]
            StateBackendKind::RocksDb => {
                let (Some(shared), Some(memory)) = (&self.choice.rocksdb, &self.memory) else {
                    return Err(not_built(StateBackendKind::RocksDb));
                };
                let (vertex, index) = place.subtask;
                let name = format!("{}-{vertex}-{index}-{}", place.operator, place.nonce);
                let directory = self.choice.directory.join("streamd-rocksdb").join(name);
                let local = self.choice.recovery.as_deref();
                let local = local.map(|root| LocalFiles::new(root, place.operator, place.subtask));
                let instance = crate::rocksdb::Instance::new(directory, shared.clone(), local)?;
                Ok(Store::RocksDb {
                    instance: Box::new(instance),
                    memory: memory.clone(),
                })
            }
            #[cfg(not(feature = "rocksdb"))]
            StateBackendKind::RocksDb => {
                let _only_with_rocksdb = (place, &self.choice.directory, &self.choice.recovery);
                Err(not_built(StateBackendKind::RocksDb))
            }
        }
    }
}

/// Where the tables of an operator live.
pub(crate) enum Store {
    Heap,
    #[cfg(feature = "rocksdb")]
    RocksDb {
        instance: Box<crate::rocksdb::Instance>,
        memory: SlotMemory,
    },
}

/// Whether this program has the backend.
pub fn check_built(kind: StateBackendKind) -> Result<(), StateError> {
    match kind {
        StateBackendKind::RocksDb if !cfg!(feature = "rocksdb") => Err(not_built(kind)),
        StateBackendKind::HashMap | StateBackendKind::Memory | StateBackendKind::RocksDb => Ok(()),
    }
}

/// Lets this program read the rows of checkpoints whatever backend they are of, as far as it was built with it.
pub fn install_readers() {
    #[cfg(feature = "rocksdb")]
    streamd_snapshot::install_database_reader(Box::new(crate::rocksdb::FilesReader));
}

/// What this program was built with.
pub fn built_with() -> BuiltWith {
    let kinds = [
        StateBackendKind::HashMap,
        StateBackendKind::Memory,
        StateBackendKind::RocksDb,
    ];
    let built = kinds.into_iter().filter(|kind| check_built(*kind).is_ok());
    let schemes = streamd_snapshot::store::built_schemes();
    BuiltWith {
        state_backends: built.map(|kind| kind.name().to_owned()).collect(),
        storage_schemes: schemes.into_iter().map(str::to_owned).collect(),
    }
}

fn not_built(kind: StateBackendKind) -> StateError {
    StateError::NotBuilt { backend: kind.name() }
}
