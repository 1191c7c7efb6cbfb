//! Whole clusters of real processes, for the tests of the system.
//!
//! A [`Cluster`] has directories, ports and processes of its own, is commanded through `streamctl` alone, and ends with the
//! value: then no process of it may be left. The crate deliberately knows nothing of what the crates of the house do: it sees
//! commands, processes and files, as a user does, and computes every expected answer by itself.
//!
//! ```text
//!   test ──▶ Cluster ──starts──▶ streamd jobmanager, streamd taskmanager …
//!     │         └──────runs────▶ streamctl ──▶ Ran {code, stdout, stderr}
//!     └────▶ flights, torture: what the output of these applications must be
//! ```
//!
//! Reading order: [`cluster`], [`command`], [`process`], then the two applications.

pub mod cluster;
pub mod command;
pub mod process;

pub mod flights;
pub mod moves;
pub mod torture;

pub mod files;
pub mod gate;
pub mod wait;

pub use cluster::{Cluster, ClusterBuilder, Job};
pub use command::{Ran, Running};
pub use flights::Flights;
pub use gate::Gate;
pub use process::{Daemon, Worker};
pub use torture::Torture;
pub use wait::until;
