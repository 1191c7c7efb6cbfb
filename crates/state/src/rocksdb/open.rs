//! From nothing, or from the files of a snapshot, to an open database.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::Env;
use streamd_core::id::CheckpointId;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle, ObjectHandle};
use streamd_rocksdb_env::PartialFiles;
use streamd_snapshot::{LocalCopies, SnapshotError, database_objects, download_all};
use tokio::runtime::Handle;

use super::arriving::Arriving;
use super::column::column_name;
use super::cut::read_rows;
use super::database::{Database, DatabaseError, OwnedDirectory, database_path, disk};
use super::known_files::{FileObjects, KnownFiles, is_table};
use super::loading::{Loading, Place};
use super::memory::{READING_MEMORY, SharedMemory};
use super::slice::{Slice, link_files};
use super::verification::{Unread, UnreadFile, blame};

/// The database of one operator in one subtask, and where it is.
#[derive(Debug)]
pub struct Instance {
    directory: Arc<OwnedDirectory>,
    memory: SharedMemory,
    database: Option<Arc<Database>>,
    known_files: Arc<KnownFiles>,
    /// Rows of a restore, by state.
    loading: BTreeMap<String, Loading>,
}

impl Instance {
    /// An instance in a directory that nobody else uses; and where files stay for the next, if they do.
    pub fn new(directory: PathBuf, memory: SharedMemory, local: Option<LocalCopies>) -> Result<Self, DatabaseError> {
        Ok(Self {
            directory: Arc::new(OwnedDirectory::create(directory)?),
            memory,
            database: None,
            known_files: Arc::new(KnownFiles::new(local)),
            loading: BTreeMap::new(),
        })
    }

    /// What is known of its files.
    pub(crate) fn known_files(&self) -> Arc<KnownFiles> {
        Arc::clone(&self.known_files)
    }

    /// The directory of everything that is local.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The database, opened empty if it is not open yet.
    pub fn database(&mut self, columns: &[String]) -> Result<Arc<Database>, DatabaseError> {
        match &self.database {
            Some(database) => Ok(Arc::clone(database)),
            None => self.open(columns, Unread::default()),
        }
    }

    /// Opens what is in the directory. These files of it are read while it is used.
    fn open(&mut self, columns: &[String], mut unread: Unread) -> Result<Arc<Database>, DatabaseError> {
        let (directory, known_files) = (Arc::clone(&self.directory), self.known_files());
        let memory = self.memory.clone().reading_through(unread.environment.clone());
        let opened = Database::open(directory, columns.to_vec(), memory, Arc::clone(&known_files));
        let of_files = |error| blame(&unread.files, &known_files, error);
        let mut database = opened.map_err(of_files)?;
        if let Some((slice, _)) = &unread.slice {
            let gone = database.narrow(slice).map_err(of_files)?;
            let files = std::mem::take(&mut unread.files).into_iter();
            (unread.unwanted, unread.files) = files.partition(|file| gone.contains(file.name()));
        }
        database.verify(unread)?;
        Ok(Arc::clone(self.database.insert(Arc::new(database))))
    }

    /// Whether the files that it was restored from are known to be right. Errors if one is known not to be.
    pub(crate) fn is_verified(&self) -> Result<bool, DatabaseError> {
        self.database
            .as_ref()
            .map_or(Ok(true), |database| database.is_verified())
    }

    /// Opens the very files of a checkpoint, which must all be of one database. Those that could be linked are read later, and all others
    /// come while it is used. If it has more key groups than are wanted, a slice of it.
    pub(super) fn open_files(
        &mut self,
        handles: &[&KeyedStateHandle],
        columns: &[String],
        slice: Option<Slice>,
        io: &Handle,
    ) -> Result<Arc<Database>, OpenError> {
        let (place, links) = (database_path(self.directory.path()), unread_path(self.directory.path()));
        let mut linked = link_database(handles, self.directory.path(), &self.known_files, io)?;
        let arriving = linked.arrive(&links, io)?;
        let Linked { objects, unread, .. } = linked;
        if slice.is_some() {
            link_files(&place, objects.keys(), &links)?;
        }
        // Before it is opened: then it may begin to replace its files.
        let checkpoint = handles.first().and_then(|handle| checkpoint_of(handle));
        let is_here = |name: &str| !unread.iter().any(|file| file.is_arriving() && file.name() == name);
        self.known_files.remember_restored(checkpoint, &place, objects, is_here);
        let slice = slice.map(|slice| (slice, links));
        let (arriving, environment) = arriving.unzip();
        let unread = Unread {
            arriving,
            files: unread,
            unwanted: Vec::new(),
            slice,
            environment,
        };
        Ok(self.open(columns, unread)?)
    }

