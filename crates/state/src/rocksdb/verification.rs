//! Files that a database was opened with before anybody had read them: they are compared with the digests of their checkpoint while records
//! flow.
//!
//! ```text
//!   object of the store, or its copy ── link ──▶ db/000012.sst      the database's: read by block, each with a checksum of its own
//!                                    └─ link ──▶ unread/000012.sst  read from end to end, and gone then
//! ```
//!
//! The second name keeps the bytes here for as long as nobody has read them, whatever becomes of the checkpoint, and whatever the database
//! has made of the file. Files that are still [arriving](super::arriving) are brought first. Nothing of the database is given to a snapshot
//! before all files are known to be right.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use rocksdb::Env;
use streamd_core::error::chain;
use streamd_core::snapshot::ObjectHandle;
use streamd_snapshot::{SnapshotError, check_file, link_object, lower_priority};

use super::arriving::{Arriving, ArrivingFile};
use super::database::{DatabaseError, disk};
use super::known_files::KnownFiles;
use super::memory::{READING_MEMORY, SharedMemory};
use super::slice::Slice;

/// A file of a database whose content nobody has read.
pub(super) struct UnreadFile {
    pub object: ObjectHandle,
    /// A name beside the one that the database knows.
    path: PathBuf,
    /// Whether it is a copy that was kept on the local disk, and not the object itself.
    is_copy: bool,
    /// Where not all of it is here.
    arriving: Option<Arc<ArrivingFile>>,
}

/// What is to be read of a database while it is used.
#[derive(Default)]
pub(super) struct Unread {
    /// What is to come before.
    pub arriving: Option<Arc<Arriving>>,
    /// To be compared with their digests.
    pub files: Vec<UnreadFile>,
    /// Of what is used they have nothing. Still, damage is to be named if reading fails.
    pub unwanted: Vec<UnreadFile>,
    /// Rows that are to be counted, in the directory with all files as they were.
    pub slice: Option<(Slice, PathBuf)>,
    /// What they are read through.
    pub environment: Option<Env>,
}

/// The reading of files in the background.
#[derive(Debug)]
pub(super) struct Verification {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    outcome: OnceLock<Result<(), DatabaseError>>,
    is_given_up: AtomicBool,
    arriving: Option<Arc<Arriving>>,
}

/// What the thread holds. One that panics leaves nobody waiting: that it ended is the outcome where there is no other.
struct Reading {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl UnreadFile {
    /// Makes links to an object: `file`, and one in the directory `unread`. `None` if that cannot be: then it is to be fetched. Errors if the
    /// object has another length than is recorded.
    pub(super) fn link(
        object: &ObjectHandle,
        file: &Path,
        unread: &Path,
        known_files: &KnownFiles,
    ) -> Result<Option<Self>, SnapshotError> {
        let Some(name) = file.file_name() else {
            return Ok(None);
        };
        let path = unread.join(name);
        let is_copy = known_files.take(object, &path);
        if !is_copy && !link_object(object, &path)? {
            return Ok(None);
        }
        let unread = Self {
            object: object.clone(),
            path,
            is_copy,
            arriving: None,
        };
        match fs::hard_link(&unread.path, file) {
            Ok(()) => Ok(Some(unread)),
            Err(_too_many_names) => {
                unread.forget();
                Ok(None)
            }
        }
    }

    /// One that is still arriving.
    pub(super) fn arriving(file: &Arc<ArrivingFile>) -> Self {
        Self {
            object: file.object().clone(),
            path: file.path().to_owned(),
            is_copy: false,
            arriving: Some(Arc::clone(file)),
        }
    }

    /// Its name within the database.
    pub(super) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// Whether not all of it was here when the database was opened.
    pub(super) fn is_arriving(&self) -> bool {
        self.arriving.is_some()
    }

    /// Whether it is a copy that was kept on the local disk.
    pub(super) fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Reads the file, for as long as `goes_on` says so, and errors if it is not the content of its object. A copy of what is damaged is
    /// not used again.
    pub(super) fn check(&self, known_files: &KnownFiles, goes_on: &dyn Fn() -> bool) -> Result<(), SnapshotError> {
        let checked = check_file(&self.object, &self.path, goes_on);
        match checked {
            Ok(true) if self.arriving.is_some() => known_files.arrived(&self.path, &self.object),
            Ok(_kept_or_given_up) => {}
            Err(_) => known_files.drop_copy(&self.object),
        }
        self.forget();
        checked.map(|_whole_or_given_up| ())
    }

    /// What is wrong, to those who have used the file. A copy that is damaged is no damage of the checkpoint: the next attempt fetches the
    /// object.
    fn refused(&self, error: &SnapshotError) -> DatabaseError {
        if !self.is_copy {
            return not_restored(error);
        }
        DatabaseError::NotRestored {
            reason: format!(
                "a copy on the local disk is damaged, and will not be used again: {}",
                chain(error)
            ),
            code: error.code(),
            is_damage: false,
        }
    }

    fn forget(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(file = %self.path.display(), %error, "a link of local state cannot be removed");
        }
    }
}

/// What is wrong with an object, or its store, to those who use the database.
pub(super) fn not_restored(error: &SnapshotError) -> DatabaseError {
    DatabaseError::NotRestored {
        reason: chain(error),
        code: error.code(),
        is_damage: error.is_damage(),
    }
}

/// Why a database of these files cannot be opened: one that is damaged, rather than what RocksDB made of it.
pub(super) fn blame(files: &[UnreadFile], known_files: &KnownFiles, error: DatabaseError) -> DatabaseError {
    check_all(files, known_files, &|| true).err().unwrap_or(error)
}

