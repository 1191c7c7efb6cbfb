//! A backend whose tables are in a database: its cut, and its restore.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::{Key, State};
use streamd_snapshot::{RowBatch, layout, lower_priority};
use tokio::runtime::Handle;

use super::cut::{Cut, FrozenColumn};
use super::database::{Database, DatabaseError};
use super::open::{Instance, OpenError, key_groups_of_database};
use super::slice::{RowCount, Slice};
use super::table::CachedTable;
use super::working_set::UnwrittenRows;
use crate::error::StateError;
use crate::frozen_state::FrozenRows;
use crate::heap::{BatchVisitor, RowVisitor};
use crate::restore::RestoreError;

/// Batches that are read before they are taken: some, for either side to go on while the other waits.
const BATCHES_AHEAD: usize = 4;

/// The column family of a state.
pub fn column_name(state: &str) -> String {
    format!("state-{}", layout::sanitize(state))
}

/// A table without its types, as its backend handles it.
pub trait Column {
    /// The rows that the database does not have yet, which count as written.
    fn cut(&mut self) -> (String, Box<dyn UnwrittenRows>);

    /// The state in a cut that was just taken.
    fn frozen(&self, cut: Arc<Cut>) -> FrozenColumn;

    /// The database that holds the rows, and how many these are.
    fn attach(&mut self, database: Arc<Database>, rows: RowCount);

    /// Whether it has a database.
    fn is_attached(&self) -> bool;
}

impl<K: Key, V: State> Column for CachedTable<K, V> {
    fn cut(&mut self) -> (String, Box<dyn UnwrittenRows>) {
        let (column, dirty) = Self::cut(self);
        (column, Box::new(dirty))
    }

    fn frozen(&self, cut: Arc<Cut>) -> FrozenColumn {
        Self::frozen(self, cut)
    }

    fn attach(&mut self, database: Arc<Database>, rows: RowCount) {
        Self::attach(self, database, rows);
    }

    fn is_attached(&self) -> bool {
        Self::is_attached(self)
    }
}

/// The tables of a backend, by name, with their database.
pub(crate) struct Columns<'a> {
    pub(crate) instance: &'a mut Instance,
    pub(crate) tables: Vec<(String, &'a mut dyn Column)>,
}

impl Columns<'_> {
    fn names(&self) -> Vec<String> {
        self.tables.iter().map(|(state, _)| column_name(state)).collect()
    }

    /// Opens an empty database, if none is open.
    pub(crate) fn open(&mut self) -> Result<Arc<Database>, DatabaseError> {
        let names = self.names();
        let database = self.instance.database(&names)?;
        for (_, table) in &mut self.tables {
            if !table.is_attached() {
                table.attach(Arc::clone(&database), RowCount::default());
            }
        }
        Ok(database)
    }

    /// Cuts all tables here.
    pub(crate) fn cut(&mut self) -> Result<Vec<FrozenColumn>, DatabaseError> {
        let database = self.open()?;
        // An earlier cut comes first. Its error is the database's, which the next access tells.
        let _told_later = database.settle();
        let rows = self.tables.iter_mut().map(|(_, table)| table.cut()).collect();
        let cut = database.cut(rows);
        Ok(self
            .tables
            .iter()
            .map(|(_, table)| table.frozen(Arc::clone(&cut)))
            .collect())
    }

    /// Opens the files of a checkpoint as they are, if they are one database that has all of these key groups, and all of its rows stay
    /// as they are. Returns how many these are, or about so many if it has other key groups too.
    pub(crate) fn take_over(
        &mut self,
        parts: &[(&KeyedStateHandle, bool)],
        key_groups: KeyGroupRange,
        io: &Handle,
    ) -> Result<Option<u64>, RestoreError> {
        let handles: Vec<&KeyedStateHandle> = parts.iter().map(|(handle, _)| *handle).collect();
        let held = key_groups_of_database(&handles).filter(|held| held.intersection(key_groups) == key_groups);
        let Some(held) = held.filter(|_| parts.iter().all(|(_, unchanged)| *unchanged)) else {
            return Ok(None);
        };
        let slice = Slice::new(held, key_groups);
        let rows_of = |state: &str| {
            let of_state = handles.iter().filter(|handle| handle.state == state);
            RowCount::opened_with(slice.share(of_state.map(|handle| handle.rows).sum()))
        };
        let counts: Vec<RowCount> = self.tables.iter().map(|(state, _)| rows_of(state)).collect();
        let names = self.names();
        let slice = (held != key_groups).then(|| slice.counting(names.iter().cloned().zip(counts.iter().cloned())));
        let database = self.instance.open_files(&handles, &names, slice, io)?;
        let total = counts.iter().map(RowCount::now).sum();
        for ((_, table), rows) in self.tables.iter_mut().zip(counts) {
            table.attach(Arc::clone(&database), rows);
        }
        Ok(Some(total))
    }

    /// Makes the loaded rows readable.
    pub(crate) fn finish_loads(&mut self) -> Result<(), DatabaseError> {
        let names = self.names();
        let database = self.instance.database(&names)?;
        for (state, table) in &mut self.tables {
            let rows = self.instance.finish_load(&column_name(state))?;
            table.attach(Arc::clone(&database), RowCount::opened_with(rows));
        }
        Ok(())
    }
}

