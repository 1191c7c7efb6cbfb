//! Writes records to files that become visible exactly once.
//!
//! ```text
//!   write ──▶ .part-results-0-7f3a-0.csv.inprogress      hidden: may be garbage of a failed attempt
//!     │ barrier: prepare_commit
//!     ▼
//!   closed, synchronised to disk ──▶ committable {staged, final, length} ──▶ kept in the checkpoint
//!     │ checkpoint complete: commit, as often as it takes
//!     ▼
//!   part-results-0-7f3a-0.csv                            complete, and never changed again
//! ```
//!
//! Reading order: [`committable`], [`encoder`], [`writer`], and how it all is put together in [`FileSink`].
//!
//! **Guarantee: exactly-once** for whoever reads the files that are not hidden. A file of the folder is visible exactly if a
//! completed checkpoint holds it; a rename makes it so, and a second commit finds the work done. A writer takes only names
//! with its own nonce, so one that was superseded cannot touch the files of its successor.
//!
//! **Rubbish.** After a failure, hidden `.inprogress` files of the failed attempt stay. The sink never deletes a file that
//! it has prepared, because a checkpoint or savepoint may hold it. To tidy up, delete hidden files that are older than the
//! oldest snapshot you may want to resume from.

pub mod committable;

pub mod encoder;

mod directory;
pub mod writer;

mod builder;

pub use builder::FileSink;
pub use committable::FileCommittable;
pub use writer::FileWriter;

#[cfg(test)]
mod tests;
