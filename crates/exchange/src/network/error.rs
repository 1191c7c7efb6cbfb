//! What can go wrong between two workers.

use std::io;
use std::time::Duration;

use streamd_core::id::WorkerId;

use super::frame::FrameError;
use super::handshake::HandshakeError;
use super::key::ChannelKey;

/// Why a connection, or the listener, does not work.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The listener cannot be opened.
    #[error("cannot listen for workers at `{address}`")]
    Bind {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The token does not fit into a handshake.
    #[error("the data plane's token has {size} bytes, more than the limit of {limit}")]
    TokenTooLong {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The attempt was not told where the worker is.
    #[error("worker `{peer}` has no part in this attempt of the job")]
    UnknownPeer {
        /// The worker.
        peer: WorkerId,
    },
    /// No connection came about in time.
    #[error("cannot connect to worker `{peer}` at `{address}` within {timeout:?}")]
    Connect {
        /// The worker.
        peer: WorkerId,
        /// Where it was sought.
        address: String,
        /// For how long.
        timeout: Duration,
        /// What the last try came to; none if that was still under way.
        #[source]
        source: Option<HandshakeError>,
    },
    /// The worker answered, and refused for good.
    #[error("worker `{peer}` at `{address}` refuses the connection")]
    Refused {
        /// The worker.
        peer: WorkerId,
        /// Where it is.
        address: String,
        /// Why.
        #[source]
        source: HandshakeError,
    },
    /// The connection broke.
    #[error("the connection with worker `{peer}` broke")]
    Io {
        /// The worker.
        peer: WorkerId,
        /// How.
        #[source]
        source: io::Error,
    },
    /// The worker closed the connection without a word: it is gone, or has left the attempt.
    #[error("worker `{peer}` closed the connection")]
    PeerClosed {
        /// The worker.
        peer: WorkerId,
    },
    /// What the worker sent breaks the protocol.
    #[error("worker `{peer}` sent a bad frame")]
    Frame {
        /// The worker.
        peer: WorkerId,
        /// What is wrong with it.
        #[source]
        source: FrameError,
    },
    /// The worker closed the connection and said why.
    #[error("worker `{peer}` gave up the connection: {reason}")]
    Reported {
        /// The worker.
        peer: WorkerId,
        /// Its words.
        reason: String,
    },
    /// A channel was asked for twice.
    #[error("channel `{key}` from worker `{peer}` has a consumer already")]
    DuplicateConsumer {
        /// The worker.
        peer: WorkerId,
        /// The channel.
        key: ChannelKey,
    },
    /// This side closed the attempt's network.
    #[error("the network of this attempt is closed")]
    Closed,
}
