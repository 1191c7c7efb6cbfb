//! The link to the job manager: opened, registered, and then two directions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::WorkerId;
use streamd_rpc::client::{DispatcherClient, connect_to_leader, job_manager_peer};
use streamd_rpc::limits::task_manager_link_client;
use streamd_rpc::proto::task_manager_command::Command;
use streamd_rpc::proto::task_manager_event::Event;
use streamd_rpc::proto::{self, TaskManagerCommand, TaskManagerEvent};
use streamd_rpc::status::from_status;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Events that wait for the network. Pieces of logs are 64 KiB, so that at most 4 MiB wait; a worker's end behind them
/// is late by as long as those take.
const EVENT_QUEUE: usize = 64;

/// How long the job manager may take to accept a registration.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The interval of heartbeats where the job manager names none.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);

/// The shortest interval of heartbeats: a mistaken setting must not flood the job manager.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(50);

/// Sends events to the job manager, whichever link leads to it. Clones share the queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventSender(Arc<Mutex<Option<mpsc::Sender<TaskManagerEvent>>>>);

impl EventSender {
    /// Sends an event, waiting for room. While there is no link events go nowhere: what runs is told anew at the next
    /// registration.
    pub(crate) async fn send(&self, event: Event) {
        if let Some(queue) = self.queue() {
            let _link_gone = queue.send(TaskManagerEvent { event: Some(event) }).await;
        }
    }

    /// Sends an event if there is room.
    pub(crate) fn send_if_idle(&self, event: Event) {
        if let Some(queue) = self.queue() {
            let _full_or_gone = queue.try_send(TaskManagerEvent { event: Some(event) });
        }
    }

    /// There is no link any more.
    pub(crate) fn disconnect(&self) {
        *self.lock() = None;
    }

    fn connect(&self, queue: mpsc::Sender<TaskManagerEvent>) {
        *self.lock() = Some(queue);
    }

    fn queue(&self) -> Option<mpsc::Sender<TaskManagerEvent>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<mpsc::Sender<TaskManagerEvent>>> {
        // No code that holds the lock can leave a half-made change behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An accepted registration.
#[derive(Debug)]
pub(crate) struct Link {
    /// `host:port` of the job manager at its other end.
    pub(crate) job_manager: String,
    pub(crate) events: EventSender,
    pub(crate) commands: Streaming<TaskManagerCommand>,
    /// The job manager's other service, over the same connection.
    pub(crate) dispatcher: DispatcherClient,
    /// How often to give a sign of life.
    pub(crate) heartbeat: Duration,
    /// How long the job manager may give none.
    pub(crate) silence: Duration,
    /// The epoch in which it leads.
    pub(crate) leader_epoch: u64,
    /// The workers that the registration names.
    pub(crate) announced: Vec<WorkerId>,
}

impl Link {
    /// Connects, registers, and waits for the job manager to accept.
    pub(crate) async fn open(
        address: &str,
        registration: proto::TaskManagerRegistration,
        events: &EventSender,
    ) -> Result<Self, CodedError> {
        let (channel, address) = connect_to_leader(address).await?;
        let peer = job_manager_peer(&address);
        let (queue, receiver) = mpsc::channel(EVENT_QUEUE);
        let announced = registration.workers.iter();
        let announced = announced.map(|worker| WorkerId(worker.worker_id)).collect();
        let registration = Some(Event::Registration(registration));
        // The queue is new, and has room.
        let _sent = queue.try_send(TaskManagerEvent { event: registration });
        let mut client = task_manager_link_client(channel.clone());
        let accepting = async {
            let mut commands = client.connect(ReceiverStream::new(receiver)).await?.into_inner();
            let first = commands.message().await?;
            Ok((first.and_then(|command| command.command), commands))
        };
        let accepted = tokio::time::timeout(ACCEPT_TIMEOUT, accepting)
            .await
            .map_err(|_| CodedError::new(ErrorCode::DeadlineExceeded, format!("{peer} did not answer in time")))?;
        match accepted {
            Ok((Some(Command::Accepted(terms)), commands)) => {
                events.connect(queue);
                Ok(Self {
                    events: events.clone(),
                    commands,
                    dispatcher: DispatcherClient::new(channel, &address),
                    heartbeat: heartbeat_interval(&terms),
                    silence: Duration::from_millis(terms.heartbeat_timeout_ms),
                    leader_epoch: terms.leader_epoch,
                    announced,
                    job_manager: address,
                })
            }
            Ok((Some(_), _)) => Err(CodedError::new(
                ErrorCode::ProtocolMismatch,
                format!("{peer} sent a command before it accepted the registration"),
            )),
            Ok((None, _)) => Err(CodedError::new(
                ErrorCode::JobManagerUnreachable,
                format!("{peer} closed the link without accepting the registration"),
            )),
            Err(status) => Err(from_status(&status, &peer)),
        }
    }
}

fn heartbeat_interval(terms: &proto::RegistrationAccepted) -> Duration {
    match terms.heartbeat_interval_ms {
        0 => DEFAULT_HEARTBEAT,
        millis => Duration::from_millis(millis).max(SHORTEST_HEARTBEAT),
    }
}
