//! The settings of the data plane, each a bound with its reason.

use std::time::Duration;

use crate::encode::MAX_FRAME_BYTES;

/// The settings of a [`DataPlane`](crate::network::DataPlane). Both ends of a connection may differ in all but the token.
#[derive(Debug, Clone)]
pub struct DataPlaneOptions {
    /// The secret that workers of one job share; at most [`MAX_TOKEN_BYTES`](crate::network::handshake::MAX_TOKEN_BYTES).
    pub token: String,
    /// Frames of records that a channel may have on the wire and in its consumer's queue together. Eight cover the time
    /// that a credit takes to come back on a data-centre network at full batches.
    pub credit: u32,
    /// Batches of records that a channel may have waiting for credit at its producer before it counts as full: enough
    /// that the connection finds the next ones while the producer sleeps, few enough that a barrier waits little.
    pub outbox_batches: usize,
    /// The size in bytes that a single frame of records must not exceed, checked before anything is allocated.
    pub max_frame_bytes: usize,
    /// How long a connection is tried for, until its channels are lost.
    pub connect_timeout: Duration,
    /// How long a stranger may take to say who it is.
    pub handshake_timeout: Duration,
    /// How long a peer of an attempt that is not known here yet is kept waiting before it is told to try again.
    pub park_timeout: Duration,
    /// How long a closing connection may take to deliver what is on its way.
    pub close_grace: Duration,
}

impl DataPlaneOptions {
    /// The defaults, with the secret that the workers of the job share.
    pub fn new(token: impl Into<String>) -> Self {
        Self {
            token: token.into(),
            credit: 8,
            outbox_batches: 4,
            max_frame_bytes: MAX_FRAME_BYTES,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            park_timeout: Duration::from_secs(5),
            close_grace: Duration::from_millis(500),
        }
    }
}
