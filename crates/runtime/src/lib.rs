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
//! Reading order: [`record`], [`error`], [`chain`] (how operators are linked), [`fan`], [`exit`], [`side_output`], [`connected`], [`at_hand`], [`alarm`], [`timer`], [`completions`],
//! [`source_progress`], [`watermark`] and [`late`] (time), [`operator`] (each kind, one file), [`window`],
//! [`keyed`], [`operator_state`], [`process_function`] and [`runtime_context`] (state as user functions see it), [`async_function`], [`barrier`] and [`valve`] (alignment of snapshots and of time), [`head`], [`counters`], [`subtask`], [`slot`] (the loop), [`snapshot`]
//! (the asynchronous part of a checkpoint), [`pipeline`]
//! (from the application to subtasks), [`harness`] (operators in tests).

pub mod record;

pub mod error;

pub mod chain;

pub mod fan;

pub mod exit;

pub mod side_output;

pub mod connected;

pub mod at_hand;

pub mod alarm;

pub mod completions;

pub mod timer;

pub mod source_progress;

pub mod watermark;

pub mod late;

pub mod keyed;
mod keyed_scope;

pub mod operator_state;

pub mod process_function;

pub mod runtime_context;

pub mod async_function;

pub mod operator;

pub mod window;

pub mod barrier;

pub mod valve;

pub mod head;

pub mod counters;

pub mod subtask;

pub mod snapshot;

pub mod slot;

pub mod pipeline;

pub mod harness;
