//! Records between subtasks: partitioners, result partitions, channels, input gates, and the data plane between workers.
//!
//! This crate deliberately knows nothing of state, of operators, or of what a checkpoint means: a barrier is a control
//! element that keeps its place between the records of a channel, nothing more.
//!
//! ```text
//!   producer subtask                                                    consumer subtask
//!   ResultPartition<T> ──▶ ChannelSender ══ one process: by pointer ══▶ ChannelReceiver ──▶ InputGate
//!     (Partitioner)             │                                             ▲
//!                               └── other process: encoded ── DataPlane (TCP) ┘
//!
//!   slot threads are synchronous and park on a `Parker`; tokio does network I/O only; the two meet in bounded queues
//! ```
//!
//! Reading order: [`wake`] (how a slot thread sleeps), [`batch`] (records and their timestamps), [`origin`] (where they come from), [`element`],
//! [`encode`] (batches as bytes and back), [`channel`], [`gate`] (the input of a subtask), [`partition`] (its output), [`network`] (channels between processes).
//!
//! The concepts are Flink's: result partition, input gate, credit-based flow control, barrier alignment by blocked channels.

pub mod wake;

pub mod batch;
pub mod origin;

pub mod element;
pub mod encode;

pub mod channel;
mod gauge;
mod inbox;
mod ready;

pub mod gate;
pub mod partition;

pub mod network;

pub use batch::Batch;
pub use channel::{ChannelLoss, ChannelReceiver, ChannelSender, SendResult, local_channel};
pub use element::{Element, Payload};
pub use encode::{BATCH_RECORDS, DecodeError, EncodeError, decode, encode, receive_into};
pub use gate::InputGate;
pub use network::{AttemptNetwork, ChannelKey, Closing, DataPlane, DataPlaneOptions, NetworkError};
pub use origin::Origin;
pub use partition::{Partitioner, ResultPartition, SendError};
pub use wake::{Parker, Waker};
