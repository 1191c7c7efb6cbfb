//! Every parser of bytes that come from outside, each behind one function that takes any bytes.
//!
//! This crate deliberately knows no fuzzer and no test harness: it is called by both. A function here does no more than hand the
//! bytes to the parser and look at what comes out; whatever it does not survive is a fault of the parser (invariant I23).
//!
//! ```text
//!   corpus/<target>/…      ─┐
//!   regressions/<target>/… ─┼─▶ Target::run ──▶ parser ──▶ accepted, or refused with a reason; never a panic
//!   libFuzzer              ─┘
//! ```
//!
//! `tests/corpus.rs` runs every input that there is, whole and damaged, on each `cargo test`. `libfuzzer/` is a workspace of its own
//! with one program for each target, which `bin/fuzz` builds and runs.
//!
//! Reading order: [`target`] (the list), then by what is parsed: [`configuration`], [`plan`], [`rows`], [`snapshot`], [`records`],
//! [`network`], [`messages`], [`connectors`].

pub mod target;

pub mod configuration;
pub mod plan;

pub mod records;
pub mod rows;
pub mod snapshot;

pub mod messages;
pub mod network;

pub mod connectors;

mod waiting;

pub use target::{TARGETS, Target};
