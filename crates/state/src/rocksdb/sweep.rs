//! Looking for rows on disk that are over, a stretch at a time.

use streamd_core::row::RowError;
use streamd_core::state::Key;
use streamd_core::time::WallTime;

use super::database::Database;
use super::log::RowLog;
use super::table::{CachedTable, TableError, decode_key};
use crate::expiring::{Expire, Left, filter_row};

/// Rows that are looked at together: to find the first of them costs as much as to read dozens.
const STRETCH_ROWS: usize = 512;

/// How far a state on disk was looked through.
#[derive(Debug, Default)]
pub(crate) struct DiskCursor {
    /// The last key that was looked at; empty at the beginning.
    after: Vec<u8>,
    /// Rows that are to be looked at.
    due: usize,
}

/// What is to be done with the rows of a stretch.
struct Findings<K> {
    log: RowLog,
    /// Rows that the log removes.
    removed: u64,
    /// Keys whose row is over and that are in memory too, where the value may be another.
    in_memory: Vec<K>,
}

impl<K: Key, V: Expire> CachedTable<K, V> {
    /// As [`HeapTable::sweep`](crate::HeapTable::sweep): looks at so many rows, with others when there are enough of them, and
    /// removes what is over at the deadline. Rows that were never written down are found once they are.
    pub(crate) fn sweep(&mut self, cursor: &mut DiskCursor, rows: usize, deadline: WallTime) -> Result<(), TableError> {
        cursor.due += rows;
        if cursor.due < STRETCH_ROWS {
            return Ok(());
        }
        // While a cut waits to be written, what is below it must not change.
        let Some(database) = self.settled_database() else {
            return Ok(());
        };
        cursor.due = 0;
        let found = self.look(&database, cursor, deadline)?;
        database.write(self.column(), &found.log)?;
        self.forget_rows(found.removed);
        for key in found.in_memory {
            let hash = key.stable_hash();
            match self.get(hash, &key).map(|value| value.left(deadline)) {
                None | Some(Left::All) => {}
                Some(Left::Some) => {
                    if let Some(value) = self.get_mut(hash, &key) {
                        value.retain(deadline);
                    }
                }
                Some(Left::Nothing) => drop(self.remove(hash, &key)),
            }
        }
        Ok(())
    }

    /// Looks at the next stretch of rows.
    fn look(
        &self,
        database: &Database,
        cursor: &mut DiskCursor,
        deadline: WallTime,
    ) -> Result<Findings<K>, TableError> {
        let mut found = Findings {
            log: RowLog::default(),
            removed: 0,
            in_memory: Vec::new(),
        };
        let (mut looked_at, mut kept, mut malformed) = (0, Vec::new(), None);
        let (start, mut last) = (std::mem::take(&mut cursor.after), Vec::new());
        database.for_each_after(self.column(), &start, &mut |row, value| {
            looked_at += 1;
            let left = filter_row::<V>(value, deadline, &mut kept);
            let noted = left.and_then(|left| self.note((row, left), &kept, &mut found));
            malformed = noted.err();
            if looked_at == STRETCH_ROWS {
                last.extend_from_slice(row);
            }
            malformed.is_none() && looked_at < STRETCH_ROWS
        })?;
        cursor.after = last;
        malformed.map_or(Ok(found), |error| Err(error.into()))
    }

    fn note(&self, (row, left): (&[u8], Left), kept: &[u8], found: &mut Findings<K>) -> Result<(), RowError> {
        if left == Left::All {
            return Ok(());
        }
        let key: K = decode_key(row)?;
        if self.is_in_memory(&key) {
            found.in_memory.push(key);
        } else if left == Left::Some {
            found.log.put(
                |bytes| bytes.extend_from_slice(row),
                |bytes| bytes.extend_from_slice(kept),
            );
        } else {
            found.log.delete(|bytes| bytes.extend_from_slice(row));
            found.removed += 1;
        }
        Ok(())
    }
}
