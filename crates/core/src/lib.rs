//! The vocabulary of streamd: the types and contracts that every other crate speaks.
//!
//! This crate deliberately knows no runtime, no network, no object store and no clock but the one it is handed:
//! everything here is plain data, a pure function, or a trait that somebody else implements.
//!
//! ```text
//!   application ──▶ job graph ──▶ subtasks ──▶ records in batches, cut by barriers
//!                                     │
//!                                     └── state, by key group ──▶ snapshot metadata
//! ```
//!
//! Reading order: [`id`], [`time`], [`graph`], [`row`] and [`state`] (values on disk), [`evolution`] and
//! [`migration`] (of older versions), [`key_group`], [`backend`], [`plan`], [`barrier`],
//! [`snapshot`], [`source`], [`sink`], [`protocol`] (job master ⇄ worker), [`options`], [`error`].
//!
//! The concepts are Apache Flink's; where Flink has a noun, it is used.

pub mod id;
pub mod time;

pub mod row;
mod schema_text;
pub mod state;

pub mod evolution;
pub mod migration;

pub mod key_group;

pub mod graph;

pub mod backend;
pub mod barrier;
pub mod plan;
pub mod snapshot;

pub mod sink;
pub mod source;

pub mod protocol;

pub mod options;

pub mod error;
