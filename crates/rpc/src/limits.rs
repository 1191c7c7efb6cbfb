//! The limits of every connection, on both sides (posture S11): tonic's defaults leave most of them open.

use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use tonic::codegen::Body;
use tonic::codegen::StdError;
use tonic::transport::{Channel, Endpoint, Server};
use tower_layer::{Identity, Stack};

use crate::deadline::DefaultDeadline;
use crate::proto;

/// Bytes of a message that asks or tells: requests of clients.
pub const CONTROL_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of the plan of a job.
pub const PLAN_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of the stacks of a profile: ten thousand different ones. Fits into a message that has room for a plan.
pub const STACKS_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of a message that carries a plan or the state handles of a deployment: the largest plan and its envelope.
pub const LINK_MESSAGE_BYTES: usize = PLAN_BYTES + 64 * 1024;

/// Bytes of what a worker is told. A deployment carries the operator state of all of the worker's subtasks: what the metadata of a
/// snapshot holds, which has at most 256 MiB, and its envelope. Only a worker's own job manager can send it that much.
pub const DEPLOYMENT_BYTES: usize = 256 * 1024 * 1024 + LINK_MESSAGE_BYTES;

/// Bytes of one piece of an application or log: many fit into a control message, and few are under way at once.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Bytes of an application. Release builds with debug information stay far below.
pub const APPLICATION_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// How long the other side may take until it is connected and has said that it speaks gRPC.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call may take that names no deadline of its own.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// How long a server works on a call that names no deadline, or a longer one: no call of ours is allowed more, the upload of a
/// large application included. A stream is bounded by its connection's signs of life once it has begun.
const LONGEST_CALL: Duration = Duration::from_secs(15 * 60);

/// A connection that is silent for this long is asked for a sign of life.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long the sign of life may take before the connection counts as lost.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of headers.
const HEADER_BYTES: u32 = 16 * 1024;

/// Calls at once on one connection. A client has one or two; a task manager one link and its fetches.
const CONCURRENT_STREAMS: u32 = 100;

/// Flow-control windows: enough for a few chunks under way, so that uploads do not wait for each acknowledgement.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// See [`STREAM_WINDOW_BYTES`].
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Calls that a server works on at once for one connection; those beyond are refused at once rather than queued. A client has
/// one or two at a time, and a call that waits for an operation counts.
const CONCURRENT_CALLS: usize = 64;

/// A server with all limits set and its services.
pub type Router = tonic::transport::server::Router<Stack<DefaultDeadline, Identity>>;

/// A server with all limits set, for the connections of [`incoming`](crate::incoming::incoming). Calls of ours carry deadlines
/// of their own, which are shorter than the server's; one that carries none gets [`DEFAULT_DEADLINE`].
pub fn server() -> Server<Stack<DefaultDeadline, Identity>> {
    Server::builder()
        .layer(DefaultDeadline)
        .timeout(LONGEST_CALL)
        .concurrency_limit_per_connection(CONCURRENT_CALLS)
        .load_shed(true)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CONCURRENT_STREAMS)
}

/// How `host:port` is reached, with all limits set.
pub fn endpoint(address: &str) -> Result<Endpoint, CodedError> {
    let malformed = || {
        let shown = crate::status::one_line(address, 128);
        CodedError::new(
            ErrorCode::InvalidArgument,
            format!("cannot parse address `{shown}`: the expected format is HOST:PORT, like localhost:6123"),
        )
        .with_hint("where none is given, the job manager of the configuration is meant")
    };
    if !is_host_and_port(address) {
        return Err(malformed());
    }
    Ok(Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| malformed())?
        .user_agent(concat!("streamd/", env!("CARGO_PKG_VERSION")))
        .expect("name and version are visible ASCII")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

/// Whether the text is a host (name, IPv4, or IPv6 in brackets) and a port, and nothing that a URI could hide in.
fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let is_name = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && is_name(host),
    };
    let is_port = port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_host && is_port
}

/// The generated client of the job manager's clients, with limits. Most callers want
/// [`DispatcherClient`](crate::client::DispatcherClient).
pub fn dispatcher_client(channel: Channel) -> proto::dispatcher_client::DispatcherClient<Channel> {
    // The answer may be a plan; no request is.
    proto::dispatcher_client::DispatcherClient::new(channel)
        .max_decoding_message_size(LINK_MESSAGE_BYTES)
        .max_encoding_message_size(CONTROL_MESSAGE_BYTES)
}

/// The service of the job manager's clients, with limits.
pub fn dispatcher_server<T: proto::dispatcher_server::Dispatcher>(
    service: T,
) -> proto::dispatcher_server::DispatcherServer<T> {
    proto::dispatcher_server::DispatcherServer::new(service)
        .max_decoding_message_size(CONTROL_MESSAGE_BYTES)
        .max_encoding_message_size(LINK_MESSAGE_BYTES)
}

/// The task manager's end of its link, with limits.
pub fn task_manager_link_client<T>(transport: T) -> proto::task_manager_link_client::TaskManagerLinkClient<T>
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    proto::task_manager_link_client::TaskManagerLinkClient::new(transport)
        .max_decoding_message_size(LINK_MESSAGE_BYTES)
        .max_encoding_message_size(LINK_MESSAGE_BYTES)
}

/// The job manager's end of task managers' links, with limits.
pub fn task_manager_link_server<T: proto::task_manager_link_server::TaskManagerLink>(
    service: T,
) -> proto::task_manager_link_server::TaskManagerLinkServer<T> {
    proto::task_manager_link_server::TaskManagerLinkServer::new(service)
        .max_decoding_message_size(LINK_MESSAGE_BYTES)
        .max_encoding_message_size(LINK_MESSAGE_BYTES)
}

/// A worker's end of its link, with limits.
pub fn worker_link_client(channel: Channel) -> proto::worker_link_client::WorkerLinkClient<Channel> {
    proto::worker_link_client::WorkerLinkClient::new(channel)
        .max_decoding_message_size(DEPLOYMENT_BYTES)
        .max_encoding_message_size(LINK_MESSAGE_BYTES)
}

/// The job master's end of workers' links, with limits.
pub fn worker_link_server<T: proto::worker_link_server::WorkerLink>(
    service: T,
) -> proto::worker_link_server::WorkerLinkServer<T> {
    proto::worker_link_server::WorkerLinkServer::new(service)
        .max_decoding_message_size(LINK_MESSAGE_BYTES)
        .max_encoding_message_size(DEPLOYMENT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_else() {
        for good in [
            "localhost:6123",
            "10.0.0.1:1",
            "[::1]:65535",
            "job-manager.example.org:80",
        ] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "localhost:",
            ":1",
            "localhost:0",
            "localhost:65536",
            "a b:1",
            "::1:1",
            "[]:1",
            "user@host:1",
            "host/path:1",
            "http://host:1",
            "host:1/x",
            "host:+1",
        ] {
            let error = endpoint(bad).expect_err(bad);
            assert_eq!(error.code, ErrorCode::InvalidArgument);
        }
    }
}
