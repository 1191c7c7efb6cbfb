//! The link of a task manager to the resource manager.

use futures::StreamExt;
use futures::stream::BoxStream;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{TaskManagerId, WorkerId};
use streamd_core::protocol::{Failure, FaultDomain};
use streamd_rpc::proto;
use streamd_rpc::proto::application_described::Outcome;
use streamd_rpc::proto::task_manager_event::Event;
use streamd_rpc::proto::worker_profiled;
use streamd_rpc::status::{from_proto, to_status};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use super::first_word::first_word;
use crate::resource_manager::{COMMAND_QUEUE, Departure, ResourceManagerHandle, Session, TaskManagerReport};

/// Serves the links of all task managers.
pub(crate) struct TaskManagerLinkService {
    pub(crate) resource_manager: ResourceManagerHandle,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl proto::task_manager_link_server::TaskManagerLink for TaskManagerLinkService {
    type ConnectStream = BoxStream<'static, Result<proto::TaskManagerCommand, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<proto::TaskManagerEvent>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut events = request.into_inner();
        let registration = registration(&mut events).await?;
        let id = TaskManagerId(registration.task_manager_id.clone());
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let registered = self.resource_manager.register(registration, commands).await;
        let session = registered.map_err(|error| to_status(&error))?;
        let end = session.closed.clone();
        let link = Link {
            id,
            session,
            resource_manager: self.resource_manager.clone(),
        };
        self.tasks.spawn(link.forward(events, self.shutdown.clone()));
        // A task manager that was given up must see its link end, even if its commands are stuck.
        let commands = ReceiverStream::new(queue).map(Ok).take_until(end.cancelled_owned());
        let shutdown = self.shutdown.clone();
        let last_word = futures::stream::once(async move { shutdown.is_cancelled().then(shutting_down) });
        let last_word = last_word.filter_map(async |status| status.map(Err));
        Ok(Response::new(commands.chain(last_word).boxed()))
    }
}

struct Link {
    id: TaskManagerId,
    session: Session,
    resource_manager: ResourceManagerHandle,
}

impl Link {
    /// Passes on what the task manager says, until its link closes.
    async fn forward(self, mut events: Streaming<proto::TaskManagerEvent>, shutdown: CancellationToken) {
        let departure = loop {
            let message = tokio::select! {
                message = events.message() => message,
                () = self.session.closed.cancelled() => break Departure::LinkBroken,
                () = shutdown.cancelled() => break Departure::ShuttingDown,
            };
            match message {
                Ok(Some(proto::TaskManagerEvent { event: Some(event) })) => match report(event) {
                    Some(report) => self.report(report).await,
                    None => warn!(task_manager = %self.id, "task manager sent a malformed message"),
                },
                // An event of a newer version.
                Ok(Some(proto::TaskManagerEvent { event: None })) => {}
                Ok(None) => break Departure::Goodbye,
                Err(status) => {
                    debug!(task_manager = %self.id, %status, "task manager link broke");
                    break Departure::LinkBroken;
                }
            }
        };
        self.session.closed.cancel();
        self.report(TaskManagerReport::Departed(departure)).await;
    }

    async fn report(&self, report: TaskManagerReport) {
        self.resource_manager
            .report(self.id.clone(), &self.session, report)
            .await;
    }
}

fn shutting_down() -> Status {
    let error = CodedError::new(ErrorCode::ClusterShuttingDown, "the job manager shuts down");
    to_status(&error.with_hint("start it again with bin/start-cluster.sh"))
}

/// What an event says; nothing where it lacks what it needs.
pub(crate) fn report(event: Event) -> Option<TaskManagerReport> {
    match event {
        Event::Registration(_) => None,
        Event::Heartbeat(proto::TaskManagerHeartbeat {}) => Some(TaskManagerReport::Heartbeat),
        Event::Described(described) => {
            let outcome = match described.outcome? {
                Outcome::Plan(plan) => Ok(plan),
                Outcome::Error(error) => Err(from_proto(&error)),
            };
            Some(TaskManagerReport::Described(described.request_id, outcome))
        }
        Event::WorkerStarted(started) => Some(TaskManagerReport::WorkerStarted(
            WorkerId(started.worker_id),
            started.process_id,
        )),
        Event::WorkerExited(exited) => {
            let failure = exited
                .reason
                .and_then(|reason| Failure::try_from(reason).ok())
                .unwrap_or_else(|| {
                    Failure::new(FaultDomain::External, format!("`{}` ended", WorkerId(exited.worker_id)))
                });
            Some(TaskManagerReport::WorkerExited(WorkerId(exited.worker_id), failure))
        }
        Event::LogChunk(chunk) => Some(TaskManagerReport::Log(chunk)),
        Event::Profiled(profiled) => {
            let outcome = match profiled.outcome? {
                worker_profiled::Outcome::Profile(profile) => Ok(profile),
                worker_profiled::Outcome::Error(error) => Err(from_proto(&error)),
            };
            Some(TaskManagerReport::Profiled(profiled.request_id, outcome))
        }
        Event::Leaving(proto::TaskManagerLeaving {}) => Some(TaskManagerReport::Leaving),
    }
}

async fn registration(
    events: &mut Streaming<proto::TaskManagerEvent>,
) -> Result<proto::TaskManagerRegistration, Status> {
    match first_word(events).await?.and_then(|event| event.event) {
        Some(Event::Registration(registration)) => Ok(registration),
        Some(_) | None => {
            let message = "the first word on a task manager link must be a registration";
            Err(to_status(&CodedError::new(ErrorCode::ProtocolMismatch, message)))
        }
    }
}
