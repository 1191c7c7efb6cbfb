//! Task managers that are to be empty, before somebody stops them.

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, TaskManagerId};
use tracing::info;

use super::handle::Use;
use super::service::ResourceManager;

impl ResourceManager {
    pub(super) async fn on_drain(&mut self, id: TaskManagerId, wanted: Use) -> Result<Vec<JobId>, CodedError> {
        if !self.task_managers.contains_key(&id) {
            return Err(CodedError::new(
                ErrorCode::TaskManagerNotFound,
                format!("there is no task manager `{id}`"),
            )
            .with_hint("list those that there are with `streamctl taskmanager list`"));
        }
        match wanted {
            Use::Drained => self.begin_drain(&id).await,
            Use::Open => {
                info!(task_manager = %id, "task manager is in use again");
                let grants = self.slots.undrain(&id);
                self.tell_grants(grants).await;
                Ok(Vec::new())
            }
        }
    }

    async fn begin_drain(&mut self, id: &TaskManagerId) -> Result<Vec<JobId>, CodedError> {
        let moving = self.slots.drain(id).map_err(|shortage| {
            CodedError::new(
                ErrorCode::DrainRefused,
                format!("task manager `{id}` cannot be drained: {shortage}"),
            )
            .with_hint("start another task manager first, or end a job")
        })?;
        info!(task_manager = %id, jobs = moving.len(), "draining task manager");
        for job in moving.iter().filter_map(|job| self.jobs.get(job)) {
            job.evacuate(id.clone()).await;
        }
        Ok(moving)
    }

    /// The jobs that have a process or a slot on a task manager.
    pub(super) fn jobs_on(&self, id: &TaskManagerId) -> Vec<String> {
        let holding = self.slots.jobs_on(id).into_keys();
        let workers = self
            .task_managers
            .get(id)
            .into_iter()
            .flat_map(|tm| tm.workers.values());
        let mut jobs: Vec<JobId> = holding.chain(workers.map(|job| job.job_id())).collect();
        jobs.sort_unstable();
        jobs.dedup();
        jobs.iter().map(JobId::to_string).collect()
    }
}
