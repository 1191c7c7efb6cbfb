use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use streamd_core::barrier::SnapshotKind;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::evolution::Evolution;
use streamd_core::graph::{
    CheckpointSettings, JobGraph, JobVertex, Operator, OperatorKind, PLAN_VERSION, StateDescriptor, StateKind,
};
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId, SubtaskId};
use streamd_core::key_group::{KEY_HASH_VERSION, KeyGroupRange};
use streamd_core::row::DataType;
use streamd_core::snapshot::{
    KeyedStateFormat, KeyedStateHandle, ListState, METADATA_VERSION, ObjectHandle, OperatorState, SnapshotMetadata,
};
use streamd_core::time::WallTime;

use super::*;
use crate::event::RestorePoint;
use crate::invariant::rescale_conserves;

fn keyed(name: &str, value: DataType) -> StateDescriptor {
    StateDescriptor {
        name: name.to_owned(),
        kind: StateKind::Keyed { key: DataType::String },
        value,
        evolution: Evolution::default(),
    }
}

fn list(name: &str, kind: StateKind) -> StateDescriptor {
    StateDescriptor {
        name: name.to_owned(),
        kind,
        value: DataType::UInt64,
        evolution: Evolution::default(),
    }
}

fn operator(uid: &str, kind: OperatorKind, states: Vec<StateDescriptor>) -> Operator {
    Operator {
        id: OperatorId::from_uid(uid),
        uid: Some(uid.to_owned()),
        name: uid.to_owned(),
        kind,
        states,
        initial_splits: None,
        guarantee: None,
    }
}

fn vertex(parallelism: u32, operator: Operator) -> JobVertex {
    JobVertex {
        id: operator.id,
        name: operator.name.clone(),
        parallelism,
        max_parallelism: None,
        slot_sharing_group: "default".to_owned(),
        operators: vec![operator],
    }
}

fn graph(vertices: Vec<JobVertex>) -> JobGraph {
    JobGraph {
        version: PLAN_VERSION,
        name: "job".to_owned(),
        vertices,
        edges: Vec::new(),
        checkpointing: CheckpointSettings::default(),
        restart_strategy: None,
    }
}

fn splits(count: u64) -> ListState {
    ListState {
        name: "splits".to_owned(),
        data_type: DataType::UInt64,
        items: (0..count).map(|n| n.to_le_bytes().to_vec()).collect(),
    }
}

/// A source of some splits, then an operator with a keyed state, a list and a union list.
fn application(parallelism: u32, split_count: u64) -> JobGraph {
    let mut source = operator("flights", OperatorKind::Source, vec![]);
    source.initial_splits = Some(splits(split_count));
    let states = vec![
        keyed("count", DataType::Int64),
        list("buffer", StateKind::List),
        list("rules", StateKind::Union),
    ];
    graph(vec![
        vertex(parallelism, source),
        vertex(
            parallelism,
            operator("statistics", OperatorKind::Transformation, states),
        ),
    ])
}

fn handle(state: &str, value: DataType, key_groups: KeyGroupRange, path: &str) -> KeyedStateHandle {
    KeyedStateHandle {
        state: state.to_owned(),
        key: DataType::String,
        namespace: None,
        value,
        key_groups,
        format: KeyedStateFormat::Parquet,
        objects: vec![ObjectHandle {
            inline: None,
            path: path.to_owned(),
            length: 1,
            digest: String::new(),
        }],
        rows: 1,
        bytes: 1,
    }
}

fn state_of(uid: &str, groups: u32, keyed: Vec<KeyedStateHandle>, lists: Vec<ListState>) -> OperatorState {
    OperatorState {
        id: OperatorId::from_uid(uid),
        uid: Some(uid.to_owned()),
        name: uid.to_owned(),
        parallelism: 2,
        max_parallelism: groups,
        keyed,
        lists,
    }
}

