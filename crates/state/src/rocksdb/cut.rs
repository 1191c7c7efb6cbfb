//! A database as it was at a barrier: hard links to its files, to be written elsewhere by another thread.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rocksdb::{DB, ReadOptions};
use streamd_core::id::CheckpointId;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::ObjectHandle;
use streamd_snapshot::{DatabaseTable, LocalFile, WrittenFiles};

use super::database::{Database, DatabaseError, descriptors, disk, rocks, visit_column};
use super::memory::{READING_MEMORY, SharedMemory};
use super::slice::RowCount;

/// The files of a database at a barrier. They go with the value.
#[derive(Debug)]
pub struct Cut {
    database: Arc<Database>,
    directory: PathBuf,
    settled: OnceLock<Result<(), DatabaseError>>,
    files: OnceLock<Result<CutFiles, DatabaseError>>,
}

/// Which files there are, by state.
#[derive(Debug, Clone)]
struct CutFiles {
    manifest: String,
    tables: BTreeMap<String, Vec<String>>,
}

impl Cut {
    pub(super) fn new(database: Arc<Database>, directory: PathBuf) -> Self {
        Self {
            database,
            directory,
            settled: OnceLock::new(),
            files: OnceLock::new(),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn settled(&self, outcome: Result<(), DatabaseError>) {
        let _settled_once = self.settled.set(outcome);
    }

    /// Waits until the rows of the barrier are in files.
    fn wait(&self) -> Result<(), DatabaseError> {
        if self.settled.get().is_none() {
            // An error of an earlier write is told by the cut itself.
            let _also_told_by_the_cut = self.database.settle();
        }
        self.settled.get().cloned().unwrap_or_else(|| {
            Err(DatabaseError::Lost {
                directory: self.directory.clone(),
                reason: "its cut was never settled".to_owned(),
            })
        })
    }

    /// Waits as well until nothing that a restore has brought is unread: damage is handed on to no snapshot. Records wait for neither.
    fn wait_until_sound(&self) -> Result<(), DatabaseError> {
        self.wait()?;
        self.database.wait_until_verified()
    }

    fn files(&self) -> Result<CutFiles, DatabaseError> {
        self.wait_until_sound()?;
        self.files
            .get_or_init(|| list_files(&self.directory, self.database.memory()))
            .clone()
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if self.directory.exists()
            && let Err(error) = fs::remove_dir_all(&self.directory)
        {
            tracing::warn!(directory = %self.directory.display(), %error, "a directory of local state cannot be removed");
        }
    }
}

/// One state of a cut.
#[derive(Debug)]
pub struct FrozenColumn {
    cut: Arc<Cut>,
    column: String,
    rows: RowCount,
}

impl FrozenColumn {
    pub(super) fn new(cut: Arc<Cut>, column: String, rows: RowCount) -> Self {
        Self { cut, column, rows }
    }

    /// How many rows there are, or about so many before [`table`](Self::table) was waited for.
    pub fn rows(&self) -> u64 {
        self.rows.now()
    }

    /// Waits until the rows of the barrier are in files. What fails is told by those who want them.
    pub(super) fn prepare(&self) {
        let _told_later = self.cut.wait();
    }

    /// The files of the state. Those that `base` holds already say so.
    pub fn table(&self, base: Option<CheckpointId>) -> Result<DatabaseTable, DatabaseError> {
        let CutFiles { manifest, tables } = self.cut.files()?;
        let files_known = self.cut.database.known_files();
        let known = files_known.of_base(base).unwrap_or_default();
        let local = |name: &String, known: Option<&ObjectHandle>| LocalFile {
            name: name.clone(),
            path: self.cut.directory.join(name),
            known: known.cloned(),
            restored: files_known.restored(name).cloned(),
        };
        let files = tables.get(&self.column).into_iter().flatten();
        Ok(DatabaseTable {
            // Rewritten under the same name with every checkpoint.
            manifest: local(&manifest, None),
            files: files.map(|name| local(name, known.get(name))).collect(),
            rows: self.rows.now(),
        })
    }

    /// Remembers what became of the files in a checkpoint, for those that are based on it.
    pub fn remember(&self, WrittenFiles { checkpoint, objects }: WrittenFiles) {
        if let Some(checkpoint) = checkpoint {
            let files = objects.into_iter().collect();
            let known = self.cut.database.known_files();
            known.remember(checkpoint, &self.cut.directory, files);
        }
    }

    /// Calls `visit` with key group, encoded key and encoded value of every row, in order of key group, until it returns false.
    pub fn for_each_row(&self, visit: &mut dyn FnMut(u32, &[u8], &[u8]) -> bool) -> Result<(), DatabaseError> {
        self.cut.wait_until_sound()?;
        let all = KeyGroupRange {
            start: 0,
            end: u32::from(u16::MAX) + 1,
        };
        // Memory of its own: who reads here gives way to those that work on records, and must not hold a cache that they wait for.
        let memory = SharedMemory::new(READING_MEMORY, 1);
        read_rows(&self.cut.directory, (&self.column, all), &memory, visit)
    }
}

/// Opens a database of files that nobody writes.
pub(super) fn open_read_only(directory: &Path, memory: &SharedMemory) -> Result<DB, DatabaseError> {
    let options = memory.database_options();
    let failed = |error| rocks("open", directory, error);
    let names = DB::list_cf(&options, directory).map_err(failed)?;
    DB::open_cf_descriptors_read_only(&options, directory, descriptors(&names, memory), false).map_err(failed)
}

/// The rows of a state that are in these key groups, in a database of files that nobody writes.
pub(super) fn read_rows(
    directory: &Path,
    (column, key_groups): (&str, KeyGroupRange),
    memory: &SharedMemory,
    visit: &mut dyn FnMut(u32, &[u8], &[u8]) -> bool,
) -> Result<(), DatabaseError> {
    let db = open_read_only(directory, memory)?;
    let Some(handle) = db.cf_handle(column) else {
        return Ok(());
    };
    let mut options = ReadOptions::default();
    if let Ok(start) = u16::try_from(key_groups.start) {
        options.set_iterate_lower_bound(start.to_be_bytes());
    }
    if let Ok(end) = u16::try_from(key_groups.end) {
        options.set_iterate_upper_bound(end.to_be_bytes());
    }
    let mut malformed = false;
    let read = visit_column(
        &db,
        handle,
        options,
        &mut |key, value| match key.split_first_chunk::<2>() {
            Some((group, key)) => visit(u32::from(u16::from_be_bytes(*group)), key, value),
            None => {
                malformed = true;
                false
            }
        },
    );
    read.map_err(|error| rocks("read", directory, error))?;
    if malformed {
        return Err(DatabaseError::Lost {
            directory: directory.to_owned(),
            reason: "it holds a key without a key group".to_owned(),
        });
    }
    Ok(())
}

fn list_files(directory: &Path, memory: &SharedMemory) -> Result<CutFiles, DatabaseError> {
    let failed = |error: std::io::Error| disk("read", directory, &error);
    let current = fs::read_to_string(directory.join("CURRENT")).map_err(failed)?;
    // Opening writes into the directory: what is there is listed by the database, not by the file system.
    let db = open_read_only(directory, memory)?;
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in db
        .live_files()
        .map_err(|error| rocks("list the files of", directory, error))?
    {
        let name = file.name.trim_start_matches('/').to_owned();
        tables.entry(file.column_family_name).or_default().push(name);
    }
    tables.values_mut().for_each(|names| names.sort_unstable());
    Ok(CutFiles {
        manifest: current.trim().to_owned(),
        tables,
    })
}
