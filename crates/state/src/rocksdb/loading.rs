//! Rows of a restore on their way into a database: sorted files, each made and added by a thread of its own while the rows of the next
//! come.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rocksdb::SstFileWriter;

use super::database::{Database, DatabaseError, disk, rocks};
use super::memory::SharedMemory;

/// Bytes of rows in one file of a restore: as large as compaction makes them. Twice as much is in memory: the rows that come, and those
/// that are written.
const FILE_BYTES: usize = 64 << 20;

/// The rows of one state.
#[derive(Debug)]
pub(super) struct Loading {
    place: Place,
    rows: u64,
    files: u64,
    coming: LoadedRows,
    written: Option<JoinHandle<Result<LoadedRows, DatabaseError>>>,
}

/// Where rows go.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub database: Arc<Database>,
    pub directory: PathBuf,
    pub column: String,
    pub memory: SharedMemory,
}

/// Rows, keys as the database has them.
#[derive(Debug, Default)]
struct LoadedRows {
    bytes: Vec<u8>,
    rows: Vec<LoadedRow>,
}

/// A row among the bytes: the key, then the value.
#[derive(Debug)]
struct LoadedRow {
    /// What the key begins with, as a number that sorts as the key does: most comparisons end here.
    prefix: u64,
    start: usize,
    key: u32,
    value: u32,
}

impl Loading {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            rows: 0,
            files: 0,
            coming: LoadedRows::default(),
            written: None,
        }
    }

    /// Adds a row. Rows that come in order of key group are written best.
    pub(super) fn add(&mut self, group: u32, key: &[u8], value: &[u8]) -> Result<(), DatabaseError> {
        self.coming.add(group, key, value);
        self.rows += 1;
        match self.coming.bytes.len() >= FILE_BYTES {
            true => self.end_file(),
            false => Ok(()),
        }
    }

    /// Makes all rows readable, and returns how many there are.
    pub(super) fn finish(mut self) -> Result<u64, DatabaseError> {
        self.end_file()?;
        self.await_written()?;
        Ok(self.rows)
    }

    /// Has the rows that came written.
    fn end_file(&mut self) -> Result<(), DatabaseError> {
        let room = self.await_written()?;
        let rows = std::mem::replace(&mut self.coming, room);
        if rows.rows.is_empty() {
            return Ok(());
        }
        let place = self.place.clone();
        let file = place
            .directory
            .join(format!("load-{}-{}.sst", place.column, self.files));
        self.files += 1;
        let failed = |error| disk("start a thread for", &self.place.directory, &error);
        let writing = thread::Builder::new().name("state-loader".to_owned());
        let writing = writing.spawn(move || rows.write(&file, &place));
        self.written = Some(writing.map_err(failed)?);
        Ok(())
    }

    /// Waits for the file that is being written, and returns its memory.
    fn await_written(&mut self) -> Result<LoadedRows, DatabaseError> {
        let Some(written) = self.written.take() else {
            return Ok(LoadedRows::default());
        };
        written.join().unwrap_or_else(|_panic| {
            Err(DatabaseError::Lost {
                directory: self.place.directory.clone(),
                reason: "the thread that writes a file of it panicked".to_owned(),
            })
        })
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        // Given up: the directory is about to go, and nobody may be writing into it.
        let _not_wanted_any_more = self.await_written();
    }
}

impl LoadedRows {
    fn add(&mut self, group: u32, key: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        let group = u16::try_from(group).unwrap_or(u16::MAX).to_be_bytes();
        self.bytes.extend_from_slice(&group);
        self.bytes.extend_from_slice(key);
        let stored = &self.bytes[start..];
        let mut first = [0; 8];
        let there = stored.len().min(first.len());
        first[..there].copy_from_slice(&stored[..there]);
        let length = |bytes: usize| u32::try_from(bytes).expect("a row has 256 MiB at most");
        self.rows.push(LoadedRow {
            prefix: u64::from_be_bytes(first),
            start,
            key: length(stored.len()),
            value: length(value.len()),
        });
        self.bytes.extend_from_slice(value);
    }

    /// Writes a file, adds it to the database, and returns the memory without the rows.
    fn write(mut self, file: &Path, place: &Place) -> Result<Self, DatabaseError> {
        self.sort();
        let options = place.memory.column_options();
        let failed = |error| rocks("write a file for", file, error);
        let mut writer = SstFileWriter::create(&options);
        writer.open(file).map_err(failed)?;
        for row in &self.rows {
            // A key that is twice in it is refused here: files are of rising keys.
            let (key, value) = row.of(&self.bytes);
            writer.put(key, value).map_err(failed)?;
        }
        writer.finish().map_err(failed)?;
        place.database.ingest(&place.column, vec![file.to_owned()])?;
        self.bytes.clear();
        self.rows.clear();
        Ok(self)
    }

    fn sort(&mut self) {
        let Self { bytes, rows } = self;
        let key = |row: &LoadedRow| row.of(bytes).0;
        rows.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| key(a).cmp(key(b))));
    }
}

impl LoadedRow {
    fn of<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let (key, value) = (self.key as usize, self.value as usize);
        bytes[self.start..self.start + key + value].split_at(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_as_the_database_sorts_them() {
        let keys: [&[u8]; 8] = [
            b"abcdefghij",
            b"abcdefghi",
            b"",
            b"\0",
            b"a",
            b"a\0",
            b"abcdefz",
            b"\xff",
        ];
        let mut rows = LoadedRows::default();
        for group in [7, 300, 2] {
            for key in keys {
                rows.add(group, key, &[key, b"!"].concat());
            }
        }
        rows.sort();
        let sorted: Vec<_> = rows.rows.iter().map(|row| row.of(&rows.bytes)).collect();
        assert_eq!(sorted.len(), 24);
        assert!(sorted.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(sorted.iter().all(|(key, value)| *value == [&key[2..], b"!"].concat()));
    }
}
