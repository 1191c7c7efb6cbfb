//! Table files that are in another store, and arrive while the database is used.
//!
//! ```text
//!   object of the store ── pieces ──▶ unread/000012.sst = db/000012.sst    as long as the object, and all holes at first
//!                            ▲   ▲
//!          whoever reads a block │        at once: what he needs of it, while he waits
//!               a thread of the background, in order: all the rest
//! ```
//!
//! A file with holes is read through RocksDB's [environment](streamd_rocksdb_env), which asks [`ArrivingFile`] before each read, and by nobody
//! else before it is whole. What fails once fails all that follows: the attempt is over then, and its reason is told to everybody.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use streamd_core::snapshot::ObjectHandle;
use streamd_rocksdb_env::{PartialFile, PartialFiles};
use streamd_snapshot::read_piece;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::database::{DatabaseError, disk};
use super::verification::not_restored;

/// The least that is asked for. A block has 4 KiB; of what a request to an object store takes, bytes are the smaller part up to here.
const GRANULE_BYTES: u64 = 64 << 10;

/// Granules that one request asks for at most: 4 MiB.
const GRANULES_OF_PIECE: usize = 64;

/// Granules that nobody waits for between two that somebody waits for, which come with them: that takes no longer than a request of its own.
const GRANULES_BETWEEN: usize = 16;

/// Requests of the background at once. One brings some 50 MB/s. Each holds a piece, 32 MiB together.
const PIECES_AT_ONCE: usize = 8;

/// Requests at once for those who wait, half of what a process makes; most have a few granules. The background goes on beside them: it brings most
/// for a request, and two of its requests instead of eight meanwhile had everybody wait longer.
const WAITED_FOR_AT_ONCE: usize = 32;

/// The longest file of which granules are counted, a byte for each. RocksDB makes files of 64 MiB, or of a few times that.
const MAX_BYTES: u64 = 1 << 40;

/// The files of one database that are not all here.
pub(super) struct Arriving {
    files: BTreeMap<OsString, Arc<ArrivingFile>>,
    shared: Arc<Shared>,
    is_complete: AtomicBool,
}

/// One of them.
pub(super) struct ArrivingFile {
    object: ObjectHandle,
    /// The name that it has until all of it is here and was compared with its digest.
    path: PathBuf,
    index: usize,
    is_whole: AtomicBool,
    shared: Arc<Shared>,
}

struct Shared {
    io: Handle,
    /// Where the files are.
    unread: PathBuf,
    progress: Mutex<Progress>,
    changed: Condvar,
    /// Whether nobody waits any more.
    is_over: watch::Sender<bool>,
}

struct Progress {
    /// Of each file.
    granules: Vec<Vec<Granule>>,
    /// Requests under way, of the background and for those who wait.
    coming: [usize; 2],
    failure: Option<DatabaseError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Granule {
    Absent,
    Coming,
    Here,
}

/// For whom a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Background,
    Waiting,
}

/// Granules that are asked for. However that ends, those who wait for them are told.
struct Arrival {
    file: Arc<ArrivingFile>,
    granules: Range<usize>,
    asker: Asker,
    outcome: Result<(), DatabaseError>,
}

impl Arriving {
    /// Makes files for these objects, each with a second name in the directory `unread`. Nothing of them is here yet. Those that cannot have
    /// two names, or are longer than any, are left.
    pub(super) fn create(
        absent: &mut Vec<(ObjectHandle, PathBuf)>,
        unread: &Path,
        io: &Handle,
    ) -> Result<Self, DatabaseError> {
        let mut made = Vec::new();
        let mut left = Vec::new();
        for (object, file) in absent.drain(..) {
            if object.length > MAX_BYTES {
                left.push((object, file));
                continue;
            }
            let path = unread.join(file.file_name().unwrap_or_default());
            let created = File::create_new(&path).and_then(|empty| empty.set_len(object.length));
            created.map_err(|error| disk("create", &path, &error))?;
            match fs::hard_link(&path, &file) {
                Ok(()) => made.push((object, path)),
                Err(_no_links_here) => {
                    fs::remove_file(&path).map_err(|error| disk("remove", &path, &error))?;
                    left.push((object, file));
                }
            }
        }
        *absent = left;
        let granules =
            |(object, _): &(ObjectHandle, _)| vec![Granule::Absent; granules_within(&(0..object.length)).end];
        let shared = Arc::new(Shared {
            io: io.clone(),
            unread: unread.to_owned(),
            progress: Mutex::new(Progress {
                granules: made.iter().map(granules).collect(),
                coming: [0; 2],
                failure: None,
            }),
            changed: Condvar::new(),
            is_over: watch::Sender::new(false),
        });
        let file = |(index, (object, path)): (usize, (ObjectHandle, PathBuf))| ArrivingFile {
            is_whole: AtomicBool::new(object.length == 0),
            object,
            path,
            index,
            shared: Arc::clone(&shared),
        };
        let files = made.into_iter().enumerate().map(file);
        Ok(Self {
            files: files.map(|file| (file.name().to_owned(), Arc::new(file))).collect(),
            is_complete: AtomicBool::new(false),
            shared,
        })
    }

