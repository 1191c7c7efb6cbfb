//! The stage: a job manager played by the test, and programs made of shell.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::time::SystemClock;
use streamd_rpc::limits;
use streamd_rpc::proto::dispatcher_server::Dispatcher;
use streamd_rpc::proto::task_manager_command::Command;
use streamd_rpc::proto::task_manager_event::Event;
use streamd_rpc::proto::task_manager_link_server::TaskManagerLink;
use streamd_rpc::proto::*;
use streamd_rpc::status::{from_proto, to_status};
use streamd_taskmanager::{RunningTaskManager, TaskManager, TaskManagerOptions};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// How long anything may take. Far more than it does, so that only a hang fails.
pub const DEADLINE: Duration = Duration::from_secs(120);

pub const JOB: &str = "0123456789abcdef0123456789abcdef";

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The applications that the job manager holds, by what they are asked for as.
#[derive(Clone, Default)]
pub struct Applications {
    bytes: Arc<Mutex<BTreeMap<String, Bytes>>>,
    pub fetches: Arc<AtomicUsize>,
}

impl Applications {
    /// Adds an application; returns its digest.
    pub fn add(&self, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.add_as(&digest, bytes);
        digest
    }

    /// Adds bytes under a digest, whether it is theirs or not.
    pub fn add_as(&self, digest: &str, bytes: impl Into<Bytes>) {
        self.bytes.lock().unwrap().insert(digest.to_owned(), bytes.into());
    }
}

/// One registered link, at the job manager's end.
pub struct Link {
    pub registration: TaskManagerRegistration,
    commands: mpsc::Sender<Result<TaskManagerCommand, Status>>,
    events: Streaming<TaskManagerEvent>,
}

impl Link {
    pub async fn tell(&self, command: Command) {
        let command = TaskManagerCommand { command: Some(command) };
        self.commands.send(Ok(command)).await.expect("the link is open");
    }

    /// The next event that is no heartbeat; `None` at the end of the link.
    pub async fn event(&mut self) -> Option<Event> {
        let next = async {
            loop {
                match self.events.message().await.ok()??.event {
                    Some(Event::Heartbeat(_)) => {}
                    event => return event,
                }
            }
        };
        tokio::time::timeout(DEADLINE, next)
            .await
            .expect("an event comes in time")
    }

    pub async fn heartbeat(&mut self) {
        let next = tokio::time::timeout(DEADLINE, self.events.message()).await.unwrap();
        let event = next.unwrap().unwrap().event;
        assert!(matches!(event, Some(Event::Heartbeat(_))), "{event:?}");
    }

    /// Has a program described.
    pub async fn describe(&mut self, program: Program, timeout_ms: u64) -> Result<Bytes, CodedError> {
        self.tell(Command::Describe(DescribeCommand {
            request_id: 7,
            program: Some(program),
            timeout_ms,
        }))
        .await;
        match self.event().await {
            Some(Event::Described(described)) => {
                assert_eq!(described.request_id, 7);
                match described.outcome.unwrap() {
                    application_described::Outcome::Plan(plan) => Ok(plan),
                    application_described::Outcome::Error(error) => Err(from_proto(&error)),
                }
            }
            other => panic!("{other:?} came instead of a description"),
        }
    }

    pub async fn start_worker(&self, worker_id: u64, program: Program) {
        self.tell(Command::StartWorker(StartWorker {
            worker_id,
            job_id: JOB.to_owned(),
            program: Some(program),
        }))
        .await;
    }

    pub async fn stop_worker(&self, worker_id: u64, grace_ms: u64) {
        self.tell(Command::StopWorker(StopWorker { worker_id, grace_ms })).await;
    }

    /// The process id of the worker that starts next.
    pub async fn started(&mut self) -> u32 {
        match self.event().await {
            Some(Event::WorkerStarted(started)) => started.process_id,
            other => panic!("{other:?} came instead of a start"),
        }
    }

    /// Why the worker that ends next did.
    pub async fn exited(&mut self) -> String {
        match self.event().await {
            Some(Event::WorkerExited(exited)) => exited.reason.unwrap().message,
            other => panic!("{other:?} came instead of an exit"),
        }
    }

    /// The job's log behind a position of worker 1.
    pub async fn log(&mut self, position: u64) -> String {
        self.tell(Command::ReadLog(ReadLog {
            request_id: 9,
            job_id: JOB.to_owned(),
            from: vec![LogPosition {
                worker_id: 1,
                bytes: position,
            }],
        }))
        .await;
        let mut text = Vec::new();
        loop {
            match self.event().await {
                Some(Event::LogChunk(chunk)) if chunk.last => return String::from_utf8(text).unwrap(),
                Some(Event::LogChunk(chunk)) => {
                    assert_eq!((chunk.request_id, chunk.worker_id), (9, 1));
                    text.extend_from_slice(&chunk.chunk);
                }
                other => panic!("{other:?} came instead of a log"),
            }
        }
    }

