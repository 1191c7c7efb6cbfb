//! The sources and sinks that come with streamd, one folder each.
//!
//! This crate deliberately knows no runtime and no jobs: a connector is what the contracts in
//! [`streamd_core::source`] and [`streamd_core::sink`] ask for, and nothing calls it but through them.
//!
//! ```text
//!   file ───────┐                                    ┌─▶ file        exactly-once
//!               │                                    ├─▶ ledger      exactly-once
//!   generator ──┼─▶ splits, positions ─▶ … records … ┼─▶ print       at-least-once
//!   collection ─┘                                    └─▶ blackhole   nothing to lose
//! ```
//!
//! | connector | guarantee |
//! |---|---|
//! | [`FileSource`] | exactly-once: positions are byte offsets, and only bytes that were there at the start are read |
//! | [`GeneratorSource`] | exactly-once, if the function gives the same record for the same number |
//! | [`CollectionSource`] | exactly-once, if every process builds the same collection |
//! | [`SocketTextSource`] | at-most-once: nobody sends again what was lost |
//! | [`FileSink`] | exactly-once: files become visible when the checkpoint that covers them is complete |
//! | [`LedgerSink`] | exactly-once: transactions are committed when the checkpoint that holds them is complete |
//! | [`PrintSink`] | at-least-once: what was printed after the last checkpoint is printed again |
//! | [`BlackholeSink`] | exactly-once: nothing leaves the job |
//!
//! Reading order: [`file`](mod@file) ([`file::source`], [`file::sink`]), [`generator`], [`collection`],
//! [`ledger`], [`print`](mod@print), [`blackhole`]; then `conformance`, which says in code what every connector must do, for
//! your own connectors too.

pub mod file;

pub mod collection;
pub mod generator;
pub mod socket;

pub mod blackhole;
pub mod ledger;
pub mod print;

mod pacer;
mod process;
pub mod strided;

pub mod conformance;

pub use blackhole::BlackholeSink;
pub use collection::CollectionSource;
pub use file::{FileSink, FileSource};
pub use generator::GeneratorSource;
pub use ledger::LedgerSink;
pub use print::PrintSink;
pub use socket::SocketTextSource;
