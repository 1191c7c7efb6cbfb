use std::collections::BTreeMap;
use std::ops::ControlFlow;

use streamd_core::barrier::SnapshotKind;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::state::from_row;

use super::*;
use crate::inspect::sample::{KEYS, Sample};
use crate::inspect::{InspectError, KeyedContents, StateContents, find_operator, find_state, verify_snapshot};
use crate::{Location, StoredSnapshot};

fn keyed(stored: &StoredSnapshot) -> KeyedContents<'_> {
    let operator = find_operator(stored, "counts").unwrap();
    match find_state(stored, operator, Some("count")).unwrap() {
        StateContents::Keyed(state) => state,
        StateContents::List { .. } => panic!("the state is keyed"),
    }
}

fn rows(sample: &Sample, folder: &str) -> BTreeMap<String, u64> {
    let stored = sample.read(&Location::open(folder).unwrap());
    let mut rows = BTreeMap::new();
    let read = keyed(&stored).visit(sample.runtime.handle(), |row| {
        let twice = rows.insert(from_row::<String>(row.key).unwrap(), from_row(row.value).unwrap());
        assert_eq!(twice, None);
        Ok(ControlFlow::Continue(()))
    });
    read.unwrap();
    rows
}

fn edit(sample: &Sample, stored: &StoredSnapshot, target: &str, lines: &str) -> Result<Edited, InspectError> {
    let state = keyed(stored);
    let mut changes = Changes::default();
    changes.read_lines(&state, lines.as_bytes(), std::path::Path::new("changes"))?;
    let target = sample.base.child(target).unwrap().uri();
    edit_snapshot(stored, &state, changes, &target, sample.runtime.handle())
}

#[test]
fn the_new_savepoint_is_the_old_one_but_for_the_changes() {
    let sample = Sample::new();
    for (target, folder) in [
        ("a", sample.savepoint("sp")),
        ("b", sample.checkpoint(Sample::job(), 1)),
    ] {
        let before = rows(&sample, &folder.uri());
        let stored = sample.read(&folder);
        let mut lines = String::new();
        let mut expected = before.clone();
        for number in 0..50 {
            lines.push_str(&format!("{{\"key\": \"new {number}\", \"value\": {number}}}\n"));
            expected.insert(format!("new {number}"), number);
        }
        lines.push_str(
            "\n{\"key_group\": 5, \"key\": \"key 7\", \"value\": 700}\n{\"key\": \"key 9\", \"remove\": true}",
        );
        expected.insert("key 7".to_owned(), 700);
        expected.remove("key 9");
        let edited = edit(&sample, &stored, target, &lines).unwrap();
        assert_eq!((edited.added, edited.replaced, edited.removed), (50, 1, 1));
        assert_eq!(rows(&sample, &edited.uri), expected);
        assert_eq!(rows(&sample, &folder.uri()), before, "the old one is as it was");

        let new = sample.read(&Location::open(&edited.uri).unwrap());
        assert_eq!(new.metadata.kind, SnapshotKind::Savepoint);
        assert_eq!(new.metadata.operators[0].lists, stored.metadata.operators[0].lists);
        assert_eq!(new.metadata.graph, stored.metadata.graph);
        assert_eq!(new.bytes, edited.bytes);
        let verified = verify_snapshot(&edited.uri, sample.runtime.handle()).unwrap();
        assert!(verified.damages.is_empty(), "{:?}", verified.damages);
    }
}

#[test]
fn a_key_of_a_key_group_that_no_subtask_wrote_is_added_all_the_same() {
    let sample = Sample::new();
    let mut stored = sample.read(&sample.savepoint("sp"));
    // As if the first subtask had never made the state.
    let keyed = &mut stored.metadata.operators[0].keyed;
    keyed.retain(|handle| handle.key_groups != KeyGroupRange { start: 0, end: 64 });
    let lost = KEYS - keyed[0].rows;
    let edited = edit(
        &sample,
        &stored,
        "a",
        &(0..40)
            .map(|n| format!("{{\"key\": \"new {n}\", \"value\": 1}}\n"))
            .collect::<String>(),
    );
    let edited = edited.unwrap();
    assert_eq!(edited.added, 40);
    assert_eq!(rows(&sample, &edited.uri).len() as u64, KEYS - lost + 40);
    let verified = verify_snapshot(&edited.uri, sample.runtime.handle()).unwrap();
    assert!(verified.damages.is_empty(), "{:?}", verified.damages);
}

