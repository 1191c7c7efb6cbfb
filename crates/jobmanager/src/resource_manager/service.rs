//! The task of the resource manager.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use streamd_coordinator::slots::{SlotAllocation, SlotGrant, SlotManager};
use streamd_core::error::CodedError;
use streamd_core::id::{JobId, TaskManagerId, WorkerId};
use streamd_core::protocol::{Failure, FaultDomain};
use streamd_core::time::{Clock, MonotonicTime};
use streamd_rpc::proto;
use streamd_rpc::proto::task_manager_command::Command;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::departure::Departure;
use super::description::Descriptions;
use super::handle::{
    ClusterView, MAILBOX_CAPACITY, Message, Program, ResourceManagerHandle, Session, TaskManagerReport,
};
use super::log_request::{LogPart, LogRequests};
use super::profile::Profiles;
use super::task_manager::TaskManager;
use crate::job_master::JobMasterHandle;

/// Milliseconds between SIGTERM and SIGKILL of a worker that is to go.
const STOP_GRACE_MS: u64 = 3_000;

/// The settings of the resource manager, in milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct ResourceManagerOptions {
    pub(crate) heartbeat_interval_ms: u64,
    pub(crate) heartbeat_timeout_ms: u64,
    pub(crate) describe_timeout_ms: u64,
    /// The epoch of this job manager's leadership.
    pub(crate) leader_epoch: u64,
}

/// How long after a takeover task managers are waited for before it is said that there is no room elsewhere: they look every two seconds.
const GATHERING_MS: u64 = 5_000;

/// Starts the resource manager. It lives until the last handle is dropped.
pub(crate) fn spawn(
    options: ResourceManagerOptions,
    clock: Arc<dyn Clock>,
    tasks: &TaskTracker,
) -> ResourceManagerHandle {
    let (mailbox, inbox) = mpsc::channel(MAILBOX_CAPACITY);
    let service = ResourceManager {
        options,
        clock,
        inbox,
        slots: SlotManager::new(SlotAllocation::Fill),
        task_managers: BTreeMap::new(),
        jobs: BTreeMap::new(),
        descriptions: BTreeMap::new(),
        logs: LogRequests::default(),
        profiles: Profiles::new(),
        reconciling: BTreeSet::new(),
        gathers_until: MonotonicTime(0),
        early: BTreeMap::new(),
        programs: BTreeMap::new(),
        numbers: 0,
    };
    tasks.spawn(service.run());
    ResourceManagerHandle { mailbox }
}

pub(super) struct ResourceManager {
    pub(super) options: ResourceManagerOptions,
    pub(super) clock: Arc<dyn Clock>,
    inbox: mpsc::Receiver<Message>,
    pub(super) slots: SlotManager,
    pub(super) task_managers: BTreeMap<TaskManagerId, TaskManager>,
    /// Jobs that hold slots or wait for some.
    pub(super) jobs: BTreeMap<JobId, JobMasterHandle>,
    pub(super) descriptions: Descriptions,
    logs: LogRequests,
    pub(super) profiles: Profiles,
    /// Jobs whose workers may run on that another job manager started.
    pub(super) reconciling: BTreeSet<JobId>,
    /// Until when task managers of another job manager may be on their way.
    pub(super) gathers_until: MonotonicTime,
    /// Workers of those that are back before their task managers are.
    pub(super) early: BTreeMap<TaskManagerId, BTreeMap<WorkerId, JobMasterHandle>>,
    /// The program of each job that has started a worker, by its digest.
    pub(super) programs: BTreeMap<JobId, String>,
    /// The last number given to a session or request.
    numbers: u64,
}

impl ResourceManager {
    async fn run(mut self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(self.options.heartbeat_interval_ms.max(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // In this order, so that a simulation goes the same way every time. Messages are few: ticks come to their turn.
                biased;
                message = self.inbox.recv() => match message {
                    Some(message) => {
                        self.on_message(message).await;
                        self.advance_drains().await;
                    }
                    None => break,
                },
                _ = ticks.tick() => {
                    self.on_tick().await;
                    self.advance_drains().await;
                }
            }
        }
        debug!("the resource manager ends");
    }

    async fn on_message(&mut self, message: Message) {
        match message {
            Message::Register {
                registration,
                commands,
                reply,
            } => {
                let result = self.on_register(registration, commands).await;
                // Whoever registered may be gone: then the link closes, which is told separately.
                let _gone = reply.send(result);
            }
            Message::Report(id, session, report) => self.on_report(id, session, report).await,
            Message::RequestSlots(job, count) => self.on_request_slots(job, count).await,
            Message::Reconcile(job) => {
                self.reconciling.insert(job);
                self.gathers_until = self.clock.monotonic().plus(GATHERING_MS);
            }
            Message::AdoptWorker {
                job,
                worker,
                task_manager,
            } => self.on_adopt_worker(job, worker, task_manager),
            Message::AdoptSlots(job, slots) => self.on_adopt_slots(job, &slots).await,
            Message::ReleaseSlots(job) => {
                self.end_reconciling(job);
                self.jobs.remove(&job);
                let grants = self.slots.release(job);
                self.tell_grants(grants).await;
            }
            Message::StartWorker {
                job,
                worker,
                task_manager,
                program,
            } => self.on_start_worker(job, worker, task_manager, program).await,
            Message::StopWorker(worker) => self.on_stop_worker(worker),
            Message::ForgetJob(job) => self.on_forget_job(job),
            Message::Describe(program, reply) => self.on_describe(program, reply),
            Message::ReadLogs(job, from, reader) => self.on_read_logs(job, &from, &reader),
            Message::Profile(order, reply) => self.on_profile(order, reply),
            Message::StopAbandonedProfiles => self.stop_abandoned_profiles(),
            Message::Drain(id, wanted, reply) => {
                let _gone = reply.send(self.on_drain(id, wanted).await);
            }
            Message::View(reply) => {
                let _gone = reply.send(self.view());
            }
        }
    }

