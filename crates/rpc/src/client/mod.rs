//! The job manager, as its clients see it: connected or refused within seconds, and every error coded.

mod connection;
mod dispatcher;
mod upload;

pub use connection::{connect, connect_to_leader, job_manager_peer, not_leader};
pub use dispatcher::{Answers, DispatcherClient, OPERATION_GRACE, SUBMIT_DEADLINE};
pub use upload::{ApplicationFile, UPLOAD_DEADLINE, unreadable};
