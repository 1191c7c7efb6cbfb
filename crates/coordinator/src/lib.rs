//! Every decision that streamd takes about a job, as synchronous machines: `on_event(now, event) -> actions`.
//!
//! This crate deliberately knows no runtime, network, object store, clock or random source: time comes in with each event,
//! effects go out as actions, and whoever carries them out reports back with further events.
//!
//! ```text
//!              ┌────────────── JobMachine ───────────────┐
//!   Event ────▶│ lifecycle · execution graph · failover  │────▶ Vec<Action>
//!              │ checkpoint coordinator · operations     │
//!              └─────────────────────────────────────────┘
//!   plan ────▶ validate    snapshot ────▶ restore    task managers, jobs ────▶ SlotManager
//! ```
//!
//! Reading order: [`event`] and [`action`] (the interface), [`lifecycle`], [`job`] (the machine), then what it is made of:
//! [`execution`], [`placement`], [`region`], [`workers`], [`failover`], [`failure`], [`checkpoint`], [`operation`]. Beside it stand [`validate`]
//! (may a plan run at all), [`restore`] (does a snapshot fit, and who gets what), [`resume`] (which snapshot is the latest)
//! and [`slots`] (for all jobs of a cluster). [`invariant`] says what must hold over all of it.
//!
//! The concepts are Flink's: JobMaster, ExecutionGraph, CheckpointCoordinator, RestartBackoffTimeStrategy, SlotManager.

pub mod action;
pub mod event;
pub mod lifecycle;

pub mod job;

pub mod execution;
pub mod outline;
pub mod placement;
pub mod region;
pub mod workers;

pub mod failover;
pub mod failure;

pub mod checkpoint;
pub mod operation;

pub mod restore;
pub mod resume;
pub mod slots;
pub mod validate;

pub mod invariant;
