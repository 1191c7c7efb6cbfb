//! Lists, sets and maps of what can be kept in state.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

use super::{State, check_elements, prefetch_ends};
use crate::evolution::Evolution;
use crate::row::{DataType, RowError, RowReader, write_count};

macro_rules! list {
    ($($(#[$note:meta])* $rust:ty),* $(,)?) => {$(
        $(#[$note])*
        impl<T: State> State for $rust {
            fn data_type() -> DataType {
                T::list_data_type()
            }

            fn encode(&self, row: &mut Vec<u8>) {
                T::encode_list(self, row);
            }

            #[inline]
            fn prefetch(&self) {
                prefetch_ends(self);
            }

            fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
                T::decode_list(row).map(Self::from)
            }

            fn describe_evolution(evolution: &mut Evolution) {
                T::describe_evolution(evolution);
            }
        }
    )*};
}

list! {
    Vec<T>,
    /// A list that does not grow: eight bytes less than a `Vec`, and no room to spare. In rows, it is a list.
    Box<[T]>,
}

/// In rows, it is a list.
impl<T: State> State for VecDeque<T> {
    fn data_type() -> DataType {
        T::list_data_type()
    }

    fn encode(&self, row: &mut Vec<u8>) {
        match self.as_slices() {
            (list, []) => T::encode_list(list, row),
            // In two pieces: a queue that has gone round its memory.
            _pieces => T::encode_list(&self.iter().cloned().collect::<Vec<_>>(), row),
        }
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        T::decode_list(row).map(Self::from)
    }

    fn describe_evolution(evolution: &mut Evolution) {
        T::describe_evolution(evolution);
    }
}

impl<T: State, const N: usize> State for [T; N] {
    fn data_type() -> DataType {
        T::list_data_type()
    }

    fn encode(&self, row: &mut Vec<u8>) {
        T::encode_list(self, row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        let list = T::decode_list(row)?;
        let count = list.len() as u64;
        list.try_into().map_err(|_| RowError::Invalid {
            what: "the length of an array",
            value: count,
        })
    }

    fn describe_evolution(evolution: &mut Evolution) {
        T::describe_evolution(evolution);
    }
}

fn write_entry<K: State, V: State>((key, value): (&K, &V), row: &mut Vec<u8>) {
    key.encode(row);
    value.encode(row);
}

fn read_entries<K: State, V: State, M: FromIterator<(K, V)>>(row: &mut RowReader<'_>) -> Result<M, RowError> {
    let count = row.elements()?;
    (0..count).map(|_| Ok((K::decode(row)?, V::decode(row)?))).collect()
}

impl<K: State + Ord, V: State> State for BTreeMap<K, V> {
    fn data_type() -> DataType {
        DataType::Map(Box::new(K::data_type()), Box::new(V::data_type()))
    }

    fn encode(&self, row: &mut Vec<u8>) {
        write_count(row, self.len());
        let before = row.len();
        self.iter().for_each(|entry| write_entry(entry, row));
        check_elements(self.len(), row.len() - before);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        read_entries(row)
    }

    fn describe_evolution(evolution: &mut Evolution) {
        K::describe_evolution(evolution);
        V::describe_evolution(evolution);
    }
}

impl<T: State + Ord> State for BTreeSet<T> {
    fn data_type() -> DataType {
        DataType::List(Box::new(T::data_type()))
    }

    fn encode(&self, row: &mut Vec<u8>) {
        write_count(row, self.len());
        self.iter().for_each(|element| element.encode(row));
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        let count = row.elements()?;
        (0..count).map(|_| T::decode(row)).collect()
    }

    fn describe_evolution(evolution: &mut Evolution) {
        T::describe_evolution(evolution);
    }
}

impl<K, V, S> State for HashMap<K, V, S>
where
    K: State + Ord + Hash,
    V: State,
    S: BuildHasher + Default + Clone + Send + Sync + 'static,
{
    fn data_type() -> DataType {
        BTreeMap::<K, V>::data_type()
    }

    fn encode(&self, row: &mut Vec<u8>) {
        // In the order of the keys: equal maps must encode to equal bytes.
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
        write_count(row, entries.len());
        entries.into_iter().for_each(|entry| write_entry(entry, row));
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        read_entries(row)
    }

    fn describe_evolution(evolution: &mut Evolution) {
        BTreeMap::<K, V>::describe_evolution(evolution);
    }
}
