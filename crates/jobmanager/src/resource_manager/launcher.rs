//! The launcher of a job on the cluster: slots and workers of task managers.

use futures::future::BoxFuture;

use super::handle::{Message, Program, ResourceManagerHandle};
use crate::job_master::{JobMasterHandle, LaunchRequest, WorkerLauncher};

/// Launches the workers of one job on the cluster.
pub(crate) struct ClusterLauncher {
    resource_manager: ResourceManagerHandle,
    program: Program,
}

impl ClusterLauncher {
    /// A launcher whose workers run `program`.
    pub(crate) fn new(resource_manager: ResourceManagerHandle, program: Program) -> Self {
        Self {
            resource_manager,
            program,
        }
    }
}

impl WorkerLauncher for ClusterLauncher {
    fn launch(&self, job: JobMasterHandle, request: LaunchRequest) -> BoxFuture<'static, ()> {
        let message = match request {
            LaunchRequest::RequestSlots { count } => Message::RequestSlots(job, count),
            LaunchRequest::AdoptWorker { worker, task_manager } => Message::AdoptWorker {
                job,
                worker,
                task_manager,
            },
            LaunchRequest::AdoptSlots { slots } => Message::AdoptSlots(job, slots),
            LaunchRequest::ReleaseSlots => Message::ReleaseSlots(job.job_id()),
            LaunchRequest::StartWorker { worker, task_manager } => Message::StartWorker {
                job,
                worker,
                task_manager,
                program: self.program.clone(),
            },
            LaunchRequest::StopWorker { worker } => Message::StopWorker(worker),
            LaunchRequest::Forget => Message::ForgetJob(job.job_id()),
        };
        let resource_manager = self.resource_manager.clone();
        Box::pin(async move { resource_manager.tell(message).await })
    }
}
