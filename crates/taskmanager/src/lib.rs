//! The daemon on each host: it offers slots, has applications describe their jobs, starts and reaps worker processes,
//! and keeps their logs.
//!
//! This crate deliberately knows no job: no states, checkpoints, restarts or placement. The job manager tells it which
//! program to start, and it tells the job manager what became of the process.
//!
//! ```text
//!                     ┌─ describe ──▶ plan descriptor
//!   job manager ◀─link┤
//!                     ├─ workers ───▶ process group ──▶ log files
//!                     ├─ profile ───▶ perf ──▶ stacks
//!                     └─ artifacts ◀─ bytes by SHA-256
//! ```
//!
//! Reading order: [`TaskManagerOptions`], [`TaskManager`]; then `service` (its life), `leaving` (before its end), `link` (registration), `session`
//! (one link: commands in, events out), `crew` (what outlives links), `describe`, `memory`, `worker`, `profile`, `artifact`, `process` (what is common to both kinds of
//! processes), `log`, `directory`, `health`.

mod options;
mod service;

mod crew;
mod leaving;
mod link;
mod session;

mod describe;
mod memory;
mod profile;
mod worker;

mod artifact;
mod directory;
mod health;
mod log;
mod process;

pub use options::{DescribeLimits, LeaderLookup, TaskManagerOptions};
pub use service::{RunningTaskManager, TaskManager};
