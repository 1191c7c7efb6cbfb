//! What every state backend does alike: one suite over all of them, and each against a plain map.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
#[cfg(feature = "rocksdb")]
mod arriving;
#[cfg(feature = "rocksdb")]
mod files;
mod fixture;
mod increments;
mod later;
#[cfg(feature = "rocksdb")]
mod linked;
mod local_copies;
#[cfg(feature = "rocksdb")]
mod memory;
mod snapshots;
mod time_to_live;
mod timed;
