//! Connecting to a job manager.

use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use tonic::transport::Channel;

use crate::health::{Health, probe};
use crate::limits::{CONNECT_TIMEOUT, endpoint};
use crate::status::from_status;

/// How long the first call on a new connection may take. With [`CONNECT_TIMEOUT`] in all below three seconds.
const PROBE_TIMEOUT: Duration = Duration::from_millis(900);

/// How messages call the job manager at an address.
pub fn job_manager_peer(address: &str) -> String {
    format!("the job manager at `{}`", crate::status::one_line(address, 128))
}

/// Connects to the job manager at `host:port`, and has it prove that it speaks gRPC.
///
/// The proof costs one small call, and is what tells a wrong port (an HTTP server, a shell) from a cluster that is
/// down: opening the connection alone succeeds with any server. Ends in less than three seconds, whatever is there.
pub async fn connect(address: &str) -> Result<Channel, CodedError> {
    let endpoint = endpoint(address)?;
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect());
    let channel = match connecting.await {
        Ok(Ok(channel)) => channel,
        Ok(Err(_)) | Err(_) => return Err(unreachable(address)),
    };
    match tokio::time::timeout(PROBE_TIMEOUT, probe(channel.clone(), "", PROBE_TIMEOUT)).await {
        Ok(Ok(Health::Serving | Health::NotServing | Health::Unknown)) => Ok(channel),
        Ok(Err(status)) => Err(refused(from_status(&status, &job_manager_peer(address)), address)),
        Err(_) => Err(unreachable(address)),
    }
}

fn refused(error: CodedError, address: &str) -> CodedError {
    match error.code {
        ErrorCode::ProtocolMismatch => error,
        _not_reached => unreachable(address),
    }
}

/// The error for a job manager that is not there.
pub(super) fn unreachable(address: &str) -> CodedError {
    CodedError::new(
        ErrorCode::JobManagerUnreachable,
        format!("{} cannot be reached", job_manager_peer(address)),
    )
    .with_hint("start a cluster with bin/start-cluster.sh, or name another with -m HOST:PORT")
}
