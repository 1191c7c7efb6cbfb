//! State of every kind, left by every backend in every form of snapshot, and restored by every backend.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use streamd::prelude::*;
use streamd::{JobClient, StateBackendKind};
use streamd_core::row::{DataType, Field};
use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle, ObjectHandle};
use streamd_snapshot::inspect::{
    Differences, StateContents, diff_keyed, diff_lists, find_operator, find_state, is_comparable, states_of,
};
use streamd_snapshot::{StoredSnapshot, read_snapshot};

use crate::committed::lines;
use crate::events::{Event, Events};
use crate::keyed::AllKinds;
use crate::life::{IO, Keeping, Left, Life, backends, forms, wait_for_checkpoint};
use crate::unkeyed::LookUp;
use crate::windows::millis;
use crate::{joins, keyed, unkeyed, windows};

/// How many events there are, and how many have been read when the state is left.
const EVENTS: u64 = 240;
const LEFT_AT: u64 = 150;
/// The state is left by so many subtasks, and restored by these numbers of them.
const LEFT_BY: u32 = 2;
const RESTORED_BY: [u32; 3] = [2, 3, 1];

/// The interval of a job that takes only the checkpoints that it must.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// The interval of others. It leaves time for the word that a checkpoint is complete: the next one can build upon it then.
const NOW_AND_THEN: Duration = Duration::from_millis(30);
/// How often a checkpoint is asked for that builds upon another.
const ATTEMPTS: u32 = 20;

/// An operator, the states in which it has something when it is left, and what it is defined to give.
struct Kind {
    uid: &'static str,
    states: &'static [&'static str],
    build: Box<dyn Fn(&DataStream<Event>) -> DataStream<String>>,
    expected: Vec<String>,
}

fn kind(
    uid: &'static str,
    states: &'static [&'static str],
    build: impl Fn(&DataStream<Event>) -> DataStream<String> + 'static,
    expected: impl IntoIterator<Item = String>,
) -> Kind {
    Kind {
        uid,
        states,
        build: Box::new(build),
        expected: expected.into_iter().collect(),
    }
}

/// Every kind of state. Calls that are in flight are answered once `may_answer`.
fn kinds(events: &[Event], may_answer: &Arc<AtomicBool>) -> Vec<Kind> {
    let mut all = of_functions(events);
    all.extend(of_windows(events));
    all.extend(of_joins(events));
    let look_up = LookUp {
        may_answer: Arc::clone(may_answer),
    };
    let (first, second) = (look_up.clone(), look_up);
    let capacity = events.len();
    let in_order = move |events: &_| unkeyed::answered_in_order(events, first.clone(), capacity);
    let in_any = move |events: &_| unkeyed::answered(events, second.clone(), capacity);
    all.push(kind(
        "answered in order",
        &["~async_wait"],
        in_order,
        unkeyed::answers(events),
    ));
    all.push(kind("answered", &["~async_wait"], in_any, unkeyed::answers(events)));
    all
}

fn of_functions(events: &[Event]) -> Vec<Kind> {
    let all_kinds = |events: &DataStream<Event>| {
        let keyed = events.key_by(|event| event.1);
        keyed.process(AllKinds::new()).uid("all kinds")
    };
    let of_all_kinds = &[
        "count",
        "numbers",
        "by-remainder",
        "sum",
        "least",
        "mortal",
        "~timers.event_time",
        "~timers.processing_time",
    ];
    vec![
        kind("all kinds", of_all_kinds, all_kinds, keyed::kept(events)),
        kind(
            "kept in lists",
            &["waiting", "counts"],
            unkeyed::kept_in_lists,
            unkeyed::kept(events),
        ),
        kind(
            "broadcast",
            &["waiting", "numbers"],
            unkeyed::broadcast,
            unkeyed::all_told(events),
        ),
        kind(
            "broadcast to keys",
            &["waiting", "numbers", "~timers.event_time"],
            unkeyed::broadcast_to_keys,
            unkeyed::all_told(events),
        ),
    ]
}

