//! A task manager with real processes, against a job manager that does what the test says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends")]

mod artifacts;
mod describe;
mod harness;
mod leaving;
mod life;
mod workers;