#[test]
fn removing_what_is_not_there_is_an_error_and_leaves_nothing_behind() {
    let sample = Sample::new();
    let stored = sample.read(&sample.savepoint("sp"));
    let error = edit(&sample, &stored, "a", "{\"key\": \"key 100\", \"remove\": true}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "state `count` of operator `counts` has no key \"key 100\""
    );
    assert!(!sample.path("a").exists());
}

#[test]
fn changes_that_do_not_fit_are_refused_by_line() {
    let sample = Sample::new();
    let stored = sample.read(&sample.savepoint("sp"));
    let error = |lines: &str| {
        let error = edit(&sample, &stored, "a", lines).unwrap_err();
        streamd_core::error::chain(&error)
    };
    assert_eq!(
        error("{\"key\": \"a\", \"value\": -1}"),
        "value `-1` does not fit state `count`: `$` is -1 where uint64 is expected"
    );
    assert!(error("{\"key\": 7, \"value\": 1}").starts_with("key `7` does not fit state `count`"));
    assert!(error("\n\n[1]").eq("change 3 is malformed: it is no JSON object"));
    assert_eq!(
        error("{\"key\": \"a\"}"),
        "change 1 is malformed: it must have either a `value` or `\"remove\": true`"
    );
    assert_eq!(
        error("{\"key\": \"a\", \"value\": 1, \"more\": 1}"),
        "change 1 is malformed: it has the unknown field `more`"
    );
    assert!(error("{\"key\": \"a\", \"value\": 1}\n{\"key\": \"a\", \"remove\": true}").contains("is changed twice"));
    assert!(!sample.path("a").exists());
}

#[test]
fn an_assignment_may_have_equals_signs_in_its_key() {
    let sample = Sample::new();
    let stored = sample.read(&sample.savepoint("sp"));
    let state = keyed(&stored);
    let mut changes = Changes::default();
    changes.set(&state, "a=b=7").unwrap();
    changes.set(&state, "\"key 1\"=8").unwrap();
    changes.remove(&state, "key 2").unwrap();
    assert_eq!(changes.len(), 3);
    assert!(matches!(
        changes.set(&state, "nothing"),
        Err(InspectError::Change { .. })
    ));
    assert!(matches!(changes.set(&state, "key=x"), Err(InspectError::Value { .. })));
    let target = sample.base.child("a").unwrap().uri();
    let edited = edit_snapshot(&stored, &state, changes, &target, sample.runtime.handle()).unwrap();
    let rows = rows(&sample, &edited.uri);
    assert_eq!((rows["a=b"], rows["key 1"], rows.get("key 2")), (7, 8, None));
}

#[test]
fn nothing_is_overwritten_and_no_checkpoint_is_forged() {
    let sample = Sample::new();
    let folder = sample.savepoint("sp");
    let stored = sample.read(&folder);
    let change = "{\"key\": \"a\", \"value\": 1}";
    let refusal = |target: &str| edit(&sample, &stored, target, change).unwrap_err();
    assert!(matches!(refusal("sp"), InspectError::BadTarget { .. }));
    assert!(matches!(refusal("sp/inner"), InspectError::BadTarget { .. }));
    assert!(matches!(refusal("chk-7"), InspectError::BadTarget { .. }));
    std::fs::create_dir(sample.path("taken")).unwrap();
    std::fs::write(sample.path("taken/file"), "mine").unwrap();
    assert!(matches!(refusal("taken"), InspectError::TargetExists { .. }));
    assert!(matches!(refusal("taken/file"), InspectError::TargetExists { .. }));
    assert_eq!(std::fs::read(sample.path("taken/file")).unwrap(), b"mine");
    assert_eq!(rows(&sample, &folder.uri()).len() as u64, KEYS);
}
