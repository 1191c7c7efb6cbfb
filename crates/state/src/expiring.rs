//! Values with a time to live: each beside the time of its last update, in memory and in every snapshot.
//!
//! ```text
//!   value   Expiring<V>                  one time for all of it
//!   list    ExpiringList<V>              one for each element, in the order of the elements
//!   map     BTreeMap<M, Expiring<V>>     one for each entry
//! ```
//!
//! What was updated at or before a *deadline*, which is now less the time to live, is over. The time to live itself is in no
//! snapshot: another version of the application may have another.

use std::collections::BTreeMap;

use streamd_core::evolution::Evolution;
use streamd_core::migration::expiring_type;
use streamd_core::row::{DataType, RowError, RowReader, write_count};
use streamd_core::state::State;
use streamd_core::time::WallTime;

/// What is left of a value at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// All of it.
    All,
    /// Some elements or entries.
    Some,
    /// Nothing: the row can go.
    Nothing,
}

/// A value that is over at some time, or whose parts are.
pub trait Expire: State {
    /// What is left of it at this deadline.
    fn left(&self, deadline: WallTime) -> Left;

    /// Forgets the parts that are over. A value without parts stays.
    fn retain(&mut self, deadline: WallTime);

    /// Begins the time to live of every part anew.
    fn refresh(&mut self, now: WallTime);
}

/// A value and when it was last updated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring<V> {
    /// When it was written last, or read where reading counts.
    pub last_update: WallTime,
    /// The value.
    pub value: V,
}

impl<V> Expiring<V> {
    /// A value that is written now.
    pub fn new(now: WallTime, value: V) -> Self {
        Self {
            last_update: now,
            value,
        }
    }

    /// Whether it is over.
    #[inline]
    pub fn is_over(&self, deadline: WallTime) -> bool {
        self.last_update <= deadline
    }
}

impl<V: State> State for Expiring<V> {
    fn data_type() -> DataType {
        expiring_type(V::data_type())
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.last_update.0.encode(row);
        self.value.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            last_update: WallTime(i64::decode(row)?),
            value: V::decode(row)?,
        })
    }

    fn describe_evolution(evolution: &mut Evolution) {
        V::describe_evolution(evolution);
    }
}

impl<V: State> Expire for Expiring<V> {
    fn left(&self, deadline: WallTime) -> Left {
        if self.is_over(deadline) {
            Left::Nothing
        } else {
            Left::All
        }
    }

    fn retain(&mut self, _deadline: WallTime) {}

    fn refresh(&mut self, now: WallTime) {
        self.last_update = now;
    }
}

/// A list whose elements are over one by one, the first ones first: no element has an earlier time than one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiringList<V> {
    values: Vec<V>,
    /// For each value; they never fall.
    last_updates: Vec<WallTime>,
}

impl<V> Default for ExpiringList<V> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            last_updates: Vec::new(),
        }
    }
}

impl<V> ExpiringList<V> {
    /// A list that is written now.
    pub fn new(now: WallTime, values: Vec<V>) -> Self {
        let last_updates = vec![now; values.len()];
        Self { values, last_updates }
    }

    /// Adds an element. Where the clock was turned back it gets the time of the one before it.
    pub fn push(&mut self, now: WallTime, value: V) {
        let before = self.last_updates.last().copied().unwrap_or(now);
        self.values.push(value);
        self.last_updates.push(now.max(before));
    }

    /// The elements that are not over.
    pub fn live(&self, deadline: WallTime) -> &[V] {
        &self.values[self.over(deadline)..]
    }

    /// All elements, those that are over and not forgotten yet among them.
    pub fn all(&self) -> &[V] {
        &self.values
    }

    /// How many are over.
    fn over(&self, deadline: WallTime) -> usize {
        self.last_updates.partition_point(|time| *time <= deadline)
    }
}

impl<V: State> State for ExpiringList<V> {
    fn data_type() -> DataType {
        DataType::List(Box::new(expiring_type(V::data_type())))
    }

