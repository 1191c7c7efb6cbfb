//! Restoring what can wait: rows come into the tables while records are worked on already.

use streamd_core::state::Key;
use streamd_snapshot::{LoadedSegment, NativeReader, NextSegment};

use super::{KeyedStateBackend, StoredAt};
use crate::error::StateError;
use crate::missing::Missing;
use crate::pending::PendingRows;
use crate::restore::{RestoreError, read_rows};
use crate::schema::RowPlan;

/// How far a restore has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Restoring {
    /// All rows are there.
    Done,
    /// The next rows are still on their way.
    Waits,
    /// More rows can be restored whenever there is time.
    GoesOn,
}

impl<K: Key> KeyedStateBackend<K> {
    /// Whether rows of a restore are still to come.
    pub fn is_restoring(&self) -> bool {
        self.states.iter().any(|state| state.pending.is_some())
    }

    /// Whether rows are fetched when they are needed. What is in a database is files as a whole.
    pub(crate) fn restores_later(&self) -> bool {
        match self.store {
            crate::choice::Store::Heap { .. } => true,
            #[cfg(feature = "rocksdb")]
            crate::choice::Store::RocksDb { .. } => false,
        }
    }

    /// Reads these parts of a state: so many stored bytes now, and the rest when its keys are worked on or there is time. Returns the
    /// number of rows that are there now.
    pub(crate) fn restore_later(
        &mut self,
        index: usize,
        parts: Vec<(NativeReader, RowPlan)>,
        at_once: u64,
    ) -> Result<u64, RestoreError> {
        let pending = PendingRows::new(parts);
        let hashes = pending.hashes(self.max_parallelism);
        let (missing, at_once) = match Missing::of(&hashes) {
            Some(missing) => (missing, at_once),
            None => (Missing::unordered(hashes.len()), u64::MAX),
        };
        let state = &mut self.states[index];
        state.pending = Some(pending);
        state.table.set_missing(Some(Box::new(missing)));
        let (mut rows, mut bytes) = (0, 0);
        while bytes < at_once
            && let Some(taken) = self.take_next(index, true)?
        {
            rows += taken.rows;
            bytes += taken.bytes;
        }
        self.settle(index)?;
        Ok(rows)
    }

    /// Looks how far the reading of files has come that a database was restored from.
    pub(crate) fn check_files(&mut self) -> Result<Restoring, StateError> {
        let files = match &self.store {
            crate::choice::Store::Heap { .. } => Restoring::Done,
            #[cfg(feature = "rocksdb")]
            crate::choice::Store::RocksDb { instance, .. } => match instance.is_verified()? {
                true => Restoring::Done,
                false => Restoring::Waits,
            },
        };
        self.is_restoring = self.is_restoring() || files != Restoring::Done;
        Ok(files)
    }

    /// Does a little of what is left of a restore.
    pub fn restore_more(&mut self) -> Result<Restoring, StateError> {
        let mut restoring = self.check_files()?;
        for index in 0..self.states.len() {
            if self.states[index].pending.is_none() {
                continue;
            }
            let taken = self.take_next(index, false)?;
            self.settle(index)?;
            match (taken, &self.states[index].pending) {
                (_, None) => {}
                (Some(_), Some(_)) => return Ok(Restoring::GoesOn),
                (None, Some(_)) => restoring = Restoring::Waits,
            }
        }
        Ok(restoring)
    }

    /// Restores all that is left.
    pub(super) fn restore_rest(&mut self) -> Result<(), StateError> {
        if !self.is_restoring {
            return Ok(());
        }
        (0..self.states.len()).try_for_each(|index| self.restore_rest_of(index))
    }

    /// Restores all that is left of a state.
    pub(super) fn restore_rest_of(&mut self, index: usize) -> Result<(), StateError> {
        if self.states[index].pending.is_some() {
            while self.take_next(index, true)?.is_some() {}
            self.settle(index)?;
        }
        Ok(())
    }

