//! Small state that travels inside of metadata, beside checkpoints that build upon each other.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_core::backend::{Inlining, MAX_INLINE_BYTES};
use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{Inline, KeyedStateHandle};
use streamd_core::state::State;
use streamd_snapshot::{Location, SnapshotError, SubtaskContext, SubtaskSnapshotWriter, absolute, random_nonce};
use streamd_state::{KeyedStateBackend, StateId, restore_with, write_states};
use tokio::runtime::Runtime;

const GROUPS: u32 = 128;
const THRESHOLD: u64 = 4 << 10;

struct Job {
    io: Runtime,
    folder: tempfile::TempDir,
    backend: KeyedStateBackend<u64>,
    state: StateId<u64>,
    model: BTreeMap<u64, u64>,
    inlining: Inlining,
}

fn backend() -> (KeyedStateBackend<u64>, StateId<u64>) {
    let mut backend = KeyedStateBackend::new(KeyGroupRange::all(GROUPS), GROUPS);
    let state = backend.register("count").unwrap();
    backend.register::<u64>("always empty").unwrap();
    (backend, state)
}

impl Job {
    fn new(inlining: Inlining) -> Self {
        let (backend, state) = backend();
        Self {
            io: Runtime::new().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            backend,
            state,
            model: BTreeMap::new(),
            inlining,
        }
    }

    fn count(&mut self, keys: std::ops::Range<u64>) {
        for key in keys {
            let table = self.backend.table_mut(self.state);
            let count = self.model.entry(key).or_default();
            *count += 1;
            table.insert(key.stable_hash(), &key, *count);
        }
    }

    fn checkpoint(&mut self, id: u64, increment: Increment) -> Result<Vec<KeyedStateHandle>, SnapshotError> {
        let folder = self.folder.path().join(format!("chk-{id}"));
        let location = Location::open(folder.to_str().unwrap()).unwrap().uri();
        let options = SnapshotOptions {
            kind: SnapshotKind::Checkpoint,
            location: location.clone(),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment,
            compression: Compression::None,
        };
        let barrier = Barrier {
            checkpoint: CheckpointId(id),
            options: Arc::new(options),
        };
        let frozen = self.backend.freeze_at(&barrier);
        let context = SubtaskContext {
            job: JobId::from_bytes([3; 16]),
            vertex: 0,
            subtask: 0,
            attempt: Attempt(1),
            nonce: random_nonce(),
        };
        let writer = SubtaskSnapshotWriter::new(&barrier.options, context, self.io.handle().clone())?;
        let mut writer = writer.inlining(self.inlining);
        let operator = OperatorId::from_uid("counts");
        write_states(&mut writer, operator, "counts", frozen)?;
        let handles = writer.finish()?.remove(&operator).unwrap();
        handles.iter().map(|handle| absolute(handle, &location)).collect()
    }

    fn assert_restored(&self, handles: &[KeyedStateHandle]) {
        let (mut restored, state) = backend();
        let rows = restore_with(&mut restored, handles, self.io.handle(), u64::MAX).unwrap();
        assert_eq!(rows, self.model.len() as u64);
        for (key, count) in &self.model {
            let found = restored.table_mut(state).get(key.stable_hash(), key);
            assert_eq!(found, Some(count));
        }
    }

    fn is_written(&self, id: u64) -> bool {
        self.folder.path().join(format!("chk-{id}")).exists()
    }
}

fn is_inlined(handles: &[KeyedStateHandle]) -> bool {
    let mut objects = handles.iter().flat_map(|handle| &handle.objects);
    objects.all(|object| matches!(object.inline, Some(Inline::Here(_))))
}

fn since(id: u64) -> Increment {
    Increment::Since(CheckpointId(id))
}

#[test]
fn no_later_checkpoint_refers_to_what_was_inlined() {
    let mut job = Job::new(Inlining::UpTo(THRESHOLD));
    job.count(0..50);
    let first = job.checkpoint(1, Increment::First).unwrap();
    assert!(is_inlined(&first));
    job.assert_restored(&first);
    job.count(10..60);
    let second = job.checkpoint(2, since(1)).unwrap();
    assert!(is_inlined(&second), "small state is written whole again");
    job.assert_restored(&second);
    assert!(
        !job.is_written(1) && !job.is_written(2),
        "what is inlined makes no files"
    );

    // It grows: now it is a file, whole, and the next one only has what has changed, in a file however small.
    job.count(0..2_000);
    let third = job.checkpoint(3, since(2)).unwrap();
    assert!(!is_inlined(&third) && third[0].objects.len() == 1);
    job.assert_restored(&third);
    job.count(0..20);
    let fourth = job.checkpoint(4, since(3)).unwrap();
    assert_eq!(fourth[0].objects.len(), 2, "it refers to the one before");
    assert!(fourth[0].objects.iter().all(|object| object.inline.is_none()));
    assert!(fourth[0].objects.iter().any(|object| object.length < THRESHOLD));
    job.assert_restored(&fourth);
    let fifth = job.checkpoint(5, since(4)).unwrap();
    assert!(!job.is_written(5), "nothing has changed");
    job.assert_restored(&fifth);
}

#[test]
fn an_object_is_inlined_up_to_the_threshold_and_no_byte_further() {
    let mut job = Job::new(Inlining::Off);
    job.count(0..100);
    let length = job.checkpoint(1, Increment::Off).unwrap()[0].objects[0].length;
    for (threshold, inlined) in [(length - 1, false), (length, true)] {
        job.inlining = Inlining::UpTo(threshold);
        let handles = job.checkpoint(threshold, Increment::Off).unwrap();
        assert_eq!(is_inlined(&handles), inlined);
        assert_eq!(job.is_written(threshold), !inlined);
        job.assert_restored(&handles);
    }
}

#[test]
fn a_state_that_is_too_large_for_metadata_is_refused_with_its_size_and_writes_nothing() {
    let mut job = Job::new(Inlining::Off);
    job.count(0..3_000);
    let bytes = job.checkpoint(1, Increment::Off).unwrap()[0].bytes;
    job.inlining = Inlining::All { max_state: bytes };
    assert!(is_inlined(&job.checkpoint(2, Increment::Off).unwrap()));
    job.inlining = Inlining::All { max_state: bytes - 1 };
    let refused = job.checkpoint(3, Increment::Off).unwrap_err();
    let SnapshotError::StateTooLarge {
        state,
        operator,
        bytes: told,
        limit,
    } = &refused
    else {
        panic!("{refused}");
    };
    assert_eq!(
        (state.as_str(), operator.as_str(), *told, *limit),
        ("count", "counts", bytes, bytes - 1)
    );
    assert_eq!(refused.to_coded().code.to_string(), "SD-0606");
    assert!(!job.is_written(2) && !job.is_written(3));
}

#[test]
fn states_that_are_too_large_together_are_refused_though_each_is_not() {
    let mut job = Job::new(Inlining::All {
        max_state: MAX_INLINE_BYTES,
    });
    let other = job.backend.register::<u64>("as large").unwrap();
    job.count(0..400_000);
    for key in 0..400_000u64 {
        job.backend.table_mut(other).insert(key.stable_hash(), &key, 1);
    }
    let refused = job.checkpoint(1, Increment::Off).unwrap_err();
    assert!(
        matches!(refused, SnapshotError::StatesTooLarge { bytes, limit } if bytes > limit && limit == MAX_INLINE_BYTES),
        "{refused}"
    );
    assert!(!job.is_written(1));
}
