//! Which state backend the keyed state of a job lives in, and what it may take.

use serde::{Deserialize, Serialize};

/// The memory of a slot for state in RocksDB, where nothing else is set.
pub const DEFAULT_ROCKSDB_MEMORY_PER_SLOT: u64 = 256 << 20;

/// Where the state of a running job lives, and what its checkpoints consist of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateBackendKind {
    /// Native values on the heap; checkpoints are files. Flink's `filesystem` of old.
    #[default]
    HashMap,
    /// RocksDB on the local disk, for more than memory holds; checkpoints are its files.
    RocksDb,
}

impl StateBackendKind {
    /// The name that configuration and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::HashMap => "hashmap",
            Self::RocksDb => "rocksdb",
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
}

impl Default for StateBackendOptions {
    fn default() -> Self {
        StateBackendSettings::default().resolve(&StateBackendSettings::default())
    }
}

/// Settings of the state backend. A field that is `None` was not set here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateBackendSettings {
    /// See [`StateBackendOptions::kind`].
    pub kind: Option<StateBackendKind>,
    /// See [`StateBackendOptions::rocksdb_memory_per_slot`].
    pub rocksdb_memory_per_slot: Option<u64>,
}

impl StateBackendSettings {
    /// These settings, else the defaults of the cluster, else streamd's.
    pub fn resolve(&self, defaults: &Self) -> StateBackendOptions {
        fn first<T: Copy>(settings: &[Option<T>], otherwise: T) -> T {
            settings.iter().find_map(|setting| *setting).unwrap_or(otherwise)
        }
        StateBackendOptions {
            kind: first(&[self.kind, defaults.kind], StateBackendKind::default()),
            rocksdb_memory_per_slot: first(
                &[self.rocksdb_memory_per_slot, defaults.rocksdb_memory_per_slot],
                DEFAULT_ROCKSDB_MEMORY_PER_SLOT,
            ),
        }
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
        };
        let resolved = job.resolve(&cluster);
        assert_eq!(
            (resolved.kind, resolved.rocksdb_memory_per_slot),
            (StateBackendKind::RocksDb, 7)
        );
        let nothing = StateBackendSettings::default();
        assert_eq!(
            nothing.resolve(&nothing).rocksdb_memory_per_slot,
            DEFAULT_ROCKSDB_MEMORY_PER_SLOT
        );
    }
}
