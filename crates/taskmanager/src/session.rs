//! One link's life: the job manager's commands come in, every one starts a task, and what became of it goes out.
//!
//! Workers outlive the link: they run on while there is no job manager, and the next one says at the registration which of them it
//! wants. Descriptions, profiles and readers of logs end with the link that asked for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, WorkerId};
use streamd_core::protocol::{Failure, FaultDomain};
use streamd_core::time::MonotonicTime;
use streamd_rpc::client::{DispatcherClient, job_manager_peer};
use streamd_rpc::proto;
use streamd_rpc::proto::task_manager_command::Command;
use streamd_rpc::proto::task_manager_event::Event;
use streamd_rpc::status::{from_status, one_line, to_proto};
use tokio::sync::{Semaphore, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::crew::{Crew, Finished, RunningWorker};
use crate::link::{EventSender, Link};
use crate::log::{LogBook, LogLocation, LogReader};
use crate::service::Shared;
use crate::worker::WorkerTask;

/// Programs that describe their jobs at once; others wait. A description takes a processor for a moment, and running
/// jobs should not feel it.
const DESCRIPTIONS_AT_ONCE: usize = 2;

/// Bytes of the job manager's reason that are logged.
const SHOWN_REASON: usize = 512;

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

/// The work of one link.
pub(crate) struct Session<'a> {
    shared: Arc<Shared>,
    book: &'a mut LogBook,
    job_manager: String,
    events: EventSender,
    dispatcher: DispatcherClient,
    crew: &'a mut Crew,
    /// How often the job manager wants signs of life.
    heartbeat: Duration,
    descriptions: Arc<Semaphore>,
    /// Cancelled at the end of the session: descriptions, profiles and log readers stop.
    ended: CancellationToken,
}

impl<'a> Session<'a> {
    /// Serves a link until it breaks or the task manager shuts down. In the latter case no process is left afterwards.
    pub(crate) async fn serve(
        shared: Arc<Shared>,
        (book, crew): (&'a mut LogBook, &'a mut Crew),
        link: Link,
        shutdown: &CancellationToken,
    ) -> SessionEnd {
        let Link {
            job_manager,
            events,
            mut commands,
            dispatcher,
            heartbeat,
            silence,
            announced,
            ..
        } = link;
        let mut session = Self {
            shared,
            book,
            job_manager,
            events,
            dispatcher,
            crew,
            heartbeat,
            descriptions: Arc::new(Semaphore::new(DESCRIPTIONS_AT_ONCE)),
            ended: CancellationToken::new(),
        };
        session.report_gone(&announced);
        let mut heartbeats = tokio::time::interval(heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_heard = None;
        let leaving = session.shared.leaving.clone();
        let mut has_asked = false;
        let end = loop {
            tokio::select! {
                command = commands.message() => match command {
                    Ok(Some(command)) => {
                        last_heard = session.heard(&command, last_heard);
                        session.on_command(command.command);
                    }
                    Ok(None) => break SessionEnd::Lost(session.link_closed()),
                    Err(status) => break SessionEnd::Lost(session.link_broken(&status)),
                },
                () = session.crew.reap() => {}
                () = leaving.asked(), if !has_asked => {
                    has_asked = true;
                    session.say_leaving();
                }
                _now = heartbeats.tick() => {
                    if session.is_silent(last_heard, silence) {
                        break SessionEnd::Lost(session.link_silent(silence));
                    }
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
                session.events.disconnect();
                session.ended.cancel();
                session.crew.link_lost();
            }
        }
        end
    }

    /// The moment of the job manager's last word, once it has given a sign of life: one of an older version gives none.
    fn heard(&self, command: &proto::TaskManagerCommand, before: Option<MonotonicTime>) -> Option<MonotonicTime> {
        let is_sign = matches!(command.command, Some(Command::Heartbeat(_)));
        (is_sign || before.is_some()).then(|| self.shared.clock.monotonic())
    }

    fn is_silent(&self, last_heard: Option<MonotonicTime>, silence: Duration) -> bool {
        let silence_ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        last_heard.is_some_and(|heard| self.shared.clock.monotonic().since(heard) > silence_ms)
    }

    fn link_silent(&self, silence: Duration) -> CodedError {
        let peer = job_manager_peer(&self.job_manager);
        CodedError::new(
            ErrorCode::JobManagerUnreachable,
            format!("{peer} gave no sign of life for {} ms", silence.as_millis()),
        )
    }

    /// Workers that ended between the registration and now: nobody has heard of it.
    fn report_gone(&mut self, announced: &[WorkerId]) {
        for worker in announced {
            if !self.crew.has(*worker) {
                self.refuse(*worker, "it has ended".to_owned());
            }
        }
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
            Some(Command::FetchProgram(fetch)) => self.on_fetch_program(fetch.sha256),
            Some(Command::SetUse(wanted)) => self.on_set_use(wanted.drained),
            Some(Command::ProfileWorker(profile)) => self.on_profile_worker(profile),
            Some(Command::StopProfile(stop)) => self.shared.profiler.stop(stop.request_id),
            Some(Command::LeaveNow(answer)) => self.shared.leaving.settle(&one_line(&answer.reason, SHOWN_REASON)),
            Some(Command::Heartbeat(proto::JobManagerHeartbeat {})) => {}
            Some(Command::Accepted(_)) => debug!("registration was accepted twice"),
            // A job manager of a newer version may know more commands. It learns from the missing answer.
            None => warn!("job manager sent a command that this version does not know"),
        }
    }

    fn on_set_use(&mut self, is_drained: bool) {
        if is_drained {
            self.shared.profiler.stop_all();
        }
        self.crew.set_drained(is_drained);
    }

    fn on_profile_worker(&mut self, command: proto::ProfileWorker) {
        let worker = WorkerId(command.worker_id);
        let process = self.crew.process_of(worker);
        let shared = Arc::clone(&self.shared);
        self.answer(async move {
            let outcome = match shared.profiler.profile(process, &command).await {
                Ok(profile) => proto::worker_profiled::Outcome::Profile(profile),
                Err(error) => proto::worker_profiled::Outcome::Error(to_proto(&error)),
            };
            Event::Profiled(proto::WorkerProfiled {
                request_id: command.request_id,
                outcome: Some(outcome),
            })
        });
    }

    /// Asks for the jobs to move elsewhere.
    fn say_leaving(&mut self) {
        self.shared.profiler.stop_all();
        let events = self.events.clone();
        self.crew.spawn(async move {
            events.send(Event::Leaving(proto::TaskManagerLeaving {})).await;
            Finished::Errand
        });
    }

    fn on_describe(&mut self, command: proto::DescribeCommand) {
        let (shared, dispatcher) = (Arc::clone(&self.shared), self.dispatcher.clone());
        let permits = Arc::clone(&self.descriptions);
        self.answer(async move {
            let outcome = match describe(&shared, &dispatcher, &command, &permits).await {
                Ok(plan) => proto::application_described::Outcome::Plan(plan),
                Err(error) => proto::application_described::Outcome::Error(to_proto(&error)),
            };
            Event::Described(proto::ApplicationDescribed {
                request_id: command.request_id,
                outcome: Some(outcome),
            })
        });
    }

    /// Works on what the job manager asks, and tells it what came of it, unless the session ends before.
    fn answer(&mut self, work: impl Future<Output = Event> + Send + 'static) {
        let (events, ended) = (self.events.clone(), self.ended.clone());
        self.crew.spawn(async move {
            let answer = tokio::select! {
                answer = work => answer,
                () = ended.cancelled() => return Finished::Errand,
            };
            events.send(answer).await;
            Finished::Errand
        });
    }

    /// For a job that may have to go on here: whoever starts its worker waits for a fetch that is under way.
    fn on_fetch_program(&mut self, sha256: String) {
        let (shared, dispatcher, ended) = (Arc::clone(&self.shared), self.dispatcher.clone(), self.ended.clone());
        self.crew.spawn(async move {
            tokio::select! {
                fetched = shared.artifacts.executable(&sha256, &dispatcher) => if let Err(error) = fetched {
                    debug!(sha256, %error, "a program is not here yet: it is fetched when it is needed");
                },
                () = ended.cancelled() => {}
            }
            Finished::Errand
        });
    }

    fn on_start_worker(&mut self, command: proto::StartWorker) {
        let worker = WorkerId(command.worker_id);
        if self.crew.has(worker) {
            return debug!(%worker, "worker was started twice");
        }
        let Ok(job) = command.job_id.parse::<JobId>() else {
            return self.refuse(worker, format!("`{}` is no job id", one_line(&command.job_id, 64)));
        };
        let Some(program) = command.program else {
            return self.refuse(worker, "the command names no program".to_owned());
        };
        let (stop, stop_request) = watch::channel(None);
        let (process, process_id) = watch::channel(None);
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
            process,
            heartbeat: self.heartbeat,
        };
        let running = RunningWorker {
            job,
            stop,
            process: process_id,
        };
        self.crew.add(worker, running);
        self.crew.spawn(async move { Finished::Worker(task.run().await) });
    }

