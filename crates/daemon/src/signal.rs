//! SIGTERM and SIGINT: the first asks for an orderly end, the second for one at once.

use std::pin::pin;

use streamd_core::error::{CodedError, ErrorCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// The exit code of a daemon whose orderly end was cut short, as shells have it: 128 and the number of SIGTERM.
const CUT_SHORT: i32 = 143;

/// The request of this process's owner that it end.
pub struct Termination(watch::Receiver<bool>);

impl Termination {
    /// Begins to listen, for the life of the process.
    pub fn listen() -> Result<Self, CodedError> {
        let failed =
            |error: std::io::Error| CodedError::caused(ErrorCode::Internal, "cannot listen for signals", &error);
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let (requested, receiver) = watch::channel(false);
        // Lives as long as the process: there is nothing that a signal would have to wait for.
        tokio::spawn(async move {
            loop {
                let terminated = pin!(terminate.recv());
                let interrupted = pin!(interrupt.recv());
                let name = tokio::select! { _ = terminated => "SIGTERM", _ = interrupted => "SIGINT" };
                if requested.send_replace(true) {
                    warn!(signal = name, "asked to end a second time: ending at once");
                    std::process::exit(CUT_SHORT);
                }
                info!(signal = name, "asked to end");
            }
        });
        Ok(Self(receiver))
    }

    /// Waits for the request. Cancel safe.
    pub async fn requested(&mut self) {
        // The sender lives as long as the process; if its task were gone, nobody could ask.
        if self.0.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
