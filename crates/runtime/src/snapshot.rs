//! The asynchronous part of a snapshot: what was frozen at the barrier is written while the stream goes on, and read back
//! before it begins.

use std::ops::ControlFlow;
use std::sync::Arc;

use streamd_core::barrier::SnapshotOptions;
use streamd_core::graph::{StateDescriptor, StateKind};
use streamd_core::id::{Attempt, JobId, SubtaskId};
use streamd_core::snapshot::{KeyedStateHandle, SubtaskSnapshot};
use streamd_core::state::Key;
use streamd_snapshot::{
    KeyedStateSink, KeyedTable, SnapshotError, SubtaskContext, SubtaskSnapshotWriter, read_keyed_state,
};
use streamd_state::{FrozenRows, KeyedStateBackend};
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
        operators,
    } = cut;
    let context = SubtaskContext {
        job: job_id,
        vertex: subtask.vertex,
        subtask: subtask.index,
        attempt,
        nonce: streamd_snapshot::random_nonce(),
    };
    let mut writer = SubtaskSnapshotWriter::new(&options, context, io.clone())?;
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
        for state in keyed {
            let table = KeyedTable {
                operator,
                label: label.to_string(),
                state: state.name,
                key: state.key,
                value: state.value,
                key_groups: state.key_groups,
            };
            write_table(&mut writer, &table, &*state.rows)?;
        }
    }
    for (operator, handles) in writer.finish()? {
        snapshot.operators.entry(operator).or_default().keyed = handles;
    }
    Ok(snapshot)
}

fn write_table(
    writer: &mut SubtaskSnapshotWriter,
    table: &KeyedTable,
    rows: &dyn FrozenRows,
) -> Result<(), SnapshotError> {
    writer.begin(table)?;
    let mut failed = Ok(());
    let _ = rows.try_for_each_row(&mut |key_group, key, value| match writer.row(key_group, key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Err(error);
            ControlFlow::Break(())
        }
    });
    failed?;
    writer.end()
}

/// Fills a backend, whose states are registered, with the restored state of its operator.
pub(crate) fn restore_keyed<K: Key>(
    backend: &mut KeyedStateBackend<K>,
    restored: &[KeyedStateHandle],
    identity: &OperatorIdentity,
    context: &OpenContext,
) -> Result<(), TaskError> {
    for handle in restored {
        backend.reserve(&handle.state, rows_of_range(handle, context));
        // Objects are named by absolute URIs here: the folder plays no part.
        let read = read_keyed_state(handle, "", context.key_groups, &context.io, &mut |_, key, value| {
            backend
                .restore_row(&handle.state, key, value)
                .map_err(|error| SnapshotError::Consumer {
                    state: handle.state.clone(),
                    source: Box::new(error),
                })
        });
        read.map_err(|error| {
            TaskError::external(
                format_args!(
                    "state `{}` of operator `{}` cannot be restored",
                    handle.state, identity.label
                ),
                &error,
            )
        })?;
    }
    Ok(())
}

/// About how many rows of a handle the subtask will take: its share of the key groups.
fn rows_of_range(handle: &KeyedStateHandle, context: &OpenContext) -> u64 {
    let shared = handle.key_groups.intersection(context.key_groups).len();
    handle.rows * u64::from(shared) / u64::from(handle.key_groups.len().max(1))
}

/// The states of a backend, as the plan describes them.
pub(crate) fn descriptors<K: Key>(backend: &KeyedStateBackend<K>) -> Vec<StateDescriptor> {
    let describe = |state: streamd_state::StateDescriptor| StateDescriptor {
        name: state.name,
        kind: StateKind::Keyed { key: state.key },
        value: state.value,
    };
    backend.descriptors().into_iter().map(describe).collect()
}
