//! Task managers that are to be empty, before somebody stops them, or because somebody does.
//!
//! ```text
//!   streamctl taskmanager drain ──┐                       ┌──▶ jobs: take a checkpoint, and ask for slots again
//!                                 ├──▶ drained: no slots ─┤
//!   a task manager that leaves ───┘                       └──▶ the task manager: out of use, also for the next job manager
//!                                   nothing is left of any job, or there is no room elsewhere ──▶ LeaveNow
//! ```
//!
//! A task manager keeps whether it is drained, and says so when it registers: no job manager forgets it.

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, TaskManagerId};
use streamd_rpc::proto;
use streamd_rpc::proto::task_manager_command::Command;
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
            Use::Open if self.task_managers.get(&id).is_some_and(|it| it.is_leaving) => Err(CodedError::new(
                ErrorCode::DrainRefused,
                format!("task manager `{id}` cannot be used again: it is stopping"),
            )
            .with_hint("start another one")),
            Use::Open => {
                info!(task_manager = %id, "task manager is in use again");
                self.tell_use(&id, Use::Open);
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
        self.tell_use(id, Use::Drained);
        self.evacuate(id, &moving).await;
        Ok(moving)
    }

    /// A task manager is to end. It waits for the word that it may.
    pub(super) async fn on_leaving(&mut self, id: &TaskManagerId) {
        info!(task_manager = %id, "task manager is to end: its jobs move elsewhere first");
        if let Some(task_manager) = self.task_managers.get_mut(id) {
            task_manager.is_leaving = true;
        }
        if let Err(error) = self.begin_drain(id).await {
            // It is as good as gone: nobody gets a slot there.
            self.slots.close(id);
            if !self.gathers() {
                self.let_go(id, error.message);
            }
        }
    }

    /// A task manager has registered. One that was drained still is, whoever of the two knows it.
    pub(super) fn stay_drained(&mut self, id: &TaskManagerId, it_says_so: bool) {
        match (it_says_so, self.slots.is_drained(id)) {
            (true, _) => {
                info!(task_manager = %id, "task manager is still to be empty");
                self.slots.close(id);
            }
            (false, true) => self.tell_use(id, Use::Drained),
            (false, false) => {}
        }
    }

    /// Has jobs move for which there was no room elsewhere before, and lets task managers go that wait in vain or no longer have to.
    pub(super) async fn advance_drains(&mut self) {
        let drained = self.task_managers.keys().filter(|id| self.slots.is_drained(id));
        for id in drained.cloned().collect::<Vec<_>>() {
            let jobs = &self.jobs;
            let moving = self.slots.reserve_elsewhere(&id, |job| jobs.contains_key(job));
            self.evacuate(&id, &moving).await;
            if let Some(reason) = self.no_reason_to_wait(&id) {
                self.let_go(&id, reason);
            }
        }
    }

    /// Why a task manager waits in vain for its jobs to move; empty where it has none any more.
    fn no_reason_to_wait(&self, id: &TaskManagerId) -> Option<String> {
        let jobs = self.jobs_on(id);
        if jobs.is_empty() {
            return Some(String::new());
        }
        if self.gathers() {
            return None;
        }
        if let Some(shortage) = self.slots.shortage_of(id) {
            return Some(shortage.to_string());
        }
        // It has left its slots, but its worker is still there, for it finds no others: what was reserved for it is lost.
        let stuck = self.slots.waiting().find(|(job, _)| jobs.contains(job));
        stuck.map(|(job, slots)| format!("job `{job}` waits for {slots} slots"))
    }

    /// Whether it is too early to say what there is room for: jobs or task managers of another job manager may be on their way.
    fn gathers(&self) -> bool {
        !self.reconciling.is_empty() || self.clock.monotonic() < self.gathers_until
    }

    async fn evacuate(&self, id: &TaskManagerId, jobs: &[JobId]) {
        for job in jobs.iter().filter_map(|job| self.jobs.get(job)) {
            job.evacuate(id.clone()).await;
        }
    }

    /// Tells a task manager that it need not wait any longer, if it does.
    fn let_go(&mut self, id: &TaskManagerId, reason: String) {
        if let Some(task_manager) = self.task_managers.get_mut(id).filter(|it| it.is_leaving) {
            task_manager.is_leaving = false;
            info!(task_manager = %id, reason, "task manager may end now");
            self.command(id, Command::LeaveNow(proto::LeaveNow { reason }));
        }
    }

    fn tell_use(&self, id: &TaskManagerId, wanted: Use) {
        let drained = wanted == Use::Drained;
        self.command(id, Command::SetUse(proto::SetUse { drained }));
    }

    /// The jobs that have a process or a slot on a task manager.
    pub(super) fn jobs_on(&self, id: &TaskManagerId) -> Vec<JobId> {
        let holding = self.slots.jobs_on(id).into_keys();
        let workers = self
            .task_managers
            .get(id)
            .into_iter()
            .flat_map(|tm| tm.workers.values());
        let mut jobs: Vec<JobId> = holding.chain(workers.map(|job| job.job_id())).collect();
        jobs.sort_unstable();
        jobs.dedup();
        jobs
    }
}
