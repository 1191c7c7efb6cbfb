//! Connecting to a job manager.

use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use tonic::transport::Channel;

use crate::health::{Health, probe};
use crate::limits::{CONNECT_TIMEOUT, endpoint};
use crate::status::from_status;

/// How long the first call on a new connection may take: a job manager on a machine that is overloaded is no stranger. Who does
/// not want to wait so long for one that hangs says so with `--timeout`.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// A listener that is none of ours, or one that hangs.
const MUTE: &str = "what listens there does not answer";

/// What to do about a job manager that is not there.
pub(super) const START_OR_NAME: &str = "start a cluster with bin/start-cluster.sh, or name another with -m HOST:PORT";

/// How messages call the job manager at an address.
pub fn job_manager_peer(address: &str) -> String {
    format!("the job manager at `{}`", crate::status::one_line(address, 128))
}

/// Connects to the job manager at `host:port`, and has it prove that it speaks gRPC.
///
/// The proof costs one small call, and is what tells a wrong port (an HTTP server, a shell) from a cluster that is
/// down: opening the connection alone succeeds with any server. Ends after [`CONNECT_TIMEOUT`] and [`PROBE_TIMEOUT`] at the latest,
/// whatever is there.
pub async fn connect(address: &str) -> Result<Channel, CodedError> {
    let endpoint = endpoint(address)?;
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect());
    let channel = match connecting.await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return Err(unreachable(address, &innermost(&error))),
        Err(_) => return Err(unreachable(address, "it does not answer")),
    };
    match tokio::time::timeout(PROBE_TIMEOUT, probe(channel.clone(), "", PROBE_TIMEOUT)).await {
        Ok(Ok(Health::Serving | Health::NotServing | Health::Unknown)) => Ok(channel),
        Ok(Err(status)) => Err(refused(from_status(&status, &job_manager_peer(address)), address)),
        Err(_) => Err(unreachable(address, MUTE)),
    }
}

fn refused(error: CodedError, address: &str) -> CodedError {
    match error.code {
        ErrorCode::ProtocolMismatch => error,
        _not_reached => unreachable(address, MUTE),
    }
}

/// What the system said in the end: what stands around it says only that there was an error.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    crate::status::one_line(&cause.to_string(), 256)
}

/// The error for a job manager that is not there.
fn unreachable(address: &str, reason: &str) -> CodedError {
    CodedError::new(
        ErrorCode::JobManagerUnreachable,
        format!("{} cannot be reached: {reason}", job_manager_peer(address)),
    )
    .with_hint(START_OR_NAME)
}
