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

/// How often a standby may send a client on: leaders change, but not in circles.
const MOST_REDIRECTS: u32 = 4;

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

/// Connects to the job manager that leads, whichever of a cluster's job managers is at `host:port`: a standby says where the leader
/// is. Returns the leader's address too. See [`connect`] for the rest.
pub async fn connect_to_leader(address: &str) -> Result<(Channel, String), CodedError> {
    let mut address = address.to_owned();
    for _redirect in 0..MOST_REDIRECTS {
        match connect(&address).await {
            Ok(channel) => return Ok((channel, address)),
            Err(error) => match leader_in(&error) {
                Some(leader) if leader != address => address = leader,
                Some(_) | None => return Err(error),
            },
        }
    }
    let channel = connect(&address).await?;
    Ok((channel, address))
}

/// The address of the leader that a standby named.
fn leader_in(error: &CodedError) -> Option<String> {
    if error.code != ErrorCode::NotLeader {
        return None;
    }
    let (_, rest) = error.message.rsplit_once("leader at `")?;
    let leader = rest.strip_suffix('`')?;
    endpoint(leader).is_ok().then(|| leader.to_owned())
}

/// The error of a standby, which names the leader where it knows it.
pub fn not_leader(leader: Option<&str>) -> CodedError {
    let message = match leader {
        Some(address) => format!("the job manager is a standby of the leader at `{address}`"),
        None => "the job manager is a standby, and nobody leads yet".to_owned(),
    };
    CodedError::new(ErrorCode::NotLeader, message).with_hint("try again in a moment")
}

fn refused(error: CodedError, address: &str) -> CodedError {
    match error.code {
        ErrorCode::ProtocolMismatch | ErrorCode::NotLeader => error,
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
