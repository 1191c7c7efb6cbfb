//! Reads a folder for ever: what is in it, and every file that comes into it.
//!
//! ```text
//!   folder ──a look every interval──▶ names ──by hash──▶ lanes: split = { files: how far each was read }
//!                                                          │ a new file waits in its lane
//!                                                          ▼
//!                                                        read from start to end, one after the other
//! ```
//!
//! A *lane* is a split. It owns the files whose names fall to it by a hash, finds them by looking into the folder itself, and
//! remembers each with how far it was read. So there is nobody who deals files out, and no message that could be lost with one:
//! wherever a lane is restored, and beside whichever others, it knows what it has read, and finds the rest.
//!
//! **What is new** is a path that the lane does not remember, with at least one byte, and with the same length and time of change
//! at two looks in a row. Names that begin with `.` or `_` are passed over, so write under such a name and rename: then a file is
//! read once it is whole.
//!
//! **What may happen to a file.** Until it has been read to its end it must stay as it was found: that it is gone, longer, shorter or
//! another one fails the job, with the path. After that it may be deleted, and is forgotten; a later file of that name is new. As long
//! as it is there, it must not change either, since what was added would never be read.
//!
//! Reading order: [`lane`], [`reader`], [`MonitoredFiles`].
//!
//! **Guarantee: exactly-once**, as for [`FileSource`](super::FileSource).

pub mod lane;
pub mod reader;

mod source;

pub use lane::Lane;
pub use reader::LaneReader;
pub use source::MonitoredFiles;

#[cfg(test)]
mod tests;
