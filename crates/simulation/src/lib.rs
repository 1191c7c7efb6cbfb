//! A whole cluster in one thread and in simulated time: one number decides what happens, and the same number makes the same
//! thing happen again.
//!
//! Job managers (election, records, recovery, dispatcher, resource manager, job masters), workers, slots, operators, state, and
//! publication and restore of snapshots are those of a real cluster. Simulated are time, the links between processes, the channels
//! between workers, the store below its client, the machines of task managers, and everything that goes wrong.
//!
//! This crate deliberately knows no application: it is handed a function that builds the pipeline, as every process of a cluster
//! builds it. It knows no gRPC either: it carries the words of links itself.
//!
//! ```text
//!   seed ──▶ Dice ──┬──▶ mischief: crashes, stops, partitions, losses     ┌──▶ trace
//!                   ├──▶ Cluster: job managers · task managers · workers ─┼──▶ sightings ("sometimes")
//!                   ├──▶ links and channels with latency                  └──▶ Outside: output, checked at each commit
//!                   └──▶ store with errors before and after the fact
//! ```
//!
//! Reading order: [`simulation`] (how to run one), [`profile`] (what goes wrong), [`crash`] (where somebody dies), [`sabotage`] (what
//! is broken on purpose), `cluster` (the loop), `job_manager`, `task_manager`, `process`, `host`, `channels`, `links`, `store`,
//! [`input`] and [`outside`] (the world around), [`outcome`], and what is below: `dice`, `trace`.

pub mod simulation;

pub mod crash;
pub mod profile;
pub mod sabotage;

mod cluster;

mod job_manager;
mod process;
mod task_manager;

mod channels;
mod host;
mod links;

mod store;
mod watch;

pub mod input;
pub mod outside;

pub mod outcome;

mod dice;
mod trace;

pub use crash::{CrashKind, CrashPoint, CrashSide};
pub use input::SimulatedSource;
pub use outcome::{Outcome, Sightings};
pub use outside::{Outside, SimulatedSink};
pub use profile::FaultProfile;
pub use sabotage::Sabotage;
pub use simulation::{Simulation, SimulationError};
