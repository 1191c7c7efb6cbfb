//! The registry of jobs: which ids are taken, and the master of each job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, WorkerId};
use streamd_core::time::{Clock, WallTime};
use streamd_rpc::proto::SubmitJobRequest;
use streamd_snapshot::JobStore;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::submission::Submitted;
use crate::job_master::{JobMasterHandle, JobStatus};

/// Messages that wait for the registry: one per call of a client, each answered from memory.
const MAILBOX_CAPACITY: usize = 256;

/// How often jobs that have ended are looked through.
const PRUNE_INTERVAL: Duration = Duration::from_secs(10);

/// Numbers of workers that each job has for itself.
const WORKERS_PER_JOB: u64 = 1_000_000;

/// How long jobs that have ended are remembered, and how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegistryOptions {
    pub(crate) ended_jobs_kept: usize,
    pub(crate) ended_jobs_kept_ms: u64,
    /// Numbers of workers begin there: those of other job managers are below.
    pub(crate) first_worker: u64,
}

/// What becomes of a submission: nothing yet, or its outcome.
pub(super) type Outcome = Option<Result<Submitted, CodedError>>;

/// A job of another job manager.
pub(super) struct KnownJob {
    pub(super) submission: SubmitJobRequest,
    pub(super) submitted: Submitted,
    pub(super) master: JobMasterHandle,
}

/// The answer to a claim of a job id.
pub(super) enum Claim {
    /// The id is now the caller's, who reports the outcome.
    Granted {
        outcome: watch::Sender<Outcome>,
        first_worker: WorkerId,
    },
    /// The very same submission was made before.
    Repeated(watch::Receiver<Outcome>),
}

enum Message {
    Claim(Box<SubmitJobRequest>, JobId, oneshot::Sender<Result<Claim, CodedError>>),
    Start(JobMasterHandle, oneshot::Sender<Result<(), CodedError>>),
    Restore(Box<KnownJob>),
    NextWorkers(oneshot::Sender<WorkerId>),
    GiveBack(JobId),
    Find(JobId, oneshot::Sender<Option<JobMasterHandle>>),
    List(oneshot::Sender<Vec<JobMasterHandle>>),
    Close(oneshot::Sender<Vec<JobMasterHandle>>),
}

/// A cheap clone that reaches the registry.
#[derive(Clone)]
pub(crate) struct RegistryHandle {
    mailbox: mpsc::Sender<Message>,
}

impl RegistryHandle {
    /// Starts the registry. It lives until the last handle is dropped.
    pub(crate) fn spawn(
        options: RegistryOptions,
        records: JobStore,
        clock: Arc<dyn Clock>,
        tasks: &TaskTracker,
    ) -> Self {
        let (mailbox, inbox) = mpsc::channel(MAILBOX_CAPACITY);
        let registry = Registry {
            options,
            records,
            tasks: tasks.clone(),
            clock,
            inbox,
            jobs: BTreeMap::new(),
            forgetting: BTreeMap::new(),
            claims: 0,
            closed: false,
        };
        tasks.spawn(registry.run());
        Self { mailbox }
    }

    /// Claims the id of a submission. Errors if a different submission has it.
    pub(super) async fn claim(&self, id: JobId, submission: SubmitJobRequest) -> Result<Claim, CodedError> {
        self.ask(|reply| Message::Claim(Box::new(submission), id, reply))
            .await?
    }

    /// Makes a claimed job known by its master. Errors if the job manager has begun to shut down.
    pub(super) async fn start(&self, job: JobMasterHandle) -> Result<(), CodedError> {
        self.ask(|reply| Message::Start(job, reply)).await?
    }

    /// Makes a job known that another job manager accepted.
    pub(super) async fn restore(&self, job: KnownJob) {
        self.tell(Message::Restore(Box::new(job))).await;
    }

    /// The first number for the workers of a job, a million of them.
    pub(super) async fn next_workers(&self) -> Result<WorkerId, CodedError> {
        self.ask(Message::NextWorkers).await
    }

    /// Gives a claimed id back, because the submission is refused.
    pub(super) async fn give_back(&self, id: JobId) {
        self.tell(Message::GiveBack(id)).await;
    }

    /// The master of a job. Errors if there is no such job.
    pub(crate) async fn find(&self, id: JobId) -> Result<JobMasterHandle, CodedError> {
        let found = self.ask(|reply| Message::Find(id, reply)).await?;
        found.ok_or_else(|| {
            CodedError::new(ErrorCode::JobNotFound, format!("there is no job `{id}`"))
                .with_hint("`streamctl list -a` shows all jobs")
        })
    }

    /// Every job, running and ended.
    pub(crate) async fn list(&self) -> Result<Vec<JobMasterHandle>, CodedError> {
        self.ask(Message::List).await
    }

    /// Accepts no more submissions, and returns every job.
    pub(crate) async fn close(&self) -> Result<Vec<JobMasterHandle>, CodedError> {
        self.ask(Message::Close).await
    }

