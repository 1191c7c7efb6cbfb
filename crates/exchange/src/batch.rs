//! A batch: records side by side, and their timestamps in a column of their own where they have any.

use streamd_core::time::EventTime;

/// Records of one type in order, each with its timestamp where the stream has event time.
///
/// A stream without event time pays nothing for it: the column of timestamps is empty, or as long as the batch. A record
/// without a timestamp in a batch that has some carries [`EventTime::MIN`].
///
/// A batch that comes from a [`Partitioner::by_key`](crate::Partitioner::by_key) has the hash of each key with it, for the operator that
/// it goes to. Whatever takes records out or changes them forgets the hashes, and so does the next partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<T> {
    records: Vec<T>,
    timestamps: Vec<EventTime>,
    /// They hold where there are as many as records.
    key_hashes: Vec<u64>,
}

// By hand: a derive would ask `T: Default`.
impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<Vec<T>> for Batch<T> {
    /// Records without timestamps.
    fn from(records: Vec<T>) -> Self {
        Self { records, ..Self::new() }
    }
}

impl<T> Batch<T> {
    /// An empty batch.
    pub const fn new() -> Self {
        Self {
            records: Vec::new(),
            timestamps: Vec::new(),
            key_hashes: Vec::new(),
        }
    }

    /// An empty batch with room for so many records.
    pub fn with_capacity(records: usize) -> Self {
        Self::from(Vec::with_capacity(records))
    }

    /// Records with a timestamp for each, or with none at all.
    ///
    /// # Panics
    ///
    /// If there are timestamps, but not one for each record.
    pub fn with_timestamps(records: Vec<T>, timestamps: Vec<EventTime>) -> Self {
        assert!(
            timestamps.is_empty() || timestamps.len() == records.len(),
            "a batch of {} records has {} timestamps",
            records.len(),
            timestamps.len()
        );
        Self {
            records,
            timestamps,
            ..Self::new()
        }
    }

    /// How many records there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// For how many records there is room.
    pub fn capacity(&self) -> usize {
        self.records.capacity()
    }

    /// Makes room for so many more records.
    pub fn reserve(&mut self, records: usize) {
        self.records.reserve(records);
    }

    /// The records.
    #[inline]
    pub fn records(&self) -> &[T] {
        &self.records
    }

    /// The records, for whoever has no use for timestamps: they are forgotten.
    pub fn untimed(&mut self) -> &mut Vec<T> {
        self.timestamps.clear();
        self.key_hashes.clear();
        &mut self.records
    }

    /// The records, to be taken out, and their timestamps. To be followed by [`clear`](Self::clear).
    pub fn parts_mut(&mut self) -> (&mut Vec<T>, &[EventTime]) {
        self.key_hashes.clear();
        (&mut self.records, &self.timestamps)
    }

    /// The records alone.
    pub fn into_records(self) -> Vec<T> {
        self.records
    }

    /// The timestamps: as many as records, or none.
    #[inline]
    pub fn timestamps(&self) -> &[EventTime] {
        &self.timestamps
    }

    /// The timestamp of the record at this position; [`EventTime::MIN`] where it has none.
    #[inline]
    pub fn timestamp(&self, position: usize) -> EventTime {
        self.timestamps.get(position).copied().unwrap_or(EventTime::MIN)
    }

    /// The stable hashes of the records' keys, in the same order, where the batch was dealt out by them; else none.
    #[inline]
    pub fn key_hashes(&self) -> Option<&[u64]> {
        let all = !self.records.is_empty() && self.key_hashes.len() == self.records.len();
        all.then_some(&self.key_hashes)
    }

    /// From here on the records go by no key, or by another one.
    pub(crate) fn forget_key_hashes(&mut self) {
        self.key_hashes.clear();
    }

    /// Adds the hash of the key of the record that was just added: of every record, or of none.
    #[inline]
    pub(crate) fn push_key_hash(&mut self, hash: u64) {
        self.key_hashes.push(hash);
    }

    /// Adds a record. [`EventTime::MIN`] stands for no timestamp.
    #[inline]
    pub fn push(&mut self, record: T, timestamp: EventTime) {
        if timestamp != EventTime::MIN || !self.timestamps.is_empty() {
            if self.timestamps.len() < self.records.len() {
                self.give_no_timestamps();
            }
            self.timestamps.push(timestamp);
        }
        self.records.push(record);
    }

    /// The records before the first one with a timestamp get none.
    #[cold]
    #[inline(never)]
    fn give_no_timestamps(&mut self) {
        self.timestamps.resize(self.records.len(), EventTime::MIN);
    }

