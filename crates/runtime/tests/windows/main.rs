//! Windows against the obvious way to compute them, over random streams, cuts and rescales.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod folded_state;
mod processing_time;
mod reference;
mod semantics;
mod timers;
