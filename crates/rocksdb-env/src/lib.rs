//! An environment of RocksDB in which files are used that are not all there yet: whoever reads them waits for the bytes.
//!
//! It deliberately does not know where the bytes come from, nor which files these are: it asks, and reads when it was told that the bytes are
//! there. Everything else goes to the file system of the machine as it would without.
//!
//! ```text
//!   RocksDB ── opens a file ──▶ PartialFiles::find ── none: the file itself, at no cost
//!                                     │
//!                                     └─ some: each read ──▶ PartialFile::wait_for ──▶ the file itself
//! ```
//!
//! One of the two crates with `unsafe` code (the other, `prefetch`, is two instructions): the crate rocksdb has no file systems, but [takes](rocksdb::Env::from_raw) an environment that
//! others have made in C++. `environment.cc` makes it, against the headers of the very RocksDB that is linked; [`environment`] is its other
//! side. Nothing of RocksDB is compiled unless the feature `rocksdb` asks for it.

// As the workspace's, but for `unsafe`, which is explained wherever it is.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, unused_must_use)]
#![warn(
    missing_docs,
    clippy::all,
    clippy::missing_safety_doc,
    clippy::unwrap_used,
    clippy::dbg_macro,
    clippy::todo,
    clippy::unimplemented
)]

#[cfg(feature = "rocksdb")]
pub mod environment;

#[cfg(feature = "rocksdb")]
pub use environment::{PartialFile, PartialFiles, environment};
