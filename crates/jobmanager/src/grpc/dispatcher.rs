//! The service that clients call.

use futures::StreamExt;
use futures::stream::BoxStream;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, TaskManagerId};
use streamd_rpc::proto;
use streamd_rpc::status::to_status;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::answer::{job_details, job_summary, operation_details, operation_outcome, parse_id, restored_from};
use super::artifact;
use crate::dispatcher::{Dispatcher, parse_operation_id, profile_orders, stream_logs, stream_profiles};
use crate::job_master::JobMasterHandle;
use crate::resource_manager::Use;

/// Answers that wait for a slow client of a stream. Each is at most a chunk or the details of one job.
const STREAM_QUEUE: usize = 16;

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// Serves clients.
pub(crate) struct DispatcherService {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) version: String,
    pub(crate) incarnation: String,
    pub(crate) artifact_limit_bytes: u64,
    pub(crate) shutdown: CancellationToken,
}

impl DispatcherService {
    async fn job(&self, id: &str) -> Result<JobMasterHandle, CodedError> {
        self.dispatcher.registry.find(parse_id::<JobId>(id)?).await
    }

    /// A stream of answers that ends with the job manager.
    fn stream<T: Send + 'static>(&self, queue: mpsc::Receiver<Result<T, CodedError>>) -> Answers<T> {
        ReceiverStream::new(queue)
            .map(|answer| answer.map_err(|error| to_status(&error)))
            .take_until(self.shutdown.clone().cancelled_owned())
            .boxed()
    }

    async fn cluster(&self) -> Result<proto::GetClusterResponse, CodedError> {
        let view = self.dispatcher.resource_manager.view().await?;
        Ok(proto::GetClusterResponse {
            version: self.version.clone(),
            incarnation: self.incarnation.clone(),
            task_managers: view.task_managers,
            slots_total: view.slots_total,
            slots_free: view.slots_free,
        })
    }

    async fn start_operation(
        &self,
        request: proto::StartOperationRequest,
    ) -> Result<proto::StartOperationResponse, CodedError> {
        let operation_id = self.dispatcher.start_operation(request).await?.to_string();
        Ok(proto::StartOperationResponse { operation_id })
    }
}

fn answer<T>(result: Result<T, CodedError>) -> Answer<T> {
    result.map(Response::new).map_err(|error| to_status(&error))
}

fn named(application: Option<proto::Application>) -> Result<proto::Application, CodedError> {
    application.ok_or_else(|| CodedError::new(ErrorCode::InvalidArgument, "the request names no application"))
}

#[tonic::async_trait]
impl proto::dispatcher_server::Dispatcher for DispatcherService {
    type FetchArtifactStream = Answers<proto::FetchArtifactResponse>;
    type WatchJobStream = Answers<proto::WatchJobResponse>;
    type GetLogsStream = Answers<proto::GetLogsResponse>;
    type ProfileJobStream = Answers<proto::ProfileJobResponse>;

    async fn has_artifact(&self, request: Request<proto::HasArtifactRequest>) -> Answer<proto::HasArtifactResponse> {
        answer(artifact::has(&self.dispatcher.artifacts, &request.into_inner().sha256).await)
    }

    async fn upload_artifact(
        &self,
        request: Request<Streaming<proto::UploadArtifactRequest>>,
    ) -> Answer<proto::UploadArtifactResponse> {
        answer(
            artifact::receive(
                &self.dispatcher.artifacts,
                self.artifact_limit_bytes,
                request.into_inner(),
            )
            .await,
        )
    }

    async fn fetch_artifact(&self, request: Request<proto::FetchArtifactRequest>) -> Answer<Self::FetchArtifactStream> {
        let (queue, answers) = mpsc::channel(STREAM_QUEUE);
        let opened = artifact::open(&self.dispatcher.artifacts, &request.into_inner().sha256).await;
        let artifact = opened.map_err(|error| to_status(&error))?;
        self.dispatcher.tasks.spawn(artifact::send(artifact, queue));
        Ok(Response::new(self.stream(answers)))
    }

    async fn describe_application(
        &self,
        request: Request<proto::DescribeApplicationRequest>,
    ) -> Answer<proto::DescribeApplicationResponse> {
        let described = async {
            let application = named(request.into_inner().application)?;
            let (plan, warnings) = self.dispatcher.describe(application).await?;
            Ok(proto::DescribeApplicationResponse { plan, warnings })
        };
        answer(described.await)
    }

    async fn check_snapshot(
        &self,
        request: Request<proto::CheckSnapshotRequest>,
    ) -> Answer<proto::CheckSnapshotResponse> {
        let request = request.into_inner();
        let checked = async {
            named(request.application.clone())?;
            self.dispatcher.check_snapshot(request).await
        };
        answer(checked.await)
    }

    async fn submit_job(&self, request: Request<proto::SubmitJobRequest>) -> Answer<proto::SubmitJobResponse> {
        let submitted = async {
            let request = request.into_inner();
            named(request.application.clone())?;
            let submitted = self.dispatcher.submit(request).await?;
            Ok(proto::SubmitJobResponse {
                job_id: submitted.job_id.to_string(),
                job_name: submitted.job_name,
                warnings: submitted.warnings,
                restored_from: submitted.restored_from.as_ref().map(restored_from),
            })
        };
        answer(submitted.await)
    }

    async fn list_jobs(&self, _request: Request<proto::ListJobsRequest>) -> Answer<proto::ListJobsResponse> {
        let jobs = self.dispatcher.registry.list().await;
        answer(jobs.map(|jobs| {
            let mut jobs: Vec<_> = jobs.iter().map(|job| job_summary(&job.status().borrow())).collect();
            jobs.sort_by_key(|job| job.start_time_ms);
            proto::ListJobsResponse { jobs }
        }))
    }