/// A state in a cut, or why there is none.
pub(crate) struct FrozenDatabase {
    column: Result<FrozenColumn, DatabaseError>,
    failure: Mutex<Option<DatabaseError>>,
}

impl FrozenDatabase {
    pub(crate) fn new(column: Result<FrozenColumn, DatabaseError>) -> Self {
        let failure = Mutex::new(column.as_ref().err().cloned());
        Self { column, failure }
    }

    fn fail(&self, error: DatabaseError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Reads all rows into batches, and those that were emptied again.
    fn read_batches(&self, full: &SyncSender<RowBatch>, room: &Receiver<RowBatch>) {
        let mut batch = RowBatch::default();
        let read = self.try_for_each_row(&mut |group, key, value| {
            batch.push(group, key, value);
            if !batch.is_full() {
                return ControlFlow::Continue(());
            }
            match full.send(std::mem::replace(&mut batch, room.try_recv().unwrap_or_default())) {
                Ok(()) => ControlFlow::Continue(()),
                // Whoever took them has failed.
                Err(_) => ControlFlow::Break(()),
            }
        });
        if read.is_continue() && !batch.is_empty() {
            let _taken_or_given_up = full.send(batch);
        }
    }
}

impl FrozenRows for FrozenDatabase {
    fn rows(&self) -> u64 {
        self.column.as_ref().map_or(0, FrozenColumn::rows)
    }

    fn prepare(&self) {
        if let Ok(column) = &self.column {
            column.prepare();
        }
    }

    fn try_for_each_row(&self, visit: &mut RowVisitor<'_>) -> ControlFlow<()> {
        let Ok(column) = &self.column else {
            return ControlFlow::Break(());
        };
        let mut flow = ControlFlow::Continue(());
        let walked = column.for_each_row(&mut |group, key, value| {
            flow = visit(group, key, value);
            flow.is_continue()
        });
        match walked {
            Ok(()) => flow,
            Err(error) => {
                self.fail(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Rows are read by a thread of their own: that is about as much work as writing them.
    fn drain_batches(&mut self, visit: &mut BatchVisitor<'_>) -> ControlFlow<()> {
        let this = &*self;
        let (full, batches) = sync_channel(BATCHES_AHEAD);
        // Room for all that there are.
        let (emptied, room) = sync_channel(BATCHES_AHEAD + 2);
        thread::scope(|scope| {
            // Gone when this is over: the other must not wait for somebody to take more.
            let batches = batches;
            let reading = thread::Builder::new().name("state-reader".to_owned());
            let reading = reading.spawn_scoped(scope, move || {
                lower_priority();
                this.read_batches(&full, &room)
            });
            if let Err(error) = &reading {
                this.fail(DatabaseError::Lost {
                    directory: PathBuf::new(),
                    reason: format!("no thread can be started to read it: {error}"),
                });
                return ControlFlow::Break(());
            }
            for mut batch in batches.iter() {
                visit(&mut batch)?;
                batch.clear();
                let _nobody_may_need_it = emptied.try_send(batch);
            }
            match this.failure() {
                None => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(()),
            }
        })
    }

    fn failure(&self) -> Option<StateError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().map(StateError::from)
    }

    fn column(&self) -> Option<&FrozenColumn> {
        self.column.as_ref().ok()
    }
}

impl From<OpenError> for RestoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Database(error) => Self::State(error.into()),
            OpenError::Snapshot(error) => Self::Snapshot(error),
        }
    }
}

impl From<DatabaseError> for RestoreError {
    fn from(error: DatabaseError) -> Self {
        Self::State(error.into())
    }
}
