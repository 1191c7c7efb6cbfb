//! A ledger: a server that takes records in transactions with two phases, whose ids its clients choose, as
//! `docs/reference/ledger-protocol.md` describes.
//!
//! ```text
//!   PUT /transactions/ID ─▶ open ─ POST …/records ─▶ … ─ POST …/prepare ─▶ prepared ─ POST …/commit ─▶ committed
//!                            └────────── POST …/abort, or too long untouched ──▶ aborted, expired ◀─┘
//! ```
//!
//! All it knows is in a journal, which is on disk before an answer is given. Faults come from a [`Proxy`](crate::Proxy) before it.
//!
//! Reading order: [`book`] (what it knows), [`server`] (how it is asked).

pub mod book;
pub mod server;

pub use server::Ledger;
