//! The number of key groups of each vertex that starts from a snapshot.

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::JobVertex;
use streamd_core::snapshot::{OperatorState, SnapshotMetadata};

/// The key groups of a vertex: those of the snapshot where it holds state of one of its operators.
pub(super) fn key_groups_of(vertex: &JobVertex, metadata: &SnapshotMetadata) -> Result<u32, CodedError> {
    let restored = metadata
        .operators
        .iter()
        .filter(|state| vertex.operators.iter().any(|operator| operator.id == state.id));
    let mut adopted: Option<&OperatorState> = None;
    for state in restored {
        let groups = state.max_parallelism;
        if let Some(other) = adopted.filter(|other| other.max_parallelism != groups) {
            return Err(mismatch(format!(
                "vertex `{}` chains operator `{}` with {} key groups in the snapshot and operator `{}` with {groups}",
                vertex.name,
                other.label(),
                other.max_parallelism,
                state.label()
            ))
            .with_hint("break the chain between them, as it was when the snapshot was taken"));
        }
        adopted = Some(state);
    }
    let Some(state) = adopted else {
        return Ok(vertex.effective_max_parallelism());
    };
    let groups = state.max_parallelism;
    if let Some(explicit) = vertex.max_parallelism.filter(|explicit| *explicit != groups) {
        return Err(mismatch(format!(
            "vertex `{}` sets max parallelism {explicit}, operator `{}` has {groups} in the snapshot",
            vertex.name,
            state.label()
        ))
        .with_hint(format!(
            "set max parallelism {groups}, or do not set it: the snapshot's is then adopted"
        )));
    }
    if vertex.parallelism > groups {
        return Err(mismatch(format!(
            "vertex `{}` has parallelism {}, operator `{}` has only {groups} key groups in the snapshot",
            vertex.name,
            vertex.parallelism,
            state.label()
        ))
        .with_hint(format!("start the job with a parallelism of at most {groups}")));
    }
    Ok(groups)
}

fn mismatch(message: String) -> CodedError {
    CodedError::new(ErrorCode::MaxParallelism, message)
}
