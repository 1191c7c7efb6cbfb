//! The form of checkpoints: one object per subtask, holding the rows of all its keyed states in checksummed blocks.
//!
//! ```text
//! object:  header (16 bytes) | block | block | … | footer (32 bytes)
//! block:   magic, checksum, table, key groups, rows, length (32 bytes) | run | run | …
//! run:     key group u32, rows u32 | row | row | …        rows of one key group
//! row:     key length varint, value length varint, key, value
//! ```
//!
//! A restore fetches only the blocks whose key groups it wants, by range, and believes nothing before the checksum holds.
//! Specified in `docs/reference/checkpoint-format.md`.

mod format;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use format::NATIVE_VERSION;
pub(crate) use reader::read_native;
pub(crate) use writer::NativeWriter;
