//! The task of one job.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use streamd_coordinator::action::Action;
use streamd_coordinator::checkpoint::FailedCheckpoint;
use streamd_coordinator::event::{Event, JobSpec, OperationRequest};
use streamd_coordinator::job::{JobMachine, OperationStatus};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::JobId;
use streamd_core::protocol::WorkerCommand;
use streamd_core::time::{Clock, MonotonicTime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::cancellation::Cancellation;
use super::effects::Effects;
use super::handle::{JobMasterHandle, JobMessage, MAILBOX_CAPACITY};
use super::launcher::{LaunchRequest, WorkerLauncher};
use super::onlooker::Onlooker;
use super::operations::Operations;
use super::records::{Done, Ending, Past, Request, Suspension};
use super::remains::Remains;
use super::status::{JobDetails, JobStatus};
use super::workers::{WorkerTimeouts, Workers};
use crate::fence::Fence;
use crate::journal::Journal;
use crate::pins::Pin;

/// What a job master needs from its surroundings.
#[derive(Clone)]
pub(crate) struct JobEnvironment {
    /// Where time comes from.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where slots and workers come from.
    pub(crate) launcher: Arc<dyn WorkerLauncher>,
    /// Where snapshots are published and discarded.
    pub(crate) effects: Effects,
    /// Tracks the job master's task.
    pub(crate) tasks: TaskTracker,
    /// How long workers may be silent; `None`: for ever.
    pub(crate) worker_timeouts: Option<WorkerTimeouts>,
    /// What outlives this process of the job; `None`: nothing does.
    pub(crate) journal: Option<Journal>,
    /// Whether this process may act at all.
    pub(crate) fence: Fence,
}

/// Starts the master of a job, which waits for [`JobMasterHandle::begin`] and lives until the last handle is dropped. `start` is
/// what holds the snapshot that the job starts from.
pub(crate) fn spawn(spec: JobSpec, environment: JobEnvironment, start: Option<Pin>) -> JobMasterHandle {
    let status = JobStatus::new(&spec, environment.clock.wall());
    let past = Past {
        machine: JobMachine::new(spec),
        status,
        reconcile_ms: None,
        is_cancelled: false,
        onlooker: None,
    };
    spawn_with(past, environment, start)
}

/// Starts the master of a job that is not new. It waits for [`JobMasterHandle::begin`] too.
pub(crate) fn spawn_with(past: Past, environment: JobEnvironment, start: Option<Pin>) -> JobMasterHandle {
    let Past {
        machine,
        status,
        reconcile_ms,
        is_cancelled,
        onlooker,
    } = past;
    let (mailbox, inbox) = mpsc::channel(MAILBOX_CAPACITY);
    let job_id = status.job_id;
    let status = watch::Sender::new(status);
    let handle = JobMasterHandle {
        job_id,
        name: status.borrow().name.clone(),
        mailbox: mailbox.clone(),
        status: status.subscribe(),
    };
    let master = JobMaster {
        job_id,
        machine,
        reconcile_ms,
        start,
        clock: environment.clock,
        launcher: environment.launcher,
        effects: environment.effects,
        workers: Workers::new(environment.worker_timeouts),
        operations: Operations::default(),
        remains: Remains::default(),
        status,
        mailbox: mailbox.downgrade(),
        inbox,
        events: VecDeque::new(),
        requests: VecDeque::new(),
        launching: None,
        suspending: Vec::new(),
        suspension: Suspension::default(),
        journal: environment.journal,
        fence: environment.fence,
        onlooker,
        cancellation: match is_cancelled {
            true => Cancellation::Recorded,
            false => Cancellation::default(),
        },
        ending: None,
        held: Vec::new(),
    };
    environment.tasks.spawn(master.run());
    handle
}

pub(super) struct JobMaster {
    pub(super) job_id: JobId,
    onlooker: Option<Onlooker>,
    pub(super) machine: JobMachine,
    /// Holds the snapshot that the job started from, for as long as the machine may need it.
    pub(super) start: Option<Pin>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) launcher: Arc<dyn WorkerLauncher>,
    pub(super) effects: Effects,
    pub(super) workers: Workers,
    pub(super) operations: Operations,
    pub(super) remains: Remains,
    pub(super) status: watch::Sender<JobStatus>,
    /// Weak, so that the master ends with the last handle of others.
    pub(super) mailbox: mpsc::WeakSender<JobMessage>,
    pub(super) inbox: mpsc::Receiver<JobMessage>,
    /// Events that follow from carrying out actions. Empty between messages.
    pub(super) events: VecDeque<Event>,
    /// What is still to be asked of the launcher: a few entries per worker and attempt, since the machine asks for the next
    /// attempt only once this one's have been carried out.
    pub(super) requests: VecDeque<Request>,
    /// The request under way.
    pub(super) launching: Option<BoxFuture<'static, Done>>,
    /// Who waits for the workers to be gone.
    pub(super) suspending: Vec<oneshot::Sender<()>>,
    pub(super) suspension: Suspension,
    /// How long workers of another job manager are waited for; `None`: there are none.
    pub(super) reconcile_ms: Option<u64>,
    pub(super) journal: Option<Journal>,
    pub(super) fence: Fence,
    pub(super) cancellation: Cancellation,
    /// The end of the job, until it is recorded: nobody is told before.
    pub(super) ending: Option<Ending>,
    /// Actions that wait for the same.
    pub(super) held: Vec<Action>,
}