fn of_windows(events: &[Event]) -> Vec<Kind> {
    let tumbling = TumblingEventTimeWindows::of(millis(300));
    let sliding = SlidingEventTimeWindows::of(millis(400), millis(50));
    let sessions = EventTimeSessionWindows::of(millis(6));
    // No test lives to see the end of one: each key has one, until the input ends.
    let of_the_clock = TumblingProcessingTimeWindows::of(Duration::from_secs(100 * 365 * 24 * 3600));
    let in_one = windows::sliding(events, i64::from(u32::MAX), i64::from(u32::MAX));
    let tumbled = windows::sliding(events, 300, 300);
    let slid = windows::sliding(events, 400, 50);
    let state = &["~windows"];
    vec![
        kind(
            "tumbling",
            state,
            move |events| windows::reduced(events, "tumbling", tumbling),
            windows::sums(&tumbled),
        ),
        kind(
            "panes",
            state,
            move |events| windows::aggregated(events, "panes", sliding),
            windows::sums(&slid),
        ),
        kind(
            "sliding",
            state,
            move |events| windows::processed(events, "sliding", sliding),
            windows::lines(&slid),
        ),
        kind(
            "sessions",
            state,
            move |events| windows::processed(events, "sessions", sessions),
            windows::lines(&windows::sessions(events, 6)),
        ),
        kind("global", state, windows::global, []),
        kind(
            "of the clock",
            state,
            move |events| windows::reduced(events, "of the clock", of_the_clock),
            windows::sums(&in_one),
        ),
        kind(
            "evicted",
            state,
            |events| windows::evicted(events, 300, 40),
            windows::lines(&windows::left_by_evictor(events, 300, 40)),
        ),
        kind(
            "counted",
            state,
            |events| windows::counted(events, 7),
            windows::full(events, 7),
        ),
        kind(
            "of all keys",
            state,
            |events| windows::of_all_keys(events, 300),
            windows::sums(&windows::windows_of_all(events, 300)),
        ),
    ]
}

fn of_joins(events: &[Event]) -> Vec<Kind> {
    let buffers = &["first-buffer", "second-buffer", "~timers.event_time"];
    vec![
        kind(
            "kept together",
            &["waiting"],
            joins::kept_together,
            joins::all_sides(events),
        ),
        kind(
            "counted together",
            &["counts", "~timers.event_time"],
            joins::counted_together,
            joins::counts(events),
        ),
        kind("joined", &["~windows"], joins::joined, joins::pairs(events)),
        kind("grouped", &["~windows"], joins::grouped, joins::groups(events)),
        kind(
            "near",
            buffers,
            |events| joins::near(events, -15, 15),
            joins::near_pairs(events, -15, 15),
        ),
    ]
}

/// Events of five keys, some of them behind others.
fn events() -> Arc<[Event]> {
    let event = |number: u64| {
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let time = number * 2 - (mixed % 20).min(number * 2);
        (number, (mixed % 5) as u32, time as i64)
    };
    (0..EVENTS).map(event).collect()
}

/// All operators behind one source, before one sink. Each line says whose it is.
fn together(kinds: &[Kind]) -> impl Fn(&DataStream<Event>) -> DataStream<String> {
    |events| {
        let told = |kind: &Kind| {
            let uid = kind.uid;
            (kind.build)(events).map(move |line| format!("{uid}: {line}"))
        };
        let told: Vec<_> = kinds.iter().map(told).collect();
        let others: Vec<_> = told[1..].iter().collect();
        told[0].union(&others).map(|line| line)
    }
}

/// Runs the job up to [`LEFT_AT`], and ends it. Where checkpoints are to build upon others, there are some in between.
fn leave(keeping: Keeping, folder: &Path) -> StoredSnapshot {
    let life = life(keeping, LEFT_BY);
    let kinds = kinds(&events(), &Arc::default());
    let client = life.start(&folder.join("before"), None, together(&kinds));
    client.wait_for_restarts(0).unwrap();
    for upto in [LEFT_AT / 3, LEFT_AT * 2 / 3, LEFT_AT] {
        life.events.let_read(upto);
        life.wait_for_events(&client, upto);
        if keeping.left == Left::Increments {
            wait_for_checkpoint(&client);
        }
    }
    let first = left(&life, client, folder, &kinds);
    match has_form(&first, keeping) {
        true => first,
        false => hand_on(&first, keeping, LEFT_BY, folder),
    }
}

