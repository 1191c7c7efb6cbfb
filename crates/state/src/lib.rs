//! Keyed state: tables of native Rust values by key, frozen in an instant for a snapshot and restored by key-group range;
//! and operator state: lists that belong to no key.
//!
//! This crate deliberately knows no operator, task, job or network. What an operator calls a value, list or map state is
//! one table here (a list is a `Vec`, a map a `BTreeMap`, as values); which bytes make up an object in the store is the
//! snapshot crate's business.
//!
//! ```text
//!   KeyedStateBackend<K> ── "count" ─▶ HeapTable<K, u64> ── directory ─▶ shard │ shard │ shard │ …
//!        │       ▲          "delay" ─▶ HeapTable<K, Delay>                 │ freeze: a pointer each,
//!        │       │                                                         │ a later write copies its own entry only
//!        │       └── restore ◀── handles of any parallelism ◀── snapshot crate ◀── write ◀── FrozenState
//!        └────────────────────────────────────────────────────────────────────────────────────▲
//! ```
//!
//! Reading order: [`heap`] (position of a key, shards, the table, the frozen table), `rocksdb` (the feature of that name),
//! [`table`] (either), [`backend`], [`choice`], [`frozen_state`], [`schema`], [`expiring`] and [`lifetime`] (time to live), [`timed`], [`write`], [`restore`], [`operator_state`], [`huge_pages`], [`error`].
//!
//! The concepts are Flink's keyed state backend and its copy-on-write state table; the directory is that of extendible
//! hashing (Fagin et al., 1979).

pub mod heap;

#[cfg(feature = "rocksdb")]
pub mod rocksdb;

pub mod table;

pub mod backend;
pub mod choice;
pub mod frozen_state;
pub mod schema;
mod state_table;

pub mod expiring;
pub mod lifetime;
pub mod timed;

pub mod huge_pages;
mod missing;
mod pending;
pub mod restore;
pub mod write;

pub mod operator_state;

pub mod error;

pub use backend::{KeyedStateBackend, Restoring, StateDescriptor, StateId};
pub use choice::{BackendChoice, SlotBackend, StatePlace, built_with, check_built, install_readers};
pub use error::StateError;
pub use expiring::{Expire, Expiring, ExpiringList, Left};
pub use frozen_state::{FrozenRows, FrozenState};
pub use heap::{EveryRowVisitor, FrozenIncrement, FrozenTable, HeapTable, RowVisitor};
pub use lifetime::TimeToLive;
pub use operator_state::{Entry, OperatorContents, OperatorStateBackend, OperatorStateId, Redistribution, check_name};
pub use restore::{AT_ONCE_BYTES, RestoreError, restore, restore_with};
pub use schema::RowPlan;
pub use table::Table;
pub use timed::{Moment, Timed};
pub use write::write_states;
