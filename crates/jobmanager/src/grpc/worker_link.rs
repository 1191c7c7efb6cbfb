//! The link of a worker to its job master.

use futures::StreamExt;
use futures::stream::BoxStream;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::WorkerId;
use streamd_core::protocol::{WorkerEvent, WorkerRegistration, WorkerReturn};
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
        let registration = arrival.registration();
        let (worker, job) = (registration.worker, registration.job_id);
        let job = self.registry.find(job).await.map_err(|error| to_status(&error))?;
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let attached = match arrival {
            Arrival::New(registration) => job.attach_worker(registration, commands).await,
            Arrival::Returned(returned) => job.return_worker(returned, commands).await,
        };
        attached.map_err(|error| to_status(&error))?;
        self.tasks.spawn(forward(job, worker, events, self.shutdown.clone()));
        let commands = ReceiverStream::new(queue).map(|command| Ok(command.into())).boxed();
        let mut response = Response::new(commands);
        let epoch = self.leader_epoch.into();
        response.metadata_mut().insert(streamd_rpc::LEADER_EPOCH, epoch);
        Ok(response)
    }
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
enum Arrival {
    New(WorkerRegistration),
    Returned(Box<WorkerReturn>),
}

impl Arrival {
    fn registration(&self) -> &WorkerRegistration {
        match self {
            Self::New(registration) => registration,
            Self::Returned(returned) => &returned.registration,
        }
    }
}

async fn arrival(events: &mut Streaming<proto::WorkerEvent>) -> Result<Arrival, Status> {
    let refused = |message: String| Err(to_status(&CodedError::new(ErrorCode::ProtocolMismatch, message)));
    match first_word(events).await?.map(WorkerEvent::try_from) {
        Some(Ok(WorkerEvent::Registered(registration))) => Ok(Arrival::New(registration)),
        Some(Ok(WorkerEvent::Returned(returned))) => Ok(Arrival::Returned(returned)),
        Some(Ok(_)) | None => refused("the first word on a worker link must be a registration".to_owned()),
        Some(Err(error)) => refused(error.to_string()),
    }
}