/// Restores what was left, and leaves it again before anything is read. It must be what it was.
fn hand_on(from: &StoredSnapshot, keeping: Keeping, parallelism: u32, folder: &Path) -> StoredSnapshot {
    let attempt = |_| {
        let life = life(keeping, parallelism);
        let kinds = kinds(&events(), &Arc::default());
        let client = life.start(&folder.join("after"), Some(&from.folder), together(&kinds));
        client.wait_for_restarts(0).unwrap();
        let again = left(&life, client, folder, &kinds);
        check_same(from, &again, &kinds);
        has_form(&again, keeping).then_some(again)
    };
    let again = (0..ATTEMPTS).find_map(attempt);
    again.unwrap_or_else(|| panic!("{keeping:?} is left in another form"))
}

fn life(keeping: Keeping, parallelism: u32) -> Life {
    Life {
        keeping,
        parallelism,
        checkpoint_every: match keeping.left {
            Left::Savepoint => NEVER,
            Left::Checkpoint | Left::Increments => NOW_AND_THEN,
        },
        events: Events::new(&events()),
    }
}

fn left(life: &Life, client: JobClient, folder: &Path, kinds: &[Kind]) -> StoredSnapshot {
    let left = life.leave(client, &folder.join("left"));
    let snapshot = IO.block_on(read_snapshot(&left)).unwrap();
    check_states(&snapshot, kinds);
    snapshot
}

/// Restores what was left, and goes on to the end. Every record has counted once, in this life or in one before it.
fn finish(from: &StoredSnapshot, backend: StateBackendKind, parallelism: u32, folders: [&Path; 2]) {
    let left = Left::Savepoint;
    let life = life(Keeping { backend, left }, parallelism);
    life.events.let_end();
    let kinds = kinds(&events(), &Arc::new(AtomicBool::new(true)));
    let client = life.start(&folders[1].join("after"), Some(&from.folder), together(&kinds));
    client.wait().unwrap();

    let expected = kinds.iter().flat_map(|kind| {
        let line = |line: &String| format!("{}: {line}", kind.uid);
        kind.expected.iter().map(line).collect::<Vec<_>>()
    });
    let before = lines(&folders[0].join("before"));
    let after = lines(&folders[1].join("after"));
    // How often each line should be told, and how often it was before and after.
    let mut told: BTreeMap<String, [u32; 3]> = BTreeMap::new();
    for (column, lines) in [expected.collect(), before, after].into_iter().enumerate() {
        for line in lines {
            told.entry(line).or_default()[column] += 1;
        }
    }
    told.retain(|_, [expected, before, after]| *expected != *before + *after);
    assert_eq!(told, BTreeMap::new());
}

/// Whether the snapshot has the form that it should have. A checkpoint is whole where the word that the last one is complete came
/// late; in all else the form is certain.
fn has_form(snapshot: &StoredSnapshot, keeping: Keeping) -> bool {
    let handles: Vec<&KeyedStateHandle> = snapshot.metadata.operators.iter().flat_map(|all| &all.keyed).collect();
    let is_expected = |format: &KeyedStateFormat| match (keeping.left, keeping.backend) {
        (Left::Savepoint, _) => *format == KeyedStateFormat::Parquet,
        (_, StateBackendKind::RocksDb) => matches!(format, KeyedStateFormat::RocksDb { .. }),
        (_, StateBackendKind::HashMap | StateBackendKind::Memory) => matches!(format, KeyedStateFormat::Native { .. }),
    };
    assert!(handles.iter().all(|handle| is_expected(&handle.format)));
    let any = |is: fn(&ObjectHandle) -> bool| handles.iter().flat_map(|handle| &handle.objects).any(is);
    let in_memory = keeping.backend == StateBackendKind::Memory && keeping.left == Left::Checkpoint;
    assert_eq!(any(|object| object.inline.is_some()), in_memory);
    let builds_upon_others = any(|object| object.path.starts_with("../"));
    assert!(!builds_upon_others || keeping.left == Left::Increments);
    builds_upon_others || keeping.left != Left::Increments
}