    /// Restores the rows of these keys, and a little of what is left. Errors if a file that the state is in is known to be damaged.
    #[cold]
    #[inline(never)]
    pub(super) fn restore_keys(&mut self, keys: &[(u64, K)]) -> Result<(), StateError> {
        self.check_files()?;
        for index in 0..self.states.len() {
            let state = &mut self.states[index];
            let Some((pending, missing)) = state.pending.as_ref().zip(state.table.missing()) else {
                continue;
            };
            let mut wanted: Vec<u32> = keys.iter().flat_map(|(hash, _)| missing.of_key(*hash)).collect();
            wanted.sort_unstable();
            wanted.dedup();
            for (part, fetching) in pending.fetch(&wanted) {
                // Meanwhile those come whose turn it is, perhaps one of the wanted.
                while !fetching.is_ready() && self.take_next(index, false)?.is_some() {}
                for segment in fetching.wait().map_err(RestoreError::from)? {
                    if !self.has(index, part, &segment) {
                        self.take(index, part, &segment)?;
                    }
                }
            }
            self.take_next(index, false)?;
            self.settle(index)?;
        }
        Ok(())
    }

    /// Whether a segment of a state is in its table already.
    fn has(&self, index: usize, part: usize, segment: &LoadedSegment) -> bool {
        let state = &self.states[index];
        let restored = state.pending.as_ref().zip(state.table.missing());
        restored.is_none_or(|(pending, missing)| pending.has(missing, part, segment))
    }

    /// Takes the next segment of a state into its table; `None` if there is none, or none that is here already.
    fn take_next(&mut self, index: usize, waits: bool) -> Result<Option<Taken>, RestoreError> {
        let state = &mut self.states[index];
        let Some((pending, missing)) = state.pending.as_mut().zip(state.table.missing()) else {
            return Ok(None);
        };
        match pending.next(missing, waits)? {
            NextSegment::Here(part, segment) => self.take(index, part, &segment).map(Some),
            NextSegment::Waits | NextSegment::Nothing => Ok(None),
        }
    }

    pub(super) fn take(&mut self, index: usize, part: usize, segment: &LoadedSegment) -> Result<Taken, RestoreError> {
        let place = (self.key_groups, self.max_parallelism);
        let state = &mut self.states[index];
        let mut pending = state.pending.take().expect("a segment is taken of what is pending");
        // Its rows are put where the table takes care that none is used.
        let mut missing = state.table.set_missing(None);
        let of = pending.part(part);
        let described = of.described(segment);
        let from = state.arrived.len();
        let taken = read_rows(
            &state.descriptor.name.clone(),
            &of.plan,
            |visit| of.reader.deliver(segment, visit),
            |key_group, key, value| {
                let stored = StoredAt {
                    key_group,
                    hashes: described.hashes,
                };
                state.restore_row(place, Some(stored), key, value)
            },
        );
        let taken = taken.and_then(|rows| Ok(state.check_moments(from, &described.earliest).map(|()| rows)?));
        if let (Ok(rows), Some(missing)) = (&taken, &mut missing) {
            missing.arrive(pending.taken(part, segment, *rows));
        }
        state.table.set_missing(missing);
        state.pending = Some(pending);
        let rows = taken?;
        Ok(Taken {
            rows,
            bytes: segment.bytes(),
        })
    }

    /// Forgets what a state was restored from, if everything of it is there.
    pub(super) fn settle(&mut self, index: usize) -> Result<(), RestoreError> {
        let state = &mut self.states[index];
        if state.table.missing().is_some_and(|missing| missing.left() == 0)
            && let Some(pending) = state.pending.take()
        {
            state.table.set_missing(None);
            pending.finish()?;
        }
        self.is_restoring = self.is_restoring();
        Ok(())
    }
}

/// What was taken into a table at a time.
pub(super) struct Taken {
    rows: u64,
    /// As they are stored.
    bytes: u64,
}