    /// Reports a worker that is not there as gone.
    fn refuse(&mut self, worker: WorkerId, reason: String) {
        let events = self.events.clone();
        let reason = Failure::new(FaultDomain::Internal, format!("`{worker}` does not run: {reason}"));
        self.crew.spawn(async move {
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
        // Its end may be on the way; if it never was here, the job manager would wait for ever.
        if !self.crew.stop(worker, Duration::from_millis(command.grace_ms)) {
            self.refuse(worker, "there is no such worker".to_owned());
        }
    }

    fn on_read_log(&mut self, command: &proto::ReadLog) {
        let logs = match command.job_id.parse::<JobId>() {
            Ok(job) => self.book.of_job(job),
            Err(_) => BTreeMap::new(),
        };
        let known: BTreeMap<u64, u64> = command.from.iter().map(|from| (from.worker_id, from.bytes)).collect();
        let (request_id, events, ended) = (command.request_id, self.events.clone(), self.ended.clone());
        self.crew.spawn(async move {
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
        self.crew.forget(job);
        self.book.remove_expired(self.shared.clock.wall());
    }

    /// Ends everything while the job manager still hears of it, and closes the link in order.
    async fn say_goodbye(self, mut commands: tonic::Streaming<proto::TaskManagerCommand>) {
        let in_time = self.shared.options.worker_grace + REPORT_GRACE;
        self.ended.cancel();
        if tokio::time::timeout(in_time, self.crew.end_all()).await.is_err() {
            // The job manager takes no reports: without the link nobody waits for it.
            drop(commands);
            self.events.disconnect();
            return self.crew.end_all().await;
        }
        self.events.disconnect();
        let closing = async { while let Ok(Some(_too_late)) = commands.message().await {} };
        let _closed_or_not = tokio::time::timeout(REPORT_GRACE, closing).await;
    }
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
