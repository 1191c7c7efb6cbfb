use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::row::{DataType, RowError};
use streamd_core::state::{State, to_row};

use super::*;

fn backend() -> KeyedStateBackend<u64> {
    KeyedStateBackend::new(KeyGroupRange { start: 0, end: 64 }, 128)
}

fn key_in(range: KeyGroupRange) -> u64 {
    (0u64..)
        .find(|key| range.contains(key_group_of(key.stable_hash(), 128)))
        .unwrap()
}

#[test]
fn states_of_different_types_live_side_by_side() {
    let mut backend = backend();
    let count = backend.register::<u64>("count").unwrap();
    let names = backend.register::<Vec<String>>("names").unwrap();
    let key = key_in(backend.key_groups());
    let hash = key.stable_hash();
    *backend.table_mut(count).get_or_insert_with(hash, &key, || 0) += 5;
    backend
        .table_mut(names)
        .get_or_insert_with(hash, &key, Vec::new)
        .push("ATL".to_owned());
    assert_eq!(backend.table(count).get(hash, &key), Some(&5));
    assert_eq!(backend.table(names).get(hash, &key), Some(&vec!["ATL".to_owned()]));

    let frozen = backend.freeze();
    let described: Vec<_> = frozen
        .iter()
        .map(|state| (state.name.as_str(), state.value.clone(), state.rows.rows()))
        .collect();
    assert_eq!(
        described,
        [
            ("count", DataType::UInt64, 1),
            ("names", DataType::List(Box::new(DataType::String)), 1)
        ]
    );
}

#[test]
fn a_name_is_registered_once() {
    let mut backend = backend();
    backend.register::<u64>("count").unwrap();
    assert_eq!(
        backend.register::<i8>("count").unwrap_err(),
        StateError::DuplicateState {
            state: "count".to_owned()
        }
    );
}

#[test]
fn a_type_that_no_snapshot_could_describe_is_refused() {
    type Deep<T> = Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<T>>>>>>>>;
    let error = backend().register::<Deep<Deep<Deep<Deep<i8>>>>>("deep").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the type of state `deep` nests 33 deep, more than 32"
    );
}

#[test]
fn a_restored_row_is_there_afterwards() {
    let mut backend = backend();
    let count = backend.register::<u64>("count").unwrap();
    let key = key_in(backend.key_groups());
    backend.restore_row("count", &to_row(&key), &to_row(&9u64)).unwrap();
    assert_eq!(backend.table(count).get(key.stable_hash(), &key), Some(&9));
}

#[test]
fn rows_that_do_not_belong_are_refused() {
    let mut backend = backend();
    backend.register::<u64>("count").unwrap();
    let (own, value) = (to_row(&key_in(backend.key_groups())), to_row(&9u64));
    let state = || "count".to_owned();

    let foreign = to_row(&key_in(KeyGroupRange { start: 90, end: 91 }));
    let key_groups = backend.key_groups();
    assert_eq!(
        backend.restore_row("count", &foreign, &value),
        Err(StateError::ForeignKeyGroup {
            state: state(),
            key_group: 90,
            key_groups
        })
    );
    assert_eq!(
        backend.restore_row("count", &own[..7], &value),
        Err(StateError::MalformedRow {
            state: state(),
            part: "key",
            source: RowError::Truncated {
                needed: 8,
                available: 7
            }
        })
    );
    assert_eq!(
        backend.restore_row("count", &own, &[0; 9]),
        Err(StateError::MalformedRow {
            state: state(),
            part: "value",
            source: RowError::TrailingBytes { extra: 1 }
        })
    );
    assert_eq!(
        backend.restore_row("sum", &own, &value),
        Err(StateError::UnknownState {
            state: "sum".to_owned()
        })
    );
    backend.restore_row("count", &own, &value).unwrap();
    let twice = backend.restore_row("count", &own, &value).unwrap_err();
    assert!(matches!(twice, StateError::DuplicateKey { .. }), "{twice}");
}

#[test]
#[should_panic(expected = "a state id is used with the backend that gave it out")]
fn an_id_of_another_backend_is_noticed() {
    let id = backend().register::<u64>("count").unwrap();
    let mut other = backend();
    other.register::<String>("name").unwrap();
    other.table(id);
}