    async fn on_register(
        &mut self,
        registration: proto::TaskManagerRegistration,
        commands: mpsc::Sender<proto::TaskManagerCommand>,
    ) -> Result<Session, CodedError> {
        let task_manager = TaskManager::new(self.next_number(), registration, commands, self.clock.monotonic())?;
        let (id, slots, session) = (
            task_manager.id(),
            task_manager.registration.slots,
            task_manager.session.clone(),
        );
        // The newest wins: a name is new at every start, so that the older link is a leftover of the same process.
        self.lose(&id, Departure::Replaced).await;
        info!(task_manager = %id, host = task_manager.registration.host, slots, "task manager registered");
        let accepted = Command::Accepted(proto::RegistrationAccepted {
            heartbeat_interval_ms: self.options.heartbeat_interval_ms,
            heartbeat_timeout_ms: self.options.heartbeat_timeout_ms,
            leader_epoch: self.options.leader_epoch,
        });
        task_manager.send(accepted);
        let returned = task_manager.returned_workers();
        let is_drained = task_manager.registration.drained;
        self.task_managers.insert(id.clone(), task_manager);
        self.stay_drained(&id, is_drained);
        self.prepare_newcomer(&id);
        let grants = self.slots.register(id.clone(), slots);
        self.take_back(&id, returned);
        self.tell_grants(grants).await;
        Ok(session)
    }

    async fn on_report(&mut self, id: TaskManagerId, session: u64, report: TaskManagerReport) {
        let now = self.clock.monotonic();
        match self.task_managers.get_mut(&id) {
            Some(task_manager) if task_manager.session.number == session => task_manager.last_heard = now,
            Some(_) | None => return,
        }
        match report {
            TaskManagerReport::Heartbeat => self.command(&id, Command::Heartbeat(proto::JobManagerHeartbeat {})),
            TaskManagerReport::Described(number, outcome) => self.on_described(&id, number, outcome),
            TaskManagerReport::WorkerStarted(worker, process_id) => {
                debug!(task_manager = %id, %worker, process_id, "worker process started");
                if let Some(job) = self.task_managers.get(&id).and_then(|tm| tm.workers.get(&worker)) {
                    job.worker_started(worker).await;
                }
            }
            TaskManagerReport::WorkerExited(worker, failure) => self.on_worker_exited(&id, worker, failure).await,
            TaskManagerReport::Log(chunk) => self.logs.on_chunk(&id, chunk),
            TaskManagerReport::Profiled(number, outcome) => self.on_profiled(&id, number, outcome),
            TaskManagerReport::Leaving => self.on_leaving(&id).await,
            TaskManagerReport::Departed(departure) => self.lose(&id, departure).await,
        }
    }

    async fn on_request_slots(&mut self, job: JobMasterHandle, count: u32) {
        let id = job.job_id();
        self.end_reconciling(id);
        self.jobs.insert(id, job);
        let grants = self.slots.request(id, count);
        if !grants.iter().any(|grant| grant.job == id) {
            info!(job_id = %id, slots = count, free = self.slots.free(), "job waits for slots");
        }
        self.tell_grants(grants).await;
    }

    pub(super) async fn tell_grants(&mut self, grants: Vec<SlotGrant>) {
        for grant in grants {
            if let Some(job) = self.jobs.get(&grant.job) {
                job.slots_allocated(grant.slots).await;
            }
        }
    }

    async fn on_start_worker(&mut self, job: JobMasterHandle, worker: WorkerId, id: TaskManagerId, program: Program) {
        self.prepare_standbys(job.job_id(), &program.sha256);
        let command = Command::StartWorker(proto::StartWorker {
            worker_id: worker.0,
            job_id: job.job_id().to_string(),
            program: Some(program),
        });
        match self.task_managers.get_mut(&id) {
            Some(task_manager) => {
                task_manager.workers.insert(worker, job);
                self.command(&id, command);
            }
            None => {
                job.worker_lost(worker, external(format!("task manager `{id}` is gone")))
                    .await
            }
        }
    }

    fn on_stop_worker(&mut self, worker: WorkerId) {
        let holder = self
            .task_managers
            .iter()
            .find(|(_, tm)| tm.workers.contains_key(&worker));
        if let Some(id) = holder.map(|(id, _)| id.clone()) {
            self.stop_on(&id, worker);
        }
    }

