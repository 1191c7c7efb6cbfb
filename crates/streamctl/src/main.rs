//! `streamctl`: the command line of a streamd cluster.
//!
//! Thin on purpose: a command turns its arguments into calls of the job manager's dispatcher and prints the answers, in
//! Flink's words or as JSON. It deliberately knows no policy: whatever can be decided at the job manager is decided there.
//!
//! ```text
//!   arguments ──▶ command::<verb> ──▶ session ──gRPC──▶ job manager
//!                      │
//!                      ├──▶ offline ──▶ snapshots in the object store (checkpoint, state, fsck: no cluster needed)
//!                      │
//!                      └──▶ output (stdout: results) and failure (stderr: `error:`, `hint:`; exit code)
//! ```
//!
//! Reading order: [`arguments`], [`session`], then one file per command in [`command`].

mod arguments;
mod command;
mod dispatch;
mod spelling;
mod usage;

mod configuration;
mod offline;
mod session;

mod application;
mod location;
mod operation;

mod failure;
mod flame_graph;
mod interrupt;
mod output;
mod progress;
mod text;

fn main() -> std::process::ExitCode {
    dispatch::run()
}
