//! Rows on their way down: encoded one after the other in one piece of memory, so that a barrier waits for no tree.

use rocksdb::{ColumnFamily, WriteBatch};

/// Marks a row that is deleted, in place of the length of its value. No value is as long: rows are below 4 GiB.
const DELETED: u32 = u32::MAX;

/// Bytes of rows that are written at once: enough to spread the cost of a write, few enough to stay in the cache.
const BATCH_BYTES: usize = 1 << 20;

/// Changed rows of one state.
#[derive(Debug, Default)]
pub struct RowLog {
    /// Length of the key, length of the value or [`DELETED`], key, value.
    bytes: Vec<u8>,
}

impl RowLog {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of its rows.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all rows, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds a row. Key and value are appended. Returns how many bytes they have together.
    pub fn put(&mut self, key: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) -> usize {
        let start = self.begin(key);
        let value_start = self.bytes.len();
        value(&mut self.bytes);
        self.set(start + 4, length_of(self.bytes.len() - value_start));
        self.bytes.len() - start - 8
    }

    /// Adds the removal of a row.
    pub fn delete(&mut self, key: impl FnOnce(&mut Vec<u8>)) {
        let start = self.begin(key);
        self.set(start + 4, DELETED);
    }

    /// The rows as batches for a column family, sorted: each is then put right behind the one before. Of a key that comes twice, the
    /// later row comes later.
    pub(super) fn batches(
        &self,
        column: &ColumnFamily,
        mut write: impl FnMut(WriteBatch) -> Result<(), rocksdb::Error>,
    ) -> Result<(), rocksdb::Error> {
        let mut batch = WriteBatch::default();
        for (key, value) in self.sorted() {
            match value {
                Some(value) => batch.put_cf(column, key, value),
                None => batch.delete_cf(column, key),
            }
            if batch.size_in_bytes() >= BATCH_BYTES {
                write(std::mem::take(&mut batch))?;
            }
        }
        if batch.is_empty() { Ok(()) } else { write(batch) }
    }

    fn sorted(&self) -> Vec<(&[u8], Option<&[u8]>)> {
        let mut rows = Vec::new();
        let mut rest = self.bytes.as_slice();
        while let Some((key, value, tail)) = next(rest) {
            rows.push((key, value));
            rest = tail;
        }
        rows.sort_by_key(|(key, _)| *key);
        rows
    }

    fn begin(&mut self, key: impl FnOnce(&mut Vec<u8>)) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 8]);
        key(&mut self.bytes);
        self.set(start, length_of(self.bytes.len() - start - 8));
        start
    }

    fn set(&mut self, at: usize, length: u32) {
        self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// # Panics
/// On a row of 4 GiB, which no encoding of a state can reach: its own counts are of 32 bits.
fn length_of(length: usize) -> u32 {
    u32::try_from(length)
        .ok()
        .filter(|&length| length != DELETED)
        .expect("a row is below 4 GiB")
}

/// The first row and what follows it.
fn next(bytes: &[u8]) -> Option<(&[u8], Option<&[u8]>, &[u8])> {
    let (key_length, rest) = bytes.split_first_chunk::<4>()?;
    let (value_length, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at(u32::from_le_bytes(*key_length) as usize);
    match u32::from_le_bytes(*value_length) {
        DELETED => Some((key, None, rest)),
        length => {
            let (value, rest) = rest.split_at(length as usize);
            Some((key, Some(value), rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_sorted_and_twice_where_they_went_in_twice() {
        let mut log = RowLog::default();
        assert_eq!(
            log.put(|row| row.extend_from_slice(b"b"), |row| row.extend_from_slice(b"one")),
            4
        );
        log.delete(|row| row.extend_from_slice(b"a"));
        log.put(|_| {}, |_| {});
        log.delete(|row| row.extend_from_slice(b"b"));
        let expected: [(&[u8], Option<&[u8]>); 4] =
            [(b"", Some(b"")), (b"a", None), (b"b", Some(b"one")), (b"b", None)];
        assert_eq!(log.sorted(), expected);
    }
}
