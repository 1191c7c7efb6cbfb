//! RS42, RS48: state that is dealt out anew is all there, each key once, whatever its snapshot is like.
//!
//! Every combination of compression, form of the snapshot, and parallelism before and after, over two operators of one subtask with
//! states that are full, sparse and empty.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_core::backend::Inlining;
use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::snapshot::KeyedStateHandle;
use streamd_core::state::State;
use streamd_snapshot::{Location, SubtaskContext, SubtaskSnapshotWriter, absolute, random_nonce};
use streamd_state::{KeyedStateBackend, StateId, restore_with, write_states};
use tokio::runtime::Runtime;

/// Few enough that at a high parallelism some subtasks own a single group, and that sparse states have whole ranges without a key.
const GROUPS: u32 = 11;

/// How a snapshot comes about.
#[derive(Debug, Clone, Copy)]
enum Form {
    Files,
    Inlined,
    Increments,
    Savepoint,
}

/// The states of two operators, and of how many keys they hold a value. A state without keys is one as well.
const STATES: [(&str, &str, u64); 5] = [
    ("first", "full", 600),
    ("first", "empty", 0),
    ("first", "sparse", 3),
    ("second", "full", 200),
    ("second", "empty", 0),
];

type Model = BTreeMap<(String, String, u64), Vec<u64>>;

/// One operator in one subtask.
struct Part {
    operator: &'static str,
    range: KeyGroupRange,
    backend: KeyedStateBackend<u64>,
    states: Vec<(&'static str, u64, StateId<Vec<u64>>)>,
}

impl Part {
    fn new(operator: &'static str, range: KeyGroupRange) -> Self {
        let mut backend = KeyedStateBackend::new(range, GROUPS);
        let mine = STATES.iter().filter(|(owner, _, _)| *owner == operator);
        let states = mine.map(|(_, name, keys)| (*name, *keys, backend.register(name).unwrap()));
        Self {
            operator,
            range,
            states: states.collect(),
            backend,
        }
    }

    fn owns(&self, key: u64) -> bool {
        self.range.contains(key_group_of(key.stable_hash(), GROUPS))
    }

    /// Writes every `step`th of the keys that are this subtask's.
    fn fill(&mut self, step: usize, round: u64) {
        for (_, keys, state) in self.states.clone() {
            for key in (0..keys).step_by(step) {
                if self.owns(key) {
                    let table = self.backend.table_mut(state);
                    table.insert(key.stable_hash(), &key, vec![round, key]);
                }
            }
        }
    }

    fn read(&self, model: &mut Model) {
        for (name, keys, state) in &self.states {
            for key in (0..*keys).filter(|key| self.owns(*key)) {
                if let Some(value) = self.backend.table(*state).get(key.stable_hash(), &key) {
                    let entry = (self.operator.to_owned(), (*name).to_owned(), key);
                    model.insert(entry, value.clone());
                }
            }
        }
    }
}

fn parts(parallelism: u32) -> Vec<Vec<Part>> {
    let ranges = (0..parallelism).map(|index| KeyGroupRange::of_subtask(index, parallelism, GROUPS));
    ranges
        .map(|range| vec![Part::new("first", range), Part::new("second", range)])
        .collect()
}

struct World {
    io: Runtime,
    folder: tempfile::TempDir,
    compression: Compression,
}

type Handles = BTreeMap<OperatorId, Vec<KeyedStateHandle>>;

impl World {
    fn snapshot(&self, subtasks: &mut [Vec<Part>], id: u64, (form, increment): (Form, Increment)) -> Handles {
        let (kind, name) = match form {
            Form::Savepoint => (SnapshotKind::Savepoint, format!("savepoint-abcdef-{id:012}")),
            Form::Files | Form::Inlined | Form::Increments => (SnapshotKind::Checkpoint, format!("chk-{id}")),
        };
        let location = Location::open(self.folder.path().join(name).to_str().unwrap())
            .unwrap()
            .uri();
        let options = Arc::new(SnapshotOptions {
            kind,
            location: location.clone(),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment,
            compression: self.compression,
        });
        let mut all = Handles::new();
        for (subtask, operators) in (0u32..).zip(subtasks) {
            let context = SubtaskContext {
                job: JobId::from_bytes([4; 16]),
                vertex: 0,
                subtask,
                attempt: Attempt(1),
                nonce: random_nonce(),
            };
            let writer = SubtaskSnapshotWriter::new(&options, context, self.io.handle().clone()).unwrap();
            let mut writer = writer.inlining(match form {
                Form::Inlined => Inlining::UpTo(1 << 20),
                Form::Files | Form::Increments | Form::Savepoint => Inlining::Off,
            });
            for part in operators {
                let checkpoint = CheckpointId(id);
                let frozen = part.backend.freeze_at(&Barrier {
                    checkpoint,
                    options: Arc::clone(&options),
                });
                write_states(&mut writer, OperatorId::from_uid(part.operator), part.operator, frozen).unwrap();
            }
            for (operator, handles) in writer.finish().unwrap() {
                let handles = handles.iter().map(|handle| absolute(handle, &location).unwrap());
                all.entry(operator).or_default().extend(handles);
            }
        }
        all
    }