/// Every kind has something in each of its states, and every state of every operator has a type, down to numbers and texts.
fn check_states(snapshot: &StoredSnapshot, kinds: &[Kind]) {
    for operator in &snapshot.metadata.operators {
        for state in states_of(snapshot, operator) {
            let types = [state.key, state.namespace, Some(state.value)];
            let is_opaque = types.into_iter().flatten().any(has_bytes);
            assert!(!is_opaque, "`{}` of `{}` is bytes", state.name, operator.label());
        }
    }
    for kind in kinds {
        let operator = find_operator(snapshot, kind.uid).unwrap();
        let full = states_of(snapshot, operator).into_iter().filter(|state| state.rows > 0);
        let mut names: Vec<&str> = full.map(|state| state.name).collect();
        names.retain(|name| *name != "~watermark");
        names.sort_unstable();
        let mut expected = kind.states.to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected, "states of `{}` that are not empty", kind.uid);
    }
}

fn has_bytes(data_type: &DataType) -> bool {
    let any = |fields: &[Field]| fields.iter().any(|field| has_bytes(&field.data_type));
    match data_type {
        DataType::Bytes => true,
        DataType::Option(inner) | DataType::List(inner) => has_bytes(inner),
        DataType::Map(key, value) => has_bytes(key) || has_bytes(value),
        DataType::Struct { fields, .. } => any(fields),
        DataType::Enum { variants, .. } => variants.iter().any(|variant| any(&variant.fields)),
        _plain => false,
    }
}

/// Two snapshots hold the same rows, whatever form they have and however many subtasks wrote them.
fn check_same(before: &StoredSnapshot, after: &StoredSnapshot, kinds: &[Kind]) {
    for kind in kinds {
        for state in kind.states {
            // A union list, of which the restored subtasks have made their sum.
            if (kind.uid, *state) == ("kept in lists", "counts") {
                continue;
            }
            let [old, new] = [before, after].map(|snapshot| {
                let operator = find_operator(snapshot, kind.uid).unwrap();
                find_state(snapshot, operator, Some(state)).unwrap()
            });
            let differences = differences(&old, &new);
            let same = Differences {
                unchanged: differences.unchanged,
                ..Differences::default()
            };
            assert_eq!(differences, same, "`{state}` of `{}`", kind.uid);
        }
    }
}

fn differences(before: &StateContents<'_>, after: &StateContents<'_>) -> Differences {
    match (before, after) {
        (StateContents::Keyed(before), StateContents::Keyed(after)) => {
            assert!(is_comparable(before, after));
            diff_keyed((before, after), IO.handle(), |_| Ok(())).unwrap()
        }
        (StateContents::List { list: before, .. }, StateContents::List { list: after, .. }) => {
            assert_eq!(before.data_type, after.data_type);
            diff_lists(before, after, |_, _| Ok::<_, std::convert::Infallible>(())).unwrap()
        }
        _different_kinds => panic!("a state is keyed in one snapshot and not in the other"),
    }
}

/// Has a backend leave its state in every form, and every backend restore it, hand it on in each of its own forms, and finish the job.
fn check(left_by: StateBackendKind) {
    // Rows of the files of a database are read by whoever has it.
    streamd_state::install_readers();
    for (number, form) in forms(left_by).iter().enumerate() {
        let before = tempfile::tempdir().unwrap();
        let keeping = Keeping {
            backend: left_by,
            left: *form,
        };
        let first = leave(keeping, before.path());
        for backend in backends() {
            // Each form in turn, and another one first for each that the state was left in.
            let again = forms(backend).iter().cycle().skip(number);
            let then = RESTORED_BY.iter().cycle().skip(1);
            for ((parallelism, then), again) in RESTORED_BY.iter().zip(then).zip(again) {
                println!(
                    "{left_by:?} leaves a {form:?}; {backend:?} has {parallelism} subtasks, leaves a {again:?}; then {then}"
                );
                let after = tempfile::tempdir().unwrap();
                let keeping = Keeping { backend, left: *again };
                let second = hand_on(&first, keeping, *parallelism, after.path());
                finish(&second, backend, *then, [before.path(), after.path()]);
            }
        }
    }
}

#[test]
fn what_memory_has_left_every_backend_restores() {
    check(StateBackendKind::Memory);
}

#[test]
fn what_the_heap_has_left_every_backend_restores() {
    check(StateBackendKind::HashMap);
}

#[cfg(feature = "rocksdb")]
#[test]
fn what_rocksdb_has_left_every_backend_restores() {
    check(StateBackendKind::RocksDb);
}
