//! The standard gRPC health service: serving while the job manager has accepted this task manager.

use std::net::SocketAddr;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_rpc::incoming::incoming;
use streamd_rpc::limits::server;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};
use tracing::warn;

/// The health service of a task manager; nothing where no address was given.
pub(crate) struct HealthService {
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl HealthService {
    pub(crate) async fn start(
        address: Option<SocketAddr>,
        registered: watch::Receiver<bool>,
    ) -> Result<Self, CodedError> {
        let Some(address) = address else {
            return Ok(Self { running: None });
        };
        let listener = TcpListener::bind(address).await.map_err(|error| {
            CodedError::caused(
                ErrorCode::AddressInUse,
                format!("the health service cannot listen on `{address}`"),
                &error,
            )
        })?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, registered, stop.clone()));
        Ok(Self {
            running: Some((stop, task)),
        })
    }

    /// Ends the service and waits for it.
    pub(crate) async fn stop(self) {
        if let Some((stop, task)) = self.running {
            stop.cancel();
            if let Err(error) = task.await {
                warn!(%error, "health service panicked");
            }
        }
    }
}

async fn serve(listener: TcpListener, registered: watch::Receiver<bool>, stop: CancellationToken) {
    let (reporter, service) = health_reporter();
    let serving = server()
        .add_service(service)
        .serve_with_incoming_shutdown(incoming(listener), stop.clone().cancelled_owned());
    let reporting = async {
        tokio::select! {
            () = report(reporter, registered) => {}
            () = stop.cancelled() => {}
        }
    };
    let (served, ()) = tokio::join!(serving, reporting);
    if let Err(error) = served {
        warn!(%error, "health service ended");
    }
}

/// Repeats every change; ends with the task manager.
async fn report(reporter: HealthReporter, mut registered: watch::Receiver<bool>) {
    loop {
        let status = match *registered.borrow_and_update() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        reporter.set_service_status("", status).await;
        if registered.changed().await.is_err() {
            return;
        }
    }
}
