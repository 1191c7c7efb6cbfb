//! The link over gRPC: a stream of commands down, a stream of events up.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::protocol::{WorkerCommand, WorkerEvent};
use streamd_core::time::Clock;
use streamd_exchange::network::{DataPlane, DataPlaneOptions};
use streamd_rpc::proto;
use streamd_runtime::pipeline::Pipeline;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::options::WorkerOptions;
use crate::worker::{LINK_MESSAGES, Worker, WorkerIdentity, WorkerLink};

/// Runs a worker of a cluster until its job master sends it home or is gone.
pub async fn run(pipeline: Pipeline, options: WorkerOptions, clock: Arc<dyn Clock>) -> Result<(), CodedError> {
    if let Some(storage) = options.storage.clone() {
        streamd_snapshot::store::configure(storage);
    }
    let data_plane = bind(&options)?;
    let channel = streamd_rpc::client::connect(&options.job_manager).await?;
    let (events, outgoing) = mpsc::channel::<WorkerEvent>(LINK_MESSAGES);
    let (commands_in, commands) = mpsc::channel::<WorkerCommand>(LINK_MESSAGES);
    let peer = streamd_rpc::client::job_manager_peer(&options.job_manager);
    let outgoing = ReceiverStream::new(outgoing).map(proto::WorkerEvent::from);
    let mut client = streamd_rpc::limits::worker_link_client(channel);
    // The server answers with the first command only: do not wait for it before the worker has registered.
    let receive = async move {
        let mut incoming = match client.connect(outgoing).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Err(streamd_rpc::status::from_status(&status, &peer)),
        };
        while let Some(message) = incoming.next().await {
            let message = message.map_err(|status| streamd_rpc::status::from_status(&status, &peer))?;
            let command = WorkerCommand::try_from(message);
            let command = command.map_err(|error| {
                CodedError::caused(
                    ErrorCode::ProtocolMismatch,
                    "the job manager sent a malformed command",
                    &error,
                )
            })?;
            if commands_in.send(command).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let identity = WorkerIdentity {
        job_id: options.job_id,
        worker: options.worker,
        task_manager: options.task_manager,
        local_directory: options.local_directory,
        recovery_directory: options.recovery_directory,
    };
    let worker = Worker::new(identity, pipeline, clock).with_peers(Arc::new(data_plane));
    let (received, ()) = tokio::join!(receive, worker.run(WorkerLink { commands, events }));
    received
}

fn bind(options: &WorkerOptions) -> Result<DataPlane, CodedError> {
    let host: IpAddr = options.data_host.parse().map_err(|error| {
        CodedError::new(
            ErrorCode::InvalidConfiguration,
            format!("variable `STREAMD_DATA_HOST`: `{}`: {error}", options.data_host),
        )
    })?;
    // Peers prove that they work for the same job. Who may reach the port at all is the network's business until the data
    // plane speaks TLS.
    let data_plane = DataPlaneOptions::new(options.job_id.to_string());
    let bound = DataPlane::bind(SocketAddr::new(host, 0), data_plane, Handle::current());
    bound.map_err(|error| {
        CodedError::caused(
            ErrorCode::AddressInUse,
            format_args!("the data plane cannot bind `{host}`"),
            &error,
        )
    })
}
