//! What travels in a channel.

use std::any::Any;
use std::fmt;

use bytes::Bytes;
use streamd_core::barrier::Barrier;
use streamd_core::time::Watermark;

use crate::origin::Origin;

/// The records of a batch, in the form in which they travel.
pub enum Payload {
    /// A boxed [`Batch<T>`](crate::batch::Batch), handed over by pointer within the process.
    Local(Box<dyn Any + Send>),
    /// Records and timestamps in bitcode's encoding, from another process.
    Encoded(Bytes),
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(_) => f.write_str("Local(..)"),
            Self::Encoded(bytes) => write!(f, "Encoded({} B)", bytes.len()),
        }
    }
}

/// One element of a channel. Elements of one channel arrive in the order in which they were sent.
#[derive(Debug)]
pub enum Element {
    /// A batch of records; waits for room, or for credit.
    Records {
        /// The records; see [`receive_into`](crate::encode::receive_into).
        payload: Payload,
        /// How many.
        count: u32,
        /// Where they come from.
        origin: Origin,
    },
    /// A barrier. Never waits for room or credit of its own, never overtakes records.
    Barrier(Barrier),
    /// How far the event time of the records has come. Never waits, never overtakes records.
    Watermark(Watermark),
    /// No records follow; barriers may.
    EndOfData,
}

impl Element {
    /// Whether it needs room or credit.
    pub fn is_records(&self) -> bool {
        matches!(self, Self::Records { .. })
    }

    /// A copy of a control element for another channel; `None` for records, which belong to one channel.
    pub fn copy_control(&self) -> Option<Self> {
        match self {
            Self::Records { .. } => None,
            Self::Barrier(barrier) => Some(Self::Barrier(barrier.clone())),
            Self::Watermark(watermark) => Some(Self::Watermark(*watermark)),
            Self::EndOfData => Some(Self::EndOfData),
        }
    }
}
