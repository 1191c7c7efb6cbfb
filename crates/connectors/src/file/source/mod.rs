//! Reads a file, or all files of a folder, as they were when the job started.
//!
//! ```text
//!   folder ──list──▶ files ──cut──▶ splits: [start, end) of a file, and the position of the next record
//!                                      │
//!                                      ▼
//!                      input (bytes, checked) ──▶ lines ──▶ text, JSON      one record per line
//!                                             └─────────▶ csv              one split per file
//! ```
//!
//! Reading order: [`split`], `listing` (what is read), [`compression`], [`input`] (the bytes), [`lines`], the formats [`text`], [`json`]
//! and [`csv`], [`reader`], [`monitor`] (folders that are read for ever).
//!
//! **Guarantee: exactly-once.** A split read again from a position yields the same records, because the position is the
//! byte offset of a record (in compressed files: of their content) and because the source reads the bytes that were there when it listed the files, and no others:
//! what is appended later is not read, and a file that became shorter or was replaced is an error, never a silent gap.
//! [`monitor`](mod@monitor) reads on: it has rules of its own for what is new.

pub mod split;

mod listing;

pub mod compression;
pub mod input;
pub mod lines;

pub mod csv;
pub mod json;
pub mod text;

pub mod format;
pub mod reader;

mod builder;
pub mod monitor;

pub use builder::FileSource;
pub use compression::Compression;
pub use format::{Decoder, Format};
pub use monitor::MonitoredFiles;
pub use reader::FileReader;
pub use split::FileSplit;
pub use text::TextLines;

#[cfg(test)]
mod tests;
