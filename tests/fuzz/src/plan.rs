//! What an application prints when it is asked for its plan.

use streamd_core::graph::{CheckpointingMode, graph_outline};
use streamd_core::plan::PlanDescriptor;

/// A plan descriptor, and whatever is asked of one before anything of it runs.
pub fn descriptor(bytes: &[u8]) -> bool {
    let Ok(plan) = serde_json::from_slice::<PlanDescriptor>(bytes) else {
        return false;
    };
    if streamd_coordinator::validate::validate(&plan.graph).is_err() {
        return false;
    }
    let graph = &plan.graph;
    let _texts = (graph.fingerprint(), graph_outline(graph));
    let _numbers = (graph.slots_by_group(), graph.guarantee(CheckpointingMode::ExactlyOnce));
    true
}
