//! State larger than memory: one RocksDB for each operator of a slot, behind a working set of decoded values.
//!
//! ```text
//!   touch(keys of a batch) ─▶ working set: K ─▶ V, decoded, in bounded memory
//!                               │ misses: one multi-get      ▲
//!                               ▼                            │ evicted and dirty: one write batch
//!                             RocksDB: a column family for each state, key = key group (2 bytes, BE) ++ encoded key
//!                               │ barrier: dirty values, frozen; written behind the stream's back, then linked
//!                               ▼
//!                             cut ──▶ new files only, or rows in order of key group ──▶ snapshot crate
//! ```
//!
//! All databases of a worker share one block cache and one budget of write buffers; all working sets of a slot share one
//! budget. Nothing local is durable: the write-ahead log is off, and after a failure the last checkpoint is restored, with files that
//! are still here if they are what it says.
//!
//! Reading order: [`memory`], [`log`] (rows on their way down), [`known_files`], [`database`], [`cut`], [`working_set`], [`table`], `sweep` (rows that are over), `loading` (rows of a restore), `arriving` (files of a restore that are in another store), `verification` (files of a restore), [`slice`] (files of a restore that have more key groups), [`open`],
//! [`column`] (what a backend makes of them), [`reader`] (rows of checkpoints for commands).

pub mod memory;

pub mod log;

pub mod known_files;

pub mod database;

pub mod cut;

pub mod working_set;

pub mod table;

mod sweep;

mod loading;

mod arriving;

mod verification;

pub mod slice;

pub mod open;

pub mod column;

pub mod reader;

pub use column::{Column, column_name};
pub(crate) use column::{Columns, FrozenDatabase};
pub use cut::{Cut, FrozenColumn};
pub use database::{Database, DatabaseError};
pub use memory::{SharedMemory, SlotMemory};
pub(crate) use open::Databases;
pub use open::Instance;
pub use reader::FilesReader;
pub(crate) use sweep::DiskCursor;
pub use table::{CachedTable, TableError};
