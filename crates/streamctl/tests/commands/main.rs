//! Every command, as its users meet it: the real program against a job manager that says what the test wants.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod cluster;
mod documents;
mod fake;
mod jobs;
mod old_snapshots;
mod profile;
mod refusals;
mod run;
mod savepoints;
mod snapshots;
mod task_managers;
mod terminal;