    /// The log of worker 1 once it holds a line that starts so; returns the rest of that line.
    pub async fn logged(&mut self, start: &str) -> String {
        let waiting = async {
            loop {
                let log = self.log(0).await;
                let complete = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
                if let Some(rest) = complete.filter_map(|line| line.strip_prefix(start)).next() {
                    return rest.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting)
            .await
            .expect("the line is printed in time")
    }
}

/// The job manager that the test plays.
pub struct JobManager {
    pub address: SocketAddr,
    pub applications: Applications,
    links: mpsc::Receiver<Link>,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Services {
    applications: Applications,
    links: mpsc::Sender<Link>,
    stop: CancellationToken,
}

impl JobManager {
    pub async fn start() -> Self {
        // Nobody else takes the port there until it is started again.
        Self::start_at((servers::own_address(), 0).into()).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = listen(address).await;
        let address = listener.local_addr().unwrap();
        let (sender, links) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let services = Services {
            applications: Applications::default(),
            links: sender,
            stop: stop.clone(),
        };
        let applications = services.applications.clone();
        let server = limits::server()
            .add_service(limits::dispatcher_server(services.clone()))
            .add_service(limits::task_manager_link_server(services))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        let server = tokio::spawn(async move { server.await.unwrap() });
        Self {
            address,
            applications,
            links,
            stop,
            server,
        }
    }

    pub async fn link(&mut self) -> Link {
        tokio::time::timeout(DEADLINE, self.links.recv())
            .await
            .expect("a task manager registers in time")
            .unwrap()
    }

    /// Ends all links and the listener.
    pub async fn stop(self, link: Link) {
        self.stop.cancel();
        drop(link);
        drop(self.links);
        tokio::time::timeout(DEADLINE, self.server)
            .await
            .expect("the server ends")
            .unwrap();
    }

    /// A shell script as a program.
    pub fn script(&self, text: &str) -> Program {
        self.program(format!("#!/bin/sh\n{text}\n"))
    }

    pub fn program(&self, bytes: impl Into<Bytes>) -> Program {
        Program {
            sha256: self.applications.add(bytes),
            file_name: "app".to_owned(),
            ..Program::default()
        }
    }
}

/// Listens at an address where another one has listened: a process that a test beside this one starts holds its socket for a moment.
async fn listen(address: SocketAddr) -> TcpListener {
    let listening = async {
        loop {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            match socket.bind(address).and_then(|()| socket.listen(16)) {
                Ok(listener) => return listener,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, listening)
        .await
        .expect("the address is free in time")
}

#[tonic::async_trait]
impl TaskManagerLink for Services {
    type ConnectStream = Answers<TaskManagerCommand>;

    async fn connect(
        &self,
        request: Request<Streaming<TaskManagerEvent>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut events = request.into_inner();
        let Some(Event::Registration(registration)) = events.message().await?.and_then(|event| event.event) else {
            panic!("the first event is no registration");
        };
        let (commands, outgoing) = mpsc::channel(16);
        let accepted = Command::Accepted(RegistrationAccepted {
            heartbeat_interval_ms: 100,
            heartbeat_timeout_ms: 1000,
            leader_epoch: 1,
        });
        let accepted = TaskManagerCommand {
            command: Some(accepted),
        };
        commands.send(Ok(accepted)).await.unwrap();
        let link = Link {
            registration,
            commands,
            events,
        };
        self.links
            .send(link)
            .await
            .map_err(|_| to_status(&CodedError::new(ErrorCode::ClusterShuttingDown, "the test is over")))?;
        let stopped = self.stop.clone().cancelled_owned();
        Ok(Response::new(Box::pin(
            ReceiverStream::new(outgoing).take_until(stopped),
        )))
    }
}

/// What a task manager does not call.
fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not part of this play"))
}

#[tonic::async_trait]
impl Dispatcher for Services {
    type FetchArtifactStream = Answers<FetchArtifactResponse>;
    type WatchJobStream = Answers<WatchJobResponse>;
    type ProfileJobStream = Answers<ProfileJobResponse>;
    type GetLogsStream = Answers<GetLogsResponse>;

    async fn fetch_artifact(
        &self,
        request: Request<FetchArtifactRequest>,
    ) -> Result<Response<Self::FetchArtifactStream>, Status> {
        self.applications.fetches.fetch_add(1, Ordering::SeqCst);
        let sha256 = request.into_inner().sha256;
        let bytes = self.applications.bytes.lock().unwrap().get(&sha256).cloned();
        let bytes = bytes.ok_or_else(|| {
            to_status(&CodedError::new(
                ErrorCode::ApplicationNotFound,
                format!("there is no application `{sha256}`"),
            ))
        })?;
        let pieces: Vec<_> = bytes
            .chunks(1000)
            .map(|piece| {
                Ok(FetchArtifactResponse {
                    chunk: Bytes::copy_from_slice(piece),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
    }

    async fn has_artifact(&self, _: Request<HasArtifactRequest>) -> Result<Response<HasArtifactResponse>, Status> {
        unused()
    }
    async fn upload_artifact(
        &self,
        _: Request<Streaming<UploadArtifactRequest>>,
    ) -> Result<Response<UploadArtifactResponse>, Status> {
        unused()
    }
    async fn describe_application(
        &self,
        _: Request<DescribeApplicationRequest>,
    ) -> Result<Response<DescribeApplicationResponse>, Status> {
        unused()
    }
    async fn check_snapshot(
        &self,
        _: Request<CheckSnapshotRequest>,
    ) -> Result<Response<CheckSnapshotResponse>, Status> {
        unused()
    }
    async fn submit_job(&self, _: Request<SubmitJobRequest>) -> Result<Response<SubmitJobResponse>, Status> {
        unused()
    }
    async fn list_jobs(&self, _: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        unused()
    }
    async fn get_job(&self, _: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        unused()
    }
    async fn watch_job(&self, _: Request<WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        unused()
    }
    async fn profile_job(&self, _: Request<ProfileJobRequest>) -> Result<Response<Self::ProfileJobStream>, Status> {
        unused()
    }
    async fn get_logs(&self, _: Request<GetLogsRequest>) -> Result<Response<Self::GetLogsStream>, Status> {
        unused()
    }
    async fn cancel_job(&self, _: Request<CancelJobRequest>) -> Result<Response<CancelJobResponse>, Status> {
        unused()
    }
    async fn start_operation(
        &self,
        _: Request<StartOperationRequest>,
    ) -> Result<Response<StartOperationResponse>, Status> {
        unused()
    }
    async fn wait_operation(
        &self,
        _: Request<WaitOperationRequest>,
    ) -> Result<Response<WaitOperationResponse>, Status> {
        unused()
    }
    async fn get_operation(&self, _: Request<GetOperationRequest>) -> Result<Response<GetOperationResponse>, Status> {
        unused()
    }
    async fn list_operations(
        &self,
        _: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        unused()
    }
    async fn dispose_savepoint(
        &self,
        _: Request<DisposeSavepointRequest>,
    ) -> Result<Response<DisposeSavepointResponse>, Status> {
        unused()
    }
    async fn get_cluster(&self, _: Request<GetClusterRequest>) -> Result<Response<GetClusterResponse>, Status> {
        unused()
    }
    async fn drain_task_manager(
        &self,
        _: Request<DrainTaskManagerRequest>,
    ) -> Result<Response<DrainTaskManagerResponse>, Status> {
        unused()
    }
}

/// A job manager, and a task manager that has registered.
pub struct Stage {
    pub manager: JobManager,
    pub task_manager: RunningTaskManager,
    pub link: Link,
    pub folder: TempDir,
}

impl Stage {
    pub async fn set() -> Self {
        Self::set_with(|_| {}).await
    }

    pub async fn set_with(change: impl FnOnce(&mut TaskManagerOptions)) -> Self {
        let mut manager = JobManager::start().await;
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(manager.address, folder.path());
        change(&mut options);
        let task_manager = TaskManager::start(options, Arc::new(SystemClock::new())).await.unwrap();
        let link = manager.link().await;
        task_manager.registered().await.unwrap();
        Self {
            manager,
            task_manager,
            link,
            folder,
        }
    }

    pub fn work_dir(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("log/jobs").join(JOB).join("worker-1.log")
    }

    /// The job manager is gone, and another one is at its address, to which the task manager has come.
    pub async fn with_next_job_manager(self) -> Self {
        let Self {
            manager,
            link,
            task_manager,
            folder,
        } = self;
        let address = manager.address;
        manager.stop(link).await;
        let mut manager = JobManager::start_at(address).await;
        let link = manager.link().await;
        Self {
            manager,
            link,
            task_manager,
            folder,
        }
    }

    /// Ends the task manager while somebody still listens to its reports.
    pub async fn end(self) {
        let Self {
            task_manager, mut link, ..
        } = self;
        // Takes the link along: like a real job manager, it ends its direction when the other has ended.
        let listening = async move { while link.event().await.is_some() {} };
        let (ended, ()) = tokio::join!(tokio::time::timeout(DEADLINE, task_manager.shutdown()), listening);
        ended.expect("the task manager ends in time").unwrap();
    }
}

pub fn options(manager: SocketAddr, folder: &Path) -> TaskManagerOptions {
    let mut options = TaskManagerOptions::new(manager.to_string(), folder.join("work"), folder.join("log"));
    options.slots = 2;
    options.worker_grace = Duration::from_millis(500);
    options
}

/// Whether a process is gone, or waits as a zombie for an init that reaps late.
pub fn is_gone(process_id: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{process_id}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')),
        Err(_) => true,
    }
}

pub async fn assert_goes(process_id: u32) {
    until(&format!("process {process_id} is gone"), || is_gone(process_id)).await;
}

pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .unwrap_or_else(|_| panic!("in time: {what}"));
}

/// What is in a directory.
pub fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
