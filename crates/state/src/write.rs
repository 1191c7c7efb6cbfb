//! Frozen states into a snapshot.

use std::ops::ControlFlow;

use streamd_core::id::OperatorId;
use streamd_snapshot::{KeyedStateSink, KeyedTable, SnapshotError};

use crate::backend::FrozenState;

/// Writes the frozen states of one operator, table by table; `label` is what people call the operator. Blocks as the sink does.
///
/// A state without rows is written too: its handle says that nothing is missing. Each state is let go as soon as it is
/// written, so that its table has to copy no more shards for it.
pub fn write_states(
    sink: &mut impl KeyedStateSink,
    operator: OperatorId,
    label: &str,
    states: Vec<FrozenState>,
) -> Result<(), SnapshotError> {
    for state in states {
        sink.begin(&KeyedTable {
            operator,
            label: label.to_owned(),
            state: state.name,
            key: state.key,
            value: state.value,
            key_groups: state.key_groups,
        })?;
        let mut failure = None;
        let written = state
            .rows
            .try_for_each_row(&mut |key_group, key, value| match sink.row(key_group, key, value) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            });
        if let (ControlFlow::Break(()), Some(error)) = (written, failure) {
            return Err(error);
        }
        sink.end()?;
    }
    Ok(())
}