    /// Adds a row of a restore. Rows of one state that come in order of key group are written best.
    /// The database must be open.
    pub fn load(&mut self, column: &str, (group, key, value): (u32, &[u8], &[u8])) -> Result<(), DatabaseError> {
        if let Some(loading) = self.loading.get_mut(column) {
            return loading.add(group, key, value);
        }
        let Some(database) = &self.database else {
            return Err(DatabaseError::Lost {
                directory: self.directory().to_owned(),
                reason: "rows were loaded before it was open".to_owned(),
            });
        };
        let place = Place {
            database: Arc::clone(database),
            directory: self.directory().to_owned(),
            column: column.to_owned(),
            memory: self.memory.clone(),
        };
        let loading = self.loading.entry(column.to_owned());
        loading.or_insert_with(|| Loading::new(place)).add(group, key, value)
    }

    /// Makes the rows that were loaded into a state readable, and returns how many there were.
    pub fn finish_load(&mut self, column: &str) -> Result<u64, DatabaseError> {
        self.loading.remove(column).map_or(Ok(0), Loading::finish)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.loading.clear();
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

/// The databases that the handles of an operator are files of, fetched when the first row of one is asked for.
pub(crate) struct Databases<'a> {
    handles: &'a [KeyedStateHandle],
    /// Where the files go meanwhile.
    directory: PathBuf,
    memory: SharedMemory,
    known_files: Arc<KnownFiles>,
    fetched: BTreeMap<String, OwnedDirectory>,
}

impl<'a> Databases<'a> {
    /// Nothing is fetched yet. The handles are all that restore: a database needs the files of all of its states.
    /// Files go into the directory of the instance that restores, if one does, and are taken from where it keeps them.
    pub(crate) fn new(handles: &'a [KeyedStateHandle], restoring: Option<&Instance>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("streamd-read-{}-{number}", std::process::id());
        Self {
            handles,
            directory: restoring
                .map_or_else(std::env::temp_dir, |instance| instance.directory().to_owned())
                .join(name),
            known_files: restoring.map(Instance::known_files).unwrap_or_default(),
            memory: SharedMemory::new(READING_MEMORY, 1),
            fetched: BTreeMap::new(),
        }
    }

    /// Calls `visit` with every row of a handle whose key group is in `range`, in order of key group, until it fails. Returns
    /// how many there were.
    pub(crate) fn read(
        &mut self,
        handle: &KeyedStateHandle,
        range: KeyGroupRange,
        io: &Handle,
        visit: &mut dyn FnMut(u32, &[u8], &[u8]) -> Result<(), SnapshotError>,
    ) -> Result<u64, OpenError> {
        let place = database_path(self.fetch(handle, io)?);
        let wanted = (column_name(&handle.state), range.intersection(handle.key_groups));
        let (mut rows, mut refused) = (0, None);
        read_rows(&place, (&wanted.0, wanted.1), &self.memory, &mut |group, key, value| {
            match visit(group, key, value) {
                Ok(()) => rows += 1,
                Err(error) => refused = Some(error),
            }
            refused.is_none()
        })?;
        refused.map_or(Ok(rows), |error| Err(error.into()))
    }

