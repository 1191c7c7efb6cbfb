//! Some key groups of a database that was written for more: its files are taken as they are, and what is of others in them is deleted.
//!
//! ```text
//!   key groups   0 ........................ 127      the database of the checkpoint
//!   files        [   ][   ][   ][   ][   ][   ]      one level of it, sorted by key group
//!   wanted                    64 .......... 127
//!                 go   go   ↑   stay as they are
//!                           └─ has both: stays, and a range tombstone hides the rows before 64
//! ```
//!
//! That takes as long for a terabyte as for a megabyte, but for the number of rows, which tables and snapshots know exactly: it is an estimate
//! until the rows were counted, in the background.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::LiveFile;
use streamd_core::key_group::KeyGroupRange;

use super::cut::read_rows;
use super::database::{DatabaseError, disk};
use super::memory::SharedMemory;

/// How many rows a state has.
#[derive(Debug, Clone, Default)]
pub struct RowCount {
    /// What its database was opened with.
    opened: Arc<AtomicU64>,
    /// How many more there are since; may be fewer.
    since: i64,
}

/// The key groups of a database that are wanted.
#[derive(Debug)]
pub(super) struct Slice {
    held: KeyGroupRange,
    wanted: KeyGroupRange,
    /// By column, what is to be counted.
    counts: BTreeMap<String, RowCount>,
}

impl RowCount {
    /// So many, or about so many.
    pub(super) fn opened_with(rows: u64) -> Self {
        Self {
            opened: Arc::new(AtomicU64::new(rows)),
            since: 0,
        }
    }

    /// How many there are. An estimate while the rows of a [slice](self) are being counted.
    pub fn now(&self) -> u64 {
        self.opened.load(Ordering::Relaxed).saturating_add_signed(self.since)
    }

    /// There is one more.
    #[inline]
    pub(super) fn add(&mut self) {
        self.since += 1;
    }

    /// There are so many fewer.
    #[inline]
    pub(super) fn remove(&mut self, rows: u64) {
        self.since = self.since.saturating_sub_unsigned(rows);
    }
}

impl Slice {
    pub(super) fn new(held: KeyGroupRange, wanted: KeyGroupRange) -> Self {
        Self {
            held,
            wanted,
            counts: BTreeMap::new(),
        }
    }

    /// With the rows of these columns to be counted.
    pub(super) fn counting(self, counts: impl Iterator<Item = (String, RowCount)>) -> Self {
        let counts = counts.collect();
        Self { counts, ..self }
    }

    /// About how many of so many rows are in it: keys are spread evenly over their groups. Where there are rows, it is not none.
    pub(super) fn share(&self, rows: u64) -> u64 {
        let share = u128::from(rows) * u128::from(self.wanted.len()) / u128::from(self.held.len().max(1));
        u64::try_from(share).map_or(rows, |share| share.max(1).min(rows))
    }

    /// The keys that are not wanted.
    pub(super) fn outside(&self) -> impl Iterator<Item = Range<Vec<u8>>> {
        let before = (self.held.start < self.wanted.start).then(|| Vec::new()..first_key(self.wanted.start));
        // No key begins so: there are 32768 key groups at most.
        let after = (self.wanted.end < self.held.end).then(|| first_key(self.wanted.end)..vec![0xFF; 2]);
        before.into_iter().chain(after)
    }

    /// Counts the rows of the states in the files as they were, for as long as `goes_on` says so.
    pub(super) fn count(
        &self,
        files: &Path,
        memory: &SharedMemory,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), DatabaseError> {
        for (column, count) in &self.counts {
            let mut rows = 0;
            read_rows(files, (column, self.wanted), memory, &mut |_, _, _| {
                rows += 1;
                goes_on()
            })?;
            count.opened.store(rows, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Whether all keys of a file are among these.
pub(super) fn is_within(file: &LiveFile, keys: &Range<Vec<u8>>) -> bool {
    let ends = file.start_key.as_ref().zip(file.end_key.as_ref());
    ends.is_some_and(|(first, last)| *first >= keys.start && *last < keys.end)
}

/// What the keys of a group begin with, which is no greater than any of them.
fn first_key(key_group: u32) -> Vec<u8> {
    u16::try_from(key_group).unwrap_or(u16::MAX).to_be_bytes().to_vec()
}

/// Gives all files of a database, which is closed, another name in a directory where some have one already. What RocksDB writes on is
/// copied.
pub(super) fn link_files<'n>(
    database: &Path,
    names: impl Iterator<Item = &'n String>,
    to: &Path,
) -> Result<(), DatabaseError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| disk("copy", &path, &error)
    };
    for name in names {
        let (from, to) = (database.join(name), to.join(name));
        if !to.exists() && fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).map_err(failed(&from))?;
        }
    }
    let current = database.join("CURRENT");
    let manifest = fs::read_to_string(&current).map_err(failed(&current))?;
    for name in ["CURRENT", manifest.trim()] {
        let from = database.join(name);
        fs::copy(&from, to.join(name)).map_err(failed(&from))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "slice_tests.rs"]
mod tests;
