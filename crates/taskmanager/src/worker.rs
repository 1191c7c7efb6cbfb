//! One worker process: started, its output copied to its log, stopped on request, reaped, and its end reported.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, WorkerId};
use streamd_core::protocol::{Failure, FaultDomain};
use streamd_rpc::client::DispatcherClient;
use streamd_rpc::proto;
use streamd_rpc::proto::task_manager_event::Event;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;
use tokio::sync::watch;
use tracing::info;

use crate::describe::display_name;
use crate::directory::{create_private, not_writable, write_private};
use crate::link::EventSender;
use crate::log::{LogLocation, WorkerLog};
use crate::memory::TooMuch;
use crate::process::{Launch, NO_LIMIT, ProcessGroup, examine, exit_reason, sweep, while_copying, words_in_log};
use crate::service::Shared;

/// The settings of object stores, in the private directory of a worker. The worker reads them when it starts, and removes the file
/// before any user code runs as part of the job: neither the environment nor the arguments of a process are a place for secrets.
const STORAGE_FILE: &str = "storage.json";

/// Set once to ask a worker to end within the time.
pub(crate) type StopRequest = watch::Receiver<Option<Duration>>;

/// A worker from its start command to its reaping.
pub(crate) struct WorkerTask {
    pub(crate) worker: WorkerId,
    pub(crate) job: JobId,
    pub(crate) program: proto::Program,
    /// `host:port` of the job manager that wants it.
    pub(crate) job_manager: String,
    pub(crate) log: LogLocation,
    pub(crate) shared: Arc<Shared>,
    pub(crate) dispatcher: DispatcherClient,
    pub(crate) events: EventSender,
    pub(crate) stop: StopRequest,
    /// Told the process id when there is a process, and when there is none any more.
    pub(crate) process: watch::Sender<Option<u32>>,
    /// How often the job manager wants a sign of life.
    pub(crate) heartbeat: Duration,
}

impl WorkerTask {
    /// Runs until the process is reaped and reported.
    pub(crate) async fn run(self) -> WorkerId {
        let failure = match self.start().await {
            Ok(Some((child, output, log))) => self.watch_over(child, output, log).await,
            Ok(None) => external(format!("`{}` was stopped before it started", self.worker)),
            Err(error) => external(format!("`{}` could not be started: {error}", self.worker)),
        };
        info!(job_id = %self.job, worker = %self.worker, reason = failure.message, "worker ended");
        self.events
            .send(Event::WorkerExited(proto::WorkerExited {
                worker_id: self.worker.0,
                reason: Some(failure.into()),
            }))
            .await;
        self.worker
    }

    /// Starts the process; `None` where it is no longer wanted.
    async fn start(&self) -> Result<Option<(Child, Receiver, WorkerLog)>, CodedError> {
        let mut stop = self.stop.clone();
        let executable = tokio::select! {
            executable = self.shared.artifacts.executable(&self.program.sha256, &self.dispatcher) => executable?,
            _grace = requested(&mut stop) => return Ok(None),
        };
        let name = display_name(&self.program);
        examine(&executable, &name)?;
        let directory = self.shared.directory.worker(self.job, self.worker);
        create_private(&directory)
            .and_then(|()| create_private(&self.shared.directory.local_state(self.job)))
            .and_then(|()| {
                write_private(
                    &directory.join(STORAGE_FILE),
                    &self.shared.options.storage.expose_as_json(),
                )
            })
            .map_err(|error| not_writable("working directory", &directory, &error))?;
        let log = WorkerLog::open(self.log.clone(), self.shared.options.worker_log_bytes)
            .await
            .map_err(|error| not_writable("log directory", &self.shared.options.log_dir, &error))?;
        let (output, stdout, stderr) = pipe()
            .map_err(|error| CodedError::caused(ErrorCode::Internal, "no pipe can be opened for a worker", &error))?;
        let launch = self.launch(executable, name, directory);
        let child = launch.start(stdout, stderr, NO_LIMIT).await?;
        Ok(Some((child, output, log)))
    }