    async fn tell(&self, message: Message) {
        // The registry lives as long as any handle; it is gone only while the runtime shuts down.
        let _ended = self.mailbox.send(message).await;
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, CodedError> {
        let (reply, answer) = oneshot::channel();
        self.tell(message(reply)).await;
        answer.await.map_err(|_| shutting_down())
    }
}

struct Registry {
    options: RegistryOptions,
    /// Jobs that are forgotten are forgotten here too.
    records: JobStore,
    tasks: TaskTracker,
    clock: Arc<dyn Clock>,
    inbox: mpsc::Receiver<Message>,
    jobs: BTreeMap<JobId, Entry>,
    /// Jobs whose records are on their way out: who took the id now would lose his own with them.
    forgetting: BTreeMap<JobId, JoinHandle<()>>,
    claims: u64,
    closed: bool,
}

struct Entry {
    submission: SubmitJobRequest,
    outcome: watch::Receiver<Outcome>,
    /// Absent while the submission is looked at.
    master: Option<Master>,
}

struct Master {
    handle: JobMasterHandle,
    status: watch::Receiver<JobStatus>,
}

impl Registry {
    async fn run(mut self) {
        let mut prunes = tokio::time::interval(PRUNE_INTERVAL);
        prunes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // In this order, so that a simulation goes the same way every time: it is not urgent to forget.
                biased;
                message = self.inbox.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => break,
                },
                _ = prunes.tick() => self.on_prune(),
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        // Whoever asked may have gone away; the answer is then nobody's.
        match message {
            Message::Claim(submission, id, reply) => {
                let _gone = reply.send(self.on_claim(*submission, id));
            }
            Message::Start(job, reply) => {
                let _gone = reply.send(self.on_start(job));
            }
            Message::Restore(job) => self.on_restore(*job),
            Message::NextWorkers(reply) => {
                let _gone = reply.send(self.next_workers());
            }
            Message::GiveBack(id) => {
                self.jobs.remove(&id);
            }
            Message::Find(id, reply) => {
                let master = self.jobs.get(&id).and_then(|entry| entry.master.as_ref());
                let _gone = reply.send(master.map(|master| master.handle.clone()));
            }
            Message::List(reply) => {
                let _gone = reply.send(self.masters());
            }
            Message::Close(reply) => {
                self.closed = true;
                let _gone = reply.send(self.masters());
            }
        }
    }

    fn on_claim(&mut self, submission: SubmitJobRequest, id: JobId) -> Result<Claim, CodedError> {
        if self.closed {
            return Err(shutting_down());
        }
        self.on_prune();
        if let Some(entry) = self.jobs.get(&id) {
            return if entry.submission == submission {
                Ok(Claim::Repeated(entry.outcome.clone()))
            } else {
                Err(taken(id))
            };
        }
        if self.forgetting.contains_key(&id) {
            return Err(taken(id));
        }
        let first_worker = self.next_workers();
        let (outcome, receiver) = watch::channel(None);
        let entry = Entry {
            submission,
            outcome: receiver,
            master: None,
        };
        self.jobs.insert(id, entry);
        Ok(Claim::Granted { outcome, first_worker })
    }

    fn next_workers(&mut self) -> WorkerId {
        self.claims += 1;
        WorkerId(self.options.first_worker + self.claims * WORKERS_PER_JOB)
    }

    fn on_restore(&mut self, job: KnownJob) {
        let KnownJob {
            submission,
            submitted,
            master: handle,
        } = job;
        let status = handle.status();
        let (_settled, outcome) = watch::channel(Some(Ok(submitted)));
        let entry = Entry {
            submission,
            outcome,
            master: Some(Master { handle, status }),
        };
        self.jobs.insert(entry.id(), entry);
    }

    fn on_start(&mut self, handle: JobMasterHandle) -> Result<(), CodedError> {
        if self.closed {
            return Err(shutting_down());
        }
        if let Some(entry) = self.jobs.get_mut(&handle.job_id()) {
            let status = handle.status();
            entry.master = Some(Master { handle, status });
        }
        Ok(())
    }

    /// Forgets jobs that ended long ago, and the oldest of too many.
    fn on_prune(&mut self) {
        self.forgetting.retain(|_, forgetting| !forgetting.is_finished());
        let now = self.clock.wall();
        let kept_ms = i64::try_from(self.options.ended_jobs_kept_ms).unwrap_or(i64::MAX);
        let mut ended: Vec<(WallTime, JobId)> = self
            .jobs
            .iter()
            .filter_map(|(id, entry)| entry.ended_at().map(|at| (at, *id)))
            .collect();
        ended.sort_unstable();
        let too_many = ended.len().saturating_sub(self.options.ended_jobs_kept);
        for (position, (at, id)) in ended.into_iter().enumerate() {
            if position < too_many || now.0.saturating_sub(at.0) > kept_ms {
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: JobId) {
        let forgotten = self.jobs.remove(&id).and_then(|entry| entry.master);
        // A suspended job has ended for this job manager only.
        if forgotten.is_none_or(|master| !master.status.borrow().state.is_terminal()) {
            return;
        }
        self.forget_records(id);
    }

    fn forget_records(&mut self, id: JobId) {
        let records = self.records.clone();
        let forgetting = self.tasks.spawn(async move {
            if let Err(error) = records.forget(id).await {
                let error = streamd_core::error::chain(&error);
                warn!(job_id = %id, error, "the records of a job that has ended stay");
            }
        });
        self.forgetting.insert(id, forgetting);
    }

    fn masters(&self) -> Vec<JobMasterHandle> {
        self.jobs
            .values()
            .filter_map(|entry| entry.master.as_ref())
            .map(|master| master.handle.clone())
            .collect()
    }
}

impl Entry {
    fn id(&self) -> JobId {
        let master = self.master.as_ref().expect("only a job with a master is restored");
        master.handle.job_id()
    }

    fn ended_at(&self) -> Option<WallTime> {
        self.master.as_ref().and_then(|master| master.status.borrow().ended_at)
    }
}

/// The id of a submission is another one's.
pub(super) fn taken(id: JobId) -> CodedError {
    let message = format!("job id `{id}` is taken by another submission");
    CodedError::new(ErrorCode::DuplicateJob, message).with_hint("submit with a new job id")
}

fn shutting_down() -> CodedError {
    CodedError::new(ErrorCode::ClusterShuttingDown, "the job manager is shutting down")
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
