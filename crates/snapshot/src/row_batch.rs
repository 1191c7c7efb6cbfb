//! Rows on their way into a snapshot, some thousands at a time and in columns: most of what is written is copied once.

/// Rows of a batch: enough to spread the cost of a call over many.
const BATCH_ROWS: usize = 8 << 10;
/// Bytes of the keys, or of the values, from which on a batch is full: less than a processor has in its second-level cache, so that
/// whoever packs, sums or copies them finds them there.
const BATCH_BYTES: usize = 768 << 10;

/// Keys and values in the canonical encoding of their types, by rising key group.
#[derive(Debug, Default)]
pub struct RowBatch {
    /// The key groups of the rows, each with how many rows come before the next.
    groups: Vec<(u32, usize)>,
    keys: EncodedValues,
    values: EncodedValues,
}

/// Encoded values, end to end.
#[derive(Debug, Default)]
pub(crate) struct EncodedValues {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl RowBatch {
    /// Adds a row, whose key and value these write behind what is there.
    #[inline]
    pub fn push_with(&mut self, key_group: u32, key: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) {
        match self.groups.last_mut() {
            Some((group, rows)) if *group == key_group => *rows += 1,
            _another => self.groups.push((key_group, 1)),
        }
        key(&mut self.keys.bytes);
        self.keys.ends.push(self.keys.bytes.len());
        value(&mut self.values.bytes);
        self.values.ends.push(self.values.bytes.len());
    }

    /// Adds a row.
    #[inline]
    pub fn push(&mut self, key_group: u32, key: &[u8], value: &[u8]) {
        self.push_with(
            key_group,
            |row| row.extend_from_slice(key),
            |row| row.extend_from_slice(value),
        );
    }

    /// How many rows there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.keys.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.ends.is_empty()
    }

    /// Whether it should be handed on before there are more.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() >= BATCH_ROWS || self.keys.bytes.len() >= BATCH_BYTES || self.values.bytes.len() >= BATCH_BYTES
    }

    /// Forgets the rows, and keeps what memory was left to it.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.keys.clear();
        self.values.clear();
    }

    /// Key group, key and value of each row.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8], &[u8])> {
        let groups = self
            .groups
            .iter()
            .flat_map(|&(group, rows)| std::iter::repeat_n(group, rows));
        groups
            .zip(self.keys.iter().zip(self.values.iter()))
            .map(|(group, (key, value))| (group, key, value))
    }

    /// The key groups of the rows, each with how many rows come before the next.
    pub(crate) fn groups(&self) -> &[(u32, usize)] {
        &self.groups
    }

    /// Its keys and its values.
    pub(crate) fn columns(&mut self) -> (&mut EncodedValues, &mut EncodedValues) {
        (&mut self.keys, &mut self.values)
    }
}

impl EncodedValues {
    /// Each value.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let value = &self.bytes[start..end];
            start = end;
            value
        })
    }

    /// All values, end to end.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the bytes of the values; about as many will be written again, unless a value was very large.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        let room = Vec::with_capacity(self.bytes.capacity().min(2 * BATCH_BYTES));
        std::mem::replace(&mut self.bytes, room)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_as_they_went_in_whatever_their_sizes() {
        let mut batch = RowBatch::default();
        batch.push(3, b"a", b"one");
        batch.push(3, b"", b"");
        batch.push(9, b"bcd", &[7; 100]);
        let rows: Vec<_> = batch.iter().collect();
        assert_eq!(
            rows,
            [(3, &b"a"[..], &b"one"[..]), (3, b"", b""), (9, b"bcd", &[7; 100])]
        );
        assert_eq!((batch.groups(), batch.len()), (&[(3, 2), (9, 1)][..], 3));
        batch.clear();
        assert!(batch.is_empty() && batch.iter().next().is_none());
    }

    #[test]
    fn a_batch_is_full_of_many_rows_or_of_many_bytes() {
        let mut rows = RowBatch::default();
        while !rows.is_full() {
            rows.push(0, b"k", b"v");
        }
        assert_eq!(rows.len(), BATCH_ROWS);
        let mut bytes = RowBatch::default();
        bytes.push(0, b"k", &vec![0; BATCH_BYTES]);
        assert!(bytes.is_full());
    }
}
