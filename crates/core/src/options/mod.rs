//! The configuration: every key that streamd honours, and how values are read from a file, the environment and `-D`.
//!
//! ```text
//!   default ──▶ conf/streamd.yaml ──▶ environment ──▶ -D key=value ──▶ Configuration ──get(KEY)──▶ typed value
//! ```
//!
//! The keys are Flink's, old spellings included. A key that streamd does not honour is refused, with the nearest one that
//! it does: a setting that is silently ignored is worse than none. Nothing here opens a file or reads the environment; both
//! are handed in.
//!
//! Reading order: [`keys`] (the table), [`Configuration`], then the parsers of values.

pub mod keys;

mod definition;
pub use definition::{ConfigOption, Definition, Fallback, Kind, Scope};

mod configuration;
pub use configuration::{Configuration, Origin};

mod error;
pub use error::{ConfigurationError, Place, Problem};

mod value;
pub use value::{ByteSize, Secret, Setting, format_duration, format_size, parse_duration, parse_size};

mod directories;
pub use directories::{ADDRESS_FILE, CONFIGURATION_FILE, Directories, host_and_port};

mod endpoint;
pub use endpoint::{EndpointError, Transport, check_endpoint};

mod storage;
pub use storage::StorageSettings;

mod choice;
mod job;
mod legacy;
mod location;
mod nearest;
mod yaml;
pub use location::{KNOWN_SCHEMES, LocationError, absolute_location, shared_location};

#[cfg(test)]
mod documents;
#[cfg(test)]
mod tests;
