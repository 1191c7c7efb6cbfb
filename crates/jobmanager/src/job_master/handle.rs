//! A job master, seen from outside.

use std::sync::Arc;

use streamd_coordinator::event::{OperationRequest, PublishError, PublishedSnapshot, SlotId};
use streamd_coordinator::job::OperationStatus;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{CheckpointId, JobId, OperationId, TaskManagerId, WorkerId};
use streamd_core::protocol::{Failure, WorkerCommand, WorkerEvent, WorkerRegistration, WorkerReturn};
use tokio::sync::{mpsc, oneshot, watch};

use super::status::{JobDetails, JobStatus};

/// Messages that wait for a job master. Each is small and handled without waiting, so that the queue only has to take a burst
/// of acknowledgements: one per subtask of a large job.
pub(super) const MAILBOX_CAPACITY: usize = 1_024;

/// What a job master is told or asked.
pub(super) enum JobMessage {
    Begin,
    SlotsAllocated(Vec<SlotId>),
    AttachWorker {
        registration: WorkerRegistration,
        commands: mpsc::Sender<WorkerCommand>,
        reply: oneshot::Sender<Result<(), CodedError>>,
    },
    ReturnWorker {
        returned: Box<WorkerReturn>,
        commands: mpsc::Sender<WorkerCommand>,
        reply: oneshot::Sender<Result<(), CodedError>>,
    },
    WorkerStarted(WorkerId),
    WorkerEvent(WorkerId, WorkerEvent),
    WorkerLinkClosed(WorkerId),
    WorkerMisbehaved(WorkerId, Failure),
    WorkerLost(WorkerId, Failure),
    TaskManagerLost(TaskManagerId),
    Evacuate(TaskManagerId),
    Published(CheckpointId, Result<PublishedSnapshot, PublishError>),
    Promoted(OperationId, Result<PublishedSnapshot, PublishError>),
    Cancel(oneshot::Sender<Result<(), CodedError>>),
    StartOperation(OperationRequest, oneshot::Sender<Result<(), CodedError>>),
    FindOperation(OperationId, oneshot::Sender<Option<watch::Receiver<OperationStatus>>>),
    Details(oneshot::Sender<JobDetails>),
    Suspend(oneshot::Sender<()>),
}

/// A cheap clone that reaches a job master. The job master lives for as long as a handle does.
#[derive(Clone)]
pub struct JobMasterHandle {
    pub(super) job_id: JobId,
    pub(super) name: Arc<str>,
    pub(super) mailbox: mpsc::Sender<JobMessage>,
    pub(super) status: watch::Receiver<JobStatus>,
}

impl JobMasterHandle {
    /// The job.
    pub fn job_id(&self) -> JobId {
        self.job_id
    }

    /// The job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The state of the job, and each change of it.
    pub fn status(&self) -> watch::Receiver<JobStatus> {
        self.status.clone()
    }

    /// Waits until nothing follows any more.
    pub(crate) async fn over(&self) {
        let mut status = self.status.clone();
        // The sender is gone with the job master, and then nothing follows either.
        let _gone = status.wait_for(JobStatus::is_over).await.map(drop);
    }

    /// Has the job begin. Whoever starts a master makes it known first: the job's workers ask for it as soon as they run.
    pub(crate) fn begin(&self) {
        // The mailbox of a new master is empty; its task is gone only while the runtime shuts down.
        let _ended = self.mailbox.try_send(JobMessage::Begin);
    }

    /// The slots that the job asked for, all of them.
    pub async fn slots_allocated(&self, slots: Vec<SlotId>) {
        self.tell(JobMessage::SlotsAllocated(slots)).await;
    }

    /// The process of a worker runs: from now on it is expected to report for work.
    pub(crate) async fn worker_started(&self, worker: WorkerId) {
        self.tell(JobMessage::WorkerStarted(worker)).await;
    }

