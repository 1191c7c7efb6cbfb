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
//! ```
//!
//! Reading order: [`event`] and [`action`] (the interface), then the machines.

pub mod action;
pub mod event;
pub mod lifecycle;

pub mod job;

pub mod slots;
