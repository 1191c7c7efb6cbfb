//! A whole cluster in one thread and in simulated time: one number decides what happens, and the same number makes the same
//! thing happen again.
//!
//! The job master, its machine, its effects, publication and restore of snapshots, workers, slots, operators and state are those
//! of a real cluster. Simulated are time, the links between processes, the channels between workers, the store below its client,
//! task managers, and everything that goes wrong.
//!
//! This crate deliberately knows no application: it is handed a function that builds the pipeline, as every process of a cluster
//! builds it. It knows neither gRPC nor the dispatcher: a job is started by whoever simulates.
//!
//! ```text
//!   seed ──▶ Dice ──┬──▶ mischief: crashes, partitions, losses            ┌──▶ trace
//!                   ├──▶ Cluster: job manager · task managers · workers ──┼──▶ sightings ("sometimes")
//!                   ├──▶ links and channels with latency                  └──▶ Outside: output, checked at each commit
//!                   └──▶ store with errors before and after the fact
//! ```
//!
//! Reading order: [`simulation`] (how to run one), [`profile`] (what goes wrong), [`cluster`] (the loop), `job_manager`,
//! `process`, `host`, `channels`, `links`, [`store`], [`input`] and [`outside`] (the world around), [`outcome`], and what is
//! below: `clock`, `dice`, `trace`.

pub mod simulation;

pub mod profile;

mod cluster;

mod job_manager;
mod process;

mod channels;
mod host;
mod links;

mod store;
mod watch;

pub mod input;
pub mod outside;

pub mod outcome;

mod clock;
mod dice;
mod trace;

pub use input::SimulatedSource;
pub use outcome::{Outcome, Sightings};
pub use outside::{Outside, SimulatedSink};
pub use profile::FaultProfile;
pub use simulation::{Simulation, SimulationError};
