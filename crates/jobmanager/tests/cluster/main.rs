//! A job manager over real gRPC on the loopback, with task managers and workers that are scripts.
#![expect(
    clippy::unwrap_used,
    reason = "what the scripts and fixtures of tests do must work, or the test fails"
)]

mod embedded;
mod fake;
mod fixture;

mod artifacts;
mod jobs;
mod links;
mod operations;
mod submissions;
