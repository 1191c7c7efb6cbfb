//! A state of a backend, and how rows of snapshots get into it.

#[cfg(feature = "rocksdb")]
use std::any::Any;

use streamd_core::key_group::{HashRange, KeyGroupRange, key_group_of};
use streamd_core::row::RowError;
use streamd_core::state::{Key, from_row};
use streamd_snapshot::RowBatch;

use super::StateDescriptor;
use crate::error::StateError;
use crate::lifetime::Lifetime;
use crate::pending::PendingRows;
use crate::schema::RowPlan;
use crate::state_table::{DecodedRows, Inserted, RoomForRows, StateTable};
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
        let (state, place) = (&self.descriptor.name, (key_groups, max_parallelism));
        let (hash, key) = key_of_row(state, place, stored, key)?;
        let inserted = self.table.insert_row(hash, key, value, &mut self.arrived);
        match inserted.map_err(|source| malformed(&self.descriptor.name, "value", source))? {
            Inserted::New => Ok(()),
            Inserted::Replaced => Err(self.duplicate(hash, max_parallelism)),
        }
    }

    /// Makes keys and values of rows, while this takes those that were made.
    pub(super) fn decoder(&self, place: (KeyGroupRange, u32)) -> RowDecoder<K> {
        RowDecoder {
            state: self.descriptor.name.clone(),
            place,
            room: self.table.room_for_rows(),
        }
    }

    /// Adds rows that its decoder has made.
    pub(super) fn restore_decoded(
        &mut self,
        max_parallelism: u32,
        rows: Box<dyn DecodedRows<K>>,
    ) -> Result<(), StateError> {
        let inserted = self.table.insert_decoded(rows, &mut self.arrived);
        inserted.map_err(|hash| self.duplicate(hash, max_parallelism))
    }

    fn duplicate(&self, hash: u64, max_parallelism: u32) -> StateError {
        StateError::DuplicateKey {
            state: self.descriptor.name.clone(),
            key_group: key_group_of(hash, max_parallelism),
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

/// Makes keys and values of the rows of a state, on any thread.
pub(crate) struct RowDecoder<K> {
    state: String,
    place: (KeyGroupRange, u32),
    room: RoomForRows<K>,
}

impl<K: Key> RowDecoder<K> {
    /// Errors as [`Registered::restore_row`] does, but for keys that are there already.
    pub(crate) fn decode(&self, plan: &RowPlan, rows: &RowBatch) -> Result<Box<dyn DecodedRows<K>>, StateError> {
        let mut decoded = (self.room)(rows.len());
        let mut scratch = Vec::new();
        for (key_group, key, value) in rows.iter() {
            let stored = StoredAt {
                key_group,
                hashes: None,
            };
            let (hash, key) = key_of_row(&self.state, self.place, Some(stored), key)?;
            plan.value(value, &mut scratch)
                .and_then(|value| decoded.push(hash, key, value))
                .map_err(|source| malformed(&self.state, "value", source))?;
        }
        Ok(decoded)
    }
}

/// The key of a row, with its hash. Errors if it belongs elsewhere.
fn key_of_row<K: Key>(
    state: &str,
    (key_groups, max_parallelism): (KeyGroupRange, u32),
    stored: Option<StoredAt>,
    key: &[u8],
) -> Result<(u64, K), StateError> {
    let key: K = from_row(key).map_err(|source| malformed(state, "key", source))?;
    let hash = key.stable_hash();
    let key_group = key_group_of(hash, max_parallelism);
    let state = || state.to_owned();
    if !key_groups.contains(key_group) {
        return Err(StateError::ForeignKeyGroup {
            state: state(),
            key_group,
            key_groups,
        });
    }
    let Some(stored) = stored else {
        return Ok((hash, key));
    };
    if stored.key_group != key_group {
        return Err(StateError::MisplacedRow {
            state: state(),
            stored: stored.key_group,
            key_group,
        });
    }
    match stored.hashes.filter(|hashes| !hashes.contains(hash)) {
        Some(hashes) => Err(StateError::MisplacedKey { state: state(), hashes }),
        None => Ok((hash, key)),
    }
}

fn malformed(state: &str, part: &'static str, source: RowError) -> StateError {
    StateError::MalformedRow {
        state: state.to_owned(),
        part,
        source,
    }
}
