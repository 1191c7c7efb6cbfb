//! Files: a source that reads lines, CSV and JSON lines, and a sink that writes them exactly once.
//!
//! What the sink writes the source can read: both use the same three formats, and the source passes over the hidden files
//! in which the sink keeps its unfinished output.

pub mod sink;
pub mod source;

#[cfg(feature = "parquet")]
pub mod parquet;

mod place;

pub use sink::FileSink;
pub use source::FileSource;
