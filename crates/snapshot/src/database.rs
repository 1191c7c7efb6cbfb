//! The files of a database that a backend keeps its state in: into a snapshot as they are, and back.
//!
//! A database's table files never change, so that a checkpoint names those that an earlier one has instead of writing them
//! again. Whose files they are and what is in them, only the backend knows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::{StreamExt, TryStreamExt};
use streamd_core::barrier::Increment;
use streamd_core::id::{CheckpointId, OperatorId};
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle, ObjectHandle};
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;

use crate::error::SnapshotError;
use crate::layout;
use crate::local_copies::CheckpointCopies;
use crate::object_files::{READ_BYTES, local};
use crate::restore::resolve;
use crate::store::Location;
use crate::subtask::{KeyedTable, SubtaskContext};

/// Files of one table that are written at once: the store's latency is shared, and each holds a few parts in memory.
const FILES_IN_FLIGHT: usize = 4;

/// A file of a database, on the local disk.
#[derive(Debug, Clone)]
pub struct LocalFile {
    /// Its name within the database.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The object that holds the same bytes, by its absolute URI, if the base of this checkpoint has one.
    pub known: Option<ObjectHandle>,
    /// The same of the checkpoint that the database was restored from, which was compared with its digest.
    pub restored: Option<ObjectHandle>,
}

/// The files of one state.
#[derive(Debug, Clone)]
pub struct DatabaseTable {
    /// What says how the database hangs together; the same file for all states of the database.
    pub manifest: LocalFile,
    /// The files with the rows of this state.
    pub files: Vec<LocalFile>,
    /// How many rows.
    pub rows: u64,
}

/// What became of the files of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFiles {
    /// The checkpoint that they are in.
    pub checkpoint: Option<CheckpointId>,
    /// By their names within the database, with absolute URIs.
    pub objects: Vec<(String, ObjectHandle)>,
}

/// Writes tables as files of a database, instead of rows.
pub struct DatabaseWriter {
    folder: Location,
    increment: Increment,
    context: SubtaskContext,
    runtime: Handle,
    /// Where copies of what does not stay as it is on the local disk go, if they do.
    copies: Option<CheckpointCopies>,
    /// What is written already, by its local path: the states of a database share its manifest.
    written: BTreeMap<PathBuf, ObjectHandle>,
    finished: BTreeMap<OperatorId, Vec<KeyedStateHandle>>,
}

impl DatabaseWriter {
    pub(crate) fn new(folder: Location, increment: Increment, context: SubtaskContext, runtime: Handle) -> Self {
        Self {
            folder,
            increment,
            context,
            runtime,
            copies: None,
            written: BTreeMap::new(),
            finished: BTreeMap::new(),
        }
    }

    /// The manifest stays on the local disk as well. (Tables that do are linked by whoever has them.)
    pub(crate) fn keep_copies(&mut self, copies: CheckpointCopies) {
        self.copies = Some(copies);
    }

    /// What was written, by operator.
    pub(crate) fn finish(self) -> BTreeMap<OperatorId, Vec<KeyedStateHandle>> {
        self.finished
    }

    /// The checkpoint whose files this one may refer to.
    pub fn base(&self) -> Option<CheckpointId> {
        match self.increment {
            Increment::Off | Increment::First => None,
            Increment::Since(base) => Some(base),
        }
    }

    /// Writes the files of a table that are not known. Blocks until they are durable.
    pub fn write(&mut self, table: &KeyedTable, files: &DatabaseTable) -> Result<WrittenFiles, SnapshotError> {
        let all: Vec<&LocalFile> = std::iter::once(&files.manifest).chain(&files.files).collect();
        let objects = self.runtime.block_on(async {
            let objects = futures::stream::iter(all.iter().map(|file| self.object(table, file)));
            objects
                .buffered(FILES_IN_FLIGHT)
                .try_collect::<Vec<ObjectHandle>>()
                .await
        })?;
        for (file, object) in all.iter().zip(&objects) {
            self.written.insert(file.path.clone(), object.clone());
        }
        let handle = handle(table, files, objects);
        let objects = database_objects(&handle, &self.folder.uri())?;
        self.finished.entry(table.operator).or_default().push(handle);
        Ok(WrittenFiles {
            checkpoint: layout::checkpoint_of(&self.folder),
            objects,
        })
    }

