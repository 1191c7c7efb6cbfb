//! The form of checkpoints: one object per subtask, holding the rows of its keyed states in checksummed, packed blocks.
//!
//! ```text
//! state:    segment | segment | …              in the metadata; each has keys of its own
//! segment:  block | changes | changes | …      each in an object of this checkpoint or of an earlier one
//!
//! object:   header (16 bytes) | block | block | … | footer (32 bytes)
//! block:    magic, checksum, state, key groups, rows, lengths, packing (40 bytes) | payload: run | run | …
//! run:      key group u32, rows u32 | row | row | …
//! row:      key length varint, value length + 1 varint (0: the key is gone), key, value
//! ```
//!
//! A checkpoint that changes little writes little: segments that are as they were are referred to, and of the others only what
//! has changed is written. A restore fetches only the segments whose key groups it wants, by range, and believes nothing before
//! the checksum holds. Specified in `docs/reference/checkpoint-format.md`.
//!
//! Reading order: `format`, `codec`, `block`, [`segment`], `target`, `writer`, `check`, `stored`, `reader`, `in_order`.

mod block;
mod check;
mod codec;
mod format;
mod in_order;
mod reader;
pub mod segment;
mod stored;
mod target;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use block::read_forged;
pub(crate) use check::check_segments;
pub use format::NATIVE_VERSION;
pub(crate) use in_order::read_native;
pub use in_order::{InOrder, NextSegment};
pub use reader::{LoadedSegment, LoadingSegments, NativeReader};
pub use segment::{SegmentKeys, SegmentSink, WrittenObject, WrittenSegment};
pub(crate) use writer::NativeWriter;