fn snapshot(graph: JobGraph, operators: Vec<OperatorState>) -> SnapshotMetadata {
    SnapshotMetadata {
        version: METADATA_VERSION,
        key_hash_version: KEY_HASH_VERSION,
        kind: SnapshotKind::Savepoint,
        job_id: JobId::from_bytes([1; 16]),
        checkpoint_id: CheckpointId(3),
        triggered_at: WallTime(0),
        leader_epoch: 1,
        attempt: Attempt(1),
        nonce: String::new(),
        graph,
        operators,
    }
}

fn counts(groups: u32) -> OperatorState {
    let all = KeyGroupRange::all(groups);
    state_of(
        "statistics",
        groups,
        vec![handle("count", DataType::Int64, all, "a")],
        vec![],
    )
}

fn refusal(graph: &JobGraph, metadata: &SnapshotMetadata) -> CodedError {
    check(graph, metadata, false).expect_err("the snapshot does not fit")
}

#[test]
fn a_snapshot_of_the_same_application_fits_and_lends_its_key_groups() {
    let plan = check(
        &application(2, 1),
        &snapshot(application(2, 1), vec![counts(512)]),
        false,
    )
    .unwrap();
    assert_eq!(plan.max_parallelism, [256, 512]);
    assert!(plan.dropped.is_empty() && plan.warnings.is_empty());
}

#[test]
fn state_that_nobody_claims_is_refused_and_the_nearest_uid_is_named() {
    let metadata = snapshot(
        application(2, 1),
        vec![{
            let mut state = counts(256);
            state.id = OperatorId::from_uid("statistic");
            state.uid = Some("statistic".to_owned());
            state
        }],
    );
    let error = refusal(&application(2, 1), &metadata);
    assert_eq!(error.code, ErrorCode::UnclaimedState);
    assert!(error.message.contains("`statistic`"), "{error}");
    assert!(error.hint.unwrap().contains("`statistics`"));
    let plan = check(&application(2, 1), &metadata, true).unwrap();
    assert_eq!(plan.dropped, ["operator `statistic`"]);
    assert_eq!(plan.warnings.len(), 1);
}

#[test]
fn empty_state_that_nobody_claims_is_no_obstacle() {
    let gone = state_of("gone", 128, vec![], vec![splits(0)]);
    assert!(check(&application(2, 1), &snapshot(application(2, 1), vec![gone]), false).is_ok());
}

#[test]
fn a_declared_state_that_was_removed_is_unclaimed_but_an_internal_one_is_not() {
    let groups = KeyGroupRange::all(128);
    let old = graph(vec![vertex(
        1,
        operator(
            "statistics",
            OperatorKind::Transformation,
            vec![keyed("old", DataType::Int64)],
        ),
    )]);
    let state = |name: &str| {
        snapshot(
            old.clone(),
            vec![state_of(
                "statistics",
                128,
                vec![handle(name, DataType::Int64, groups, "a")],
                vec![],
            )],
        )
    };
    let error = refusal(&application(1, 1), &state("old"));
    assert_eq!(error.code, ErrorCode::UnclaimedState);
    assert!(
        error.message.contains("state `old` of operator `statistics`"),
        "{error}"
    );
    let plan = check(&application(1, 1), &state("old"), true).unwrap();
    assert_eq!(plan.dropped, ["state `old` of operator `statistics`"]);
    assert!(check(&application(1, 1), &state("~timers.event_time"), false).is_ok());
}

