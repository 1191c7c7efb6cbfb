//! What streamd's processes say to each other, as gRPC: the generated messages and services, their translation to the
//! vocabulary of `streamd-core`, the limits that every connection gets, and the client of the job manager.
//!
//! This crate deliberately knows no job, no slot and no policy: it turns words into bytes and back, and takes nothing
//! that comes from the other side for granted.
//!
//! ```text
//!   core::protocol ──convert──▶ proto ──tonic──▶ proto ──convert──▶ core::protocol
//!   CodedError ─────status────▶ tonic::Status ─────────status─────▶ CodedError
//! ```
//!
//! Reading order: [`proto`], [`convert`], [`status`], [`limits`], [`incoming`], [`deadline`], [`client`], [`health`].

pub mod proto;

pub mod convert;
pub mod status;

pub mod deadline;
pub mod incoming;
pub mod limits;

/// The header of an answer to a worker that says in which epoch the job manager leads.
pub const LEADER_EPOCH: &str = "streamd-leader-epoch";

pub mod client;
pub mod health;
