//! From nothing, or from the files of a snapshot, to an open database.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::SstFileWriter;
use streamd_core::id::CheckpointId;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle, ObjectHandle};
use streamd_snapshot::{SnapshotError, database_objects, download, is_copy};
use tokio::runtime::Handle;

use super::column::column_name;
use super::cut::read_rows;
use super::database::{Database, DatabaseError, OwnedDirectory, database_path, disk, rocks};
use super::memory::SharedMemory;

/// Bytes of rows in one file of a restore: as large as compaction makes them.
const RESTORED_FILE_BYTES: u64 = 64 << 20;

/// The database of one operator in one subtask, and where it is.
#[derive(Debug)]
pub struct Instance {
    directory: Arc<OwnedDirectory>,
    memory: SharedMemory,
    kept: Option<PathBuf>,
    database: Option<Arc<Database>>,
    /// Rows of a restore, by state, until there are enough for a file.
    loading: BTreeMap<String, Loading>,
}

impl Instance {
    /// An instance in a directory that nobody else uses. `kept` is where files of earlier attempts may still be.
    pub fn new(directory: PathBuf, memory: SharedMemory, kept: Option<PathBuf>) -> Result<Self, DatabaseError> {
        Ok(Self {
            directory: Arc::new(OwnedDirectory::create(directory)?),
            memory,
            kept,
            database: None,
            loading: BTreeMap::new(),
        })
    }

    /// The database, opened empty if it is not open yet.
    pub fn database(&mut self, columns: &[String]) -> Result<Arc<Database>, DatabaseError> {
        if let Some(database) = &self.database {
            return Ok(Arc::clone(database));
        }
        let database = Database::open(Arc::clone(&self.directory), columns.to_vec(), self.memory.clone())?;
        Ok(Arc::clone(self.database.insert(Arc::new(database))))
    }

    /// Opens the very files of a checkpoint, which must all be of one database whose key groups are this one's.
    pub fn open_files(
        &mut self,
        handles: &[&KeyedStateHandle],
        columns: &[String],
        io: &Handle,
    ) -> Result<Arc<Database>, OpenError> {
        let place = database_path(self.directory.path());
        let objects = fetch_database(handles, &place, self.kept.as_deref(), io)?;
        let database = self.database(columns)?;
        if let Some(checkpoint) = handles.first().and_then(|handle| checkpoint_of(handle)) {
            database.remember(checkpoint, objects);
        }
        Ok(database)
    }

    /// Adds a row of a restore. Rows of one state that come in order of key group are written best.
    /// The database must be open.
    pub fn load(&mut self, column: &str, (group, key, value): (u32, &[u8], &[u8])) -> Result<(), DatabaseError> {
        let loading = self.loading.entry(column.to_owned()).or_default();
        if loading.add(group, key, value) {
            self.finish_load(column)?;
        }
        Ok(())
    }

    /// Makes the rows that were loaded into a state readable, and returns how many there were.
    pub fn finish_load(&mut self, column: &str) -> Result<u64, DatabaseError> {
        let Some(mut loading) = self.loading.remove(column) else {
            return Ok(0);
        };
        let number = loading.files;
        let file = self.directory.path().join(format!("load-{column}-{number}.sst"));
        let written = loading.write(&file, &self.memory)?;
        if written && let Some(database) = &self.database {
            database.ingest(column, vec![file])?;
        }
        let rows = loading.rows;
        self.loading.insert(
            column.to_owned(),
            Loading {
                rows,
                files: number + 1,
                ..Loading::default()
            },
        );
        Ok(rows)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(database) = &self.database {
            database.abandon();
        }
    }
}

/// Why a database could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The local database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Rows on their way into a file, which is sorted.
#[derive(Debug, Default)]
struct Loading {
    rows: u64,
    files: u64,
    bytes: u64,
    sorted: Vec<(Box<[u8]>, Box<[u8]>)>,
}

