//! From a snapshot to the state of every subtask: does it fit the graph, and who gets what.
//!
//! Both halves are pure functions of the snapshot's metadata; no object is read here.

mod compare;
mod key_groups;
mod nearest;

mod check;

mod assign;

pub use assign::{ListOwners, StateAssignment, absolute, assign, assign_again, owners};
pub use check::{Dropping, RestorePlan, check, check_dropping};
pub(crate) use compare::claims;
pub use compare::{Comparison, Finding, Verdict, compare};

#[cfg(test)]
mod tests;
