//! Which backend the state of a job is in, and what the backends of one process share.

use std::path::{Path, PathBuf};

use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::id::OperatorId;
use streamd_core::plan::BuiltWith;
use streamd_core::snapshot::ObjectHandle;
use streamd_snapshot::LocalCopies;

use crate::error::StateError;
#[cfg(feature = "rocksdb")]
use crate::rocksdb::{SharedMemory, SlotMemory};

/// The backend of a job, in one worker. Made once for an attempt.
#[derive(Debug, Clone, Default)]
pub struct BackendChoice {
    options: StateBackendOptions,
    /// Where local files go.
    directory: PathBuf,
    /// What stays here of checkpoints for the next attempt.
    copies: Option<LocalCopies>,
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
            copies: None,
        })
    }

    /// The same, with what earlier attempts left in a directory of these objects, which are restored, and leaving copies there. All else
    /// that is there goes.
    #[must_use]
    pub fn recovering_from<'o>(
        self,
        directory: Option<&Path>,
        restored: impl Iterator<Item = &'o ObjectHandle>,
    ) -> Self {
        let directory = directory.filter(|_| self.options.local_recovery);
        let copies = directory.map(|directory| LocalCopies::open(directory, restored));
        Self { copies, ..self }
    }

    /// What stays on the local disk of checkpoints, if anything does.
    pub fn copies(&self) -> Option<&LocalCopies> {
        self.copies.as_ref()
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
            StateBackendKind::HashMap | StateBackendKind::Memory => Ok(Store::Heap {
                copies: self.choice.copies.clone(),
            }),
            #[cfg(feature = "rocksdb")]
            StateBackendKind::RocksDb => {
                let (Some(shared), Some(memory)) = (&self.choice.rocksdb, &self.memory) else {
                    return Err(not_built(StateBackendKind::RocksDb));
                };
                let (vertex, index) = place.subtask;
                let name = format!("{}-{vertex}-{index}-{}", place.operator, place.nonce);
                let directory = self.choice.directory.join("streamd-rocksdb").join(name);
                let copies = self.choice.copies.clone();
                let instance = crate::rocksdb::Instance::new(directory, shared.clone(), copies)?;
                Ok(Store::RocksDb {
                    instance: Box::new(instance),
                    memory: memory.clone(),
                })
            }
            #[cfg(not(feature = "rocksdb"))]
            StateBackendKind::RocksDb => {
                let _only_with_rocksdb = (place, &self.choice.directory);
                Err(not_built(StateBackendKind::RocksDb))
            }
        }
    }
}

/// Where the tables of an operator live.
pub(crate) enum Store {
    Heap {
        /// Where to look for what is restored, before the store.
        copies: Option<LocalCopies>,
    },
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