impl JobMaster {
    #[tracing::instrument(name = "job", skip_all, fields(job_id = %self.job_id))]
    async fn run(mut self) {
        let fence = self.fence.clone();
        loop {
            if fence.is_revoked() {
                // Whoever leads now looks after the job and its workers.
                break;
            }
            self.next_request();
            self.clean_up();
            self.answer_suspending();
            let deadline = self.next_deadline();
            tokio::select! {
                // In this order, so that a simulation goes the same way every time. A deadline that has passed is never seen
                // again, and requests are few: messages come to their turn.
                biased;
                () = until(&*self.clock, deadline) => self.on_deadline(),
                () = fence.revoked() => break,
                done = launched(&mut self.launching) => self.on_done(done),
                message = self.inbox.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => break,
                },
            }
        }
        debug!("the job master ends");
    }

    fn on_message(&mut self, message: JobMessage) {
        // A process that was stopped for long wakes up with its mailbox full: not a word of it is acted upon.
        if self.fence.is_revoked() {
            return;
        }
        match message {
            JobMessage::Begin => self.on_begin(),
            JobMessage::SlotsAllocated(slots) => self.on_event(Event::SlotsAllocated(slots)),
            JobMessage::AttachWorker {
                registration,
                commands,
                reply,
            } => {
                // Whoever asked may have gone away: then the link closes, which is told separately.
                let _gone = reply.send(self.on_attach(registration, commands));
            }
            JobMessage::ReturnWorker {
                returned,
                commands,
                reply,
            } => {
                let _gone = reply.send(self.on_return(*returned, commands));
            }
            JobMessage::WorkerStarted(worker) => self.workers.started(worker, self.clock.monotonic()),
            JobMessage::WorkerEvent(worker, event) => self.on_worker_event(worker, event),
            JobMessage::WorkerLinkClosed(worker) => self.workers.link_closed(worker, self.clock.monotonic()),
            JobMessage::WorkerMisbehaved(worker, failure) => self.on_worker_misbehaved(worker, failure),
            JobMessage::WorkerLost(worker, failure) => {
                self.remains.ended(worker);
                self.on_worker_lost(worker, failure);
            }
            JobMessage::TaskManagerLost(task_manager) => {
                self.remains.lost(&task_manager);
                self.workers.remove_task_manager(&task_manager);
                self.on_event(Event::TaskManagerLost(task_manager));
            }
            JobMessage::Evacuate(task_manager) => self.on_event(Event::Evacuate(task_manager)),
            JobMessage::Published(checkpoint, result) => self.on_event(Event::Published(checkpoint, result)),
            JobMessage::Promoted(operation, result) => self.on_event(Event::Promoted(operation, result)),
            JobMessage::Cancel(reply) => self.on_cancel(reply),
            JobMessage::StartOperation(request, reply) => {
                let _gone = reply.send(self.on_operation(request));
            }
            JobMessage::FindOperation(id, reply) => {
                let _gone = reply.send(self.operations.find(id));
            }
            JobMessage::Details(reply) => {
                let _gone = reply.send(JobDetails::of(&self.machine, self.status.borrow().clone()));
            }
            JobMessage::Suspend(reply) => {
                self.on_suspend();
                self.suspending.push(reply);
            }
        }
    }

    fn on_begin(&mut self) {
        let is_cancelled = matches!(self.cancellation, Cancellation::Recorded);
        match self.reconcile_ms {
            Some(timeout_ms) => self.on_event(Event::Reconcile { timeout_ms }),
            None if is_cancelled => {}
            None => self.on_event(Event::Start),
        }
        if is_cancelled {
            self.on_event(Event::Cancel);
        }
    }

    fn on_operation(&mut self, request: OperationRequest) -> Result<(), CodedError> {
        let id = request.id;
        let over = self.machine.state().is_terminal();
        if over && self.operations.find(id).is_none() {
            return Err(self.terminated());
        }
        if self.operations.begin(id, self.subtasks()) {
            info!(operation = %id, kind = ?request.kind, "operation requested");
            self.operations.note_folder(&request);
            self.on_event(Event::Operation(request));
        }
        match self.operations.find(id).map(|status| status.borrow().clone()) {
            Some(OperationStatus::Ended(Err(error))) => Err(error),
            Some(OperationStatus::Ended(Ok(_)) | OperationStatus::InProgress(_)) | None => Ok(()),
        }
    }

    /// Deadlines of the shell itself, then the machine's.
    fn on_deadline(&mut self) {
        if self.fence.is_revoked() {
            return;
        }
        let now = self.clock.monotonic();
        for (worker, failure) in self.workers.take_lost(now) {
            self.give_up(worker, failure);
        }
        self.handle_events();
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= now) && !self.is_suspended() {
            self.on_event(Event::Tick);
        }
    }

    fn on_suspend(&mut self) {
        if self.status.borrow().is_over() || self.ending.is_some() {
            return;
        }
        for worker in self.workers.ids() {
            // A worker without a link is ended by its task manager.
            let _unreachable = self
                .workers
                .send(worker, WorkerCommand::Shutdown, self.clock.monotonic());
            self.workers.stop(worker);
            self.launch(LaunchRequest::StopWorker { worker });
        }
        self.launch(LaunchRequest::ReleaseSlots);
        self.operations.fail_all(&CodedError::new(
            ErrorCode::ClusterShuttingDown,
            format!("the job manager shut down and suspended job `{}`", self.job_id),
        ));
        let ended_at = self.clock.wall();
        self.status.send_modify(|status| {
            status.suspended = true;
            status.ended_at = Some(ended_at);
        });
        info!(
            from = self.machine.state().name(),
            to = "SUSPENDED",
            "job state changed"
        );
    }

    /// Tells the machine of an event, and does what it says, until nothing follows.
    pub(super) fn on_event(&mut self, event: Event) {
        self.events.push_back(event);
        self.handle_events();
    }

    pub(super) fn handle_events(&mut self) {
        while let Some(event) = self.events.pop_front() {
            if self.is_suspended() {
                continue;
            }
            let now = self.clock.monotonic();
            let failed = self.machine.last_failed_checkpoint().map(|failed| failed.id);
            let seen = self.onlooker.is_some().then(|| event.clone());
            let actions = self.machine.on_event(now, self.clock.wall(), event);
            if let (Some(onlooker), Some(event)) = (&mut self.onlooker, seen) {
                onlooker.look(&self.machine, now, &event, &actions);
            }
            if let Some(FailedCheckpoint { id, cause, .. }) = self.machine.last_failed_checkpoint()
                && failed != Some(*id)
            {
                warn!(checkpoint_id = %id, cause, "checkpoint failed");
            }
            for action in actions {
                self.perform(action);
            }
        }
        self.operations.refresh(|id| self.machine.operation(id));
        if !self.machine.needs_start() {
            self.start = None;
        }
    }

    /// Starts the next request to the launcher if none is under way.
    fn next_request(&mut self) {
        if self.launching.is_some() {
            return;
        }
        // Without a handle of others there is nobody left to report to, and the master is about to end.
        let Some(mailbox) = self.mailbox.upgrade() else { return };
        let Some(request) = self.requests.pop_front() else {
            return;
        };
        let handle = JobMasterHandle {
            job_id: self.job_id,
            name: self.status.borrow().name.clone(),
            mailbox,
            status: self.status.subscribe(),
        };
        self.launching = Some(self.carry_out(handle, request));
    }

    /// Deletes what the job leaves, once nothing of it can write any more.
    fn clean_up(&mut self) {
        if self.ending.is_some() {
            return;
        }
        for deletion in self.remains.take_deletions() {
            self.effects.delete(deletion);
        }
    }

    /// Answers those who wait for the end, once nothing of the job runs any more.
    fn answer_suspending(&mut self) {
        let is_idle = self.requests.is_empty() && self.launching.is_none();
        if is_idle && self.workers.is_empty() && self.remains.is_deserted() {
            if self
                .suspension
                .is_to_be_recorded(self.is_suspended() && self.journal.is_some())
            {
                self.requests.push_back(Request::RecordSuspension);
                return self.next_request();
            }
            for reply in self.suspending.drain(..) {
                let _gone = reply.send(());
            }
        }
    }

    fn next_deadline(&self) -> Option<MonotonicTime> {
        let machine = self.machine.next_deadline().filter(|_| !self.is_suspended());
        machine.into_iter().chain(self.workers.next_deadline()).min()
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.status.borrow().suspended
    }

    pub(super) fn terminated(&self) -> CodedError {
        let state = self.machine.state().name();
        CodedError::new(
            ErrorCode::JobTerminated,
            format!("job `{}` has ended as {state}", self.job_id),
        )
        .with_hint("`streamctl list` shows the jobs that run")
    }

    fn subtasks(&self) -> u32 {
        self.machine
            .spec()
            .graph
            .vertices
            .iter()
            .map(|vertex| vertex.parallelism)
            .sum()
    }
}

/// Waits for the request under way; for ever if there is none.
async fn launched(launching: &mut Option<BoxFuture<'static, Done>>) -> Done {
    match launching {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

/// Waits until the deadline; for ever if there is none.
async fn until(clock: &dyn Clock, deadline: Option<MonotonicTime>) {
    match deadline {
        Some(deadline) => {
            let millis = deadline.since(clock.monotonic());
            tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
        }
        None => std::future::pending().await,
    }
}
