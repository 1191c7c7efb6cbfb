//! What is different between a state in one snapshot and the same state in another.
//!
//! Rows are compared by their bytes: equal values of one type have equal bytes. The rows of the older snapshot are held in memory,
//! some at a time, those of the newer one are only read past them:
//!
//! ```text
//!   before ──▶ rows of some key groups ──▶ map ──┐
//!   after ───▶ rows of the same groups ──────────┴─▶ added, changed, the same; what is left in the map is removed
//! ```

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::ListState;
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_64;

use super::error::InspectError;
use super::rows::{KeyedContents, Row};

/// Bytes of the older state that are compared at once, as they lie in the store: in memory they are several times as many.
const BYTES_AT_ONCE: u64 = 64 << 20;

/// How often two states of different numbers of key groups are read at most: each time as a whole.
const MOST_PASSES: u64 = 64;

/// How many rows are different, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Differences {
    /// Rows that only the newer one has.
    pub added: u64,
    /// Rows that only the older one has.
    pub removed: u64,
    /// Rows of one key with different values.
    pub changed: u64,
    /// Rows that are the same.
    pub unchanged: u64,
}

/// One row that is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// The key, and what tells several rows of it apart; with the newer value, or the older where there is none.
    pub row: Row<'a>,
    /// The value in the older one.
    pub before: Option<&'a [u8]>,
    /// The value in the newer one.
    pub after: Option<&'a [u8]>,
}

/// Whether rows of the two can be compared: the types are the same.
pub fn is_comparable(before: &KeyedContents<'_>, after: &KeyedContents<'_>) -> bool {
    before.key_type() == after.key_type()
        && before.namespace_type() == after.namespace_type()
        && before.value_type() == after.value_type()
}

/// Calls `visit` for every row that is different, in no order that means anything. Blocks, as [`KeyedContents::visit`].
pub fn diff_keyed(
    (before, after): (&KeyedContents<'_>, &KeyedContents<'_>),
    runtime: &Handle,
    mut visit: impl FnMut(Change<'_>) -> Result<(), InspectError>,
) -> Result<Differences, InspectError> {
    let mut differences = Differences::default();
    for part in parts(before, after, BYTES_AT_ONCE) {
        diff_part((before, after), part, runtime, &mut differences, &mut visit)?;
    }
    Ok(differences)
}

/// Some of the rows: the same ones of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Those of these key groups.
    Groups(KeyGroupRange),
    /// Those whose key leaves this rest: the two have different numbers of key groups.
    Rest { of: u64, is: u64 },
}

fn parts(before: &KeyedContents<'_>, after: &KeyedContents<'_>, bytes_at_once: u64) -> Vec<Part> {
    let bytes: u64 = before.handles().iter().map(|handle| handle.bytes).sum();
    let wanted = bytes / bytes_at_once + 1;
    let groups = before.operator().max_parallelism;
    if groups != after.operator().max_parallelism {
        let of = wanted.min(MOST_PASSES);
        return (0..of).map(|is| Part::Rest { of, is }).collect();
    }
    let count = u32::try_from(wanted).unwrap_or(u32::MAX).min(groups).max(1);
    let ranges = (0..count).map(|index| KeyGroupRange::of_subtask(index, count, groups));
    ranges.map(Part::Groups).collect()
}

