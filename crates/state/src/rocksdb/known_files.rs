//! Which objects hold the files of a database: what a checkpoint may refer to, and what stays here for a restart.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use streamd_core::id::CheckpointId;
use streamd_core::snapshot::ObjectHandle;
use streamd_snapshot::LocalCopies;

/// Checkpoints whose files are remembered as possible bases of later ones. The base is the newest complete one; those under way
/// at the same time are few.
const REMEMBERED_CHECKPOINTS: usize = 16;

/// The object of each file, by its name in the database.
pub type FileObjects = BTreeMap<String, ObjectHandle>;

/// The files of the checkpoints of one database.
#[derive(Debug, Default)]
pub struct KnownFiles {
    by_checkpoint: Mutex<BTreeMap<CheckpointId, Arc<FileObjects>>>,
    /// Of the checkpoint that it was restored from, which may have no number.
    restored: OnceLock<(Option<CheckpointId>, FileObjects)>,
    local: Option<LocalCopies>,
}

impl KnownFiles {
    /// Nothing is known yet. Files are kept for a restart if there is a place for them.
    pub fn new(local: Option<LocalCopies>) -> Self {
        Self {
            by_checkpoint: Mutex::default(),
            restored: OnceLock::new(),
            local,
        }
    }

    /// Remembers which objects hold files that were in a checkpoint; the files themselves are in `directory`.
    pub fn remember(&self, checkpoint: CheckpointId, directory: &Path, files: FileObjects) {
        let tables = files.iter().filter(|(name, _)| is_table(name));
        tables.for_each(|(name, object)| self.keep(checkpoint, &directory.join(name), object));
        self.refer(checkpoint, files);
    }

    /// Remembers which objects it was restored from: table files that are about to be opened in `directory`. Of those that `is_here` is
    /// false for, the content is yet to [arrive](Self::arrived).
    pub fn remember_restored(
        &self,
        checkpoint: Option<CheckpointId>,
        directory: &Path,
        files: FileObjects,
        is_here: impl Fn(&str) -> bool,
    ) {
        if let Some(checkpoint) = checkpoint {
            let here = files.iter().filter(|(name, _)| is_here(name));
            here.for_each(|(name, object)| self.keep(checkpoint, &directory.join(name), object));
            self.refer(checkpoint, files.clone());
        }
        let _restored_once = self.restored.set((checkpoint, files));
    }

    /// A file that it was restored from is here now, all of it and right.
    pub fn arrived(&self, file: &Path, object: &ObjectHandle) {
        if let Some((Some(checkpoint), _)) = self.restored.get() {
            self.keep(*checkpoint, file, object);
        }
    }

    /// The object that a file was restored from. It may be gone once a checkpoint is complete.
    pub fn restored(&self, name: &str) -> Option<&ObjectHandle> {
        self.restored.get()?.1.get(name)
    }

    /// The files of the newest complete checkpoint. Those before it are forgotten.
    pub fn of_base(&self, base: Option<CheckpointId>) -> Option<Arc<FileObjects>> {
        let mut known = self.lock();
        // Where checkpoints do not say which is complete, it is most likely the newest that was written.
        let first = base.or_else(|| known.keys().next_back().copied())?;
        let later = known.split_off(&first);
        *known = later;
        base.and_then(|base| known.get(&base).cloned())
    }

    /// Puts a link to the copy of this object at `to`. False if none was kept. Its content is not read.
    pub fn take(&self, object: &ObjectHandle, to: &Path) -> bool {
        self.local.as_ref().is_some_and(|local| local.take(object, to))
    }

    /// Puts a file with the content of this object, which was kept and is right, at `to`. False if there is none.
    pub fn duplicate(&self, object: &ObjectHandle, to: &Path) -> bool {
        self.local.as_ref().is_some_and(|local| local.duplicate(object, to))
    }

    /// The copy of this object, if there is one, is not to be used any more.
    pub fn drop_copy(&self, object: &ObjectHandle) {
        if let Some(local) = &self.local {
            local.drop_copy(object);
        }
    }

    /// Keeps a file, which has the content of an object, for a restart.
    fn keep(&self, checkpoint: CheckpointId, file: &Path, object: &ObjectHandle) {
        if let Some(local) = &self.local {
            local.of(checkpoint).link(file, object);
        }
    }

    fn refer(&self, checkpoint: CheckpointId, files: FileObjects) {
        let mut known = self.lock();
        Arc::make_mut(known.entry(checkpoint).or_default()).extend(files);
        while known.len() > REMEMBERED_CHECKPOINTS {
            known.pop_first();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CheckpointId, Arc<FileObjects>>> {
        self.by_checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file never changes. (A manifest goes on under its name.)
pub(super) fn is_table(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "sst")
}