    fn encode(&self, row: &mut Vec<u8>) {
        write_count(row, self.values.len());
        for (time, value) in self.last_updates.iter().zip(&self.values) {
            time.0.encode(row);
            value.encode(row);
        }
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        let mut list = Self::default();
        for _ in 0..row.elements()? {
            let time = WallTime(i64::decode(row)?);
            list.push(time, V::decode(row)?);
        }
        Ok(list)
    }

    fn describe_evolution(evolution: &mut Evolution) {
        V::describe_evolution(evolution);
    }
}

impl<V: State> Expire for ExpiringList<V> {
    fn left(&self, deadline: WallTime) -> Left {
        match self.over(deadline) {
            0 => Left::All,
            all if all == self.values.len() => Left::Nothing,
            _some => Left::Some,
        }
    }

    fn retain(&mut self, deadline: WallTime) {
        let over = self.over(deadline);
        self.values.drain(..over);
        self.last_updates.drain(..over);
    }

    fn refresh(&mut self, now: WallTime) {
        self.last_updates.fill(now);
    }
}

impl<M: State + Ord, V: State> Expire for BTreeMap<M, Expiring<V>> {
    fn left(&self, deadline: WallTime) -> Left {
        let over = self.values().filter(|value| value.is_over(deadline)).count();
        match over {
            0 => Left::All,
            all if all == self.len() => Left::Nothing,
            _some => Left::Some,
        }
    }

    fn retain(&mut self, deadline: WallTime) {
        BTreeMap::retain(self, |_, value| !value.is_over(deadline));
    }

    fn refresh(&mut self, now: WallTime) {
        self.values_mut().for_each(|value| value.last_update = now);
    }
}

/// Whether an encoded value outlives a deadline. Where only a part does, that part is put into `kept`.
pub(crate) type RowFilter = fn(row: &[u8], deadline: WallTime, kept: &mut Vec<u8>) -> Result<Left, RowError>;

/// The [`RowFilter`] of a type.
pub(crate) fn filter_row<V: Expire>(row: &[u8], deadline: WallTime, kept: &mut Vec<u8>) -> Result<Left, RowError> {
    let mut value: V = streamd_core::state::from_row(row)?;
    let left = value.left(deadline);
    if left == Left::Some {
        value.retain(deadline);
        kept.clear();
        value.encode(kept);
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use streamd_core::state::{from_row, to_row};

    use super::*;

    proptest! {
        #[test]
        fn a_list_loses_what_is_over_and_nothing_else(steps in prop::collection::vec((0i64..5, any::<u16>()), 0..30), deadline in 0i64..60) {
            let mut now = 0;
            let mut list = ExpiringList::default();
            let mut model = Vec::new();
            for (passed, value) in steps {
                now += passed;
                list.push(WallTime(now), value);
                model.push((now, value));
            }
            let live: Vec<u16> = model.iter().filter(|(time, _)| *time > deadline).map(|(_, value)| *value).collect();
            prop_assert_eq!(list.live(WallTime(deadline)), &live[..]);
            let mut kept = Vec::new();
            let left = filter_row::<ExpiringList<u16>>(&to_row(&list), WallTime(deadline), &mut kept).unwrap();
            match left {
                Left::All => prop_assert_eq!(live.len(), model.len()),
                Left::Some => {
                    let kept: ExpiringList<u16> = from_row(&kept).unwrap();
                    prop_assert_eq!(kept.all(), &live[..]);
                }
                Left::Nothing => prop_assert!(live.is_empty()),
            }
            prop_assert_eq!(from_row::<ExpiringList<u16>>(&to_row(&list)).unwrap(), list);
        }
    }

    #[test]
    fn a_clock_that_is_turned_back_does_not_reorder_a_list() {
        let mut list = ExpiringList::new(WallTime(100), vec![b'a']);
        list.push(WallTime(50), b'b');
        assert_eq!(list.live(WallTime(99)), b"ab");
        assert_eq!(list.live(WallTime(100)), b"");
    }
}
