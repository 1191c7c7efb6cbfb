//! Ctrl-C.

use tokio::signal::unix::{Signal, SignalKind, signal};

use streamd_core::error::{CodedError, ErrorCode};

use crate::failure::Failure;

/// Listens for Ctrl-C for as long as it lives, and after: the process no longer dies of one.
pub struct Interrupt(Signal);

impl Interrupt {
    /// Begins to listen.
    pub fn listen() -> Result<Self, Failure> {
        let signal = signal(SignalKind::interrupt());
        Ok(Self(signal.map_err(|error| {
            CodedError::caused(ErrorCode::Internal, "cannot listen for Ctrl-C", &error)
        })?))
    }

    /// Waits for the next Ctrl-C. Cancel safe.
    pub async fn pressed(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
