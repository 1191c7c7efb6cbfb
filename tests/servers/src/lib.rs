//! Real servers for tests: object stores, a Hadoop file system, an API server of Kubernetes, started on this machine and ended with
//! the value.
//!
//! The crate deliberately knows nothing of streamd: it starts other people's programs, which `bin/lib/prerequisites.sh` installs by
//! name, and stands between them and their clients when a test wants them to fail.
//!
//! ```text
//!   test ──▶ client ──▶ Proxy (faults) ──▶ Server { moto, MinIO, azurite, HDFS, Kubernetes }
//! ```
//!
//! Reading order: [`address`] and [`checkout`] (what a test finds on this machine), [`server`] (a process with a port), one module
//! for each kind, [`ledger`] (the one server that is made here), [`proxy`] and [`line`] (faults).

pub mod address;
pub mod checkout;

pub mod server;

pub mod azurite;
pub mod hdfs;
pub mod kubernetes;
pub mod minio;
pub mod moto;

pub mod http;
pub mod ledger;
pub mod line;
pub mod proxy;

pub use address::{own_address, own_port};
pub use checkout::{not_tested, workspace};
pub use kubernetes::Kubernetes;
pub use ledger::Ledger;
pub use line::Line;
pub use proxy::{Dialect, Fault, Proxy, Request};
pub use server::{Server, python};
