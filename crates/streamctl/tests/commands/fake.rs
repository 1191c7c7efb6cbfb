//! A job manager that answers what it was told to, and remembers what it was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use streamd_core::error::{CodedError, ErrorCode};
use streamd_rpc::limits::{dispatcher_server, server};
use streamd_rpc::proto::dispatcher_server::Dispatcher;
use streamd_rpc::proto::*;
use streamd_rpc::status::to_status;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// The id of the job in these tests.
pub const JOB: &str = "fd72014d4c864993a2e5a9287b4a9c5d";

/// What the fake answers. Where nothing is set, the call fails with SD-0401.
#[derive(Clone, Default)]
pub struct Script {
    pub jobs: Vec<JobSummary>,
    /// The changes that a watcher sees, first to last.
    pub changes: Vec<JobSummary>,
    /// What there is to know of the job.
    pub details: Option<JobDetails>,
    pub outcome: Option<wait_operation_response::Outcome>,
    /// How far an operation is before it has that outcome, one for each time that somebody asks.
    pub progress: Vec<OperationProgress>,
    /// What there is to know of the job before [`details`](Self::details), one for each time that somebody asks.
    pub details_before: Vec<JobDetails>,
    /// The operations that are recorded. One that ends the job is the first of them already.
    pub operations: Vec<OperationDetails>,
    /// What a submitted job starts from.
    pub restored_from: Option<SnapshotReference>,
    pub warnings: Vec<String>,
    pub submit_error: Option<CodedError>,
    pub plan: Vec<u8>,
    /// What becomes of the state of a snapshot.
    pub comparison: Option<CheckSnapshotResponse>,
    pub logs: Vec<(String, Vec<u8>)>,
    /// What a job's workers were seen to do.
    pub profiles: Vec<ProfileJobResponse>,
    pub cluster: GetClusterResponse,
    /// The jobs that a task manager has to get rid of when it is drained.
    pub moving: Vec<String>,
    /// Calls that cancel a job succeed.
    pub cancels: bool,
    /// Savepoints can be deleted.
    pub disposes: bool,
    /// Calls that begin an operation are never answered.
    pub hangs: bool,
}

/// A fake that is running, and what it was asked.
pub struct Fake {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    /// Starts one on a port of its own.
    pub fn start(script: Script) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let service = Service {
            progress: Mutex::new(script.progress.clone().into()),
            details_before: Mutex::new(script.details_before.clone().into()),
            script,
            requests: requests.clone(),
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            server()
                .add_service(dispatcher_server(service))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self {
            address,
            requests,
            _runtime: runtime,
        }
    }

    /// Its `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Runs streamctl against it.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run_with(&[("STREAMD_JOBMANAGER", &self.address())], arguments)
    }

    /// The debug text of everything that it was asked, in order.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// What a call of streamctl came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs streamctl with nothing in the environment but these variables, in UTC.
pub fn run_with(environment: &[(&str, &str)], arguments: &[&str]) -> Ran {
    command(environment, arguments).output().unwrap().into()
}

