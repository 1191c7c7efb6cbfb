//! One job master per job: a task that owns the job's machine, tells it what happens, and carries out what it wants.
//!
//! ```text
//!   users ─────────┐                             ┌─▶ workers (commands)
//!   workers ───────┼─▶ mailbox ─▶ JobMachine ─▶ ─┼─▶ launcher (slots, worker processes)
//!   launcher ──────┤                             ├─▶ store (publish, discard) ──┐
//!   store ◀────────┘                             └─▶ watchers (state, operations)│
//!     └──────────────────────────◀───────────────────────────────────────────────┘
//! ```
//!
//! A job master is drained once it is suspended or over and its effects, which are tracked tasks, have ended.

mod actions;
mod cancellation;
mod effects;
mod handle;
mod launcher;
mod onlooker;
mod operations;
mod records;
mod remains;
mod service;
mod status;
mod worker_reports;
mod workers;

pub use handle::JobMasterHandle;
pub use launcher::{LaunchRequest, WorkerLauncher};
pub use onlooker::Onlookers;
pub use status::{JobDetails, JobStatus, SubtaskView};
pub use workers::WorkerTimeouts;

pub(crate) use effects::Effects;
pub(crate) use records::Past;
pub(crate) use service::{JobEnvironment, spawn, spawn_with};
