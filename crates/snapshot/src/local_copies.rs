//! Copies of the objects of the last checkpoints on the local disk: who restarts on the same machine reads them instead of the store.
//!
//! ```text
//!   writer ──▶ store                                     reader ──▶ <directory>/<digest>, if its content is that of the object
//!      └─────▶ <directory>/<digest of the content>          └─────▶ store
//!
//!   complete(n): copies that no checkpoint from n on has are gone         aborted(n): those that only n has
//! ```
//!
//! The name says what is in a file, and is believed only after the content was read, or for as long as somebody reads it who speaks up. What
//! is missing or damaged is read from the store, and what cannot be written is not kept: nothing here can do more harm than that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use streamd_core::id::CheckpointId;
use streamd_core::snapshot::ObjectHandle;

use crate::object_files::is_content;
use crate::publish::random_nonce;

/// Digits of a digest: XXH3 of 128 bits.
const DIGEST_DIGITS: usize = 32;

/// Bytes that are gathered before they are written: headers of blocks are small.
const BUFFER_BYTES: usize = 64 << 10;

/// The copies that the subtasks of one attempt keep in a directory of the job. A cheap clone. Blocks: for threads that may.
#[derive(Debug, Clone)]
pub struct LocalCopies(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    kept: Mutex<Kept>,
}

/// The digests of what is wanted.
#[derive(Debug, Default)]
struct Kept {
    /// What the attempt began with, until a checkpoint of its own is complete.
    restored: BTreeSet<String>,
    /// What each checkpoint has that is complete or under way.
    checkpoints: BTreeMap<CheckpointId, BTreeSet<String>>,
}

/// The copies of one checkpoint.
#[derive(Debug, Clone)]
pub struct CheckpointCopies {
    copies: LocalCopies,
    checkpoint: CheckpointId,
}

/// A copy of an object that is being written. Dropping it unfinished leaves nothing.
#[derive(Debug)]
pub(crate) struct CopyWriter {
    of: CheckpointCopies,
    /// Nothing once it could not be written.
    file: Option<BufWriter<File>>,
    path: PathBuf,
}

/// A copy that has been checked. It can be read for as long as the value lives, whatever becomes of its name.
#[derive(Debug)]
pub(crate) struct LocalCopy {
    file: File,
    path: PathBuf,
}

impl LocalCopies {
    /// What earlier attempts have left in a directory of these objects, which are what the new one begins with. Everything else there goes.
    pub fn open<'o>(directory: &Path, restored: impl Iterator<Item = &'o ObjectHandle>) -> Self {
        let kept = Kept {
            restored: restored.map(|object| object.digest.clone()).collect(),
            ..Kept::default()
        };
        let copies = Self(Arc::new(Shared {
            directory: directory.to_owned(),
            kept: Mutex::new(kept),
        }));
        // What was being written when an attempt ended is nobody's.
        copies.0.prune(&copies.0.lock(), |_name| true);
        copies
    }

    /// Those of a checkpoint that is under way, or that was restored.
    pub fn of(&self, checkpoint: CheckpointId) -> CheckpointCopies {
        CheckpointCopies {
            copies: self.clone(),
            checkpoint,
        }
    }

    /// A checkpoint is complete: what only those before it have is not needed any more. One that nobody here took part in, as a
    /// savepoint, changes nothing.
    pub fn complete(&self, checkpoint: CheckpointId) {
        let mut kept = self.0.lock();
        if !kept.checkpoints.contains_key(&checkpoint) {
            return;
        }
        kept.restored.clear();
        kept.checkpoints = kept.checkpoints.split_off(&checkpoint);
        self.0.prune(&kept, is_digest);
    }

    /// A checkpoint will never be complete.
    pub fn aborted(&self, checkpoint: CheckpointId) {
        let mut kept = self.0.lock();
        if kept.checkpoints.remove(&checkpoint).is_some() {
            self.0.prune(&kept, is_digest);
        }
    }

    /// Puts a hard link to the copy of an object at `to`, where nothing is yet. False if there is no copy of that length. Its content is
    /// not read: whoever does, and finds another, [drops](Self::drop_copy) it.
    pub fn take(&self, object: &ObjectHandle, to: &Path) -> bool {
        let Some(place) = self.0.place_of(object) else {
            return false;
        };
        if fs::hard_link(&place, to).is_err() {
            return false;
        }
        // What is looked at is what is used: the link, not the name.
        let is_as_long = fs::metadata(to).is_ok_and(|found| found.len() == object.length);
        if !is_as_long {
            tracing::warn!(file = %place.display(), "a local file is damaged: it is fetched again");
            remove_file(to);
            remove_file(&place);
        }
        is_as_long
    }

    /// The copy of an object is damaged: nobody takes it any more.
    pub fn drop_copy(&self, object: &ObjectHandle) {
        if let Some(place) = self.0.place_of(object) {
            remove_file(&place);
        }
    }

    /// As [`take`](Self::take), for a file that does not stay as it is: it gets bytes of its own, which were compared with the digest.
    pub fn duplicate(&self, object: &ObjectHandle, to: &Path) -> bool {
        let Some(found) = self.find(object) else {
            return false;
        };
        let written = found
            .read(0..object.length)
            .and_then(|bytes| File::create_new(to)?.write_all(&bytes));
        if let Err(error) = &written {
            tracing::warn!(file = %to.display(), %error, "a local file cannot be copied: it is fetched again");
            remove_file(to);
        }
        written.is_ok()
    }

    /// The copy of an object, if there is one and it is whole.
    pub(crate) fn find(&self, object: &ObjectHandle) -> Option<LocalCopy> {
        let path = self.0.place_of(object)?;
        if !path.exists() {
            return None;
        }
        let file = checked(object, &path)?;
        Some(LocalCopy { file, path })
    }
}

