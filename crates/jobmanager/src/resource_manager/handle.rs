//! The resource manager, seen from outside.

use std::collections::BTreeMap;

use bytes::Bytes;
use streamd_coordinator::event::SlotId;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, TaskManagerId, WorkerId};
use streamd_core::protocol::Failure;
use streamd_rpc::proto;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::departure::Departure;
use super::log_request::LogPart;
use super::profile::ProfileOrder;
use crate::job_master::JobMasterHandle;

pub(crate) use streamd_rpc::proto::Program;

/// Messages that wait for the resource manager. Each is small and handled without waiting for a link; a thousand covers a whole
/// cluster that reports at once.
pub(super) const MAILBOX_CAPACITY: usize = 1_024;

/// Pieces of logs that wait for a reader. A reader that falls further behind gets an error instead of the job manager's memory.
const LOG_QUEUE: usize = 256;

/// What the resource manager is told or asked.
pub(super) enum Message {
    Register {
        registration: proto::TaskManagerRegistration,
        commands: mpsc::Sender<proto::TaskManagerCommand>,
        reply: oneshot::Sender<Result<Session, CodedError>>,
    },
    Report(TaskManagerId, u64, TaskManagerReport),
    RequestSlots(JobMasterHandle, u32),
    Reconcile(JobId),
    AdoptWorker {
        job: JobMasterHandle,
        worker: WorkerId,
        task_manager: TaskManagerId,
    },
    AdoptSlots(JobMasterHandle, Vec<SlotId>),
    ReleaseSlots(JobId),
    StartWorker {
        job: JobMasterHandle,
        worker: WorkerId,
        task_manager: TaskManagerId,
        program: Program,
    },
    StopWorker(WorkerId),
    ForgetJob(JobId),
    Describe(Program, oneshot::Sender<Result<Bytes, CodedError>>),
    ReadLogs(JobId, BTreeMap<WorkerId, u64>, mpsc::Sender<LogPart>),
    Profile(ProfileOrder, oneshot::Sender<Result<proto::Profile, CodedError>>),
    StopAbandonedProfiles,
    Drain(TaskManagerId, Use, oneshot::Sender<Result<Vec<JobId>, CodedError>>),
    View(oneshot::Sender<ClusterView>),
}

/// Whether jobs may use a task manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// They may not: those that do move elsewhere.
    Drained,
    /// They may.
    Open,
}

/// What a registered task manager says.
#[derive(Debug)]
pub(crate) enum TaskManagerReport {
    /// It lives.
    Heartbeat,
    /// What came of describing an application.
    Described(u64, Result<Bytes, CodedError>),
    /// A worker process runs.
    WorkerStarted(WorkerId, u32),
    /// A worker process is gone, or could not be started.
    WorkerExited(WorkerId, Failure),
    /// A piece of a log.
    Log(proto::LogChunk),
    /// What came of looking at a worker.
    Profiled(u64, Result<proto::Profile, CodedError>),
    /// It is to end, and waits for its jobs to move.
    Leaving,
    /// It is gone.
    Departed(Departure),
}

/// One registration of a task manager.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Tells this registration from others of the same name.
    pub(crate) number: u64,
    /// Cancelled when the resource manager has given the task manager up.
    pub(crate) closed: CancellationToken,
}

/// The cluster as people see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterView {
    /// Every task manager.
    pub(crate) task_managers: Vec<proto::TaskManager>,
    /// All slots.
    pub(crate) slots_total: u32,
    /// Slots that no job holds.
    pub(crate) slots_free: u32,
}

/// A cheap clone that reaches the resource manager.
#[derive(Clone)]
pub(crate) struct ResourceManagerHandle {
    pub(super) mailbox: mpsc::Sender<Message>,
}

impl ResourceManagerHandle {
    /// Registers a task manager. A second registration of the same name replaces the first.
    pub(crate) async fn register(
        &self,
        registration: proto::TaskManagerRegistration,
        commands: mpsc::Sender<proto::TaskManagerCommand>,
    ) -> Result<Session, CodedError> {
        self.ask(|reply| Message::Register {
            registration,
            commands,
            reply,
        })
        .await?
    }

    /// Passes on what a task manager said. Reports of a registration that has been replaced are ignored.
    pub(crate) async fn report(&self, id: TaskManagerId, session: &Session, report: TaskManagerReport) {
        self.tell(Message::Report(id, session.number, report)).await;
    }

    /// Has some task manager describe an application. Errors if there is none, or if the application fails.
    pub(crate) async fn describe(&self, program: Program) -> Result<Bytes, CodedError> {
        self.ask(|reply| Message::Describe(program, reply)).await?
    }

    /// Has every task manager send the logs of a job's workers, each from a number of bytes on (0 where none is named). The
    /// channel closes when all have answered.
    pub(crate) async fn read_logs(&self, job: JobId, from: BTreeMap<WorkerId, u64>) -> mpsc::Receiver<LogPart> {
        let (reply, parts) = mpsc::channel(LOG_QUEUE);
        self.tell(Message::ReadLogs(job, from, reply)).await;
        parts
    }

    /// Has a task manager look where the processor time of a worker goes. Errors if it is gone or cannot. Whoever drops the future
    /// before its end calls [`stop_abandoned_profiles`](Self::stop_abandoned_profiles).
    pub(crate) async fn profile(&self, order: ProfileOrder) -> Result<proto::Profile, CodedError> {
        self.ask(|reply| Message::Profile(order, reply)).await?
    }

    /// Ends the profiles that nobody waits for any more.
    pub(crate) async fn stop_abandoned_profiles(&self) {
        self.tell(Message::StopAbandonedProfiles).await;
    }

    /// Takes a task manager out of use, or into use again. Returns the jobs that are still to move. Errors if there is no such
    /// task manager, or if its jobs would find too few slots elsewhere.
    pub(crate) async fn drain(&self, id: TaskManagerId, use_: Use) -> Result<Vec<JobId>, CodedError> {
        self.ask(|reply| Message::Drain(id, use_, reply)).await?
    }

    /// Workers of a job may run on that another job manager started: they are left alone until the job says otherwise. To be said
    /// before a task manager can register, since one that comes back with them is told at once to end those that no job waits for.
    pub(crate) async fn reconcile(&self, job: JobId) {
        self.tell(Message::Reconcile(job)).await;
    }

    /// The cluster now.
    pub(crate) async fn view(&self) -> Result<ClusterView, CodedError> {
        self.ask(Message::View).await
    }

    pub(super) async fn tell(&self, message: Message) {
        // The service lives as long as any handle; it is gone only while the runtime shuts down.
        let _ended = self.mailbox.send(message).await;
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, CodedError> {
        let (reply, answer) = oneshot::channel();
        self.tell(message(reply)).await;
        let stopped = |_| CodedError::new(ErrorCode::ClusterShuttingDown, "the job manager is shutting down");
        answer.await.map_err(stopped)
    }
}
