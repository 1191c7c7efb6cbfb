//! One suite over all kinds of store: what streamd asks of a store, asked of real servers.
//!
//! Servers are started by the tests on loopback and end with them. `bin/test` installs them; where one is missing, its test fails and
//! says so, except for MinIO, which takes minutes to build: it is tested where it is there.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod conformance;
mod faults;
mod kinds;
mod settings;
