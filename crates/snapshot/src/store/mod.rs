//! Where bytes are kept: a location in an object store, and what can be done there.
//!
//! ```text
//!   uri ──▶ Root ──▶ client (one per bucket and process) ──▶ file │ memory │ s3 │ gs │ az │ hdfs
//!   Location = Root + path ──▶ get, list, delete          one deadline each (limits)
//!                         ├──▶ create                     decided by reading back
//!                         └──▶ Upload                     parts in flight, bounded memory
//! ```
//!
//! Create-if-absent of whole objects is all that is asked of a store; no folders, no renames, no conditional updates.

mod error;
mod limits;
mod uri;

mod client;
mod local_file;
mod location;

mod create;
mod folder;
mod survey;
mod upload;
mod write_back;

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "gcs")]
mod gcs;
#[cfg(feature = "hdfs")]
mod hdfs;
#[cfg(feature = "https")]
mod https;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
mod s3_profile;

#[cfg(test)]
pub(crate) mod faulty;

pub use client::{built_schemes, configure, feature_of_scheme, interpose, scheme_of};
pub use create::CreateError;
pub use error::StoreError;
pub use folder::Entry;
pub(crate) use folder::delete_all;
pub use location::{Created, Location, absolute_pointer};
pub use survey::{Surveyed, SurveyedKind};
pub use upload::{BlockingUpload, Upload, Uploaded, digest_text};
pub(crate) use uri::check_name;