/// Reads files, for as long as `goes_on` says so, and errors at the first that is not the content of its object. If that is a copy, no other
/// is used again either: one restart is enough.
fn check_all(files: &[UnreadFile], known_files: &KnownFiles, goes_on: &dyn Fn() -> bool) -> Result<(), DatabaseError> {
    for file in files.iter().take_while(|_| goes_on()) {
        if let Some(arriving) = &file.arriving {
            arriving.wait_until_whole()?;
        }
        if let Err(error) = file.check(known_files, goes_on) {
            tracing::warn!(file = file.object.path, %error, "a file that state was restored from is refused");
            let copies = files.iter().filter(|other| file.is_copy && other.is_copy);
            copies.for_each(|copy| known_files.drop_copy(&copy.object));
            return Err(file.refused(&error));
        }
    }
    Ok(())
}

impl Verification {
    /// Nothing is left to be read.
    pub(super) fn none() -> Self {
        let shared = Shared::default();
        let _the_first = shared.outcome.set(Ok(()));
        Self {
            shared: Arc::new(shared),
            thread: None,
        }
    }

    /// Has this read. Errors if nobody can.
    pub(super) fn start(unread: Unread, known_files: Arc<KnownFiles>) -> Result<Self, DatabaseError> {
        let of_slice = unread.slice.as_ref().map(|(_, directory)| directory.clone());
        let Some(path) = of_slice.or_else(|| Some(unread.files.first()?.path.clone())) else {
            return Ok(Self::none());
        };
        let shared = Arc::new(Shared {
            arriving: unread.arriving.clone(),
            ..Shared::default()
        });
        let reading = Reading {
            shared: Arc::clone(&shared),
            path: path.clone(),
        };
        let thread = thread::Builder::new().name("state-verifier".to_owned());
        let thread = thread.spawn(move || reading.shared.read(&unread, &known_files));
        Ok(Self {
            shared,
            thread: Some(thread.map_err(|error| disk("start a thread for", &path, &error))?),
        })
    }

    /// Whether all files are known to be right. Errors if one is known not to be.
    #[inline]
    pub(super) fn is_done(&self) -> Result<bool, DatabaseError> {
        match self.shared.outcome.get() {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(error.clone()),
        }
    }

    /// Whether files are still coming, so that reading may take long.
    #[inline]
    pub(super) fn is_arriving(&self) -> bool {
        let arriving = self.shared.arriving.as_ref();
        arriving.is_some_and(|arriving| !arriving.is_complete())
    }

    /// Waits until all files are known to be right. Errors as soon as one is known not to be.
    pub(super) fn wait(&self) -> Result<(), DatabaseError> {
        self.shared.outcome.wait().clone()
    }

    /// Reads no more: nobody will read on.
    pub(super) fn give_up(&self, directory: &Path) {
        self.shared.is_given_up.store(true, Ordering::Relaxed);
        let _perhaps_done = self.shared.outcome.set(Err(DatabaseError::Lost {
            directory: directory.to_owned(),
            reason: "it was closed before all of its files had been read".to_owned(),
        }));
        self.shared.end_arriving();
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        self.shared.is_given_up.store(true, Ordering::Relaxed);
        self.shared.end_arriving();
        // The directory is about to go, and nobody may be working in it.
        if let Some(Err(_panic)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("a thread that reads files of local state panicked");
        }
    }
}

impl Unread {
    /// Reads everything, for as long as `goes_on` says so.
    fn read(&self, known_files: &KnownFiles, goes_on: &dyn Fn() -> bool) -> Result<(), DatabaseError> {
        if let Some(arriving) = &self.arriving {
            arriving.bring(self.files.iter().filter_map(|file| file.arriving.as_ref()))?;
        }
        let Some((slice, directory)) = &self.slice else {
            return check_all(&self.files, known_files, goes_on);
        };
        // First: each file goes when it has been compared. What is opened of those that are not wanted comes too.
        let memory = SharedMemory::new(READING_MEMORY, 1).reading_through(self.environment.clone());
        let counted = slice.count(directory, &memory, goes_on);
        let counted = counted.map_err(|error| blame(&self.unwanted, known_files, error));
        let checked = check_all(&self.files, known_files, goes_on);
        if let Err(error) = fs::remove_dir_all(directory) {
            tracing::debug!(directory = %directory.display(), %error, "links of local state cannot be removed");
        }
        checked.and(counted)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _the_first = self.shared.outcome.set(Err(DatabaseError::Lost {
            directory: self.path.clone(),
            reason: "the thread that reads its files ended early".to_owned(),
        }));
    }
}

impl Shared {
    fn end_arriving(&self) {
        if let Some(arriving) = &self.arriving {
            arriving.give_up();
        }
    }

    fn read(&self, unread: &Unread, known_files: &KnownFiles) {
        lower_priority();
        let files = &unread.files;
        let bytes: u64 = files.iter().map(|file| file.object.length).sum();
        let goes_on = || !self.is_given_up.load(Ordering::Relaxed);
        let outcome = unread.read(known_files, &goes_on);
        // What was given up has its outcome, and what is set twice keeps the first.
        if goes_on() {
            if outcome.is_ok() {
                tracing::info!(
                    files = files.len(),
                    bytes,
                    "the files of a database are as the checkpoint has them"
                );
            }
            let _the_first = self.outcome.set(outcome);
        }
    }
}

#[cfg(test)]
#[path = "verification_tests.rs"]
mod tests;
