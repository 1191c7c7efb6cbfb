//! Running subtasks: operators in chains, the barrier between two snapshots, and the loop of a slot's thread.
//!
//! This crate deliberately knows no gRPC, no placement and no job-level policy: it is told what to run and reports what
//! became of it.
//!
//! ```text
//!   slot thread ── turn ──▶ subtask ── batch ──▶ chain: operator ▶ operator ▶ exit ──▶ exchange
//!       ▲                     │ barrier complete
//!       │ commands            ▼
//!     worker ◀── events ── frozen state ──▶ written in the background
//! ```
//!
//! Records travel in batches: one virtual call hands a whole batch from operator to operator, and the loop over its
//! records is compiled into each operator with the user's closure inlined.
//!
//! Reading order: [`record`], [`error`], [`chain`] (how operators are linked), [`operator`] (each kind, one file),
//! [`keyed`] (state as user functions see it), [`barrier`] (alignment), [`subtask`], [`slot`] (the loop), [`snapshot`]
//! (the asynchronous part of a checkpoint), [`pipeline`]
//! (from the application to subtasks).

pub mod record;

pub mod error;

pub mod chain;

pub mod keyed;

pub mod operator;

pub mod barrier;

pub mod subtask;

pub mod snapshot;

pub mod slot;

pub mod pipeline;
