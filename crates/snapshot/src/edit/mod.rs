//! Repairing state: a new savepoint that is like a snapshot but for some keys. The snapshot itself is never touched.
//!
//! ```text
//!   changes (key → value, or gone) ─┐
//!   rows of the snapshot ───────────┴─▶ rows of the new savepoint ──▶ publish, as any savepoint
//! ```
//!
//! Reading order: [`changes`], [`rewrite`].

pub mod changes;
pub mod rewrite;

pub use changes::Changes;
pub use rewrite::{Edited, edit_snapshot};

#[cfg(test)]
mod tests;
