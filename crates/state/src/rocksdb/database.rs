//! One database: the states of one operator in one subtask.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, LiveFile, Options, ReadOptions, WriteBatch, WriteOptions};
use streamd_core::error::ErrorCode;

use super::cut::Cut;
use super::known_files::KnownFiles;
use super::log::RowLog;
use super::memory::SharedMemory;
use super::slice::{Slice, is_within};
use super::verification::{Unread, Verification};
use super::working_set::UnwrittenRows;

/// Why a database failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// RocksDB said so.
    #[error("cannot {operation} the database in `{}`: {message}", directory.display())]
    RocksDb {
        /// What was tried, as a verb.
        operation: &'static str,
        /// Where the database is.
        directory: PathBuf,
        /// What it said.
        message: String,
    },
    /// The local file system said so.
    #[error("cannot {operation} `{}`: {message}", path.display())]
    Disk {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        message: String,
    },
    /// A file that it was restored from is not what the checkpoint has.
    #[error("a file of the state is not as the checkpoint has it: {reason}")]
    NotRestored {
        /// What is wrong with it.
        reason: String,
        /// The code of that.
        code: ErrorCode,
        /// Whether the checkpoint is at fault, so that reading it again gives the same.
        is_damage: bool,
    },
    /// A write was lost earlier, so that what is there is not the state.
    #[error("the database in `{}` has lost a write: {reason}", directory.display())]
    Lost {
        /// Where the database is.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Threads that look for keys where files are still coming: what they need is asked for together.
const READERS_AT_ONCE: usize = 16;

/// A directory that goes with its owner.
#[derive(Debug)]
pub struct OwnedDirectory(PathBuf);

impl OwnedDirectory {
    /// Makes the directory, with those above it.
    pub fn create(path: PathBuf) -> Result<Self, DatabaseError> {
        fs::create_dir_all(&path).map_err(|error| disk("create", &path, &error))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for OwnedDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(directory = %self.0.display(), %error, "a directory of local state cannot be removed");
        }
        if let Some(shared) = self.0.parent() {
            // Its last user takes it along; before, it is not empty.
            let _not_the_last = fs::remove_dir(shared);
        }
    }
}

/// The database of one operator in one subtask. Written by one thread; cuts of it are taken and read by others.
pub struct Database {
    // Closed before its directory is removed: fields are dropped in order.
    db: DB,
    memory: SharedMemory,
    writes: WriteOptions,
    /// The cut whose rows are not written yet. Whatever is written below comes after them.
    pending: Mutex<Option<Pending>>,
    /// Whether there is one: looked at for every batch.
    is_pending: AtomicBool,
    /// Why what is there is not the state any more.
    lost: OnceLock<String>,
    known_files: Arc<KnownFiles>,
    /// Of the files that it was opened with. Over before the directory is removed.
    verification: Verification,
    /// Whether files are compacted only once all of them are here.
    waits_to_compact: AtomicBool,
    columns: Vec<String>,
    next_cut: AtomicU64,
    directory: Arc<OwnedDirectory>,
}

/// Rows of a barrier that are still to be written.
struct Pending {
    cut: Arc<Cut>,
    rows: Vec<(String, Box<dyn UnwrittenRows>)>,
}

impl Database {
    /// Opens what is in `<directory>/db`, or makes an empty database there, with these states.
    pub fn open(
        directory: Arc<OwnedDirectory>,
        columns: Vec<String>,
        memory: SharedMemory,
        known_files: Arc<KnownFiles>,
    ) -> Result<Self, DatabaseError> {
        let place = database_path(directory.path());
        let options = memory.database_options();
        let failed = |error| rocks("open", &place, error);
        let mut names = columns.clone();
        if place.join("CURRENT").exists() {
            let there = DB::list_cf(&options, &place).map_err(failed)?;
            names.extend(there.into_iter().filter(|name| !columns.contains(name)));
        }
        let db = DB::open_cf_descriptors(&options, &place, descriptors(&names, &memory)).map_err(failed)?;
        let mut writes = WriteOptions::default();
        // What is here is thrown away after a failure: the last checkpoint is what lasts.
        writes.disable_wal(true);
        // Rows come sorted.
        writes.set_memtable_insert_hint_per_batch(true);
        let waits_to_compact = AtomicBool::new(memory.is_reading_through());
        Ok(Self {
            db,
            memory,
            writes,
            pending: Mutex::new(None),
            is_pending: AtomicBool::new(false),
            lost: OnceLock::new(),
            known_files,
            verification: Verification::none(),
            waits_to_compact,
            columns: names,
            next_cut: AtomicU64::new(0),
            directory,
        })
    }