    fn launch(&self, executable: PathBuf, name: String, directory: PathBuf) -> Launch {
        let environment = self
            .shared
            .environment
            .clone()
            .for_program(&self.program, "worker", &directory)
            .with("STREAMD_JOB_ID", self.job.to_string())
            .with("STREAMD_WORKER_ID", self.worker.0.to_string())
            .with("STREAMD_TASK_MANAGER_ID", &self.shared.id.0)
            .with("STREAMD_JOB_MANAGER", &self.job_manager)
            .with("STREAMD_JOB_MANAGER_FILE", self.shared.directory.job_manager_file())
            .with(
                "STREAMD_JOB_MANAGER_PATIENCE_MS",
                self.shared.options.registration_timeout.as_millis().to_string(),
            )
            .with("STREAMD_HEARTBEAT_INTERVAL_MS", self.heartbeat.as_millis().to_string())
            .with("STREAMD_DATA_HOST", &self.shared.options.data_host)
            .with("STREAMD_STORAGE_FILE", directory.join(STORAGE_FILE))
            .with("STREAMD_WORK_DIR", &directory)
            .with("STREAMD_LOCAL_STATE_DIR", self.shared.directory.local_state(self.job));
        Launch {
            executable,
            name,
            arguments: self.program.arguments.clone(),
            environment,
            directory,
        }
    }

    /// Reports the start, and waits for the end of the process and of what it started.
    async fn watch_over(&self, mut child: Child, output: Receiver, mut log: WorkerLog) -> Failure {
        let group = ProcessGroup::of(&child);
        let process_id = group.leader_id();
        info!(job_id = %self.job, worker = %self.worker, process_id, "worker started");
        self.process.send_replace(Some(process_id));
        let mut stop = self.stop.clone();
        let directory = self.shared.directory.worker(self.job, self.worker);
        let started = self.events.send(Event::WorkerStarted(proto::WorkerStarted {
            worker_id: self.worker.0,
            process_id,
        }));
        let too_much = Arc::clone(&self.shared.memory).too_much(process_id);
        let waiting = async move {
            let ended = wait(&mut child, &group, &mut stop, too_much).await;
            self.process.send_replace(None);
            drop(group);
            sweep(directory).await;
            ended
        };
        // All at once: a full queue of events must neither stop the worker's output nor delay its end.
        let process = async { tokio::join!(started, waiting).1 };
        let ended = while_copying(process, log.copy_from(output)).await;
        self.reason(process_id, ended, &log.tail())
    }

    fn reason(&self, process_id: u32, ended: io::Result<(ExitStatus, Ending)>, output: &str) -> Failure {
        let who = format!("`{}` (process {process_id})", self.worker);
        let (status, ending) = match ended {
            Ok(ended) => ended,
            Err(error) => return external(format!("{who} was lost: {error}")),
        };
        let how = exit_reason(status);
        match ending {
            Ending::Requested => external(format!("{who} was stopped on request and {how}")),
            Ending::TooMuch(too_much) => {
                Failure::new(FaultDomain::User, format!("{who} of job `{}` {too_much}", self.job))
            }
            Ending::Unasked => {
                let domain = match status.code() {
                    Some(code) if code != 0 => FaultDomain::User,
                    Some(_) | None => FaultDomain::External,
                };
                match words_in_log(status, output) {
                    silence if silence.is_empty() => Failure::new(domain, format!("{who} {how}")),
                    words => Failure::new(domain, format!("{who} {how}: {words}")),
                }
            }
        }
    }
}

/// Whether a process ended because it was told to, or made to.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Unasked,
    Requested,
    TooMuch(TooMuch),
}

/// Waits for a process; once it is asked to stop, only as long as it was granted. One that takes too much memory is given no time.
async fn wait(
    child: &mut Child,
    group: &ProcessGroup,
    stop: &mut StopRequest,
    too_much: impl Future<Output = TooMuch>,
) -> io::Result<(ExitStatus, Ending)> {
    let grace = tokio::select! {
        status = child.wait() => return Ok((status?, Ending::Unasked)),
        grace = requested(stop) => grace,
        too_much = too_much => {
            group.kill();
            return Ok((child.wait().await?, Ending::TooMuch(too_much)));
        }
    };
    group.terminate();
    if let Ok(status) = tokio::time::timeout(grace, child.wait()).await {
        return Ok((status?, Ending::Requested));
    }
    group.kill();
    Ok((child.wait().await?, Ending::Requested))
}

/// Waits for a request to stop. One who can no longer ask wants the worker gone at once.
async fn requested(stop: &mut StopRequest) -> Duration {
    match stop.wait_for(Option::is_some).await {
        Ok(grace) => grace.unwrap_or_default(),
        Err(_) => Duration::ZERO,
    }
}

/// One pipe for both outputs, so that their lines stay in order.
fn pipe() -> io::Result<(Receiver, Stdio, Stdio)> {
    let (reader, writer) = io::pipe()?;
    let stdout = writer.try_clone()?;
    Ok((Receiver::from_owned_fd(reader.into())?, stdout.into(), writer.into()))
}

fn external(message: String) -> Failure {
    Failure::new(FaultDomain::External, message)
}