impl Loading {
    /// Adds a row, and says whether there are enough for a file.
    fn add(&mut self, group: u32, key: &[u8], value: &[u8]) -> bool {
        let mut stored = Vec::with_capacity(2 + key.len());
        stored.extend_from_slice(&u16::try_from(group).unwrap_or(u16::MAX).to_be_bytes());
        stored.extend_from_slice(key);
        self.bytes += (stored.len() + value.len()) as u64;
        self.rows += 1;
        self.sorted.push((stored.into(), value.into()));
        self.bytes >= RESTORED_FILE_BYTES
    }

    /// Writes the rows into a file. False if there are none.
    fn write(&mut self, file: &Path, memory: &SharedMemory) -> Result<bool, DatabaseError> {
        if self.sorted.is_empty() {
            return Ok(false);
        }
        self.sorted.sort_unstable();
        let options = memory.column_options();
        let failed = |error| rocks("write a file for", file, error);
        let mut writer = SstFileWriter::create(&options);
        writer.open(file).map_err(failed)?;
        for pair in &self.sorted {
            // A key that is twice in it is refused here: files are of rising keys.
            writer.put(&pair.0, &pair.1).map_err(failed)?;
        }
        writer.finish().map_err(failed)?;
        Ok(true)
    }
}

/// Calls `visit` with every row of a handle of this format whose key group is in `range`, in order of key group. The files are
/// fetched into `directory`, which must not exist, and go again.
pub fn visit_rows(
    handle: &KeyedStateHandle,
    range: KeyGroupRange,
    (directory, memory): (PathBuf, &SharedMemory),
    io: &Handle,
    visit: &mut dyn FnMut(u32, &[u8], &[u8]) -> bool,
) -> Result<(), OpenError> {
    let range = range.intersection(handle.key_groups);
    let directory = OwnedDirectory::create(directory)?;
    let place = database_path(directory.path());
    fetch_database(&[handle], &place, None, io)?;
    Ok(read_rows(&place, (&column_name(&handle.state), range), memory, visit)?)
}

/// The checkpoint that a handle is of, by where it put the manifest: each checkpoint writes its own.
fn checkpoint_of(handle: &KeyedStateHandle) -> Option<CheckpointId> {
    streamd_snapshot::checkpoint_of_object(&handle.objects.first()?.path)
}

/// Whether these handles are the whole of one database.
pub(crate) fn is_one_database(handles: &[&KeyedStateHandle], key_groups: KeyGroupRange) -> bool {
    let manifest = |handle: &KeyedStateHandle| handle.objects.first().cloned();
    let is_native = |handle: &&KeyedStateHandle| matches!(handle.format, KeyedStateFormat::RocksDb { .. });
    match handles.split_first() {
        None => false,
        Some((first, others)) => {
            handles.iter().all(is_native)
                && handles.iter().all(|handle| handle.key_groups == key_groups)
                && others.iter().all(|other| manifest(other) == manifest(first))
        }
    }
}

/// Fetches the files of all of these handles, once each, and makes a database of them.
fn fetch_database(
    handles: &[&KeyedStateHandle],
    place: &Path,
    kept: Option<&Path>,
    io: &Handle,
) -> Result<BTreeMap<String, ObjectHandle>, OpenError> {
    fs::create_dir_all(place).map_err(|error| disk("create", place, &error))?;
    let mut objects: BTreeMap<String, ObjectHandle> = BTreeMap::new();
    for handle in handles {
        objects.extend(database_objects(handle, "")?);
    }
    for (name, object) in &objects {
        let file = place.join(name);
        if !take_kept(object, kept, &file) {
            download(object, &file, io)?;
        }
        if name.starts_with("MANIFEST-") {
            let current = place.join("CURRENT");
            fs::write(&current, format!("{name}\n")).map_err(|error| disk("write", &current, &error))?;
        }
    }
    objects.retain(|name, _| !name.starts_with("MANIFEST-"));
    Ok(objects)
}

/// Links a local copy of an object, if an earlier attempt left one and it is intact.
fn take_kept(object: &ObjectHandle, kept: Option<&Path>, file: &Path) -> bool {
    let Some(copy) = kept.map(|kept| kept.join(&object.digest)) else {
        return false;
    };
    copy.exists() && is_copy(object, &copy) && fs::hard_link(&copy, file).is_ok()
}
