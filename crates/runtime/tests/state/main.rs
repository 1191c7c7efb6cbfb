//! State of every kind against the obvious way to keep it, over random streams, cuts and rescales.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod async_wait;
mod broadcast;
mod evolution;
mod operator_state;
mod sink_state;
mod time_to_live;
