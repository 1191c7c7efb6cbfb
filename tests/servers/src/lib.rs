//! Real servers for tests: object stores and a Hadoop file system, started on this machine and ended with the value.
//!
//! The crate deliberately knows nothing of streamd: it starts other people's programs, which `bin/lib/prerequisites.sh` installs by
//! name, and stands between them and their clients when a test wants them to fail.
//!
//! ```text
//!   test ──▶ client ──▶ Proxy (faults) ──▶ Server { moto, MinIO, azurite, HDFS }
//! ```
//!
//! Reading order: [`address`] and [`checkout`] (what a test finds on this machine), [`server`] (a process with a port), one module
//! for each kind, [`ledger`] (the one server that is made here), [`proxy`].

pub mod address;
pub mod checkout;

pub mod server;

pub mod azurite;
pub mod hdfs;
pub mod minio;
pub mod moto;

pub mod http;
pub mod ledger;
pub mod proxy;

pub use address::{own_address, own_port};
pub use checkout::{not_tested, workspace};
pub use ledger::Ledger;
pub use proxy::{Dialect, Fault, Proxy, Request};
pub use server::{Server, python};
