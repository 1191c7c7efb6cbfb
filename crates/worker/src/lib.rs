//! The process inside the user's binary: runs the job's subtasks on slots, connects them to their peers, and keeps the link
//! to the job master.
//!
//! This crate deliberately knows no job-level policy: it deploys what it is told, reports what happens, and forgets an
//! attempt when the next one comes.
//!
//! ```text
//!   job master ◀── link ──▶ Worker ──▶ Attempt ──▶ slot threads ──▶ subtasks
//!                              │           └── wiring: channels by pointer, or through the data plane
//!                              └── snapshots written in the background
//! ```
//!
//! Reading order: [`worker`] (the service), [`attempt`] (one deployment), [`host`] (what it stands on), `wiring`, `reporter`, `standing`, [`course`] (what it says when it comes back), [`link`] (gRPC),
//! [`options`].

pub mod worker;

pub mod attempt;
pub mod host;

pub mod course;

mod reporter;
mod standing;
mod wiring;

pub mod link;

pub mod options;
