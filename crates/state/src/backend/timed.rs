//! Restoring by time: rows that are due come before anything is done that is due later.

use streamd_core::snapshot::NativeSegment;
use streamd_core::state::Key;
use streamd_snapshot::NextSegment;

use super::{KeyedStateBackend, StateId};
use crate::error::StateError;
use crate::restore::RestoreError;
use crate::table::Table;
use crate::timed::{Moment, Moments, Timed};

impl<K: Key> KeyedStateBackend<K> {
    /// As [`register`](Self::register), for values that the operator looks for by time.
    pub fn register_timed<V: Timed>(&mut self, name: &str) -> Result<StateId<V>, StateError> {
        let id = self.register(name)?;
        match self.table_mut::<V>(id) {
            Table::Heap(table, _) => table.set_moments(Moments::of_type()),
            #[cfg(feature = "rocksdb")]
            Table::RocksDb(_) => self.states[id.index].search = Some(search::<K, V>),
        }
        Ok(id)
    }

    /// Restores what is still in the snapshot of the rows that are due up to `until`, where `due` says when a moment of a kind is: the
    /// later the moment, the later. What of the snapshot nothing is known of is due at once. Returns a time before which nothing is due
    /// that is left there.
    ///
    /// The moments of these rows, as of all that are restored, are [handed out](Self::take_arrived).
    pub fn restore_due<V: Timed>(
        &mut self,
        id: StateId<V>,
        until: i64,
        due: &dyn Fn(usize, i64) -> i64,
    ) -> Result<i64, StateError> {
        let state = &self.states[id.index];
        let Some((pending, missing)) = state.pending.as_ref().zip(state.table.missing()) else {
            return Ok(i64::MAX);
        };
        let mut left = i64::MAX;
        let mut is_due = vec![false; pending.segments().count()];
        for ((number, segment), is_due) in (0..).zip(pending.segments()).zip(&mut is_due) {
            if missing.is_missing(number) {
                let first = first_due::<V>(segment, due);
                *is_due = first <= until;
                left = if *is_due { left } else { left.min(first) };
            }
        }
        let mut those = pending.those(|number| is_due[number as usize]);
        loop {
            let state = &self.states[id.index];
            let restored = state.pending.as_ref().zip(state.table.missing());
            let next = restored.map(|(pending, missing)| pending.next_of(&mut those, missing));
            match next.transpose().map_err(RestoreError::from)? {
                Some(NextSegment::Here(part, segment)) => {
                    self.take(id.index, part, &segment)?;
                }
                Some(NextSegment::Waits | NextSegment::Nothing) | None => break,
            }
        }
        self.settle(id.index)?;
        Ok(left)
    }

    /// The moments of rows that were restored since this was called last. The rows may have changed meanwhile.
    pub fn take_arrived<V: Timed>(&mut self, id: StateId<V>) -> Vec<Moment<K>> {
        std::mem::take(&mut self.states[id.index].arrived)
    }

    /// Finds the moments of rows that have come as files of a database.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn search(&mut self) -> Result<(), StateError> {
        for state in &mut self.states {
            if let Some(search) = state.search {
                search(&mut *state.table, &mut state.arrived)?;
            }
        }
        Ok(())
    }
}

/// When something of a segment is due first.
fn first_due<V: Timed>(segment: &NativeSegment, due: &dyn Fn(usize, i64) -> i64) -> i64 {
    let earliest = segment.earliest.iter().copied().enumerate();
    let first = earliest.map(|(kind, time)| match time {
        i64::MAX => time,
        time => due(kind, time),
    });
    match segment.earliest.len() == V::KINDS {
        true => first.min().unwrap_or(i64::MAX),
        false => i64::MIN,
    }
}

#[cfg(feature = "rocksdb")]
fn search<K: Key, V: Timed>(table: &mut dyn std::any::Any, arrived: &mut Vec<Moment<K>>) -> Result<(), StateError> {
    let table: &mut Table<K, V> = table
        .downcast_mut()
        .expect("the search of a state is made with its table");
    table.for_each(&mut |key, value| {
        let hash = key.stable_hash();
        value.moments(&mut |kind, time| {
            arrived.push(Moment {
                kind,
                time,
                hash,
                key: key.clone(),
            });
        });
    })
}
