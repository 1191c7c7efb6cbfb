//! The whole system, as its users meet it: real processes, commanded by `streamctl`, hurt, and compared with answers that
//! are computed here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod back_pressure;
mod backends;
mod bad_applications;
mod cancel;
mod clocks;
mod connectors;
mod drain;
mod durable;
mod edges;
mod event_time;
mod evolution;
mod failures;
mod forks;
mod isolation;
mod job_manager;
mod kinds;
mod latency;
mod leadership;
mod local_recovery;
mod logs;
mod main_job;
mod object_storage;
mod open_format;
mod operations;
mod profile;
mod recovery;
mod regions;
mod regressions;
mod repair;
mod resources;
mod retained;
mod running;
mod savepoints;
mod stop;
mod surroundings;
mod torture;

/// Has a job take a checkpoint five times a second.
const CHECKPOINTS: &str = "execution.checkpointing.interval=200 ms";

/// The binary of the example `nexmark`.
const NEXMARK: &str = "nexmark";

/// A job id that nobody has.
const NO_JOB: &str = "00000000000000000000000000000000";