#[test]
fn a_changed_type_is_refused_with_both_types() {
    let state = state_of(
        "statistics",
        128,
        vec![handle("count", DataType::UInt64, KeyGroupRange::all(128), "a")],
        vec![],
    );
    let error = refusal(&application(1, 1), &snapshot(application(1, 1), vec![state]));
    assert_eq!(error.code, ErrorCode::IncompatibleState);
    for part in ["`count`", "`statistics`", "`uint64`", "`int64`"] {
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn a_changed_split_type_is_refused() {
    let mut list = splits(1);
    list.data_type = DataType::String;
    let metadata = snapshot(application(1, 1), vec![state_of("flights", 128, vec![], vec![list])]);
    assert_eq!(
        refusal(&application(1, 1), &metadata).code,
        ErrorCode::IncompatibleState
    );
}

#[test]
fn an_explicit_max_parallelism_that_differs_is_refused() {
    let mut application = application(2, 1);
    application.vertices[1].max_parallelism = Some(128);
    let error = refusal(&application, &snapshot(application.clone(), vec![counts(256)]));
    assert_eq!(error.code, ErrorCode::MaxParallelism);
    assert!(
        error.message.contains("128") && error.message.contains("256"),
        "{error}"
    );
}

#[test]
fn a_parallelism_above_the_snapshots_key_groups_is_refused() {
    let error = refusal(&application(5, 1), &snapshot(application(2, 1), vec![counts(4)]));
    assert_eq!(error.code, ErrorCode::MaxParallelism);
}

#[test]
fn a_snapshot_of_a_newer_version_is_refused() {
    let mut newer = snapshot(application(1, 1), vec![]);
    newer.key_hash_version = KEY_HASH_VERSION + 1;
    assert_eq!(refusal(&application(1, 1), &newer).code, ErrorCode::SnapshotVersion);
    let mut newer = snapshot(application(1, 1), vec![]);
    newer.version = METADATA_VERSION + 1;
    assert_eq!(refusal(&application(1, 1), &newer).code, ErrorCode::SnapshotVersion);
}

fn point(metadata: SnapshotMetadata) -> RestorePoint {
    RestorePoint {
        metadata: Arc::new(metadata),
        uri: "s3://b/sp".to_owned(),
    }
}

fn items(assignment: &StateAssignment, vertex: u32, uid: &str, list: &str) -> Vec<Vec<u64>> {
    let number = |item: &Vec<u8>| u64::from_le_bytes(item.as_slice().try_into().unwrap());
    assignment
        .iter()
        .filter(|(subtask, _)| subtask.vertex == vertex)
        .map(|(_, operators)| {
            let lists = operators
                .get(&OperatorId::from_uid(uid))
                .map(|state| state.lists.as_slice());
            let list = lists.unwrap_or_default().iter().find(|it| it.name == list);
            list.map(|list| list.items.iter().map(number).collect())
                .unwrap_or_default()
        })
        .collect()
}

#[test]
fn a_fresh_start_deals_the_initial_splits_in_turn() {
    let assignment = assign(&application(2, 5), &[128, 128], None);
    assert_eq!(items(&assignment, 0, "flights", "splits"), [vec![0, 2, 4], vec![1, 3]]);
}

#[test]
fn restored_splits_are_dealt_in_blocks_and_the_initial_ones_forgotten() {
    let metadata = snapshot(
        application(2, 9),
        vec![state_of("flights", 128, vec![], vec![splits(5)])],
    );
    let assignment = assign(&application(3, 9), &[128, 128], Some(&point(metadata)));
    assert_eq!(
        items(&assignment, 0, "flights", "splits"),
        [vec![0, 1], vec![2, 3], vec![4]]
    );
}

#[test]
fn a_source_that_had_read_everything_does_not_begin_again() {
    let assignment = assign(
        &application(2, 5),
        &[128, 128],
        Some(&point(snapshot(application(2, 5), vec![]))),
    );
    assert_eq!(
        items(&assignment, 0, "flights", "splits"),
        [vec![], vec![]] as [Vec<u64>; 2]
    );
    let source = &assignment[&SubtaskId { vertex: 0, index: 0 }][&OperatorId::from_uid("flights")];
    assert_eq!(
        source.lists.len(),
        1,
        "the empty list must be there: its absence means a fresh start"
    );
}

#[test]
fn a_source_that_the_snapshot_does_not_know_starts_with_its_splits() {
    let old = graph(vec![]);
    let assignment = assign(&application(1, 2), &[128, 128], Some(&point(snapshot(old, vec![]))));
    assert_eq!(items(&assignment, 0, "flights", "splits"), [vec![0, 1]]);
}

#[test]
fn relative_objects_become_absolute_and_absolute_ones_stay() {
    let groups = KeyGroupRange::all(128);
    let handles = vec![
        handle("count", DataType::Int64, groups, "op/a.parquet"),
        handle("count", DataType::Int64, groups, "s3://other/b"),
    ];
    let metadata = snapshot(application(1, 1), vec![state_of("statistics", 128, handles, vec![])]);
    let assignment = assign(&application(1, 1), &[128, 128], Some(&point(metadata)));
    let state = &assignment[&SubtaskId { vertex: 1, index: 0 }][&OperatorId::from_uid("statistics")];
    let paths: Vec<&str> = state
        .keyed
        .iter()
        .flat_map(|handle| &handle.objects)
        .map(|object| object.path.as_str())
        .collect();
    assert_eq!(paths, ["s3://b/sp/op/a.parquet", "s3://other/b"]);
}

/// A snapshot of `parallelism` subtasks with any number of list elements, at any number of key groups.
fn any_snapshot() -> impl Strategy<Value = (u32, SnapshotMetadata)> {
    (1u32..40, 0u32..100, 0u64..50, 0u64..20).prop_map(|(parallelism, more, buffered, rules)| {
        let groups = parallelism + more;
        let handles = (0..parallelism)
            .map(|index| {
                let range = KeyGroupRange::of_subtask(index, parallelism, groups);
                handle("count", DataType::Int64, range, &format!("{index}"))
            })
            .collect();
        let named = |name: &str, count| ListState {
            name: name.to_owned(),
            ..splits(count)
        };
        let operators = vec![
            state_of("flights", groups, vec![], vec![splits(buffered)]),
            state_of(
                "statistics",
                groups,
                handles,
                vec![named("buffer", buffered), named("rules", rules)],
            ),
        ];
        (groups, snapshot(application(parallelism, 3), operators))
    })
}

proptest! {
    #[test]
    fn rescaling_loses_and_doubles_nothing((groups, metadata) in any_snapshot(), wanted in 1u32..140) {
        let parallelism = wanted.min(groups);
        let graph = application(parallelism, 3);
        let restore = point(metadata);
        let plan = check(&graph, &restore.metadata, false).unwrap();
        prop_assert_eq!(&plan.max_parallelism, &vec![groups, groups]);
        let assignment = assign(&graph, &plan.max_parallelism, Some(&restore));
        prop_assert_eq!(rescale_conserves(&graph, &plan.max_parallelism, &restore, &assignment), Ok(()));
    }

    #[test]
    fn a_lost_or_doubled_piece_of_state_is_noticed((groups, metadata) in any_snapshot(), victim in any::<prop::sample::Index>()) {
        let graph = application(groups.min(7), 3);
        let restore = point(metadata);
        let plan = check(&graph, &restore.metadata, false).unwrap();
        let honest = assign(&graph, &plan.max_parallelism, Some(&restore));
        let subtasks: Vec<SubtaskId> = honest.keys().copied().collect();
        let victim = *victim.get(&subtasks);
        let holds_something = honest[&victim].values().any(|state| {
            !state.keyed.is_empty() || state.lists.iter().any(|list| !list.items.is_empty())
        });
        prop_assume!(holds_something);
        let mut lossy = honest.clone();
        lossy.insert(victim, BTreeMap::new());
        prop_assert!(rescale_conserves(&graph, &plan.max_parallelism, &restore, &lossy).is_err());
        let mut doubled = honest.clone();
        for state in doubled.get_mut(&victim).unwrap().values_mut() {
            let copies = state.keyed.clone();
            state.keyed.extend(copies);
            for list in &mut state.lists {
                let copies = list.items.clone();
                list.items.extend(copies);
            }
        }
        prop_assert!(rescale_conserves(&graph, &plan.max_parallelism, &restore, &doubled).is_err());
    }
}

/// What the comparison says of each state, in few words.
fn verdicts(graph: &JobGraph, metadata: &SnapshotMetadata) -> Vec<(String, &'static str)> {
    let word = |verdict: &Verdict| match verdict {
        Verdict::Matches => "matches",
        Verdict::Migrates { .. } => "migrates",
        Verdict::Unclaimed { .. } => "unclaimed",
        Verdict::Empty => "empty",
        Verdict::Incompatible { .. } => "incompatible",
    };
    let findings = compare(graph, metadata).unwrap().findings;
    findings
        .iter()
        .map(|finding| (format!("{}.{}", finding.label, finding.state), word(&finding.verdict)))
        .collect()
}

#[test]
fn every_state_of_either_side_gets_its_verdict() {
    let all = KeyGroupRange::all(256);
    let mut widened = splits(2);
    widened.data_type = DataType::UInt32;
    widened.name = "buffer".to_owned();
    let metadata = snapshot(
        graph(vec![]),
        vec![
            state_of(
                "statistics",
                256,
                vec![
                    handle("count", DataType::Int64, all, "a"),
                    handle("gone", DataType::Int64, all, "b"),
                ],
                vec![widened],
            ),
            state_of(
                "other",
                256,
                vec![handle("count", DataType::Int64, all, "c")],
                vec![splits(0)],
            ),
        ],
    );
    let found = verdicts(&application(2, 1), &metadata);
    let expected = [
        ("statistics.buffer", "migrates"),
        ("statistics.count", "matches"),
        ("statistics.gone", "unclaimed"),
        ("other.count", "unclaimed"),
        ("statistics.rules", "empty"),
    ];
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(state, verdict)| (state.as_str(), *verdict))
        .collect();
    assert_eq!(found, expected);
    let plan = check(&application(2, 1), &metadata, true).unwrap();
    assert!(
        plan.warnings.contains(
            &"state `buffer` of operator `statistics` is migrated: widens the value from uint32 to uint64".to_owned()
        ),
        "{:?}",
        plan.warnings
    );
}

#[test]
fn what_the_user_dropped_is_dealt_to_nobody() {
    let all = KeyGroupRange::all(256);
    let keyed = vec![
        handle("count", DataType::Int64, all, "a"),
        handle("gone", DataType::Int64, all, "b"),
    ];
    let restore = point(snapshot(
        application(2, 1),
        vec![state_of("statistics", 256, keyed, vec![])],
    ));
    let assignment = assign(&application(2, 1), &[256, 256], Some(&restore));
    for subtask in assignment.values() {
        let states = subtask
            .values()
            .flat_map(|state| &state.keyed)
            .map(|handle| handle.state.as_str());
        assert!(
            states.clone().all(|state| state == "count"),
            "{:?}",
            states.collect::<Vec<_>>()
        );
    }
}

/// What is said where the state `rules` was of another kind in the snapshot; `Ok` where it is taken over.
fn of_another_kind(old: StateKind, new: StateKind) -> Result<(), String> {
    let rules = ListState {
        name: "rules".to_owned(),
        ..splits(2)
    };
    let mut before = application(2, 1);
    before.vertices[1].operators[0].states[2].kind = old;
    let mut now = application(2, 1);
    now.vertices[1].operators[0].states[2].kind = new;
    let metadata = snapshot(before, vec![state_of("statistics", 256, vec![], vec![rules])]);
    let Err(error) = check(&now, &metadata, false) else {
        return Ok(());
    };
    assert_eq!(error.code, ErrorCode::IncompatibleState);
    Err(error.message)
}

#[test]
fn a_list_does_not_become_one_that_is_dealt_out_otherwise_in_silence() {
    let kinds = [
        (StateKind::List, "a list"),
        (StateKind::Union, "a union list"),
        (StateKind::Broadcast, "broadcast state"),
    ];
    for (old, was) in &kinds {
        for (new, is) in &kinds {
            match of_another_kind(old.clone(), new.clone()) {
                // What broadcast state is called in older snapshots.
                Ok(()) => assert!(
                    old == new || (was, is) == (&"a union list", &"broadcast state"),
                    "{was}, {is}"
                ),
                Err(message) => {
                    let expected = format!("is {was} in the snapshot and {is} in the job");
                    assert!(message.contains(&expected), "{message}");
                }
            }
        }
    }
}
