//! A savepoint made of a snapshot that is complete, without the job that took it: for a job that does not run.
//!
//! ```text
//!   checkpoint (native rows) ──read by key group──▶ Parquet tables ──▶ publish ──▶ savepoint (self-contained, movable)
//! ```
//!
//! Reads one keyed state after the other, so memory is bounded by one table being written; the source is only read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use streamd_core::barrier::SnapshotKind;
use streamd_core::id::OperatorId;
use streamd_core::snapshot::{KeyedStateHandle, METADATA_VERSION, OperatorState, SnapshotMetadata};
use tokio::runtime::Handle;

use crate::error::SnapshotError;
use crate::publish::{PublishError, Published, publish};
use crate::restore::read_keyed_state;
use crate::store::Location;
use crate::subtask::{KeyedTable, SubtaskContext};
use crate::table::SavepointWriter;

/// Ends a promotion that is not wanted any more: it fails at its next row.
#[derive(Debug, Clone, Default)]
pub struct Abandon(Arc<AtomicBool>);

impl Abandon {
    /// The promotion is not wanted any more.
    pub fn abandon(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_abandoned(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A promotion was abandoned.
#[derive(Debug, thiserror::Error)]
#[error("it was given up")]
struct Abandoned;

/// Makes a savepoint in `target` of the complete snapshot `source`, whose folder has the URI `folder`. `nonce` must be new.
///
/// Where it fails, what it has written lies below `target` without metadata: to be discarded, unless the outcome is unknown.
pub async fn promote(
    source: Arc<SnapshotMetadata>,
    folder: String,
    target: &Location,
    nonce: String,
    abandon: Abandon,
) -> Result<Published, PublishError> {
    let copy = Copy {
        folder,
        target: target.clone(),
        nonce: nonce.clone(),
        runtime: Handle::current(),
        abandon,
    };
    let from = Arc::clone(&source);
    let operators = tokio::task::spawn_blocking(move || copy.operators(&from)).await;
    let operators = operators.map_err(|panic| SnapshotError::Consumer {
        state: String::new(),
        source: Box::new(panic),
    })??;
    let metadata = SnapshotMetadata {
        version: METADATA_VERSION,
        kind: SnapshotKind::Savepoint,
        nonce,
        operators,
        ..(*source).clone()
    };
    publish(target, &metadata).await
}

struct Copy {
    folder: String,
    target: Location,
    nonce: String,
    runtime: Handle,
    abandon: Abandon,
}

impl Copy {
    fn operators(&self, source: &SnapshotMetadata) -> Result<Vec<OperatorState>, SnapshotError> {
        let operators = source.operators.iter().map(|operator| {
            let handles = (0u32..).zip(&operator.keyed);
            let keyed = handles.map(|(part, handle)| self.table(source, operator, (part, handle)));
            Ok(OperatorState {
                keyed: keyed.collect::<Result<_, SnapshotError>>()?,
                ..operator.clone()
            })
        });
        operators.collect()
    }

    /// Copies one keyed state of one subtask. `part` keeps the names of the tables of a state apart.
    fn table(
        &self,
        source: &SnapshotMetadata,
        operator: &OperatorState,
        (part, handle): (u32, &KeyedStateHandle),
    ) -> Result<KeyedStateHandle, SnapshotError> {
        let context = SubtaskContext {
            job: source.job_id,
            vertex: 0,
            subtask: part,
            attempt: source.attempt,
            nonce: self.nonce.clone(),
        };
        let mut writer = SavepointWriter::new(self.target.clone(), context, self.runtime.clone());
        writer.begin(&table_of(operator.id, operator.label(), handle))?;
        let mut visit = |group: u32, key: &[u8], value: &[u8]| {
            if self.abandon.is_abandoned() {
                return Err(SnapshotError::Consumer {
                    state: handle.state.clone(),
                    source: Box::new(Abandoned),
                });
            }
            writer.row(group, key, value)
        };
        read_keyed_state(handle, &self.folder, handle.key_groups, &self.runtime, &mut visit)?;
        writer.end()?;
        let mut written = writer.finish()?.remove(&operator.id).unwrap_or_default();
        Ok(written.pop().expect("one table was begun and ended"))
    }
}

fn table_of(operator: OperatorId, label: String, handle: &KeyedStateHandle) -> KeyedTable {
    KeyedTable {
        operator,
        label,
        state: handle.state.clone(),
        key: handle.key.clone(),
        value: handle.value.clone(),
        namespace: handle.namespace.clone(),
        key_groups: handle.key_groups,
    }
}