fn diff_part(
    (before, after): (&KeyedContents<'_>, &KeyedContents<'_>),
    part: Part,
    runtime: &Handle,
    differences: &mut Differences,
    visit: &mut impl FnMut(Change<'_>) -> Result<(), InspectError>,
) -> Result<(), InspectError> {
    let mut left: BTreeMap<(Vec<u8>, Vec<u8>), (u32, Vec<u8>)> = BTreeMap::new();
    rows_of(before, part, runtime, &mut |row| {
        let key = (row.key.to_vec(), row.namespace.to_vec());
        left.insert(key, (row.key_group, row.value.to_vec()));
        Ok(())
    })?;
    let mut key = (Vec::new(), Vec::new());
    rows_of(after, part, runtime, &mut |row| {
        key.0.clear();
        key.0.extend_from_slice(row.key);
        key.1.clear();
        key.1.extend_from_slice(row.namespace);
        let known = left.remove(&key);
        match &known {
            Some((_, value)) if value == row.value => {
                differences.unchanged += 1;
                return Ok(());
            }
            Some(_) => differences.changed += 1,
            None => differences.added += 1,
        }
        visit(Change {
            row,
            before: known.as_ref().map(|(_, value)| value.as_slice()),
            after: Some(row.value),
        })
    })?;
    for ((key, namespace), (key_group, value)) in &left {
        differences.removed += 1;
        visit(Change {
            row: Row {
                key_group: *key_group,
                key,
                namespace,
                value,
            },
            before: Some(value),
            after: None,
        })?;
    }
    Ok(())
}

fn rows_of(
    state: &KeyedContents<'_>,
    part: Part,
    runtime: &Handle,
    visit: &mut dyn FnMut(Row<'_>) -> Result<(), InspectError>,
) -> Result<(), InspectError> {
    let (range, rest) = match part {
        Part::Groups(range) => (range, None),
        Part::Rest { of, is } => (KeyGroupRange::all(state.operator().max_parallelism), Some((of, is))),
    };
    state.visit_range(range, runtime, &mut |row| {
        if rest.is_none_or(|(of, is)| xxh3_64(row.key) % of == is) {
            visit(row)?;
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Compares two lists without regard to order: an element that is there twice counts twice. Calls `visit` with each element that only
/// one of them has, and whether it is the newer one.
pub fn diff_lists<E>(
    before: &ListState,
    after: &ListState,
    mut visit: impl FnMut(&[u8], bool) -> Result<(), E>,
) -> Result<Differences, E> {
    let mut left: BTreeMap<&[u8], u64> = BTreeMap::new();
    for item in &before.items {
        *left.entry(item).or_default() += 1;
    }
    let mut differences = Differences::default();
    for item in &after.items {
        match left.get_mut(item.as_slice()).filter(|count| **count > 0) {
            Some(count) => {
                *count -= 1;
                differences.unchanged += 1;
            }
            None => {
                differences.added += 1;
                visit(item, true)?;
            }
        }
    }
    for (item, count) in left {
        for _each in 0..count {
            differences.removed += 1;
            visit(item, false)?;
        }
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use streamd_core::row::DataType;
    use streamd_core::state::{from_row, to_row};

    use super::super::sample::Sample;
    use super::super::{StateContents, find_operator, find_state};
    use super::*;
    use crate::edit::{Changes, edit_snapshot};

    #[test]
    fn lists_are_compared_without_regard_to_order() {
        let list = |items: &[u64]| ListState {
            name: "splits".to_owned(),
            data_type: DataType::UInt64,
            items: items.iter().map(to_row).collect(),
        };
        let mut seen = Vec::new();
        let differences = diff_lists(&list(&[1, 2, 2, 3]), &list(&[3, 2, 4]), |item, is_new| {
            seen.push((from_row::<u64>(item).unwrap(), is_new));
            Ok::<_, ()>(())
        });
        let expected = Differences {
            added: 1,
            removed: 2,
            changed: 0,
            unchanged: 2,
        };
        assert_eq!(differences, Ok(expected));
        assert_eq!(seen, [(4, true), (1, false), (2, false)]);
    }

    #[test]
    fn every_row_is_in_one_part_however_they_are_cut() {
        let sample = Sample::new();
        let stored = sample.read(&sample.checkpoint(Sample::job(), 3));
        let operator = find_operator(&stored, "counts").unwrap();
        let StateContents::Keyed(state) = find_state(&stored, operator, Some("count")).unwrap() else {
            panic!("the state is keyed")
        };
        for bytes_at_once in [1, 100, u64::MAX - 1] {
            let mut rows = 0;
            for part in parts(&state, &state, bytes_at_once) {
                rows_of(&state, part, sample.runtime.handle(), &mut |_row| {
                    rows += 1;
                    Ok(())
                })
                .unwrap();
            }
            assert_eq!(rows, state.rows(), "{bytes_at_once}");
        }
        let rest = (0..7).map(|is| Part::Rest { of: 7, is });
        let mut rows = 0;
        for part in rest {
            rows_of(&state, part, sample.runtime.handle(), &mut |_row| {
                rows += 1;
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(rows, state.rows());
    }

    #[test]
    fn what_was_changed_is_what_is_different() {
        let sample = Sample::new();
        let stored = sample.read(&sample.checkpoint(Sample::job(), 3));
        let state = |stored: &'_ crate::StoredSnapshot| find_operator(stored, "counts").unwrap().clone();
        let operator = state(&stored);
        let keyed = |stored| match find_state(stored, &operator, Some("count")).unwrap() {
            StateContents::Keyed(state) => state,
            StateContents::List { .. } => panic!("the state is keyed"),
        };
        let before = keyed(&stored);
        let mut changes = Changes::default();
        let lines = r#"{"key": "key 7", "value": 700}
            {"key": "key 9", "remove": true}
            {"key": "another", "value": 1}"#;
        changes
            .read_lines(&before, lines.as_bytes(), std::path::Path::new("changes"))
            .unwrap();
        let target = sample.base.child("edited").unwrap();
        edit_snapshot(&stored, &before, changes, &target.uri(), sample.runtime.handle()).unwrap();
        let edited = sample.read(&target);
        let operator = state(&edited);
        let StateContents::Keyed(after) = find_state(&edited, &operator, Some("count")).unwrap() else {
            panic!("the state is keyed")
        };

        let mut seen = BTreeMap::new();
        let compare = |pair, seen: &mut BTreeMap<String, (Option<u64>, Option<u64>)>| {
            diff_keyed(pair, sample.runtime.handle(), |change| {
                let number = |value: Option<&[u8]>| value.map(|value| from_row::<u64>(value).unwrap());
                let key = from_row(change.row.key).unwrap();
                seen.insert(key, (number(change.before), number(change.after)));
                Ok(())
            })
            .unwrap()
        };
        let differences = compare((&before, &after), &mut seen);
        let expected = Differences {
            added: 1,
            removed: 1,
            changed: 1,
            unchanged: super::super::sample::KEYS - 2,
        };
        assert_eq!(differences, expected);
        let expected = [
            ("another".to_owned(), (None, Some(1))),
            ("key 7".to_owned(), (Some(7), Some(700))),
            ("key 9".to_owned(), (Some(9), None)),
        ];
        assert!(seen.into_iter().eq(expected));
        let mut none = BTreeMap::new();
        assert_eq!(compare((&after, &after), &mut none).unchanged, after.rows());
        assert!(none.is_empty());
    }
}