    pub(super) fn stop_on(&self, id: &TaskManagerId, worker: WorkerId) {
        let command = Command::StopWorker(proto::StopWorker {
            worker_id: worker.0,
            grace_ms: STOP_GRACE_MS,
        });
        self.command(id, command);
    }

    async fn on_worker_exited(&mut self, id: &TaskManagerId, worker: WorkerId, failure: Failure) {
        let job = self.task_managers.get_mut(id).and_then(|tm| tm.workers.remove(&worker));
        if let Some(job) = job {
            info!(job_id = %job.job_id(), task_manager = %id, %worker, reason = failure.message, "worker process ended");
            job.worker_lost(worker, failure).await;
        }
    }

    fn on_forget_job(&mut self, job: JobId) {
        self.end_reconciling(job);
        self.jobs.remove(&job);
        self.programs.remove(&job);
        for id in self.task_manager_ids() {
            self.forget_on(&id, job);
        }
    }

    /// Has a task manager delete what a job has left there.
    pub(super) fn forget_on(&self, id: &TaskManagerId, job: JobId) {
        let job_id = job.to_string();
        self.command(id, Command::ForgetJob(proto::ForgetJob { job_id }));
    }

    fn on_read_logs(&mut self, job: JobId, from: &BTreeMap<WorkerId, u64>, reader: &mpsc::Sender<LogPart>) {
        let position = |(worker, bytes): (&WorkerId, &u64)| proto::LogPosition {
            worker_id: worker.0,
            bytes: *bytes,
        };
        let from: Vec<_> = from.iter().map(position).collect();
        for id in self.task_manager_ids() {
            let number = self.next_number();
            if self.logs.begin(number, id.clone(), reader) {
                let command = Command::ReadLog(proto::ReadLog {
                    request_id: number,
                    job_id: job.to_string(),
                    from: from.clone(),
                });
                self.command(&id, command);
            }
        }
    }

    /// Gives up task managers that are silent, and descriptions that take too long.
    async fn on_tick(&mut self) {
        let now = self.clock.monotonic();
        let timeout = self.options.heartbeat_timeout_ms;
        let silent = |tm: &TaskManager| now.since(tm.last_heard) > timeout;
        let lost: Vec<_> = self
            .task_managers
            .values()
            .filter(|tm| silent(tm))
            .map(TaskManager::id)
            .collect();
        for id in lost {
            self.lose(&id, Departure::Silent(timeout)).await;
        }
        self.give_up_descriptions(now);
        self.give_up_profiles(now);
    }

    /// Hands a command to a task manager. One that does not take it is given up: its link ends, which is reported in turn.
    pub(super) fn command(&self, id: &TaskManagerId, command: Command) {
        if let Some(task_manager) = self.task_managers.get(id)
            && !task_manager.send(command)
        {
            if !task_manager.is_gone() {
                warn!(task_manager = %id, "task manager does not take its commands");
            }
            task_manager.session.closed.cancel();
        }
    }

    /// A task manager is gone, with its slots and workers.
    async fn lose(&mut self, id: &TaskManagerId, departure: Departure) {
        let Some(task_manager) = self.task_managers.remove(id) else {
            return;
        };
        task_manager.session.closed.cancel();
        let reason = departure.reason();
        match departure.is_orderly() {
            true => info!(task_manager = %id, reason, "task manager left"),
            false => warn!(task_manager = %id, reason, "task manager lost"),
        }
        let affected: BTreeSet<JobId> = self
            .jobs
            .keys()
            .copied()
            .filter(|job| self.slots.slots_of(*job).iter().any(|s| s.task_manager == *id))
            .collect();
        match departure.is_orderly() {
            true => self.slots.leave(id),
            // It may come back; if it was to be empty, it still is.
            false => self.slots.remove(id),
        }
        self.logs.on_lost(id);
        self.end_profiles_of(id);
        for (worker, job) in task_manager.workers {
            let failure = external(format!("task manager `{id}` of `{worker}` is lost: {reason}"));
            job.worker_lost(worker, failure).await;
        }
        for job in affected {
            if let Some(job) = self.jobs.get(&job) {
                job.task_manager_lost(id.clone()).await;
            }
        }
        self.describe_elsewhere(id);
    }

    fn view(&self) -> ClusterView {
        ClusterView {
            task_managers: self
                .task_managers
                .iter()
                .map(|(id, tm)| proto::TaskManager {
                    free_slots: self.slots.free_of(id),
                    drained: self.slots.is_drained(id),
                    job_ids: self.jobs_on(id).iter().map(JobId::to_string).collect(),
                    ..tm.view()
                })
                .collect(),
            slots_total: self.slots.total(),
            slots_free: self.slots.free(),
        }
    }

    fn task_manager_ids(&self) -> Vec<TaskManagerId> {
        self.task_managers.keys().cloned().collect()
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

fn external(message: String) -> Failure {
    Failure::new(FaultDomain::External, message)
}
