//! Between the messages of [`proto`](crate::proto) and the types of `streamd-core`.
//!
//! Outwards is `From` and cannot fail. Inwards is `TryFrom`: whatever the other side left out or made up is a
//! [`ConvertError`] that names the field, never a panic and never a silent default.

mod command;
mod error;
mod event;
mod field;
mod snapshot;
mod state;

#[cfg(test)]
mod tests;

pub use error::ConvertError;
pub use state::{failure_class, job_state_name, job_state_of_name};