    /// Deletes what is of other key groups, and returns the names of the files that went with it: their content is of no account.
    pub(super) fn narrow(&self, slice: &Slice) -> Result<BTreeSet<OsString>, DatabaseError> {
        let failed = |error| rocks("delete key groups of", self.directory(), error);
        let files = self.db.live_files().map_err(failed)?;
        let columns: BTreeSet<&str> = files.iter().map(|file| file.column_family_name.as_str()).collect();
        let mut unwanted = Vec::new();
        for name in columns {
            let column = self.column(name)?;
            for keys in slice.outside() {
                let delete = |from, to| self.db.delete_range_cf_opt(column, from, to, &self.writes);
                delete(&keys.start, &keys.end).map_err(failed)?;
                let of_column = files.iter().filter(|file| file.column_family_name == name);
                let within: Vec<&LiveFile> = of_column.filter(|file| is_within(file, &keys)).collect();
                let first = within.iter().filter_map(|file| file.start_key.as_ref()).min();
                let last = within.iter().filter_map(|file| file.end_key.as_ref()).max();
                if let Some((first, last)) = first.zip(last) {
                    // With the last. Those of level 0 stay, and those that are being compacted.
                    let done = self.db.delete_file_in_range_cf(column, first, last);
                    done.map_err(failed)?;
                }
                unwanted.extend(within);
            }
        }
        let left = self.db.live_files().map_err(failed)?;
        let name = |file: &LiveFile| OsString::from(file.name.trim_start_matches('/'));
        let left: BTreeSet<OsString> = left.iter().map(name).collect();
        Ok(unwanted
            .into_iter()
            .map(name)
            .filter(|name| !left.contains(name))
            .collect())
    }

    /// Has the files read that it was opened with, and the rows of a slice counted, while it is used. It is given to no snapshot before.
    pub(super) fn verify(&mut self, unread: Unread) -> Result<(), DatabaseError> {
        self.verification = Verification::start(unread, Arc::clone(&self.known_files))?;
        Ok(())
    }

    /// Whether the files that it was opened with are known to be right. Errors if one is known not to be.
    pub(super) fn is_verified(&self) -> Result<bool, DatabaseError> {
        self.compact_if_all_is_here()?;
        self.verification.is_done()
    }

    /// Lets files be compacted from now on, if that had to wait for them to be here.
    fn compact_if_all_is_here(&self) -> Result<(), DatabaseError> {
        if !self.waits_to_compact.load(Ordering::Relaxed) || self.verification.is_arriving() {
            return Ok(());
        }
        if self.waits_to_compact.swap(false, Ordering::Relaxed) {
            for name in &self.columns {
                let options = [("disable_auto_compactions", "false")];
                let done = self.db.set_options_cf(self.column(name)?, &options);
                done.map_err(|error| self.failed("set options of", error))?;
            }
        }
        Ok(())
    }

    /// Waits until the files that it was opened with are known to be right.
    pub(super) fn wait_until_verified(&self) -> Result<(), DatabaseError> {
        self.verification.wait()
    }

    /// The directory that everything of this database is in.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// Whether the rows of a cut are still to be written, so that nothing may be evicted.
    #[inline]
    pub fn is_cut_pending(&self) -> bool {
        self.is_pending.load(Ordering::Acquire)
    }

