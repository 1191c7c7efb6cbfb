//! A state of a backend, and how rows of snapshots get into it.

#[cfg(feature = "rocksdb")]
use std::any::Any;

use streamd_core::key_group::{HashRange, KeyGroupRange, key_group_of};
use streamd_core::state::{Key, from_row};

use super::StateDescriptor;
use crate::error::StateError;
use crate::lifetime::Lifetime;
use crate::pending::PendingRows;
use crate::state_table::{Inserted, StateTable};
use crate::timed::Moment;

/// A registered state.
pub(super) struct Registered<K> {
    pub(super) descriptor: StateDescriptor,
    pub(super) table: Box<dyn StateTable<K>>,
    /// How long its values live, if not for ever.
    pub(super) lifetime: Option<Lifetime>,
    /// What is left of its restore.
    pub(super) pending: Option<PendingRows>,
    /// What its operator has not been told of yet of the rows that were restored, if it looks for them by time.
    pub(super) arrived: Vec<Moment<K>>,
    /// Finds such moments in a database.
    #[cfg(feature = "rocksdb")]
    pub(super) search: Option<SearchTable<K>>,
}

#[cfg(feature = "rocksdb")]
pub(super) type SearchTable<K> = fn(table: &mut dyn Any, arrived: &mut Vec<Moment<K>>) -> Result<(), StateError>;

impl<K: Key> Registered<K> {
    /// Adds a row of a snapshot: see [`KeyedStateBackend::restore_row_at`](super::KeyedStateBackend::restore_row_at).
    pub(super) fn restore_row(
        &mut self,
        (key_groups, max_parallelism): (KeyGroupRange, u32),
        stored: Option<StoredAt>,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StateError> {
        let state = || self.descriptor.name.clone();
        let malformed = |part| {
            move |source| StateError::MalformedRow {
                state: state(),
                part,
                source,
            }
        };
        let key: K = from_row(key).map_err(malformed("key"))?;
        let hash = key.stable_hash();
        let key_group = key_group_of(hash, max_parallelism);
        if !key_groups.contains(key_group) {
            return Err(StateError::ForeignKeyGroup {
                state: state(),
                key_group,
                key_groups,
            });
        }
        if let Some(stored) = stored {
            if stored.key_group != key_group {
                return Err(StateError::MisplacedRow {
                    state: state(),
                    stored: stored.key_group,
                    key_group,
                });
            }
            if let Some(hashes) = stored.hashes.filter(|hashes| !hashes.contains(hash)) {
                return Err(StateError::MisplacedKey { state: state(), hashes });
            }
        }
        let inserted = self.table.insert_row(hash, key, value, &mut self.arrived);
        match inserted.map_err(malformed("value"))? {
            Inserted::New => Ok(()),
            Inserted::Replaced => Err(StateError::DuplicateKey {
                state: state(),
                key_group,
            }),
        }
    }

    /// Errors if of the rows that have arrived, from this one on, one has an earlier moment than the snapshot says there is.
    pub(super) fn check_moments(&self, from: usize, earliest: &[i64]) -> Result<(), StateError> {
        let first = |kind| earliest.get(kind).copied().unwrap_or(i64::MIN);
        let is_early = |moment: &&Moment<K>| moment.time < first(moment.kind);
        match self.arrived[from..].iter().find(is_early) {
            None => Ok(()),
            Some(moment) => Err(StateError::EarlyMoment {
                state: self.descriptor.name.clone(),
                time: moment.time,
            }),
        }
    }
}

/// Where a row of a snapshot was stored.
#[derive(Clone, Copy)]
pub(crate) struct StoredAt {
    pub(crate) key_group: u32,
    /// Those of the keys that are stored with it.
    pub(crate) hashes: Option<HashRange>,
}
