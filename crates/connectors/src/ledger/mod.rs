//! A ledger: an HTTP server that takes records in transactions with two phases, whose ids the sink chooses.
//!
//! ```text
//!   write ──▶ PUT /transactions/ID, POST …/records            open: nobody sees it; given up if left alone for too long
//!     │ barrier: prepare_commit
//!     ▼
//!   POST …/prepare ──▶ committable {ID} ──▶ kept in the checkpoint
//!     │ checkpoint complete: commit, as often as it takes
//!     ▼
//!   POST …/commit                                             seen by all
//! ```
//!
//! The protocol is written down in `docs/reference/ledger-protocol.md`, so that any service can speak it.
//!
//! Reading order: [`committable`], `client` (requests, repeated until they are answered), [`writer`], [`LedgerSink`].
//!
//! **Guarantee: exactly-once.** An id names the job, the operator, the subtask, one writer and one interval between two of its
//! checkpoints, and never comes twice; every request can be repeated, because the ledger recognises it. So whatever becomes of
//! requests, answers, processes and the ledger itself, a transaction takes effect once, exactly if a complete checkpoint holds it.
//! A transaction that the ledger has given up although a checkpoint holds it is lost data, and fails the job.

pub mod committable;

mod client;

pub mod writer;

mod sink;

#[doc(hidden)]
pub use client::read_answer;
pub use committable::LedgerCommittable;
pub use sink::LedgerSink;
pub use writer::LedgerWriter;

#[cfg(test)]
mod tests;