    /// The files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<ArrivingFile>> {
        self.files.values()
    }

    /// Whether all has come that was to be [brought](Self::bring).
    #[inline]
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed)
    }

    /// Has all of these files come, and waits for that.
    pub(super) fn bring<'f>(&self, files: impl Iterator<Item = &'f Arc<ArrivingFile>>) -> Result<(), DatabaseError> {
        let files: Vec<_> = files.collect();
        for file in &files {
            file.begin_all()?;
        }
        for file in files {
            file.wait_until_whole()?;
        }
        self.is_complete.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Nobody will read on: who waits is told so, and nothing more comes.
    pub(super) fn give_up(&self) {
        self.shared
            .fail(self.shared.lost("it was closed before all of its files were here"));
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arriving")
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// By name: files of one number are one file, whatever directory of the instance its name is in.
impl PartialFiles for Arriving {
    fn find(&self, path: &Path) -> Option<Arc<dyn PartialFile>> {
        let file = self.files.get(path.file_name()?)?;
        let is_whole = file.is_whole.load(Ordering::Acquire);
        (!is_whole).then(|| Arc::new(OpenFile(Arc::clone(file))) as Arc<dyn PartialFile>)
    }
}

/// As RocksDB has it open.
struct OpenFile(Arc<ArrivingFile>);

impl PartialFile for OpenFile {
    fn wait_for(&self, ranges: &[Range<u64>]) -> Result<(), String> {
        self.0.wait(ranges).map_err(|error| error.to_string())
    }
}

impl ArrivingFile {
    /// The object that it is made of.
    pub(super) fn object(&self) -> &ObjectHandle {
        &self.object
    }

    /// Where it is until it was read.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// Has all of it come, and waits for that.
    pub(super) fn wait_until_whole(self: &Arc<Self>) -> Result<(), DatabaseError> {
        self.wait(slice::from_ref(&(0..u64::MAX)))
    }

    /// Has these bytes come, as far as the file goes, and waits for them.
    fn wait(self: &Arc<Self>, ranges: &[Range<u64>]) -> Result<(), DatabaseError> {
        if self.is_whole.load(Ordering::Acquire) {
            return Ok(());
        }
        let end = self.object.length;
        let within = |range: &Range<u64>| granules_within(&(range.start..range.end.min(end)));
        let wanted: Vec<Range<usize>> = ranges.iter().map(within).collect();
        let asked = joined(wanted.clone());
        let mut progress = self.shared.lock();
        while !wanted.iter().all(|wanted| progress.is_here(self.index, wanted)) {
            progress.check()?;
            let mut arrivals = Vec::new();
            for asked in &asked {
                while progress.has_room(Asker::Waiting)
                    && let Some(piece) = progress.absent(self.index, asked)
                {
                    arrivals.push(self.arrival(&mut progress, piece, Asker::Waiting));
                }
            }
            progress = match arrivals.is_empty() {
                true => self.shared.wait(progress),
                false => self.shared.begin(arrivals, progress),
            };
        }
        Ok(())
    }

    /// Begins to have all of it come, piece by piece.
    fn begin_all(self: &Arc<Self>) -> Result<(), DatabaseError> {
        let all = granules_within(&(0..self.object.length));
        let mut progress = self.shared.lock();
        while let Some(piece) = progress.absent(self.index, &all) {
            progress.check()?;
            progress = if progress.has_room(Asker::Background) {
                let arrival = self.arrival(&mut progress, piece, Asker::Background);
                self.shared.begin(vec![arrival], progress)
            } else {
                self.shared.wait(progress)
            };
        }
        Ok(())
    }

    fn arrival(self: &Arc<Self>, progress: &mut Progress, granules: Range<usize>, asker: Asker) -> Arrival {
        progress.granules[self.index][granules.clone()].fill(Granule::Coming);
        progress.coming[asker as usize] += 1;
        Arrival {
            file: Arc::clone(self),
            granules,
            asker,
            outcome: Err(self.shared.lost("the fetching of its files was interrupted")),
        }
    }

    /// Fetches a range of the object into the file, which nobody creates anew if it is gone.
    async fn copy(self: Arc<Self>, range: Range<u64>) -> Result<(), DatabaseError> {
        let bytes = read_piece(&self.object, range.clone()).await;
        let bytes = bytes.map_err(|error| not_restored(&error))?;
        let written = tokio::task::spawn_blocking(move || {
            let file = OpenOptions::new().write(true).open(&self.path);
            let written = file.and_then(|file| file.write_all_at(&bytes, range.start));
            written.map_err(|error| disk("write", &self.path, &error))
        });
        written.await.unwrap_or_else(|error| {
            let error = io::Error::other(error);
            Err(disk("write", Path::new("a file of local state"), &error))
        })
    }
}

impl Arrival {
    async fn fetch(mut self) {
        let range = bytes_of(&self.granules, self.file.object.length);
        let mut is_over = self.file.shared.is_over.subscribe();
        tokio::select! {
            biased;
            _given_up = is_over.wait_for(|is_over| *is_over) => {}
            copied = Arc::clone(&self.file).copy(range) => self.outcome = copied,
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let ArrivingFile {
            shared,
            index,
            is_whole,
            ..
        } = &*self.file;
        let mut progress = shared.lock();
        progress.coming[self.asker as usize] -= 1;
        match std::mem::replace(&mut self.outcome, Ok(())) {
            Ok(()) => {
                let granules = &mut progress.granules[*index];
                granules[self.granules.clone()].fill(Granule::Here);
                if granules.iter().all(|granule| *granule == Granule::Here) {
                    is_whole.store(true, Ordering::Release);
                }
            }
            // They stay as they are: nobody asks for anything any more.
            Err(error) => {
                drop(progress);
                return shared.fail(error);
            }
        }
        drop(progress);
        shared.changed.notify_all();
    }
}

impl Progress {
    fn check(&self) -> Result<(), DatabaseError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn has_room(&self, asker: Asker) -> bool {
        let most = match asker {
            Asker::Background => PIECES_AT_ONCE,
            Asker::Waiting => WAITED_FOR_AT_ONCE,
        };
        self.coming[asker as usize] < most
    }

    fn is_here(&self, file: usize, wanted: &Range<usize>) -> bool {
        let granules = &self.granules[file][wanted.clone()];
        granules.iter().all(|granule| *granule == Granule::Here)
    }

    /// The first of these granules of a file that nobody has asked for, with those behind that one request may ask for too.
    fn absent(&self, file: usize, among: &Range<usize>) -> Option<Range<usize>> {
        let granules = &self.granules[file][among.clone()];
        let first = granules.iter().position(|it| *it == Granule::Absent)?;
        let run = granules[first..].iter().take(GRANULES_OF_PIECE);
        let run = run.take_while(|it| **it == Granule::Absent).count();
        let first = among.start + first;
        Some(first..first + run)
    }
}

impl Shared {
    /// Has these come. Not while anything is locked: a runtime that is gone drops them at once.
    fn begin<'p>(&'p self, arrivals: Vec<Arrival>, progress: MutexGuard<'p, Progress>) -> MutexGuard<'p, Progress> {
        drop(progress);
        for arrival in arrivals {
            self.io.spawn(arrival.fetch());
        }
        self.lock()
    }

    fn fail(&self, error: DatabaseError) {
        self.lock().failure.get_or_insert(error);
        self.is_over.send_replace(true);
        self.changed.notify_all();
    }

    fn lost(&self, reason: &str) -> DatabaseError {
        DatabaseError::Lost {
            directory: self.unread.clone(),
            reason: reason.to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'p>(&self, progress: MutexGuard<'p, Progress>) -> MutexGuard<'p, Progress> {
        self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner)
    }
}

/// The granules that have bytes of a range; none if it ends before it begins.
fn granules_within(range: &Range<u64>) -> Range<usize> {
    let granule = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    let end = granule(range.end.div_ceil(GRANULE_BYTES));
    granule(range.start / GRANULE_BYTES).min(end)..end
}

/// What to ask for to get these granules: those that are near each other, with what is between.
fn joined(mut wanted: Vec<Range<usize>>) -> Vec<Range<usize>> {
    wanted.sort_unstable_by_key(|granules| granules.start);
    wanted.dedup_by(|next, before| {
        let is_near = next.start <= before.end + GRANULES_BETWEEN;
        if is_near {
            before.end = before.end.max(next.end);
        }
        is_near
    });
    wanted
}

/// The bytes of granules of a file of this length.
fn bytes_of(granules: &Range<usize>, length: u64) -> Range<u64> {
    granules.start as u64 * GRANULE_BYTES..(granules.end as u64 * GRANULE_BYTES).min(length)
}

#[cfg(test)]
#[path = "arriving_tests.rs"]
#[expect(clippy::single_range_in_vec_init, reason = "one range is waited for")]
mod tests;
