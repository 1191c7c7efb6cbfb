//! SIGTERM and SIGINT: the first asks for an orderly end, the second for one at once.

use std::pin::pin;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// The exit code of a daemon whose orderly end was cut short, as shells have it: 128 and the number of SIGTERM.
const CUT_SHORT: i32 = 143;

/// Signals within this time are one request: `timeout` and some supervisors signal a process and then its whole group, and a
/// terminal signals whatever a script has started as well as the script.
const ECHO: Duration = Duration::from_millis(500);

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
            let name = next(&mut terminate, &mut interrupt).await;
            info!(signal = name, "asked to end");
            requested.send_replace(true);
            let mut silence = pin!(tokio::time::sleep(ECHO));
            loop {
                tokio::select! {
                    () = &mut silence => break,
                    _echo = next(&mut terminate, &mut interrupt) => {}
                }
            }
            let name = next(&mut terminate, &mut interrupt).await;
            warn!(signal = name, "asked to end a second time: ending at once");
            std::process::exit(CUT_SHORT);
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

/// Waits for the next of the two signals, and names it. Cancel safe.
async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
