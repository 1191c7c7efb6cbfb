//! State on the heap: native values in shards of a few thousand entries, copied on write while a snapshot reads them.
//!
//! ```text
//!   hash of the key ── high 32 bits × key groups ──▶ position ── top bits ──▶ directory slot ──▶ shard
//!                   └─ low 32 bits ───────────────────────────────────────────▶ bucket within the shard
//! ```
//!
//! Reading order: `directory`, `shard`, [`table`], [`frozen`].

mod directory;
mod shard;

pub mod frozen;
pub mod table;

pub use frozen::{EveryRowVisitor, FrozenTable, RowVisitor};
pub use table::HeapTable;