impl CheckpointCopies {
    /// The checkpoint consists of these objects, whoever wrote them: the copies that there are of them stay for as long as it does.
    pub fn record<'o>(&self, objects: impl Iterator<Item = &'o ObjectHandle>) {
        let digests = objects.map(|object| object.digest.clone());
        self.copies.0.lock().of(self.checkpoint).extend(digests);
    }

    /// Keeps a file that has the content of an object, as a hard link.
    pub fn link(&self, file: &Path, object: &ObjectHandle) {
        self.keep(object, |place| match fs::hard_link(file, place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    }

    /// Begins a copy of an object that is being written.
    pub(crate) fn begin(&self) -> CopyWriter {
        let directory = &self.copies.0.directory;
        let path = directory.join(format!("{}.part", random_nonce()));
        let created = fs::create_dir_all(directory).and_then(|()| File::create_new(&path));
        if let Err(error) = &created {
            tracing::warn!(file = %path.display(), %error, "an object is not kept for a restart");
        }
        CopyWriter {
            of: self.clone(),
            file: created.ok().map(|file| BufWriter::with_capacity(BUFFER_BYTES, file)),
            path,
        }
    }

    /// Makes a file the copy of an object. While it does, nobody removes what is not wanted.
    fn keep(&self, object: &ObjectHandle, put: impl FnOnce(&Path) -> io::Result<()>) {
        let shared = &self.copies.0;
        let Some(place) = shared.place_of(object) else {
            return;
        };
        let mut kept = shared.lock();
        match fs::create_dir_all(&shared.directory).and_then(|()| put(&place)) {
            Ok(()) => {
                kept.of(self.checkpoint).insert(object.digest.clone());
            }
            Err(error) => tracing::debug!(file = %place.display(), %error, "an object is not kept for a restart"),
        }
    }
}

impl CopyWriter {
    /// Adds bytes. A disk that takes no more is no reason to fail: then there is no copy.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.write_all(bytes)) {
            tracing::warn!(file = %self.path.display(), %error, "an object is not kept for a restart");
            self.give_up();
        }
    }

    /// All of the object was added.
    pub(crate) fn finish(mut self, object: &ObjectHandle) {
        let flushed = self
            .file
            .take()
            .map(|file| file.into_inner().map_err(io::IntoInnerError::into_error));
        match flushed {
            Some(Ok(_closed)) => self.of.keep(object, |place| fs::rename(&self.path, place)),
            Some(Err(error)) => {
                tracing::warn!(file = %self.path.display(), %error, "an object is not kept for a restart");
            }
            None => {}
        }
    }

    fn give_up(&mut self) {
        self.file = None;
        remove_file(&self.path);
    }
}

impl Drop for CopyWriter {
    fn drop(&mut self) {
        // A copy that is finished has another name.
        self.give_up();
    }
}

impl LocalCopy {
    /// Some bytes of the object; fewer where it ends before.
    pub(crate) fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let end = range.end.min(self.file.metadata()?.len());
        let length = end.saturating_sub(range.start);
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Shared {
    /// Where the copy of an object is, if it can have one.
    fn place_of(&self, object: &ObjectHandle) -> Option<PathBuf> {
        is_digest(&object.digest).then(|| self.directory.join(&object.digest))
    }

    /// Removes what nobody wants of the files with such names.
    fn prune(&self, kept: &Kept, names: impl Fn(&str) -> bool) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| names(name) && !kept.wants(name)) {
                remove_file(&entry.path());
            }
        }
    }

    /// Held while files are put or removed: quick beside what it takes to write them.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing is ever half changed in it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn of(&mut self, checkpoint: CheckpointId) -> &mut BTreeSet<String> {
        self.checkpoints.entry(checkpoint).or_default()
    }

    fn wants(&self, digest: &str) -> bool {
        self.restored.contains(digest) || self.checkpoints.values().any(|digests| digests.contains(digest))
    }
}

/// Whether it is the name of a copy, and leads nowhere else.
fn is_digest(text: &str) -> bool {
    text.len() == DIGEST_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The copy, if it has the content of the object; else it goes.
fn checked(object: &ObjectHandle, copy: &Path) -> Option<File> {
    let read = File::open(copy).and_then(|mut opened| Ok((is_content(object, &mut opened)?, opened)));
    match read {
        Ok((true, opened)) => return Some(opened),
        Ok((false, _)) => tracing::warn!(file = %copy.display(), "a local file is damaged: it is fetched again"),
        Err(error) => {
            tracing::warn!(file = %copy.display(), %error, "a local file cannot be read: it is fetched again");
        }
    }
    remove_file(copy);
    None
}

fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "a file of local state cannot be removed");
    }
}

#[cfg(test)]
mod tests;
