//! The calls of the dispatcher, one method each.

use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::connection::{START_OR_NAME, connect_to_leader, job_manager_peer};
use crate::limits::{CONTROL_MESSAGE_BYTES, DEFAULT_DEADLINE, dispatcher_client};
use crate::proto;
use crate::status::from_status;

/// How long describing and submitting may take: the program runs, workers start, a snapshot is read.
pub const SUBMIT_DEADLINE: Duration = Duration::from_secs(300);

/// What the network may add to the time that a waiting call grants the server.
pub const OPERATION_GRACE: Duration = Duration::from_secs(10);

/// The job manager as a client. Cheap to clone; all clones share one connection.
#[derive(Debug, Clone)]
pub struct DispatcherClient {
    inner: proto::dispatcher_client::DispatcherClient<Channel>,
    address: String,
}

/// One method per unary call: name, messages, deadline.
macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident within $deadline:expr;)*) => {
        impl DispatcherClient {
            $(
                $(#[$doc])*
                pub async fn $name(&self, request: proto::$request) -> Result<proto::$response, CodedError> {
                    check_size(&request)?;
                    let mut request = tonic::Request::new(request);
                    request.set_timeout($deadline);
                    self.answer(self.inner.clone().$name(request).await)
                }
            )*
        }
    };
}

unary! {
    /// Whether the job manager holds an application.
    has_artifact(HasArtifactRequest) -> HasArtifactResponse within DEFAULT_DEADLINE;
    /// The plan of an application; starts nothing.
    describe_application(DescribeApplicationRequest) -> DescribeApplicationResponse within SUBMIT_DEADLINE;
    /// What becomes of the state of a snapshot in an application; starts nothing.
    check_snapshot(CheckSnapshotRequest) -> CheckSnapshotResponse within SUBMIT_DEADLINE;
    /// Starts a job. Returns once it is accepted, or refused.
    submit_job(SubmitJobRequest) -> SubmitJobResponse within SUBMIT_DEADLINE;
    /// All jobs that the job manager knows.
    list_jobs(ListJobsRequest) -> ListJobsResponse within DEFAULT_DEADLINE;
    /// One job.
    get_job(GetJobRequest) -> GetJobResponse within DEFAULT_DEADLINE;
    /// Asks for a cancellation.
    cancel_job(CancelJobRequest) -> CancelJobResponse within DEFAULT_DEADLINE;
    /// Starts a savepoint, a cancel-with-savepoint or a stop. Safe to repeat with the same operation id.
    start_operation(StartOperationRequest) -> StartOperationResponse within DEFAULT_DEADLINE;
    /// An operation under way or ended, also one that an earlier job manager began.
    get_operation(GetOperationRequest) -> GetOperationResponse within DEFAULT_DEADLINE;
    /// The operations that are recorded.
    list_operations(ListOperationsRequest) -> ListOperationsResponse within DEFAULT_DEADLINE;
    /// Deletes a savepoint or retained checkpoint.
    dispose_savepoint(DisposeSavepointRequest) -> DisposeSavepointResponse within DEFAULT_DEADLINE;
    /// The cluster's task managers and slots.
    get_cluster(GetClusterRequest) -> GetClusterResponse within DEFAULT_DEADLINE;
    /// Takes a task manager out of use, or into use again.
    drain_task_manager(DrainTaskManagerRequest) -> DrainTaskManagerResponse within DEFAULT_DEADLINE;
}

/// Refuses a request that is too large to be sent: the transport would call it a lost connection.
fn check_size(request: &impl prost::Message) -> Result<(), CodedError> {
    match request.encoded_len() {
        size if size > CONTROL_MESSAGE_BYTES => Err(CodedError::new(
            ErrorCode::InvalidArgument,
            format!("the request is too large: {size} bytes where {CONTROL_MESSAGE_BYTES} are allowed"),
        )
        .with_hint("pass long arguments and settings in a file")),
        _fits => Ok(()),
    }
}

impl DispatcherClient {
    /// Connects to the leader that is at `host:port`, or that a standby there names. See [`connect`](super::connect) for what it
    /// refuses.
    pub async fn connect(address: &str) -> Result<Self, CodedError> {
        let (channel, leader) = connect_to_leader(address).await?;
        Ok(Self::new(channel, &leader))
    }

    /// A client over a channel that exists already.
    pub fn new(channel: Channel, address: &str) -> Self {
        Self {
            inner: dispatcher_client(channel),
            address: address.to_owned(),
        }
    }

    /// The address that it was connected to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The operation once it has ended, or as it is after `timeout_ms` of the request.
    pub async fn wait_operation(
        &self,
        request: proto::WaitOperationRequest,
    ) -> Result<proto::WaitOperationResponse, CodedError> {
        let deadline = Duration::from_millis(request.timeout_ms).saturating_add(OPERATION_GRACE);
        let mut request = tonic::Request::new(request);
        request.set_timeout(deadline);
        self.answer(self.inner.clone().wait_operation(request).await)
    }

    /// The job at each change, until it ends. Without deadline: the connection's keepalive notices a lost peer.
    pub async fn watch_job(
        &self,
        request: proto::WatchJobRequest,
    ) -> Result<Answers<proto::WatchJobResponse>, CodedError> {
        let stream = self.answer(self.inner.clone().watch_job(request).await)?;
        Ok(self.answers(stream))
    }

    /// The logs of a job's workers.
    pub async fn get_logs(
        &self,
        request: proto::GetLogsRequest,
    ) -> Result<Answers<proto::GetLogsResponse>, CodedError> {
        let stream = self.answer(self.inner.clone().get_logs(request).await)?;
        Ok(self.answers(stream))
    }

    /// Where the processor time of a job's workers goes, worker by worker. Dropping the answers ends it.
    pub async fn profile_job(
        &self,
        request: proto::ProfileJobRequest,
    ) -> Result<Answers<proto::ProfileJobResponse>, CodedError> {
        let stream = self.answer(self.inner.clone().profile_job(request).await)?;
        Ok(self.answers(stream))
    }

    /// The bytes of an application.
    pub async fn fetch_artifact(
        &self,
        request: proto::FetchArtifactRequest,
    ) -> Result<Answers<proto::FetchArtifactResponse>, CodedError> {
        let stream = self.answer(self.inner.clone().fetch_artifact(request).await)?;
        Ok(self.answers(stream))
    }

    pub(super) fn generated(&self) -> proto::dispatcher_client::DispatcherClient<Channel> {
        self.inner.clone()
    }

    pub(super) fn answer<T>(&self, result: Result<Response<T>, Status>) -> Result<T, CodedError> {
        result.map(Response::into_inner).map_err(|status| self.coded(&status))
    }

    fn answers<T>(&self, stream: Streaming<T>) -> Answers<T> {
        Answers {
            stream,
            client: self.clone(),
        }
    }

    fn coded(&self, status: &Status) -> CodedError {
        let error = from_status(status, &job_manager_peer(&self.address));
        match (error.code, error.hint.is_none()) {
            (ErrorCode::JobManagerUnreachable, true) => error.with_hint(START_OR_NAME),
            (_, _) => error,
        }
    }
}

/// The answers of a call that streams.
#[derive(Debug)]
pub struct Answers<T> {
    stream: Streaming<T>,
    client: DispatcherClient,
}

impl<T> Answers<T> {
    /// The next answer; `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<T>, CodedError> {
        self.stream.message().await.map_err(|status| self.client.coded(&status))
    }
}
