use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::state::State;

/// Times in ascending order, each once. Most windows wait for one alone, their end: it takes no allocation.
#[derive(Debug, Clone, Default)]
pub(in crate::window) enum Times {
    #[default]
    None,
    One(i64),
    Many(Vec<i64>),
}

impl Times {
    pub(in crate::window) fn as_slice(&self) -> &[i64] {
        match self {
            Self::None => &[],
            Self::One(time) => std::slice::from_ref(time),
            Self::Many(times) => times,
        }
    }

    /// Puts a time in; `false` if it was there.
    #[inline]
    pub(in crate::window) fn insert(&mut self, time: i64) -> bool {
        match self {
            Self::None => *self = Self::One(time),
            Self::One(known) if *known == time => return false,
            Self::One(_) | Self::Many(_) => return self.insert_among(time),
        }
        true
    }

    fn insert_among(&mut self, time: i64) -> bool {
        let mut times = match std::mem::take(self) {
            Self::None => Vec::new(),
            Self::One(known) => vec![known],
            Self::Many(times) => times,
        };
        let absent = times.binary_search(&time).err();
        if let Some(position) = absent {
            times.insert(position, time);
        }
        *self = Self::Many(times);
        absent.is_some()
    }

    /// Takes a time out; `false` if it was not in.
    #[inline]
    pub(in crate::window) fn remove(&mut self, time: i64) -> bool {
        match self {
            Self::None => false,
            Self::One(known) if *known != time => false,
            Self::One(_) => {
                *self = Self::None;
                true
            }
            Self::Many(times) => times.binary_search(&time).is_ok_and(|position| {
                times.remove(position);
                true
            }),
        }
    }
}

/// In rows, a list.
impl State for Times {
    fn data_type() -> DataType {
        Vec::<i64>::data_type()
    }

    fn encode(&self, row: &mut Vec<u8>) {
        i64::encode_list(self.as_slice(), row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(match Vec::decode(row)?.as_slice() {
            [] => Self::None,
            [time] => Self::One(*time),
            times => Self::Many(times.to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use streamd_core::state::{from_row, to_row};

    use super::*;

    proptest! {
        #[test]
        fn times_are_a_set_in_order_and_a_list_in_rows(steps in proptest::collection::vec((any::<bool>(), 0i64..5), 0..30)) {
            let (mut times, mut expected) = (Times::default(), BTreeSet::new());
            for (insert, time) in steps {
                if insert {
                    prop_assert_eq!(times.insert(time), expected.insert(time));
                } else {
                    prop_assert_eq!(times.remove(time), expected.remove(&time));
                }
                let list: Vec<i64> = expected.iter().copied().collect();
                prop_assert_eq!(times.as_slice(), &list);
                prop_assert_eq!(to_row(&times), to_row(&list));
                times = from_row(&to_row(&list)).unwrap();
            }
        }
    }
}
