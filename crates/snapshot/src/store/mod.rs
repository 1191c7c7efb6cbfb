//! Where bytes are kept: a location in an object store, and what can be done there.

mod folder;
mod location;
mod upload;
mod uri;

#[cfg(test)]
pub(crate) mod faulty;

pub use folder::Entry;
pub use location::{Created, Location, absolute_pointer};
pub use upload::{BlockingUpload, Upload, Uploaded, digest_text};
pub(crate) use uri::check_name;
