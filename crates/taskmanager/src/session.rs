//! One link's life: the job manager's commands come in, every one starts a task, and what became of it goes out.
//!
//! Workers belong to the link: they run attempts of the job manager at its other end, and when that is gone, so is all
//! that could tell them to checkpoint, commit or stop. They are ended before the task manager registers anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, WorkerId};
use streamd_core::protocol::{Failure, FaultDomain};
use streamd_rpc::client::{DispatcherClient, job_manager_peer};
use streamd_rpc::proto;
use streamd_rpc::proto::task_manager_command::Command;
use streamd_rpc::proto::task_manager_event::Event;
use streamd_rpc::status::{from_status, one_line, to_proto};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::directory::remove;
use crate::link::{EventSender, Link};
use crate::log::{LogBook, LogLocation, LogReader};
use crate::service::Shared;
use crate::worker::WorkerTask;

/// Programs that describe their jobs at once; others wait. A description takes a processor for a moment, and running
/// jobs should not feel it.
const DESCRIPTIONS_AT_ONCE: usize = 2;

/// What the ending of a worker may take beyond its grace: its last output and the report.
const REPORT_GRACE: Duration = Duration::from_secs(2);

/// Why a session ended.
#[derive(Debug)]
pub(crate) enum SessionEnd {
    /// The task manager shuts down.
    Shutdown,
    /// The job manager is gone, or wants no more of this task manager.
    Lost(CodedError),
}

/// A worker that was started and not yet reaped.
struct RunningWorker {
    job: JobId,
    stop: watch::Sender<Option<Duration>>,
}

/// What a finished task was.
enum Finished {
    Worker(WorkerId),
    Errand,
}

/// The work of one link.
pub(crate) struct Session<'a> {
    shared: Arc<Shared>,
    book: &'a mut LogBook,
    job_manager: String,
    events: EventSender,
    dispatcher: DispatcherClient,
    workers: BTreeMap<WorkerId, RunningWorker>,
    /// Jobs whose directories go when their last worker has gone.
    forgotten: BTreeSet<JobId>,
    tasks: JoinSet<Finished>,
    descriptions: Arc<Semaphore>,
    /// Cancelled at the end of the session: descriptions and log readers stop.
    ended: CancellationToken,
}

impl<'a> Session<'a> {
    /// Serves a link until it breaks or the task manager shuts down. No process of the session is left afterwards.
    pub(crate) async fn serve(
        shared: Arc<Shared>,
        book: &'a mut LogBook,
        link: Link,
        shutdown: &CancellationToken,
    ) -> SessionEnd {
        let Link {
            job_manager,
            events,
            mut commands,
            dispatcher,
            heartbeat,
        } = link;
        let mut session = Self {
            shared,
            book,
            job_manager,
            events,
            dispatcher,
            workers: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            tasks: JoinSet::new(),
            descriptions: Arc::new(Semaphore::new(DESCRIPTIONS_AT_ONCE)),
            ended: CancellationToken::new(),
        };
        let mut heartbeats = tokio::time::interval(heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            tokio::select! {
                command = commands.message() => match command {
                    Ok(Some(command)) => session.on_command(command.command),
                    Ok(None) => break SessionEnd::Lost(session.link_closed()),
                    Err(status) => break SessionEnd::Lost(session.link_broken(&status)),
                },
                Some(finished) = session.tasks.join_next() => session.on_finished(finished),
                _now = heartbeats.tick() => {
                    session.events.send_if_idle(Event::Heartbeat(proto::TaskManagerHeartbeat {}));
                }
                () = shutdown.cancelled() => break SessionEnd::Shutdown,
            }
        };
        match end {
            SessionEnd::Shutdown => session.say_goodbye(commands).await,
            SessionEnd::Lost(_) => {
                // Closes the queue of events: nobody may wait for room in it.
                drop(commands);
                session.end_all().await;
            }
        }
        end
    }

