//! What must hold whatever happens, by name (the names are those of the design's list of invariants).
//!
//! The machines assert what they can see of it by themselves, in release builds too. [`Audit`] looks on from outside: it sees
//! every event and action of a job and knows nothing of the machine's insides, so it serves scripts, simulations and the
//! daemons' own tests alike.

mod audit;
mod owned;
mod rescale;

pub use audit::{Audit, Violation};
pub use rescale::rescale_conserves;

#[cfg(test)]
mod tests;
