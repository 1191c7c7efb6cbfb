//! The cluster's task managers, their slots, and the worker processes on them.
//!
//! ```text
//!   task manager ──link──▶ ┌──────────────────┐ ◀── slots, workers ── job masters (through [`ClusterLauncher`])
//!                ◀─────────│ resource manager │ ◀── describe, logs, profiles ── dispatcher
//!                          └──────────────────┘ ──▶ slots allocated, worker lost, task manager lost
//! ```
//!
//! The resource manager never waits for a link: commands go into bounded queues, and a task manager that does not take its
//! commands is lost. It does wait for job masters, which never wait for it while their mailbox fills.

mod adoption;
mod departure;
mod description;
mod drain;
mod handle;
mod launcher;
mod log_request;
mod profile;
mod service;
mod standby;
mod task_manager;

pub(crate) use departure::Departure;
pub(crate) use handle::{Program, ResourceManagerHandle, Session, TaskManagerReport, Use};
pub(crate) use launcher::ClusterLauncher;
pub(crate) use profile::ProfileOrder;
pub(crate) use service::{ResourceManagerOptions, spawn};
pub(crate) use task_manager::COMMAND_QUEUE;
