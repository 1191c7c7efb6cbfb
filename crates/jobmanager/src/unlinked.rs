//! A job manager without a server: whoever holds it carries the words of its task managers, workers and clients. For simulations,
//! in which everything else is as on a cluster: election, records, recovery, dispatcher, resource manager and job masters.

use std::sync::Arc;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, TaskManagerId};
use streamd_core::protocol::{WorkerCommand, WorkerEvent};
use streamd_core::time::Clock;
pub use streamd_rpc::proto;
use streamd_snapshot::LeaderRecords;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::dispatcher::Dispatcher;
use crate::fence::Fence;
use crate::grpc::{Arrival, attach, report};
use crate::job_master::JobMasterHandle;
pub use crate::job_master::Onlookers;
use crate::leadership::{ByRecords, Candidate, HighAvailability, Leadership};
use crate::options::{JobManagerOptions, ResolveJobOptions};
use crate::resource_manager::{Departure, ResourceManagerHandle, Session, TaskManagerReport};
use crate::server::{begin, make_folders};

/// A job manager that leads.
pub struct UnlinkedJobManager {
    epoch: u64,
    fence: Fence,
    dispatcher: Dispatcher,
}

impl UnlinkedJobManager {
    /// Waits until it leads, and returns once the jobs of earlier job managers go on. `options.bind_address` is its address as it is.
    /// Dropped with its runtime, it ends as a process does that is killed.
    pub async fn lead(
        mut options: JobManagerOptions,
        clock: Arc<dyn Clock>,
        resolve: ResolveJobOptions,
    ) -> Result<Self, CodedError> {
        let data = make_folders(&mut options)?;
        let candidate = Candidate {
            records: LeaderRecords::new(data.clone()),
            address: options.bind_address.clone(),
            clock: clock.clone(),
        };
        let leadership = match &options.high_availability {
            HighAvailability::None => candidate.take().await?,
            HighAvailability::ObjectStore(times) => {
                let (records, address) = (candidate.records.clone(), candidate.address.clone());
                let election = ByRecords::new(records, address, clock.clone(), *times);
                candidate.win(election, *times, &watch::Sender::new(None)).await
            }
            HighAvailability::Kubernetes(..) => {
                let message = "a job manager without a network cannot be elected by Kubernetes";
                return Err(CodedError::new(ErrorCode::InvalidConfiguration, message));
            }
        };
        // Signs of life go on by themselves until the leadership is lost.
        let Leadership { fence, epoch, signs: _ } = leadership;
        let dispatcher = begin(
            &options,
            &data,
            (clock, fence.clone(), epoch),
            resolve,
            &TaskTracker::new(),
        )
        .await?;
        Ok(Self {
            epoch,
            fence,
            dispatcher,
        })
    }

    /// The epoch in which it leads.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether it knows that it does not lead any more. Its process ends then.
    pub fn is_superseded(&self) -> bool {
        self.fence.is_revoked()
    }

    /// Submits a job, as a client does.
    pub async fn submit(&self, request: proto::SubmitJobRequest) -> Result<(), CodedError> {
        self.dispatcher.submit(request).await.map(drop)
    }

    /// The master of a job. Errors if there is no such job.
    pub async fn job(&self, id: JobId) -> Result<JobMasterHandle, CodedError> {
        self.dispatcher.registry.find(id).await
    }

    /// Registers a task manager: from now on `commands` leads to it.
    pub async fn register(
        &self,
        registration: proto::TaskManagerRegistration,
        commands: mpsc::Sender<proto::TaskManagerCommand>,
    ) -> Result<TaskManagerLink, CodedError> {
        let id = TaskManagerId(registration.task_manager_id.clone());
        let resource_manager = self.dispatcher.resource_manager.clone();
        let session = resource_manager.register(registration, commands).await?;
        Ok(TaskManagerLink {
            id,
            session,
            resource_manager,
        })
    }

    /// Attaches a worker to its job by the first word on its link: from now on `commands` leads to it.
    pub async fn attach(
        &self,
        first_word: WorkerEvent,
        commands: mpsc::Sender<WorkerCommand>,
    ) -> Result<JobMasterHandle, CodedError> {
        let arrival = Arrival::of(first_word).ok_or_else(|| {
            let message = "the first word on a worker link must be a registration";
            CodedError::new(ErrorCode::ProtocolMismatch, message)
        })?;
        attach(&self.dispatcher.registry, arrival, commands).await
    }
}

/// The link of a task manager, at the job manager's end. Cheap to clone.
#[derive(Clone)]
pub struct TaskManagerLink {
    id: TaskManagerId,
    session: Session,
    resource_manager: ResourceManagerHandle,
}

impl TaskManagerLink {
    /// The task manager says something.
    pub async fn hear(&self, event: proto::task_manager_event::Event) {
        if let Some(report) = report(event) {
            self.report(report).await;
        }
    }

    /// The link is broken.
    pub async fn broken(&self) {
        self.report(TaskManagerReport::Departed(Departure::LinkBroken)).await;
    }

    /// Whether the job manager has given the task manager up.
    pub fn is_closed(&self) -> bool {
        self.session.closed.is_cancelled()
    }

    async fn report(&self, report: TaskManagerReport) {
        self.resource_manager
            .report(self.id.clone(), &self.session, report)
            .await;
    }
}
