//! Looking into snapshots without a cluster: which there are, what is in them, whether they are whole; never changing anything.
//!
//! ```text
//!   a prefix ──▶ listing ──▶ one line per snapshot
//!   a snapshot ─▶ contents ──▶ operators, states, positions ──▶ rows ──▶ JSON, files
//!            ├──▶ verify ───▶ everything that is missing or damaged
//!            └──▶ diff ─────▶ what is different in another one
//! ```
//!
//! Safe on hostile input: whatever was forged, the answer is a typed error, and memory stays within a constant and a multiple of the
//! metadata.
//!
//! Reading order: [`listing`], [`contents`], [`rows`], [`export`], [`diff`], [`verify`], [`error`].

pub mod contents;
pub mod diff;
pub mod error;
pub mod export;
pub mod listing;
pub mod rows;
pub mod verify;

pub use contents::{StateContents, StateSummary, find_operator, find_state, outside, states_of};
pub use diff::{Change, Differences, diff_keyed, diff_lists, is_comparable};
pub use error::InspectError;
pub use export::{ExportFormat, Exported, export_file, export_state};
pub use listing::{Listed, Standing, Summary, list_snapshots};
pub use rows::{KeyedContents, Row};
pub use verify::{Damage, Verified, verify_snapshot};

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