    fn fetch(&mut self, handle: &KeyedStateHandle, io: &Handle) -> Result<&Path, OpenError> {
        let manifest = handle
            .objects
            .first()
            .map(|object| object.path.clone())
            .unwrap_or_default();
        if !self.fetched.contains_key(&manifest) {
            let same = |other: &&KeyedStateHandle| other.objects.first().is_some_and(|object| object.path == manifest);
            let all: Vec<&KeyedStateHandle> = self.handles.iter().filter(same).collect();
            let directory = self.directory.join(self.fetched.len().to_string());
            let directory = OwnedDirectory::create(directory)?;
            let Linked { absent, unread, .. } = link_database(&all, directory.path(), &self.known_files, io)?;
            download_all(&absent, io)?;
            // What becomes of the rows is not known here: they are read from nothing that may be damaged.
            check_or_fetch(&unread, &database_path(directory.path()), &self.known_files, io)?;
            self.fetched.insert(manifest.clone(), directory);
        }
        Ok(self.fetched[&manifest].path())
    }
}

/// Where files of a database have another name while they are to be read.
fn unread_path(directory: &Path) -> PathBuf {
    directory.join("unread")
}

/// The checkpoint that a handle is of, by where it put the manifest: each checkpoint writes its own.
fn checkpoint_of(handle: &KeyedStateHandle) -> Option<CheckpointId> {
    streamd_snapshot::checkpoint_of_object(&handle.objects.first()?.path)
}

/// The key groups of the database that these handles are the whole of. `None` if they are not of one.
pub(crate) fn key_groups_of_database(handles: &[&KeyedStateHandle]) -> Option<KeyGroupRange> {
    let (first, others) = handles.split_first()?;
    let is_native = |handle: &&KeyedStateHandle| matches!(handle.format, KeyedStateFormat::RocksDb { .. });
    let database = |handle: &KeyedStateHandle| (handle.key_groups, handle.objects.first().cloned());
    let is_one = handles.iter().all(is_native) && others.iter().all(|other| database(other) == database(first));
    is_one.then_some(first.key_groups)
}

/// The files of a database.
struct Linked {
    /// Which objects they are, but for the manifest.
    objects: FileObjects,
    /// Those that nobody has read yet.
    unread: Vec<UnreadFile>,
    /// Those that cannot be linked, and where they go.
    absent: Vec<(ObjectHandle, PathBuf)>,
}

impl Linked {
    /// Makes files of what is absent, which come while the database is used, through an environment; or fetches them, where that cannot be.
    fn arrive(&mut self, links: &Path, io: &Handle) -> Result<Option<(Arc<Arriving>, Env)>, OpenError> {
        if self.absent.is_empty() {
            return Ok(None);
        }
        let arriving = Arc::new(Arriving::create(&mut self.absent, links, io)?);
        download_all(&self.absent, io)?;
        self.unread.extend(arriving.files().map(UnreadFile::arriving));
        let environment = streamd_rocksdb_env::environment(Arc::clone(&arriving) as Arc<dyn PartialFiles>);
        if environment.is_none() {
            // A RocksDB of another make: it sees no file before all is here.
            arriving.bring(arriving.files())?;
        }
        Ok(environment.map(|environment| (arriving, environment)))
    }
}

/// Makes a database of the files of all of these handles, below a directory: each once, linked where that can be. Others are to come.
fn link_database(
    handles: &[&KeyedStateHandle],
    directory: &Path,
    known_files: &KnownFiles,
    io: &Handle,
) -> Result<Linked, OpenError> {
    let (place, links) = (database_path(directory), unread_path(directory));
    for path in [&place, &links] {
        fs::create_dir_all(path).map_err(|error| disk("create", path, &error))?;
    }
    let mut objects = FileObjects::new();
    for handle in handles {
        objects.extend(database_objects(handle, "")?);
    }
    let (mut unread, mut absent, mut manifest, mut copied) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (name, object) in &objects {
        let file = place.join(name);
        if is_table(name) {
            match UnreadFile::link(object, &file, &links, known_files)? {
                Some(linked) => unread.push(linked),
                None => absent.push((object.clone(), file)),
            }
            continue;
        }
        // It is written on.
        match known_files.duplicate(object, &file) {
            true => copied += 1,
            false => manifest.push((object.clone(), file)),
        }
        let current = place.join("CURRENT");
        fs::write(&current, format!("{name}\n")).map_err(|error| disk("write", &current, &error))?;
    }
    download_all(&manifest, io)?;
    let local = unread.iter().filter(|file| file.is_copy()).count();
    let (fetched, linked, local) = (manifest.len(), unread.len() - local, copied + local);
    let coming = absent.len();
    tracing::info!(directory = %place.display(), fetched, linked, local, coming, "the files of a database are here");
    objects.retain(|name, _| is_table(name));
    Ok(Linked {
        objects,
        unread,
        absent,
    })
}

/// Reads files of a database that nobody has opened yet. Copies that are damaged are fetched.
fn check_or_fetch(files: &[UnreadFile], place: &Path, known_files: &KnownFiles, io: &Handle) -> Result<(), OpenError> {
    let mut damaged = Vec::new();
    for file in files {
        match file.check(known_files, &|| true) {
            Ok(()) => {}
            Err(_damaged) if file.is_copy() => {
                let path = place.join(file.name());
                fs::remove_file(&path).map_err(|error| disk("remove", &path, &error))?;
                damaged.push((file.object.clone(), path));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(download_all(&damaged, io)?)
}