    /// Takes all records out of `other` and adds them.
    pub fn append(&mut self, other: &mut Self) {
        if !self.timestamps.is_empty() || !other.timestamps.is_empty() {
            self.timestamps.resize(self.records.len(), EventTime::MIN);
            self.timestamps.append(&mut other.timestamps);
        }
        self.records.append(&mut other.records);
        self.key_hashes.clear();
        other.key_hashes.clear();
        if !self.timestamps.is_empty() {
            self.timestamps.resize(self.records.len(), EventTime::MIN);
        }
    }

    /// Forgets all records. The memory stays.
    pub fn clear(&mut self) {
        self.records.clear();
        self.timestamps.clear();
        self.key_hashes.clear();
    }

    /// Keeps the records for which the predicate holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.key_hashes.clear();
        if self.timestamps.is_empty() {
            self.records.retain(keep);
            return;
        }
        let mut position = 0;
        let mut kept = 0;
        let timestamps = &mut self.timestamps;
        self.records.retain(|record| {
            let stays = keep(record);
            if stays {
                timestamps[kept] = timestamps[position];
                kept += 1;
            }
            position += 1;
            stays
        });
        self.timestamps.truncate(kept);
    }

    /// Takes the first `count` records out, in order, with their timestamps.
    #[inline]
    pub fn drain(&mut self, count: usize) -> Drain<'_, T> {
        self.key_hashes.clear();
        let timed = if self.timestamps.is_empty() { 0 } else { count };
        Drain {
            records: self.records.drain(..count),
            timestamps: self.timestamps.drain(..timed),
        }
    }

    /// Takes records out, the first ones first, each with its timestamp, until the function answers that it has `enough`. The others stay.
    #[inline]
    pub fn take_until<E>(&mut self, mut enough: impl FnMut(T, EventTime) -> Result<bool, E>) -> Result<(), E> {
        self.key_hashes.clear();
        let mut taken = 0;
        let mut done = Ok(false);
        for record in self.records.extract_if(.., |_| true) {
            let timestamp = self.timestamps.get(taken).copied();
            taken += 1;
            done = enough(record, timestamp.unwrap_or(EventTime::MIN));
            if !matches!(done, Ok(false)) {
                break;
            }
        }
        self.timestamps.drain(..taken.min(self.timestamps.len()));
        done.map(drop)
    }

    /// Turns every record into another, which keeps its timestamp, and adds it to `output`.
    #[inline]
    pub fn map_into<O>(&mut self, output: &mut Batch<O>, function: impl FnMut(T) -> O) {
        if output.is_empty() {
            std::mem::swap(&mut self.timestamps, &mut output.timestamps);
        } else if !self.timestamps.is_empty() || !output.timestamps.is_empty() {
            self.timestamps.resize(self.records.len(), EventTime::MIN);
            output.timestamps.resize(output.records.len(), EventTime::MIN);
            output.timestamps.append(&mut self.timestamps);
        }
        output.records.extend(self.records.drain(..).map(function));
        output.key_hashes.clear();
        self.clear();
    }

    /// Gives every record the timestamp that the function takes from it, and the one it had.
    pub fn assign_timestamps(&mut self, mut assign: impl FnMut(&T, EventTime) -> EventTime) {
        self.key_hashes.clear();
        self.timestamps.resize(self.records.len(), EventTime::MIN);
        for (record, timestamp) in self.records.iter().zip(&mut self.timestamps) {
            *timestamp = assign(record, *timestamp);
        }
    }
}

/// Records that leave their batch, each with its timestamp. What is not taken is dropped.
#[derive(Debug)]
pub struct Drain<'a, T> {
    records: std::vec::Drain<'a, T>,
    timestamps: std::vec::Drain<'a, EventTime>,
}

impl<'a, T> Drain<'a, T> {
    /// Records and timestamps, of which there are as many or none.
    #[inline]
    pub(crate) fn columns(&mut self) -> (&mut std::vec::Drain<'a, T>, &mut std::vec::Drain<'a, EventTime>) {
        (&mut self.records, &mut self.timestamps)
    }
}

