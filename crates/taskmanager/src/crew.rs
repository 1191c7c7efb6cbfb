//! The workers of a task manager, over all of its links, and the tasks that look after them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use streamd_core::id::{JobId, WorkerId};
use streamd_rpc::proto;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{error, info};

use crate::directory::remove;

/// A worker that was started and not yet reaped.
pub(crate) struct RunningWorker {
    pub(crate) job: JobId,
    pub(crate) stop: watch::Sender<Option<Duration>>,
    /// Its process id, for as long as the process is there.
    pub(crate) process: watch::Receiver<Option<u32>>,
}

/// What a finished task was.
pub(crate) enum Finished {
    Worker(WorkerId),
    Errand,
}

/// What outlives a link.
pub(crate) struct Crew {
    /// How long workers may take to end.
    grace: Duration,
    /// Each has a directory for every job.
    directories: Vec<PathBuf>,
    /// Whether a job manager has taken the task manager out of use.
    is_drained: bool,
    workers: BTreeMap<WorkerId, RunningWorker>,
    /// Jobs whose directories go when their last worker has gone.
    forgotten: BTreeSet<JobId>,
    tasks: JoinSet<Finished>,
}

impl Crew {
    pub(crate) fn new(grace: Duration, directories: Vec<PathBuf>) -> Self {
        Self {
            grace,
            directories,
            is_drained: false,
            workers: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            tasks: JoinSet::new(),
        }
    }

    /// What a registration says of the workers that run.
    pub(crate) fn announcement(&self) -> Vec<proto::RunningWorker> {
        let announced = self.workers.iter().map(|(worker, running)| proto::RunningWorker {
            worker_id: worker.0,
            job_id: running.job.to_string(),
        });
        announced.collect()
    }

    /// Whether jobs may not use the task manager: for every job manager, until one says otherwise.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained
    }

    pub(crate) fn set_drained(&mut self, is_drained: bool) {
        if self.is_drained != is_drained {
            info!(is_drained, "whether jobs may use this task manager has changed");
        }
        self.is_drained = is_drained;
    }

    pub(crate) fn has(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// The process of a worker, if there is one.
    pub(crate) fn process_of(&self, worker: WorkerId) -> Option<u32> {
        self.workers.get(&worker).and_then(|running| *running.process.borrow())
    }

    pub(crate) fn add(&mut self, worker: WorkerId, running: RunningWorker) {
        self.forgotten.remove(&running.job);
        self.workers.insert(worker, running);
    }

    /// Looks after a task until it has ended.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = Finished> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Ends a worker. `false` if there is none of the number.
    pub(crate) fn stop(&mut self, worker: WorkerId, grace: Duration) -> bool {
        match self.workers.get(&worker) {
            Some(running) => {
                stop(running, grace);
                true
            }
            None => false,
        }
    }

    /// The job has ended: its workers and directories go.
    pub(crate) fn forget(&mut self, job: JobId) {
        for worker in self.workers.values().filter(|worker| worker.job == job) {
            stop(worker, self.grace);
        }
        self.forgotten.insert(job);
        self.remove_if_forgotten(job);
    }

    /// Waits for a task that ends, and does what follows; for ever if there is none. Cancel safe.
    pub(crate) async fn reap(&mut self) {
        match self.tasks.join_next().await {
            Some(finished) => self.on_finished(finished),
            None => std::future::pending().await,
        }
    }

    /// Does what follows for the tasks that have ended.
    pub(crate) fn reap_ended(&mut self) {
        while let Some(finished) = self.tasks.try_join_next() {
            self.on_finished(finished);
        }
    }

    /// Whether no worker runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.workers.is_empty()
    }

    /// Nobody can say any more which jobs have ended: without a worker there is nothing to keep.
    pub(crate) fn link_lost(&mut self) {
        self.reap_ended();
        match self.workers.len() {
            0 => self.directories.iter().for_each(|directory| remove(directory)),
            workers => info!(workers, "workers go on without a job manager"),
        }
    }

    /// Ends every process and task, and waits until all are reaped.
    pub(crate) async fn end_all(&mut self) {
        if !self.workers.is_empty() {
            info!(workers = self.workers.len(), "ending all workers");
        }
        for worker in self.workers.values() {
            stop(worker, self.grace);
        }
        while let Some(finished) = self.tasks.join_next().await {
            self.on_finished(finished);
        }
        self.directories.iter().for_each(|directory| remove(directory));
    }

    fn on_finished(&mut self, finished: Result<Finished, JoinError>) {
        match finished {
            Ok(Finished::Worker(worker)) => {
                if let Some(gone) = self.workers.remove(&worker) {
                    self.remove_if_forgotten(gone.job);
                }
            }
            Ok(Finished::Errand) => {}
            Err(error) => error!(%error, "a task of the task manager panicked"),
        }
    }

    fn remove_if_forgotten(&mut self, job: JobId) {
        if self.workers.values().any(|worker| worker.job == job) || !self.forgotten.remove(&job) {
            return;
        }
        let of_job: Vec<PathBuf> = self.directories.iter().map(|it| it.join(job.to_string())).collect();
        self.tasks.spawn_blocking(move || {
            of_job.iter().for_each(|directory| remove(directory));
            Finished::Errand
        });
    }
}

fn stop(worker: &RunningWorker, grace: Duration) {
    // The first request counts: a second one must not prolong the grace of the first.
    worker.stop.send_if_modified(|request| {
        let first = request.is_none();
        request.get_or_insert(grace);
        first
    });
}