    fn restored(&self, parallelism: u32, handles: &Handles) -> Model {
        let (mut model, mut rows) = (Model::new(), 0);
        for mut part in parts(parallelism).into_iter().flatten() {
            let handles = &handles[&OperatorId::from_uid(part.operator)];
            rows += restore_with(&mut part.backend, handles, self.io.handle(), u64::MAX).unwrap();
            part.read(&mut model);
        }
        assert_eq!(rows, model.len() as u64, "a row is in two subtasks");
        model
    }
}

/// What the handles of each state cover must be every key group, each once.
fn assert_covered(handles: &Handles) {
    for (operator, name, _) in STATES {
        let handles = &handles[&OperatorId::from_uid(operator)];
        let mut ranges: Vec<KeyGroupRange> = handles
            .iter()
            .filter(|handle| handle.state == name)
            .map(|handle| handle.key_groups)
            .collect();
        ranges.sort_unstable();
        let mut covered = 0;
        for range in ranges {
            assert_eq!(range.start, covered, "state `{name}` of `{operator}`");
            covered = range.end;
        }
        assert_eq!(covered, GROUPS, "state `{name}` of `{operator}`");
    }
}

#[test]
fn every_key_is_in_one_subtask_after_any_change_of_parallelism() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for form in [Form::Files, Form::Inlined, Form::Increments, Form::Savepoint] {
            for before in [1, 2, 3, GROUPS] {
                let world = World {
                    io: Runtime::new().unwrap(),
                    folder: tempfile::tempdir().unwrap(),
                    compression,
                };
                let mut subtasks = parts(before);
                subtasks.iter_mut().flatten().for_each(|part| part.fill(1, 1));
                let handles = match form {
                    Form::Increments => {
                        world.snapshot(&mut subtasks, 1, (form, Increment::First));
                        subtasks.iter_mut().flatten().for_each(|part| part.fill(50, 2));
                        world.snapshot(&mut subtasks, 2, (form, Increment::Since(CheckpointId(1))))
                    }
                    Form::Files | Form::Inlined | Form::Savepoint => {
                        world.snapshot(&mut subtasks, 1, (form, Increment::Off))
                    }
                };
                assert_covered(&handles);
                let mut expected = Model::new();
                subtasks.iter().flatten().for_each(|part| part.read(&mut expected));
                assert_eq!(
                    expected.len() as u64,
                    STATES.iter().map(|(_, _, keys)| keys).sum::<u64>()
                );
                for after in [1, 2, 4, GROUPS] {
                    let restored = world.restored(after, &handles);
                    assert_eq!(restored, expected, "{compression:?} {form:?} from {before} to {after}");
                }
            }
        }
    }
}
