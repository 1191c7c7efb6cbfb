//! The asynchronous part of a snapshot: what was frozen at the barrier is written while the stream goes on, and read back
//! before it begins.

use std::collections::BTreeSet;
use std::sync::Arc;

use streamd_core::backend::{Inlining, MAX_ACKNOWLEDGED_BYTES};
use streamd_core::barrier::{SnapshotKind, SnapshotOptions};
use streamd_core::graph::{StateDescriptor, StateKind};
use streamd_core::id::{Attempt, JobId, SubtaskId};
use streamd_core::snapshot::{KeyedStateHandle, ListState, SubtaskSnapshot};
use streamd_core::state::Key;
use streamd_snapshot::{CheckpointCopies, SnapshotError, SubtaskContext, SubtaskSnapshotWriter};
use streamd_state::{KeyedStateBackend, StateError, StatePlace, restore_with, write_states};
use tokio::runtime::Handle;

use crate::chain::{OpenContext, OperatorIdentity, OperatorSnapshot};
use crate::error::TaskError;

/// A subtask's part of a snapshot, frozen and not yet written.
pub struct Cut {
    /// The job.
    pub job_id: JobId,
    /// The attempt that the subtask belongs to.
    pub attempt: Attempt,
    /// The subtask.
    pub subtask: SubtaskId,
    /// How, and where to.
    pub options: Arc<SnapshotOptions>,
    /// Which of its objects travel inside of the metadata.
    pub inlining: Inlining,
    /// Where copies of them stay on the local disk, if they do.
    pub copies: Option<CheckpointCopies>,
    /// The frozen state of each operator.
    pub operators: Vec<OperatorSnapshot>,
}

/// Writes a subtask's part of a snapshot, and returns what the job master needs to know of it. Blocks until it is durable:
/// call it where blocking is allowed.
///
/// Errors leave the snapshot incomplete; the job goes on.
pub fn write_cut(cut: Cut, io: &Handle) -> Result<SubtaskSnapshot, SnapshotError> {
    let Cut {
        job_id,
        attempt,
        subtask,
        options,
        inlining,
        copies,
        operators,
    } = cut;
    let copies = copies.filter(|_| options.kind == SnapshotKind::Checkpoint);
    let context = SubtaskContext {
        job: job_id,
        vertex: subtask.vertex,
        subtask: subtask.index,
        attempt,
        nonce: streamd_snapshot::random_nonce(),
    };
    let lists = OperatorStateSize::of(&operators);
    let writer = SubtaskSnapshotWriter::new(&options, context, io.clone())?;
    let mut writer = writer.inlining(inlining).keeping(copies.clone());
    let mut snapshot = SubtaskSnapshot::default();
    for OperatorSnapshot {
        operator,
        label,
        keyed,
        lists,
    } in operators
    {
        if !lists.is_empty() {
            snapshot.operators.entry(operator).or_default().lists = lists;
        }
        write_states(&mut writer, operator, &label, keyed)?;
    }
    for (operator, handles) in writer.finish()? {
        snapshot.operators.entry(operator).or_default().keyed = handles;
    }
    lists.check(&snapshot)?;
    if let Some(copies) = copies {
        let handles = snapshot.operators.values().flat_map(|operator| &operator.keyed);
        copies.record(handles.flat_map(|handle| &handle.objects));
    }
    Ok(snapshot)
}

/// The size of the operator state of a subtask, and the operator that has the most of it.
#[derive(Default)]
struct OperatorStateSize {
    bytes: u64,
    largest: (u64, String),
}

impl OperatorStateSize {
    fn of(operators: &[OperatorSnapshot]) -> Self {
        /// What an element takes in a message beside its own bytes.
        const ELEMENT_BYTES: usize = 8;
        let size_of = |list: &ListState| list.items.iter().map(|item| item.len() + ELEMENT_BYTES).sum::<usize>() as u64;
        let mut size = Self::default();
        for operator in operators {
            let bytes = operator.lists.iter().map(size_of).sum::<u64>();
            size.bytes += bytes;
            if bytes > size.largest.0 {
                size.largest = (bytes, operator.label.to_string());
            }
        }
        size
    }

    /// Whether it can be sent to the job manager beside what else is inlined, and so to whoever restores it.
    fn check(self, snapshot: &SubtaskSnapshot) -> Result<(), SnapshotError> {
        let handles = snapshot.operators.values().flat_map(|operator| &operator.keyed);
        let inlined = handles
            .flat_map(|handle| &handle.objects)
            .filter(|object| object.inline.is_some());
        let inlined: BTreeSet<_> = inlined.map(|object| (&object.path, object.length)).collect();
        let limit = MAX_ACKNOWLEDGED_BYTES.saturating_sub(inlined.iter().map(|(_, length)| length).sum());
        if self.bytes <= limit {
            return Ok(());
        }
        Err(SnapshotError::OperatorStateTooLarge {
            operator: self.largest.1,
            bytes: self.bytes,
            limit,
        })
    }
}

/// Fills a backend, whose states are registered, with the restored state of its operator.
pub(crate) fn restore_keyed<K: Key>(
    backend: &mut KeyedStateBackend<K>,
    restored: &[KeyedStateHandle],
    identity: &OperatorIdentity,
    context: &OpenContext,
) -> Result<(), TaskError> {
    backend.set_time(context.clock.wall());
    let rows = restore_with(backend, restored, &context.io, context.restored_at_once).map_err(|error| {
        let what = format!("the state of operator `{}` cannot be restored", identity.label);
        failed(what, error.is_damage(), &error)
    })?;
    let (operator, subtask) = (&identity.label, context.subtask);
    if backend.is_restoring() {
        tracing::info!(%operator, %subtask, rows, "the rest of the keyed state comes while records flow");
    } else if !restored.is_empty() {
        tracing::info!(%operator, %subtask, rows, "restored keyed state");
    }
    Ok(())
}

/// The backend of an operator, of the kind that the job has chosen.
pub(crate) fn open_backend<K: Key>(
    identity: &OperatorIdentity,
    context: &OpenContext,
) -> Result<KeyedStateBackend<K>, TaskError> {
    let place = StatePlace {
        operator: identity.id,
        subtask: (context.subtask.vertex, context.subtask.index),
        nonce: context.nonce.clone(),
    };
    KeyedStateBackend::open(&context.backend, &place, context.key_groups, context.max_parallelism)
        .map_err(|error| state_failed(&identity.label, &error))
}

/// The state of an operator failed: its local database, or the program has none.
pub(crate) fn state_failed(label: &str, error: &StateError) -> TaskError {
    failed(
        format!("the state of operator `{label}` failed"),
        error.is_damage(),
        error,
    )
}

fn failed(what: String, is_damage: bool, error: &(dyn std::error::Error + 'static)) -> TaskError {
    match is_damage {
        true => TaskError::damaged_snapshot(what, error),
        false => TaskError::external(what, error),
    }
}

/// The states of a backend, as the plan describes them.
pub(crate) fn descriptors<K: Key>(backend: &KeyedStateBackend<K>) -> Vec<StateDescriptor> {
    let describe = |state: streamd_state::StateDescriptor| StateDescriptor {
        name: state.name,
        kind: StateKind::Keyed { key: state.key },
        value: state.value,
        evolution: state.evolution,
    };
    backend.descriptors().into_iter().map(describe).collect()
}
