//! Task managers that come back with the workers of another job manager: a job that waits for its workers takes them, all others are
//! ended.
//!
//! ```text
//!   task manager, with its workers ──▶ strays ── AdoptWorker ──▶ workers of the job
//!                                        └────── the job waits no longer, or never did ──▶ StopWorker
//! ```

use std::collections::BTreeSet;

use streamd_coordinator::event::SlotId;
use streamd_core::id::{JobId, TaskManagerId, WorkerId};
use tracing::info;

use super::service::ResourceManager;
use crate::job_master::JobMasterHandle;

impl ResourceManager {
    /// A task manager is back with these workers. Its free slots are nobody's before the jobs have said which they hold.
    pub(super) fn take_back(&mut self, id: &TaskManagerId, returned: Vec<(WorkerId, JobId)>) {
        let mut early = self.early.remove(id).unwrap_or_default();
        let is_wanted = |job: &JobId| {
            let is_adopted = early.values().any(|handle| handle.job_id() == *job);
            is_adopted || self.reconciling.contains(job) || self.jobs.contains_key(job)
        };
        let returned_jobs = returned.iter().map(|(_, job)| *job);
        let unwanted: BTreeSet<JobId> = returned_jobs.filter(|job| !is_wanted(job)).collect();
        for (worker, job) in returned {
            let adopted = early.remove(&worker);
            let Some(task_manager) = self.task_managers.get_mut(id) else {
                return;
            };
            if let Some(handle) = adopted {
                task_manager.workers.insert(worker, handle);
            } else if self.reconciling.contains(&job) {
                task_manager.strays.insert(worker, job);
                self.slots.reserve(job, id);
            } else {
                info!(task_manager = %id, %worker, job_id = %job, "a worker that no job waits for is ended");
                self.stop_on(id, worker);
            }
        }
        // Jobs that ended while the task manager was away: what they have on its disk goes with their workers.
        for job in unwanted {
            self.forget_on(id, job);
        }
    }

    /// A worker is back at its job.
    pub(super) fn on_adopt_worker(&mut self, job: JobMasterHandle, worker: WorkerId, id: TaskManagerId) {
        match self.task_managers.get_mut(&id) {
            Some(task_manager) => {
                task_manager.strays.remove(&worker);
                task_manager.workers.insert(worker, job);
            }
            None => {
                self.early.entry(id).or_default().insert(worker, job);
            }
        }
    }

    /// All workers of a job are back.
    pub(super) async fn on_adopt_slots(&mut self, job: JobMasterHandle, slots: &[SlotId]) {
        let id = job.job_id();
        self.end_reconciling(id);
        self.jobs.insert(id, job);
        let grants = self.slots.adopt(id, slots);
        self.tell_grants(grants).await;
    }

    /// A job waits for its workers no longer: those that it has not taken are ended.
    pub(super) fn end_reconciling(&mut self, job: JobId) {
        if !self.reconciling.remove(&job) {
            return;
        }
        let mut left = Vec::new();
        for (id, task_manager) in &mut self.task_managers {
            let of_job: Vec<WorkerId> = task_manager
                .strays
                .iter()
                .filter(|(_, of)| **of == job)
                .map(|(worker, _)| *worker)
                .collect();
            for worker in of_job {
                task_manager.strays.remove(&worker);
                left.push((id.clone(), worker));
            }
        }
        for (id, worker) in left {
            self.stop_on(&id, worker);
        }
    }
}
