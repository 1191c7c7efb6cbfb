//! State on the heap: native values in shards of a few thousand entries. While a snapshot reads a shard, each entry that is written is
//! copied first, and no other.
//!
//! ```text
//!   hash of the key ── high 32 bits × key groups ──▶ position ── top bits ──▶ directory slot ──▶ shard
//!                   └─ low 32 bits ───────────────────────────────────────────▶ bucket within the shard
//! ```
//!
//! An incremental checkpoint leaves out what an earlier, complete one has: the table tracks which rows change (`changes`), the threads
//! that write checkpoints record what these consist of (`ledger`), and at a barrier the two meet ([`increment`]).
//!
//! Reading order: `directory`, `shard`, `layers`, `changes`, `ledger`, [`table`], [`frozen`], [`increment`], `sweep`.

mod directory;
mod layers;
mod prefetch;
mod shard;

mod changes;
mod ledger;

pub mod frozen;
pub mod increment;
pub mod table;

mod sweep;

pub(crate) use frozen::hand_on;
pub use frozen::{BatchVisitor, EveryRowVisitor, FrozenTable, RowVisitor};
pub use increment::FrozenIncrement;
pub use sweep::SweepCursor;
pub use table::HeapTable;
