//! The checkpoint coordinator: when snapshots are taken, what is still missing, what is kept.
//!
//! ```text
//!   Schedule ──due──▶ trigger ──▶ Collecting ──all acked──▶ Publishing ──▶ CompletedStore
//!                                     │ decline, time-out        │ error        │ more than are retained
//!                                     ▼                          ▼              ▼
//!                                 given up ─────────────▶ Tolerance          discard
//! ```
//!
//! Savepoints take the same road but for its end: they are the user's, so they enter no store, push nothing out, count
//! towards no limit, and their failure is the operation's, never the job's.

mod coordinator;
mod metadata;
mod pending;
mod schedule;
mod store;
mod tolerance;

#[cfg(test)]
mod tests;

pub use coordinator::{Acknowledgement, CheckpointCoordinator, FailedCheckpoint, NewSnapshot};
pub use metadata::Origin;
pub use pending::{PendingSnapshot, Purpose};
pub use schedule::Schedule;
pub use store::{CompletedCheckpoint, CompletedStore, Discarded, End, Objects, PartlyNeeded, Swept};
pub use tolerance::{Tolerance, Verdict};
