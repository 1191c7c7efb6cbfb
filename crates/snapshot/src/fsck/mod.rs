//! What below a prefix is reachable from a snapshot, what is an orphan, and what is missing; and taking the orphans away.
//!
//! ```text
//!   survey (everything there) ─┐
//!                              ├─▶ report: reachable · orphans · pending · foreign · missing · unreadable
//!   every `_metadata`, record ─┘                 │
//!                                                └─▶ sweep: orphans only, and only where nothing is unreadable
//! ```
//!
//! An orphan has a name that streamd makes, is older than the grace time, and nothing refers to it. A snapshot that cannot be read
//! may refer to anything: as long as there is one, nothing counts as an orphan that may be deleted.
//!
//! Reading order: [`references`] (what snapshots refer to), [`check`] (the report), [`sweep`].

pub mod check;
pub mod references;
pub mod sweep;

pub use check::{FsckOptions, FsckReport, Missing, Tally, Unreadable, fsck};
pub use references::{Referrer, referrers_of};
pub use sweep::{SweepError, Swept, sweep};

#[cfg(test)]
mod tests;
