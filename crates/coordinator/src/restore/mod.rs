//! From a snapshot to the state of every subtask: does it fit the graph, and who gets what.
//!
//! Both halves are pure functions of the snapshot's metadata; no object is read here.

mod assign;
mod check;

pub use assign::{StateAssignment, absolute, assign};
pub use check::{Dropping, RestorePlan, check, check_dropping};

#[cfg(test)]
mod tests;
