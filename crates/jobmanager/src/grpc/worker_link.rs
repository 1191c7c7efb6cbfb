//! The link of a worker to its job master.

use futures::StreamExt;
use futures::stream::BoxStream;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::WorkerId;
use streamd_core::protocol::{Failure, FaultDomain, WorkerCommand, WorkerEvent, WorkerRegistration, WorkerReturn};
use streamd_rpc::proto;
use streamd_rpc::status::to_status;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use super::first_word::first_word;
use crate::dispatcher::RegistryHandle;
use crate::job_master::JobMasterHandle;

/// Commands that wait for a worker's link. A checkpoint is two commands, and a worker that lets hundreds wait is stuck.
pub(crate) const COMMAND_QUEUE: usize = 256;

/// Serves the links of all workers.
pub(crate) struct WorkerLinkService {
    pub(crate) registry: RegistryHandle,
    /// In which this job manager leads.
    pub(crate) leader_epoch: u64,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl proto::worker_link_server::WorkerLink for WorkerLinkService {
    type ConnectStream = BoxStream<'static, Result<proto::WorkerCommand, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<proto::WorkerEvent>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut events = request.into_inner();
        let arrival = arrival(&mut events).await?;
        let worker = arrival.registration().worker;
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let attached = attach(&self.registry, arrival, commands).await;
        let job = attached.map_err(|error| to_status(&error))?;
        self.tasks.spawn(forward(job, worker, events, self.shutdown.clone()));
        let commands = ReceiverStream::new(queue).map(|command| Ok(command.into())).boxed();
        let mut response = Response::new(commands);
        let epoch = self.leader_epoch.into();
        response.metadata_mut().insert(streamd_rpc::LEADER_EPOCH, epoch);
        Ok(response)
    }
}

/// Attaches a worker to its job, by its first word.
pub(crate) async fn attach(
    registry: &RegistryHandle,
    arrival: Arrival,
    commands: mpsc::Sender<WorkerCommand>,
) -> Result<JobMasterHandle, CodedError> {
    let job = registry.find(arrival.registration().job_id).await?;
    match arrival {
        Arrival::New(registration) => job.attach_worker(registration, commands).await?,
        Arrival::Returned(returned) => job.return_worker(returned, commands).await?,
    }
    Ok(job)
}

/// Passes on what a worker says, until its link closes.
async fn forward(
    job: JobMasterHandle,
    worker: WorkerId,
    mut events: Streaming<proto::WorkerEvent>,
    shutdown: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            message = events.message() => message,
            () = shutdown.cancelled() => break,
        };
        match message.map(|message| message.map(WorkerEvent::try_from)) {
            Ok(Some(Ok(WorkerEvent::Registered(_) | WorkerEvent::Returned(_)))) => {
                warn!(%worker, "worker registered twice on one link")
            }
            Ok(Some(Ok(event))) => job.worker_event(worker, event).await,
            Ok(Some(Err(error))) => {
                warn!(%worker, %error, "worker sent a malformed message");
                let message = format!("`{worker}` sent a malformed message: {error}");
                job.worker_misbehaved(worker, Failure::new(FaultDomain::Internal, message))
                    .await;
                break;
            }
            Ok(None) => break,
            Err(status) => {
                debug!(%worker, %status, "worker link broke");
                break;
            }
        }
    }
    job.worker_link_closed(worker).await;
}

/// How a worker opens its link.
pub(crate) enum Arrival {
    New(WorkerRegistration),
    Returned(Box<WorkerReturn>),
}

impl Arrival {
    /// What the first word on a link says; nothing if it is none.
    pub(crate) fn of(first_word: WorkerEvent) -> Option<Self> {
        match first_word {
            WorkerEvent::Registered(registration) => Some(Self::New(registration)),
            WorkerEvent::Returned(returned) => Some(Self::Returned(returned)),
            WorkerEvent::SubtaskState { .. }
            | WorkerEvent::Acknowledge { .. }
            | WorkerEvent::Decline { .. }
            | WorkerEvent::EndOfData { .. }
            | WorkerEvent::Heartbeat { .. } => None,
        }
    }

    fn registration(&self) -> &WorkerRegistration {
        match self {
            Self::New(registration) => registration,
            Self::Returned(returned) => &returned.registration,
        }
    }
}

async fn arrival(events: &mut Streaming<proto::WorkerEvent>) -> Result<Arrival, Status> {
    let refused = |message: String| to_status(&CodedError::new(ErrorCode::ProtocolMismatch, message));
    let word = first_word(events).await?.map(WorkerEvent::try_from).transpose();
    let word = word.map_err(|error| refused(error.to_string()))?;
    word.and_then(Arrival::of)
        .ok_or_else(|| refused("the first word on a worker link must be a registration".to_owned()))
}
