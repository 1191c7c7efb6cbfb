//! Frozen states into a snapshot.

use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::thread;

use streamd_core::id::OperatorId;
use streamd_snapshot::{KeyedStateSink, KeyedTable, SnapshotError, lower_priority};

use crate::error::StateError;
use crate::frozen_state::FrozenState;

/// Rows from which on the work is worth a thread of its own, which gives way to those that work on records.
const MANY_ROWS: u64 = 1 << 16;

/// Writes the frozen states of one operator, table by table; `label` is what people call the operator. Blocks as the sink does.
///
/// A state without rows is written too: its handle says that nothing is missing. Each shard of a state is let go as soon as it is
/// written, so that its table has to copy no more of them for it.
pub fn write_states(
    sink: &mut (impl KeyedStateSink + Send),
    operator: OperatorId,
    label: &str,
    states: Vec<FrozenState>,
) -> Result<(), SnapshotError> {
    let rows: u64 = states.iter().map(|state| state.rows.rows()).sum();
    if rows < MANY_ROWS {
        return write_all(sink, operator, label, states);
    }
    thread::scope(|scope| {
        let writing = thread::Builder::new().name("snapshot-writer".to_owned());
        let writing = writing.spawn_scoped(scope, || {
            states.iter().for_each(|state| state.rows.prepare());
            lower_priority();
            write_all(sink, operator, label, states)
        });
        match writing {
            Ok(writing) => writing.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(source) => Err(SnapshotError::Producer {
                state: String::new(),
                source: Box::new(source),
            }),
        }
    })
}

fn write_all(
    sink: &mut impl KeyedStateSink,
    operator: OperatorId,
    label: &str,
    states: Vec<FrozenState>,
) -> Result<(), SnapshotError> {
    for mut state in states {
        let table = KeyedTable {
            operator,
            label: label.to_owned(),
            state: state.name,
            key: state.key,
            namespace: None,
            value: state.value,
            key_groups: state.key_groups,
        };
        if let Some(error) = state.rows.failure() {
            return Err(failed(&table, error));
        }
        #[cfg(feature = "rocksdb")]
        if let (Some(column), Some(database)) = (state.rows.column(), sink.database()) {
            let files = column
                .table(database.base())
                .map_err(|error| failed(&table, error.into()))?;
            let written = database.write(&table, &files)?;
            column.remember(written);
            continue;
        }
        sink.begin(&table)?;
        if let Some(written) = sink.segments().and_then(|segments| state.rows.write_segments(segments)) {
            written?;
            sink.end()?;
            continue;
        }
        let mut failure = None;
        let written = state.rows.drain_batches(&mut |batch| match sink.rows(batch) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        });
        if let (ControlFlow::Break(()), Some(error)) = (written, failure) {
            return Err(error);
        }
        if let Some(error) = state.rows.failure() {
            return Err(failed(&table, error));
        }
        sink.end()?;
    }
    Ok(())
}

/// Rows that could not be read where they are.
fn failed(table: &KeyedTable, error: StateError) -> SnapshotError {
    SnapshotError::Producer {
        state: table.state.clone(),
        source: Box::new(error),
    }
}