impl<T> Iterator for Drain<'_, T> {
    type Item = (T, EventTime);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next()?;
        Some((record, self.timestamps.next().unwrap_or(EventTime::MIN)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl<T> Batch<T> {
    /// A copy, given how to copy a record.
    pub(crate) fn map_copy(&self, copy: fn(&T) -> T) -> Self {
        Self {
            records: self.records.iter().map(copy).collect(),
            timestamps: self.timestamps.clone(),
            ..Self::new()
        }
    }
}

impl<T: Clone> Batch<T> {
    /// Becomes a copy of `other`, in the memory that it has.
    pub fn copy_from(&mut self, other: &Self) {
        self.records.clone_from(&other.records);
        self.timestamps.clone_from(&other.timestamps);
        self.key_hashes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(records: &[(char, i64)]) -> Batch<char> {
        let mut batch = Batch::new();
        for (record, time) in records {
            batch.push(*record, EventTime(*time));
        }
        batch
    }

    fn content(batch: &Batch<char>) -> Vec<(char, EventTime)> {
        let timestamps = (0..batch.len()).map(|position| batch.timestamp(position));
        batch.records().iter().copied().zip(timestamps).collect()
    }

    #[test]
    fn a_record_keeps_its_timestamp_whatever_is_done_to_its_batch() {
        let mut batch = timed(&[('a', 1), ('b', 2), ('c', 3), ('d', 4)]);
        batch.retain(|record| *record != 'b');
        assert_eq!(content(&batch), content(&timed(&[('a', 1), ('c', 3), ('d', 4)])));
        let mut upper = timed(&[('X', 9)]);
        batch.map_into(&mut upper, |record| record.to_ascii_uppercase());
        assert!(batch.is_empty() && batch.timestamps().is_empty());
        let mut all = timed(&[('z', 0)]);
        all.append(&mut upper);
        assert_eq!(
            content(&all),
            content(&timed(&[('z', 0), ('X', 9), ('A', 1), ('C', 3), ('D', 4)]))
        );
        let first: Vec<_> = all.drain(2).collect();
        assert_eq!(first, [('z', EventTime(0)), ('X', EventTime(9))]);
        assert_eq!(content(&all), content(&timed(&[('A', 1), ('C', 3), ('D', 4)])));
    }

    #[test]
    fn records_are_taken_until_there_are_enough_and_the_others_stay() {
        for batch in [timed(&[('a', 1), ('b', 2), ('c', 3)]), Batch::from(vec!['a', 'b', 'c'])] {
            let mut rest = batch.clone();
            let mut taken = Batch::new();
            let take = |record, timestamp| {
                taken.push(record, timestamp);
                Ok::<_, ()>(record == 'b')
            };
            assert_eq!(rest.take_until(take), Ok(()));
            assert_eq!(taken.records(), ['a', 'b']);
            taken.append(&mut rest.clone());
            assert_eq!(taken, batch);
            assert_eq!(rest.take_until(|_, _| Err::<bool, _>("refused")), Err("refused"));
            assert!(rest.is_empty() && rest.timestamps().is_empty());
            assert_eq!(rest.take_until(|_, _| Err("never asked")), Ok(()));
        }
    }

    #[test]
    fn the_hashes_of_keys_are_forgotten_by_whatever_changes_which_records_there_are() {
        let mut keyed = Batch::new();
        for record in ['a', 'b'] {
            keyed.push(record, EventTime(1));
            keyed.push_key_hash(u64::from(record));
        }
        assert_eq!(keyed.key_hashes(), Some(&[97, 98][..]));
        let changes: [fn(&mut Batch<char>); 9] = [
            |batch| batch.clear(),
            |batch| batch.retain(|_| true),
            |batch| batch.untimed().reverse(),
            |batch| batch.assign_timestamps(|_, time| time),
            |batch| batch.parts_mut().0.reverse(),
            |batch| Batch::new().append(batch),
            |batch| batch.copy_from(&timed(&[('x', 1), ('y', 2)])),
            |batch| drop(batch.drain(1)),
            |batch| batch.take_until(|_, _| Ok::<_, ()>(true)).unwrap(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = keyed.clone();
            change(&mut changed);
            // As many records as there were: hashes that were still there would seem to be theirs.
            while changed.len() < 2 {
                changed.push('z', EventTime(1));
            }
            assert_eq!(changed.key_hashes(), None, "change {number}");
        }
        let mut mapped = Batch::new();
        keyed.map_into(&mut mapped, |record| record);
        keyed.append(&mut mapped);
        assert_eq!((keyed.len(), keyed.key_hashes()), (2, None));
    }

    #[test]
    fn a_batch_without_timestamps_has_no_column_of_them() {
        let mut batch = Batch::from(vec!['a', 'b']);
        batch.push('c', EventTime::MIN);
        batch.append(&mut Batch::from(vec!['d']));
        assert!(batch.timestamps().is_empty());
        assert_eq!(batch.timestamp(3), EventTime::MIN);
    }

    #[test]
    fn records_with_and_without_timestamps_may_meet() {
        for (mut first, mut second) in [
            (timed(&[('a', 1)]), Batch::from(vec!['b'])),
            (Batch::from(vec!['a']), timed(&[('b', 2)])),
        ] {
            let expected = [content(&first), content(&second)].concat();
            let mut mapped = first.clone();
            second.clone().map_into(&mut mapped, |record| record);
            first.append(&mut second);
            assert_eq!(content(&first), expected);
            assert_eq!(content(&mapped), expected);
        }
    }
}