    /// Attaches a worker: from now on `commands` leads to it. Errors if the job does not expect this worker.
    pub async fn attach_worker(
        &self,
        registration: WorkerRegistration,
        commands: mpsc::Sender<WorkerCommand>,
    ) -> Result<(), CodedError> {
        self.ask(|reply| JobMessage::AttachWorker {
            registration,
            commands,
            reply,
        })
        .await?
    }

    /// Attaches a worker again that runs an attempt of another job manager. Errors if the job does not wait for it.
    pub(crate) async fn return_worker(
        &self,
        returned: Box<WorkerReturn>,
        commands: mpsc::Sender<WorkerCommand>,
    ) -> Result<(), CodedError> {
        self.ask(|reply| JobMessage::ReturnWorker {
            returned,
            commands,
            reply,
        })
        .await?
    }

    /// Something that an attached worker said. Waits while the job master is busy.
    pub async fn worker_event(&self, worker: WorkerId, event: WorkerEvent) {
        self.tell(JobMessage::WorkerEvent(worker, event)).await;
    }

    /// The link to a worker is closed. The job master waits a moment for [`worker_lost`](Self::worker_lost) to say why.
    pub async fn worker_link_closed(&self, worker: WorkerId) {
        self.tell(JobMessage::WorkerLinkClosed(worker)).await;
    }

    /// A worker said what nobody understands: its job goes on without it.
    pub(crate) async fn worker_misbehaved(&self, worker: WorkerId, failure: Failure) {
        self.tell(JobMessage::WorkerMisbehaved(worker, failure)).await;
    }

    /// A worker is gone, or could not be started.
    pub async fn worker_lost(&self, worker: WorkerId, failure: Failure) {
        self.tell(JobMessage::WorkerLost(worker, failure)).await;
    }

    /// A task manager is gone, with its slots and workers.
    pub async fn task_manager_lost(&self, task_manager: TaskManagerId) {
        self.tell(JobMessage::TaskManagerLost(task_manager)).await;
    }

    /// A task manager is to be empty: the job goes on elsewhere, from a checkpoint of now.
    pub async fn evacuate(&self, task_manager: TaskManagerId) {
        self.tell(JobMessage::Evacuate(task_manager)).await;
    }

    /// Asks for the job to be cancelled; it is CANCELED a moment later. Fine if it is cancelled already. Errors if the job
    /// has ended otherwise.
    pub async fn cancel(&self) -> Result<(), CodedError> {
        self.ask(JobMessage::Cancel).await?
    }

    /// Starts an operation. The same id twice starts one operation. Errors if it cannot even begin.
    pub async fn start_operation(&self, request: OperationRequest) -> Result<(), CodedError> {
        self.ask(|reply| JobMessage::StartOperation(request, reply)).await?
    }

    /// The progress and outcome of an operation of this job, if there is one with the id.
    pub async fn operation(&self, id: OperationId) -> Result<Option<watch::Receiver<OperationStatus>>, CodedError> {
        self.ask(|reply| JobMessage::FindOperation(id, reply)).await
    }

    /// All there is to know about the job now.
    pub async fn details(&self) -> Result<JobDetails, CodedError> {
        self.ask(JobMessage::Details).await
    }

    /// Lets go of the job because its cluster shuts down: workers are told to exit, nothing is decided any more, and snapshots
    /// stay where they are. Returns once the workers are gone. A job that is over stays as it is.
    pub async fn suspend(&self) {
        // A job master that does not answer has ended, and with it the job.
        let _ended = self.ask(JobMessage::Suspend).await;
    }

    async fn tell(&self, message: JobMessage) {
        // The receiver lives as long as any handle; it is gone only while the runtime shuts down.
        let _ended = self.mailbox.send(message).await;
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> JobMessage) -> Result<T, CodedError> {
        let (reply, answer) = oneshot::channel();
        self.tell(message(reply)).await;
        answer.await.map_err(|_| {
            CodedError::new(
                ErrorCode::ClusterShuttingDown,
                format!("the job master of job `{}` has stopped", self.job_id),
            )
        })
    }
}
