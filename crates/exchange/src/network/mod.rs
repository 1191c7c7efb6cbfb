//! The data plane: channels between the workers of a job, over one TCP connection per ordered pair of workers.
//!
//! ```text
//!   slot thread            tokio                      tokio              slot thread
//!   ChannelSender ─▶ Outlet ─▶ outgoing ══ frames ══▶ incoming ─▶ Inbox ─▶ ChannelReceiver
//!                    (queue,    │  ▲                   │   │     (queue)
//!                     credit) ◀─┘  └──── credit ◀──────┘   └──◀── CreditAccount
//! ```
//!
//! A frame of records leaves only with credit that the consumer issued, so neither side ever holds more than a few frames
//! per channel, and a consumer that does not read stops its producer and nobody else. Control frames need no credit but
//! keep their place in the channel.
//!
//! Reading order: [`key`], [`options`], [`error`], [`frame`] and [`handshake`] (the bytes), `credit` and `outlet` (the two
//! ends of flow control), `outgoing` and `incoming` (the two ends of a connection), `inboxes`, [`attempt`], [`data_plane`].
//! The bytes are specified in `docs/reference/data-plane.md`.

pub mod key;
pub mod options;

pub mod error;
pub mod frame;
pub mod handshake;

pub(crate) mod credit;
pub(crate) mod outlet;
mod write_queue;

mod incoming;
mod outgoing;

mod inboxes;

pub mod attempt;
pub mod data_plane;

#[doc(hidden)]
pub mod hostile;

#[cfg(test)]
mod tests;

pub use attempt::{AttemptNetwork, Closing};
pub use data_plane::DataPlane;
pub use error::NetworkError;
pub use frame::FrameError;
pub use handshake::{HandshakeError, Refusal};
pub use key::ChannelKey;
pub use options::DataPlaneOptions;
