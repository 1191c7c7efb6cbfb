//! State on the heap: native values in shards of a few thousand entries, copied on write while a snapshot reads them.
//!
//! ```text
//!   hash of the key ── high 32 bits × key groups ──▶ position ── top bits ──▶ directory slot ──▶ shard
//!                   └─ low 32 bits ───────────────────────────────────────────▶ bucket within the shard
//! ```
//!
//! An incremental checkpoint leaves out what an earlier, complete one has: the table tracks which rows change (`changes`), the threads
//! that write checkpoints record what these consist of (`ledger`), and at a barrier the two meet ([`increment`]).
//!
//! Reading order: `directory`, `shard`, `changes`, `ledger`, [`table`], [`frozen`], [`increment`].

mod directory;
mod shard;

mod changes;
mod ledger;

pub mod frozen;
pub mod increment;
pub mod table;

pub use frozen::{EveryRowVisitor, FrozenTable, RowVisitor};
pub use increment::FrozenIncrement;
pub use table::HeapTable;
