//! SIGTERM and SIGINT: the first asks for an orderly end, the next for a quicker one where there is one, the last for one at once.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
pub struct Termination {
    /// How often he has asked.
    requests: watch::Receiver<u32>,
    /// Whether somebody waits for him to ask again.
    is_awaited: Arc<AtomicBool>,
}

impl Termination {
    /// Begins to listen, for the life of the process.
    pub fn listen() -> Result<Self, CodedError> {
        let failed =
            |error: std::io::Error| CodedError::caused(ErrorCode::Internal, "cannot listen for signals", &error);
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let (requested, requests) = watch::channel(0);
        let is_awaited = Arc::new(AtomicBool::new(false));
        let awaited = Arc::clone(&is_awaited);
        // Lives as long as the process: there is nothing that a signal would have to wait for.
        tokio::spawn(async move {
            let name = next(&mut terminate, &mut interrupt).await;
            info!(signal = name, "asked to end");
            loop {
                requested.send_modify(|requests| *requests += 1);
                skip_echo(&mut terminate, &mut interrupt).await;
                let name = next(&mut terminate, &mut interrupt).await;
                if !awaited.swap(false, Ordering::AcqRel) {
                    warn!(signal = name, "asked to end once more: ending at once");
                    std::process::exit(CUT_SHORT);
                }
                info!(signal = name, "asked to end once more: not waiting any longer");
            }
        });
        Ok(Self { requests, is_awaited })
    }

    /// Waits for the request. Cancel safe.
    pub async fn requested(&mut self) {
        self.requests_of(1).await;
    }

    /// Waits for a second request, which does not end the process at once as long as this waits. Cancel safe.
    pub async fn requested_again(&mut self) {
        let waiting = Waiting(Arc::clone(&self.is_awaited));
        waiting.0.store(true, Ordering::Release);
        self.requests_of(2).await;
        drop(waiting);
    }

    async fn requests_of(&mut self, count: u32) {
        // The sender lives as long as the process; if its task were gone, nobody could ask.
        if self.requests.wait_for(|requests| *requests >= count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// As long as it is there, somebody waits.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Takes further signals for the one that just came, for a moment.
async fn skip_echo(terminate: &mut Signal, interrupt: &mut Signal) {
    let mut silence = pin!(tokio::time::sleep(ECHO));
    loop {
        tokio::select! {
            () = &mut silence => break,
            _echo = next(terminate, interrupt) => {}
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