    /// Calls `visit` for each of these keys, in order, with its value if it has one.
    pub(super) fn get_all<'k>(
        &self,
        column: &str,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
        mut visit: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), DatabaseError> {
        self.check()?;
        let column = self.column(column)?;
        if self.verification.is_arriving() {
            self.bring(column, keys.clone().collect());
        }
        for (position, found) in self
            .db
            .batched_multi_get_cf(column, keys, false)
            .into_iter()
            .enumerate()
        {
            let found = found.map_err(|error| self.failed("read", error))?;
            visit(position, found.as_deref());
        }
        Ok(())
    }

    /// Has what these keys need come, all of it together. What fails is told to whoever reads then.
    fn bring(&self, column: &ColumnFamily, mut keys: Vec<&[u8]>) {
        // Neighbours are in one file, and come by one reader.
        keys.sort_unstable();
        let share = keys.len().div_ceil(READERS_AT_ONCE).max(1);
        thread::scope(|scope| {
            for keys in keys.chunks(share) {
                let read = move || drop(self.db.batched_multi_get_cf(column, keys.iter().copied(), true));
                let reader = thread::Builder::new().name("state-fetcher".to_owned());
                let _or_later = reader.spawn_scoped(scope, read);
            }
        });
    }

    /// Calls `visit` with every key and value of a state, in order of key, until it returns false.
    pub(super) fn for_each(
        &self,
        column: &str,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), DatabaseError> {
        self.for_each_after(column, &[], visit)
    }

    /// The same, of the keys after this one.
    pub(super) fn for_each_after(
        &self,
        column: &str,
        after: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), DatabaseError> {
        self.check()?;
        let mut options = ReadOptions::default();
        if !after.is_empty() {
            // The least key that is greater.
            options.set_iterate_lower_bound([after, &[0]].concat());
        }
        visit_column(&self.db, self.column(column)?, options, visit).map_err(|error| self.failed("read", error))
    }

    /// Writes rows at once, behind those of a cut that waits.
    pub(super) fn write(&self, column: &str, log: &RowLog) -> Result<(), DatabaseError> {
        self.settle()?;
        self.write_log(column, log)
    }

    /// Adds files of sorted rows to a state.
    pub(super) fn ingest(&self, column: &str, files: Vec<PathBuf>) -> Result<(), DatabaseError> {
        let mut options = rocksdb::IngestExternalFileOptions::default();
        options.set_move_files(true);
        let column = self.column(column)?;
        let done = self.db.ingest_external_file_cf_opts(column, &options, files);
        done.map_err(|error| self.failed("add files to", error))
    }

    /// Cuts here: `rows` are those that are not below yet. They are written, and the files linked, by whoever first calls
    /// [`settle`](Self::settle); until then nothing else is written.
    pub(super) fn cut(self: &Arc<Self>, rows: Vec<(String, Box<dyn UnwrittenRows>)>) -> Arc<Cut> {
        // An earlier cut comes first. Its error is the database's, which the next access tells.
        let _told_later = self.settle();
        let number = self.next_cut.fetch_add(1, Ordering::Relaxed);
        let cut = Arc::new(Cut::new(
            Arc::clone(self),
            self.directory().join(format!("cut-{number}")),
        ));
        *self.pending() = Some(Pending {
            cut: Arc::clone(&cut),
            rows,
        });
        self.is_pending.store(true, Ordering::Release);
        cut
    }

    /// Writes the rows of the cut that waits, if one does, and links its files. May take as long as writing a few buffers.
    pub fn settle(&self) -> Result<(), DatabaseError> {
        if !self.is_cut_pending() {
            return self.check();
        }
        let mut pending = self.pending();
        if let Some(Pending { cut, mut rows }) = pending.take() {
            let written = rows
                .iter_mut()
                .try_for_each(|(column, rows)| rows.drain(&mut |log| self.write_log(column, log)));
            // Where that failed they are let go all the same: the slots are whole again.
            drop(rows);
            if let Err(error) = &written {
                // The rows are nowhere else: from here on nothing that is read can be trusted.
                let _first_reason_stays = self.lost.set(error.to_string());
            }
            cut.settled(written.and_then(|()| self.link_files(cut.directory())));
            self.is_pending.store(false, Ordering::Release);
        }
        drop(pending);
        self.check()
    }

    /// Gives up the cut that waits, if one does, and what waits for the files to be read: nobody will read on.
    pub(super) fn abandon(&self) {
        // First: whoever settles a cut may wait for that.
        self.verification.give_up(self.directory());
        let mut pending = self.pending();
        if let Some(Pending { cut, .. }) = pending.take() {
            cut.settled(Err(DatabaseError::Lost {
                directory: self.directory().to_owned(),
                reason: "it was closed before its cut was written".to_owned(),
            }));
        }
        self.is_pending.store(false, Ordering::Release);
    }

    /// Which objects hold its files.
    pub(super) fn known_files(&self) -> &KnownFiles {
        &self.known_files
    }

    fn write_log(&self, column: &str, log: &RowLog) -> Result<(), DatabaseError> {
        self.check()?;
        if log.is_empty() {
            return Ok(());
        }
        self.compact_if_all_is_here()?;
        let handle = self.column(column)?;
        let write = |batch: WriteBatch| self.db.write_opt(batch, &self.writes);
        log.batches(handle, write).map_err(|error| self.failed("write", error))
    }

    /// Hard links to the files as they are now. Writes what is in memory into files first.
    fn link_files(&self, directory: &Path) -> Result<(), DatabaseError> {
        let checkpoint = Checkpoint::new(&self.db).map_err(|error| self.failed("cut", error))?;
        checkpoint
            .create_checkpoint(directory)
            .map_err(|error| self.failed("cut", error))
    }

    fn check(&self) -> Result<(), DatabaseError> {
        match self.lost.get() {
            None => Ok(()),
            Some(reason) => Err(DatabaseError::Lost {
                directory: self.directory().to_owned(),
                reason: reason.clone(),
            }),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn column(&self, name: &str) -> Result<&ColumnFamily, DatabaseError> {
        self.db.cf_handle(name).ok_or_else(|| DatabaseError::Lost {
            directory: self.directory().to_owned(),
            reason: format!("it has no column family `{name}`"),
        })
    }

    fn failed(&self, operation: &'static str, error: rocksdb::Error) -> DatabaseError {
        self.blame(rocks(operation, self.directory(), error))
    }

    /// Why it fails: a file that is damaged rather than what RocksDB made of it. Waits until that is known.
    pub(super) fn blame(&self, error: DatabaseError) -> DatabaseError {
        self.verification.wait().err().unwrap_or(error)
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Where the files of a database are within its directory.
pub(super) fn database_path(directory: &Path) -> PathBuf {
    directory.join("db")
}

/// The column families, with RocksDB's own, which is always there.
pub(super) fn descriptors(names: &[String], memory: &SharedMemory) -> Vec<ColumnFamilyDescriptor> {
    let default = std::iter::once(ColumnFamilyDescriptor::new("default", Options::default()));
    let named = names.iter().filter(|name| *name != "default");
    default
        .chain(named.map(|name| ColumnFamilyDescriptor::new(name, memory.column_options())))
        .collect()
}

/// Every row that the options let through, in order of key.
pub(super) fn visit_column(
    db: &DB,
    column: &ColumnFamily,
    mut options: ReadOptions,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), rocksdb::Error> {
    // A walk over everything must not push out what records need.
    options.fill_cache(false);
    options.set_readahead_size(1 << 20);
    let mut rows = db.raw_iterator_cf_opt(column, options);
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        if !visit(key, value) {
            return Ok(());
        }
        rows.next();
    }
    rows.status()
}

pub(super) fn rocks(operation: &'static str, directory: &Path, error: rocksdb::Error) -> DatabaseError {
    DatabaseError::RocksDb {
        operation,
        directory: directory.to_owned(),
        message: error.into_string(),
    }
}

pub(super) fn disk(operation: &'static str, path: &Path, error: &io::Error) -> DatabaseError {
    DatabaseError::Disk {
        operation,
        path: path.to_owned(),
        message: error.to_string(),
    }
}