    fn link_closed(&self) -> CodedError {
        let peer = job_manager_peer(&self.job_manager);
        CodedError::new(ErrorCode::JobManagerUnreachable, format!("{peer} closed the link"))
    }

    fn link_broken(&self, status: &tonic::Status) -> CodedError {
        from_status(status, &job_manager_peer(&self.job_manager))
    }

    fn on_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Describe(describe)) => self.on_describe(describe),
            Some(Command::StartWorker(start)) => self.on_start_worker(start),
            Some(Command::StopWorker(stop)) => self.on_stop_worker(&stop),
            Some(Command::ReadLog(read)) => self.on_read_log(&read),
            Some(Command::ForgetJob(forget)) => self.on_forget_job(&forget),
            Some(Command::Accepted(_)) => debug!("registration was accepted twice"),
            // A job manager of a newer version may know more commands. It learns from the missing answer.
            None => warn!("job manager sent a command that this version does not know"),
        }
    }

    fn on_describe(&mut self, command: proto::DescribeCommand) {
        let (shared, events, dispatcher) = (Arc::clone(&self.shared), self.events.clone(), self.dispatcher.clone());
        let (permits, ended) = (Arc::clone(&self.descriptions), self.ended.clone());
        self.tasks.spawn(async move {
            let outcome = tokio::select! {
                outcome = describe(&shared, &dispatcher, &command, &permits) => outcome,
                () = ended.cancelled() => return Finished::Errand,
            };
            let outcome = match outcome {
                Ok(plan) => proto::application_described::Outcome::Plan(plan),
                Err(error) => proto::application_described::Outcome::Error(to_proto(&error)),
            };
            events
                .send(Event::Described(proto::ApplicationDescribed {
                    request_id: command.request_id,
                    outcome: Some(outcome),
                }))
                .await;
            Finished::Errand
        });
    }

    fn on_start_worker(&mut self, command: proto::StartWorker) {
        let worker = WorkerId(command.worker_id);
        if self.workers.contains_key(&worker) {
            return debug!(%worker, "worker was started twice");
        }
        let Ok(job) = command.job_id.parse::<JobId>() else {
            return self.refuse(worker, format!("`{}` is no job id", one_line(&command.job_id, 64)));
        };
        let Some(program) = command.program else {
            return self.refuse(worker, "the command names no program".to_owned());
        };
        let (stop, stop_request) = watch::channel(None);
        let task = WorkerTask {
            worker,
            job,
            program,
            job_manager: self.job_manager.clone(),
            log: self.book.add(job, worker),
            shared: Arc::clone(&self.shared),
            dispatcher: self.dispatcher.clone(),
            events: self.events.clone(),
            stop: stop_request,
        };
        self.forgotten.remove(&job);
        self.workers.insert(worker, RunningWorker { job, stop });
        self.tasks.spawn(async move { Finished::Worker(task.run().await) });
    }

    /// Reports a worker that is not there as gone.
    fn refuse(&mut self, worker: WorkerId, reason: String) {
        let events = self.events.clone();
        let reason = Failure {
            domain: FaultDomain::Internal,
            message: format!("`{worker}` does not run: {reason}"),
        };
        self.tasks.spawn(async move {
            events
                .send(Event::WorkerExited(proto::WorkerExited {
                    worker_id: worker.0,
                    reason: Some(reason.into()),
                }))
                .await;
            Finished::Errand
        });
    }

    fn on_stop_worker(&mut self, command: &proto::StopWorker) {
        let worker = WorkerId(command.worker_id);
        match self.workers.get(&worker) {
            Some(running) => stop(running, Duration::from_millis(command.grace_ms)),
            // Its end may be on the way; if it never was here, the job manager would wait for ever.
            None => self.refuse(worker, "there is no such worker".to_owned()),
        }
    }

    fn on_read_log(&mut self, command: &proto::ReadLog) {
        let logs = match command.job_id.parse::<JobId>() {
            Ok(job) => self.book.of_job(job),
            Err(_) => BTreeMap::new(),
        };
        let known: BTreeMap<u64, u64> = command.from.iter().map(|from| (from.worker_id, from.bytes)).collect();
        let (request_id, events, ended) = (command.request_id, self.events.clone(), self.ended.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = send_logs(request_id, logs, known, &events) => {}
                () = ended.cancelled() => {}
            }
            Finished::Errand
        });
    }

    fn on_forget_job(&mut self, command: &proto::ForgetJob) {
        let Ok(job) = command.job_id.parse::<JobId>() else {
            return;
        };
        for worker in self.workers.values().filter(|worker| worker.job == job) {
            stop(worker, self.shared.options.worker_grace);
        }
        self.forgotten.insert(job);
        self.book.remove_expired(self.shared.clock.wall());
        self.remove_if_forgotten(job);
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
        let directory = self.shared.directory.job(job);
        self.tasks.spawn_blocking(move || {
            remove(&directory);
            Finished::Errand
        });
    }

    /// Ends every process of the session, and waits until all are reaped.
    async fn end_all(&mut self) {
        self.ended.cancel();
        if !self.workers.is_empty() {
            info!(workers = self.workers.len(), "ending all workers");
        }
        for worker in self.workers.values() {
            stop(worker, self.shared.options.worker_grace);
        }
        while let Some(finished) = self.tasks.join_next().await {
            self.on_finished(finished);
        }
        let jobs = self.shared.directory.jobs();
        remove(&jobs);
    }

    /// Ends everything while the job manager still hears of it, and closes the link in order.
    async fn say_goodbye(mut self, mut commands: tonic::Streaming<proto::TaskManagerCommand>) {
        let in_time = self.shared.options.worker_grace + REPORT_GRACE;
        if tokio::time::timeout(in_time, self.end_all()).await.is_err() {
            // The job manager takes no reports: without the link nobody waits for it.
            drop(commands);
            return self.end_all().await;
        }
        drop(self.events);
        let closing = async { while let Ok(Some(_too_late)) = commands.message().await {} };
        let _closed_or_not = tokio::time::timeout(REPORT_GRACE, closing).await;
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

async fn describe(
    shared: &Shared,
    dispatcher: &DispatcherClient,
    command: &proto::DescribeCommand,
    permits: &Semaphore,
) -> Result<bytes::Bytes, CodedError> {
    let program = command.program.as_ref().ok_or_else(|| {
        CodedError::new(
            ErrorCode::ProtocolMismatch,
            "message lacks field `DescribeCommand.program`",
        )
    })?;
    let _permit = permits.acquire().await.expect("the semaphore is never closed");
    let executable = shared.artifacts.executable(&program.sha256, dispatcher).await?;
    let timeout = Duration::from_millis(command.timeout_ms);
    shared.describer.describe(program, executable, timeout).await
}

/// Sends what the asker does not have of each log, worker by worker, and the mark of the end.
async fn send_logs(
    request_id: u64,
    logs: BTreeMap<WorkerId, LogLocation>,
    known: BTreeMap<u64, u64>,
    events: &EventSender,
) {
    for (worker, location) in logs {
        let position = known.get(&worker.0).copied().unwrap_or(0);
        if let Err(error) = send_log(request_id, worker, &location, position, events).await {
            warn!(%worker, %error, "log of a worker cannot be read");
        }
    }
    events
        .send(Event::LogChunk(proto::LogChunk {
            request_id,
            last: true,
            ..proto::LogChunk::default()
        }))
        .await;
}

async fn send_log(
    request_id: u64,
    worker: WorkerId,
    location: &LogLocation,
    position: u64,
    events: &EventSender,
) -> std::io::Result<()> {
    let mut reader = LogReader::open(location, position).await?;
    while let Some(chunk) = reader.next().await? {
        events
            .send(Event::LogChunk(proto::LogChunk {
                request_id,
                worker_id: worker.0,
                chunk,
                last: false,
            }))
            .await;
    }
    Ok(())
}