    async fn object(&self, table: &KeyedTable, file: &LocalFile) -> Result<ObjectHandle, SnapshotError> {
        if let Some(written) = self.written.get(&file.path) {
            return Ok(written.clone());
        }
        if let Some(known) = &file.known
            && let Some(path) = self.relative(&known.path)
        {
            return Ok(ObjectHandle { path, ..known.clone() });
        }
        let path = layout::database_file(self.context.writer(), table.operator, &file.name);
        let place = self.folder.child(&path)?;
        if let Some(restored) = &file.restored
            && self.copy(restored, &place).await
        {
            return Ok(ObjectHandle {
                path,
                ..restored.clone()
            });
        }
        let mut upload = place.upload();
        let copies = self.copies.as_ref().filter(|_| is_manifest(&file.name));
        let mut copy = copies.map(CheckpointCopies::begin);
        let opened = tokio::fs::File::open(&file.path).await;
        let mut source = opened.map_err(|source| local("open", &file.path, source))?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = source.read(&mut buffer).await;
            match read.map_err(|source| local("read", &file.path, source))? {
                0 => break,
                read => {
                    upload.write(&buffer[..read]).await?;
                    if let Some(copy) = &mut copy {
                        copy.append(&buffer[..read]);
                    }
                }
            }
        }
        let handle = upload.finish().await?.into_handle(path);
        if let Some(copy) = copy {
            copy.finish(&handle);
        }
        Ok(handle)
    }

    /// Whether the store has made a copy of an object of another job: this one must have its own. What is asked to be written in full is.
    async fn copy(&self, object: &ObjectHandle, to: &Location) -> bool {
        match (self.increment, Location::open(&object.path)) {
            (Increment::First | Increment::Since(_), Ok(from)) => to.copy_of(&from, object.length).await,
            (Increment::Off, _) | (_, Err(_)) => false,
        }
    }

    /// How this snapshot names an object of another checkpoint of the same job; `None` for any other.
    fn relative(&self, uri: &str) -> Option<String> {
        let object = Location::open(uri).ok()?;
        let (folder, name) = (object.parent()?, object.name()?);
        let is_beside = layout::is_checkpoint_folder(&folder) && folder.parent() == self.folder.parent();
        is_beside.then(|| folder.name().map(|beside| layout::beside(beside, name)))?
    }
}

fn handle(table: &KeyedTable, files: &DatabaseTable, objects: Vec<ObjectHandle>) -> KeyedStateHandle {
    let all = std::iter::once(&files.manifest).chain(&files.files);
    KeyedStateHandle {
        state: table.state.clone(),
        key: table.key.clone(),
        namespace: table.namespace.clone(),
        value: table.value.clone(),
        key_groups: table.key_groups,
        format: KeyedStateFormat::RocksDb {
            files: all.map(|file| file.name.clone()).collect(),
        },
        rows: files.rows,
        bytes: objects.iter().map(|object| object.length).sum(),
        objects,
    }
}

/// Whether a file says how a database hangs together. It is rewritten under its name.
fn is_manifest(name: &str) -> bool {
    name.starts_with("MANIFEST-")
}

/// Whether the files of a handle can be those of a database.
pub(crate) fn check_files(handle: &KeyedStateHandle, files: &[String]) -> Result<(), String> {
    if files.len() != handle.objects.len() || files.is_empty() {
        let (state, objects) = (&handle.state, handle.objects.len());
        return Err(format!(
            "state `{state}` names {} files of {objects} objects",
            files.len()
        ));
    }
    let manifests = files.iter().filter(|name| is_manifest(name)).count();
    match files.iter().find(|name| !layout::is_database_file(name)) {
        Some(name) => Err(format!(
            "state `{}` names a file `{name}`, which no database has",
            handle.state
        )),
        None if manifests == 1 && is_manifest(&files[0]) => Ok(()),
        None => Err(format!("state `{}` has {manifests} manifests", handle.state)),
    }
}

/// The objects of a handle by their names within the database, with absolute URIs.
pub fn database_objects(handle: &KeyedStateHandle, folder: &str) -> Result<Vec<(String, ObjectHandle)>, SnapshotError> {
    let KeyedStateFormat::RocksDb { files } = &handle.format else {
        return Ok(Vec::new());
    };
    check_files(handle, files).map_err(|reason| SnapshotError::Malformed {
        uri: folder.to_owned(),
        reason,
    })?;
    let named = files.iter().zip(&handle.objects);
    named
        .map(|(name, object)| {
            let path = resolve(folder, &object.path)?.uri();
            Ok((name.clone(), ObjectHandle { path, ..object.clone() }))
        })
        .collect()
}
