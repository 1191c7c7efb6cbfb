//! The job manager: the daemon around the pure coordinator, which accepts jobs, finds slots and workers for them, and carries
//! out what their machines decide.
//!
//! This crate deliberately knows no operator, no record and no state: what a job *does* happens in its workers. It takes no
//! decision about a job either; those are `streamd-coordinator`'s.
//!
//! ```text
//!   clients ──▶ dispatcher ──────▶ job master (one per job) ◀──▶ workers
//!                   │                  │        └──▶ object store (publish, discard)
//!                   ▼                  ▼
//!   task managers ◀──▶ resource manager (slots, worker processes, logs)
//! ```
//!
//! Each component is a task that owns its state and one bounded mailbox; its handle is a cheap clone. Reading order:
//! [`options`], [`spec`] (what is checked before a job starts), `fence` (who may act), `journal` (what outlives the job manager), [`leadership`] (who leads), `pins` (what jobs may still read), [`job_master`], `resource_manager`, `dispatcher`, `grpc`,
//! [`server`] (all of it together), [`unlinked`] (the same without a network), [`embedded`] (a job master without any of the rest).

mod fence;
mod journal;
pub mod leadership;
pub mod options;
mod pins;
mod random;

pub mod job_master;
pub mod spec;

mod resource_manager;

mod dispatcher;

mod grpc;

pub mod server;

pub mod unlinked;

pub mod embedded;

pub use leadership::{ElectionTimes, HighAvailability, KubernetesLease, leader_address};
pub use options::{JobDefaults, JobManagerOptions, JobOptionsInputs, ResolveJobOptions, job_options};
pub use server::{JobManager, RunningJobManager};
pub use streamd_coordinator::restore::Dropping;
pub use streamd_snapshot::store::configure as configure_storage;

pub use spec::{JobRequest, job_spec, read_restore_point};