/// The call, for tests that do more with it than run it.
pub fn command(environment: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamctl"));
    command
        .env_clear()
        .env("TZ", "UTC")
        .envs(environment.iter().copied())
        .args(arguments);
    command
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A call that went well, with nothing on stderr.
pub fn done(stdout: impl Into<String>) -> Ran {
    Ran {
        code: 0,
        stdout: stdout.into(),
        stderr: String::new(),
    }
}

/// A job of this name in this state.
pub fn job(name: &str, state: JobState) -> JobSummary {
    let ended = matches!(state, JobState::Finished | JobState::Canceled | JobState::Failed);
    JobSummary {
        job_id: JOB.to_owned(),
        name: name.to_owned(),
        state: state.into(),
        // 20.11.2026 21:02:17 UTC
        start_time_ms: 1_795_208_537_000,
        end_time_ms: if ended { 1_795_208_537_390 } else { 0 },
        restarts: 0,
        last_failure: String::new(),
        last_failure_record: None,
    }
}

struct Service {
    script: Script,
    progress: Mutex<VecDeque<OperationProgress>>,
    details_before: Mutex<VecDeque<JobDetails>>,
    requests: Arc<Mutex<Vec<String>>>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    fn heard(&self, request: impl std::fmt::Debug) {
        self.requests.lock().unwrap().push(format!("{request:?}"));
    }

    fn no_such_job(&self) -> Status {
        let error = CodedError::new(ErrorCode::JobNotFound, format!("there is no job `{JOB}`"));
        to_status(&error.with_hint("list the jobs with `streamctl list -a`"))
    }
}

#[tonic::async_trait]
impl Dispatcher for Service {
    type FetchArtifactStream = Answers<FetchArtifactResponse>;
    type WatchJobStream = Answers<WatchJobResponse>;
    type ProfileJobStream = Answers<ProfileJobResponse>;
    type GetLogsStream = Answers<GetLogsResponse>;

    async fn has_artifact(&self, _: Request<HasArtifactRequest>) -> Result<Response<HasArtifactResponse>, Status> {
        Ok(Response::new(HasArtifactResponse { present: false }))
    }

    async fn upload_artifact(
        &self,
        request: Request<Streaming<UploadArtifactRequest>>,
    ) -> Result<Response<UploadArtifactResponse>, Status> {
        let mut parts = request.into_inner();
        let mut bytes = 0;
        while let Some(part) = parts.message().await? {
            if let Some(upload_artifact_request::Part::Chunk(chunk)) = part.part {
                bytes += chunk.len();
            }
        }
        self.heard(format!("uploaded {bytes} bytes"));
        Ok(Response::new(UploadArtifactResponse {}))
    }

    async fn fetch_artifact(
        &self,
        _: Request<FetchArtifactRequest>,
    ) -> Result<Response<Self::FetchArtifactStream>, Status> {
        Err(self.no_such_job())
    }

    async fn describe_application(
        &self,
        request: Request<DescribeApplicationRequest>,
    ) -> Result<Response<DescribeApplicationResponse>, Status> {
        self.heard(request.into_inner());
        Ok(Response::new(DescribeApplicationResponse {
            plan: self.script.plan.clone().into(),
            warnings: self.script.warnings.clone(),
        }))
    }

    async fn check_snapshot(
        &self,
        request: Request<CheckSnapshotRequest>,
    ) -> Result<Response<CheckSnapshotResponse>, Status> {
        self.heard(request.into_inner());
        match &self.script.comparison {
            Some(comparison) => Ok(Response::new(comparison.clone())),
            None => Err(self.no_such_job()),
        }
    }

    async fn submit_job(&self, request: Request<SubmitJobRequest>) -> Result<Response<SubmitJobResponse>, Status> {
        self.heard(request.into_inner());
        match &self.script.submit_error {
            Some(error) => Err(to_status(error)),
            None => Ok(Response::new(SubmitJobResponse {
                job_id: JOB.to_owned(),
                job_name: "flights".to_owned(),
                warnings: self.script.warnings.clone(),
                restored_from: self.script.restored_from.clone(),
            })),
        }
    }

    async fn list_jobs(&self, _: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        Ok(Response::new(ListJobsResponse {
            jobs: self.script.jobs.clone(),
        }))
    }

    async fn get_job(&self, _: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        let before = self.details_before.lock().unwrap().pop_front();
        match before.or_else(|| self.script.details.clone()) {
            Some(details) => Ok(Response::new(GetJobResponse { job: Some(details) })),
            None => Err(self.no_such_job()),
        }
    }

    async fn watch_job(&self, _: Request<WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let changes = self.script.changes.clone();
        let goes_on = changes.last().is_none_or(|last| last.end_time_ms == 0);
        let changes = tokio_stream::iter(changes.into_iter().map(|summary| {
            Ok(WatchJobResponse {
                job: Some(JobDetails {
                    summary: Some(summary),
                    ..JobDetails::default()
                }),
            })
        }));
        Ok(Response::new(match goes_on {
            true => Box::pin(changes.chain(tokio_stream::pending())),
            false => Box::pin(changes),
        }))
    }

    async fn get_logs(&self, _: Request<GetLogsRequest>) -> Result<Response<Self::GetLogsStream>, Status> {
        let chunks = self.script.logs.clone().into_iter();
        let chunks = chunks.map(|(worker, chunk)| {
            Ok(GetLogsResponse {
                worker,
                chunk: chunk.into(),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn profile_job(
        &self,
        request: Request<ProfileJobRequest>,
    ) -> Result<Response<Self::ProfileJobStream>, Status> {
        self.heard(request.into_inner());
        let profiles = self.script.profiles.clone().into_iter().map(Ok);
        Ok(Response::new(Box::pin(tokio_stream::iter(profiles))))
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Result<Response<CancelJobResponse>, Status> {
        self.heard(request.into_inner());
        if self.script.cancels {
            Ok(Response::new(CancelJobResponse {}))
        } else {
            Err(self.no_such_job())
        }
    }

    async fn start_operation(
        &self,
        request: Request<StartOperationRequest>,
    ) -> Result<Response<StartOperationResponse>, Status> {
        let request = request.into_inner();
        let recorded = self.script.operations.first().map(|it| it.operation_id.clone());
        let operation_id = recorded.unwrap_or_else(|| request.operation_id.clone());
        self.heard(request);
        if self.script.hangs {
            std::future::pending::<()>().await;
        }
        match self.script.outcome {
            Some(_) => Ok(Response::new(StartOperationResponse { operation_id })),
            None => Err(self.no_such_job()),
        }
    }

    async fn wait_operation(
        &self,
        _: Request<WaitOperationRequest>,
    ) -> Result<Response<WaitOperationResponse>, Status> {
        let progress = self.progress.lock().unwrap().pop_front();
        let progress = progress.map(wait_operation_response::Outcome::InProgress);
        Ok(Response::new(WaitOperationResponse {
            outcome: progress.or_else(|| self.script.outcome.clone()),
        }))
    }

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<GetOperationResponse>, Status> {
        self.heard(request.into_inner());
        match self.script.operations.first().cloned() {
            Some(operation) => Ok(Response::new(GetOperationResponse {
                operation: Some(operation),
            })),
            None => Err(self.no_such_job()),
        }
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        self.heard(request.into_inner());
        Ok(Response::new(ListOperationsResponse {
            operations: self.script.operations.clone(),
        }))
    }

    async fn dispose_savepoint(
        &self,
        request: Request<DisposeSavepointRequest>,
    ) -> Result<Response<DisposeSavepointResponse>, Status> {
        self.heard(request.into_inner());
        if self.script.disposes {
            Ok(Response::new(DisposeSavepointResponse {}))
        } else {
            Err(self.no_such_job())
        }
    }

    async fn get_cluster(&self, _: Request<GetClusterRequest>) -> Result<Response<GetClusterResponse>, Status> {
        Ok(Response::new(self.script.cluster.clone()))
    }

    async fn drain_task_manager(
        &self,
        request: Request<DrainTaskManagerRequest>,
    ) -> Result<Response<DrainTaskManagerResponse>, Status> {
        let request = request.into_inner();
        let known = &self.script.cluster.task_managers;
        let found = known.iter().find(|it| it.id == request.task_manager_id);
        self.heard(&request);
        match found {
            Some(_) => Ok(Response::new(DrainTaskManagerResponse {
                job_ids: self.script.moving.clone(),
            })),
            None => Err(to_status(&CodedError::new(
                ErrorCode::TaskManagerNotFound,
                format!("there is no task manager `{}`", request.task_manager_id),
            ))),
        }
    }
}