    async fn get_job(&self, request: Request<proto::GetJobRequest>) -> Answer<proto::GetJobResponse> {
        let details = async {
            let job = self.job(&request.into_inner().job_id).await?;
            Ok(proto::GetJobResponse {
                job: Some(job_details(job.details().await?)),
            })
        };
        answer(details.await)
    }

    async fn watch_job(&self, request: Request<proto::WatchJobRequest>) -> Answer<Self::WatchJobStream> {
        let job = self
            .job(&request.into_inner().job_id)
            .await
            .map_err(|error| to_status(&error))?;
        let (queue, answers) = mpsc::channel(STREAM_QUEUE);
        self.dispatcher.tasks.spawn(watch(job, queue));
        // Not cut off by a shutdown: the job is over then too, and its watchers are to see that.
        let answers = ReceiverStream::new(answers).map(|answer| answer.map_err(|error| to_status(&error)));
        Ok(Response::new(answers.boxed()))
    }

    async fn get_logs(&self, request: Request<proto::GetLogsRequest>) -> Answer<Self::GetLogsStream> {
        let request = request.into_inner();
        let job = self.job(&request.job_id).await.map_err(|error| to_status(&error))?;
        let (queue, answers) = mpsc::channel(STREAM_QUEUE);
        let resource_manager = self.dispatcher.resource_manager.clone();
        self.dispatcher
            .tasks
            .spawn(stream_logs(job, resource_manager, request.follow, queue));
        Ok(Response::new(self.stream(answers)))
    }

    async fn profile_job(&self, request: Request<proto::ProfileJobRequest>) -> Answer<Self::ProfileJobStream> {
        let request = request.into_inner();
        let orders = async { profile_orders(&self.job(&request.job_id).await?.details().await?, &request) };
        let orders = orders.await.map_err(|error| to_status(&error))?;
        let (queue, answers) = mpsc::channel(STREAM_QUEUE);
        let resource_manager = self.dispatcher.resource_manager.clone();
        self.dispatcher
            .tasks
            .spawn(stream_profiles(orders, resource_manager, queue));
        Ok(Response::new(self.stream(answers)))
    }

    async fn cancel_job(&self, request: Request<proto::CancelJobRequest>) -> Answer<proto::CancelJobResponse> {
        let cancelled = async {
            self.job(&request.into_inner().job_id).await?.cancel().await?;
            Ok(proto::CancelJobResponse {})
        };
        answer(cancelled.await)
    }

    async fn start_operation(
        &self,
        request: Request<proto::StartOperationRequest>,
    ) -> Answer<proto::StartOperationResponse> {
        answer(self.start_operation(request.into_inner()).await)
    }

    async fn wait_operation(
        &self,
        request: Request<proto::WaitOperationRequest>,
    ) -> Answer<proto::WaitOperationResponse> {
        let waited = async {
            let status = self.dispatcher.wait_operation(&request.into_inner()).await?;
            Ok(operation_outcome(status))
        };
        answer(waited.await)
    }

    async fn get_operation(&self, request: Request<proto::GetOperationRequest>) -> Answer<proto::GetOperationResponse> {
        let found = async {
            let id = parse_operation_id(&request.into_inner().operation_id)?;
            let operation = operation_details(self.dispatcher.operation(id).await?);
            Ok(proto::GetOperationResponse {
                operation: Some(operation),
            })
        };
        answer(found.await)
    }

    async fn list_operations(
        &self,
        request: Request<proto::ListOperationsRequest>,
    ) -> Answer<proto::ListOperationsResponse> {
        let listed = async {
            let operations = self.dispatcher.operations(&request.into_inner().job).await?;
            Ok(proto::ListOperationsResponse {
                operations: operations.into_iter().map(operation_details).collect(),
            })
        };
        answer(listed.await)
    }

    async fn dispose_savepoint(
        &self,
        request: Request<proto::DisposeSavepointRequest>,
    ) -> Answer<proto::DisposeSavepointResponse> {
        let disposed = self.dispatcher.dispose(request.into_inner().path).await;
        answer(disposed.map(|()| proto::DisposeSavepointResponse {}))
    }

    async fn get_cluster(&self, _request: Request<proto::GetClusterRequest>) -> Answer<proto::GetClusterResponse> {
        answer(self.cluster().await)
    }

    async fn drain_task_manager(
        &self,
        request: Request<proto::DrainTaskManagerRequest>,
    ) -> Answer<proto::DrainTaskManagerResponse> {
        let request = request.into_inner();
        let wanted = if request.undo { Use::Open } else { Use::Drained };
        let id = TaskManagerId(request.task_manager_id);
        let moving = self.dispatcher.resource_manager.drain(id, wanted).await;
        answer(moving.map(|jobs| proto::DrainTaskManagerResponse {
            job_ids: jobs.iter().map(JobId::to_string).collect(),
        }))
    }
}

/// Sends the job now and at each change of its state, until it is over or the client has gone.
async fn watch(job: JobMasterHandle, client: mpsc::Sender<Result<proto::WatchJobResponse, CodedError>>) {
    let mut status = job.status();
    loop {
        let over = status.borrow_and_update().is_over();
        let details = job.details().await.map(|details| proto::WatchJobResponse {
            job: Some(job_details(details)),
        });
        if client.send(details).await.is_err() || over {
            return;
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = client.closed() => return,
        }
    }
}
