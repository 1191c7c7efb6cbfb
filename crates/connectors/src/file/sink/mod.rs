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
//! One file is written at a time in each *bucket*, a folder that a function of the record or the time of day names. When it ends
//! is the [`RollingPolicy`]'s to say: at every checkpoint, as a rule, or when it is large or old enough. In that case it lives
//! through checkpoints: each holds how long the file was, and a job that is resumed from it makes a file of that much
//! (`…-cut-<length>.…`) and begins new ones.
//!
//! Reading order: [`committable`], [`encoder`], `part` (one file), [`rolling`], `bucket` and [`time_pattern`], [`writer`], and how
//! it all is put together in [`FileSink`].
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
mod part;

mod bucket;
pub mod rolling;
pub mod time_pattern;

pub mod writer;

mod builder;

pub use bucket::BucketContext;
pub use builder::FileSink;
pub use committable::FileCommittable;
pub use encoder::{PartEncoder, PartFormat};
pub use rolling::RollingPolicy;
pub use time_pattern::TimePattern;
pub use writer::FileWriter;

#[cfg(test)]
mod tests;
