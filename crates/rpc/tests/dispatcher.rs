//! The thin client against a dispatcher that does what the test says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_rpc::client::{ApplicationFile, DispatcherClient};
use streamd_rpc::limits::{self, CHUNK_BYTES};
use streamd_rpc::proto::dispatcher_server::Dispatcher;
use streamd_rpc::proto::upload_artifact_request::Part;
use streamd_rpc::proto::*;
use streamd_rpc::status::to_status;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// Keeps what is uploaded: the header, then the lengths of the chunks, then all bytes.
#[derive(Clone, Default)]
struct Upload {
    header: Option<UploadArtifactHeader>,
    chunks: Vec<usize>,
    bytes: Vec<u8>,
}

#[derive(Clone, Default)]
struct FakeDispatcher {
    uploads: Arc<Mutex<Vec<Upload>>>,
}

fn no_such_job() -> CodedError {
    CodedError::new(ErrorCode::JobNotFound, "job `00` does not exist").with_hint("list jobs with `streamctl list`")
}

/// What these tests do not call.
fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not part of this play"))
}

#[tonic::async_trait]
impl Dispatcher for FakeDispatcher {
    type FetchArtifactStream = BoxStream<'static, Result<FetchArtifactResponse, Status>>;
    type WatchJobStream = BoxStream<'static, Result<WatchJobResponse, Status>>;
    type ProfileJobStream = BoxStream<'static, Result<ProfileJobResponse, Status>>;
    type GetLogsStream = BoxStream<'static, Result<GetLogsResponse, Status>>;

    async fn has_artifact(
        &self,
        request: Request<HasArtifactRequest>,
    ) -> Result<Response<HasArtifactResponse>, Status> {
        let sha256 = request.into_inner().sha256;
        let uploads = self.uploads.lock().unwrap();
        let present = uploads
            .iter()
            .flat_map(|upload| &upload.header)
            .any(|header| header.sha256 == sha256);
        Ok(Response::new(HasArtifactResponse { present }))
    }
    async fn upload_artifact(
        &self,
        request: Request<Streaming<UploadArtifactRequest>>,
    ) -> Result<Response<UploadArtifactResponse>, Status> {
        let mut parts = request.into_inner();
        let mut upload = Upload::default();
        while let Some(part) = parts.message().await? {
            match part.part.unwrap() {
                Part::Header(header) => upload.header = Some(header),
                Part::Chunk(chunk) => {
                    assert!(upload.header.is_some(), "the header comes first");
                    upload.chunks.push(chunk.len());
                    upload.bytes.extend_from_slice(&chunk);
                }
            }
        }
        self.uploads.lock().unwrap().push(upload);
        Ok(Response::new(UploadArtifactResponse {}))
    }
    async fn describe_application(
        &self,
        _: Request<DescribeApplicationRequest>,
    ) -> Result<Response<DescribeApplicationResponse>, Status> {
        let plan = Bytes::from(vec![b' '; limits::PLAN_BYTES]);
        Ok(Response::new(DescribeApplicationResponse {
            plan,
            warnings: Vec::new(),
        }))
    }
    async fn check_snapshot(
        &self,
        _: Request<CheckSnapshotRequest>,
    ) -> Result<Response<CheckSnapshotResponse>, Status> {
        Err(to_status(&no_such_job()))
    }
    async fn get_job(&self, _: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        Err(to_status(&no_such_job()))
    }
    async fn profile_job(&self, _: Request<ProfileJobRequest>) -> Result<Response<Self::ProfileJobStream>, Status> {
        unused()
    }
    async fn get_logs(&self, _: Request<GetLogsRequest>) -> Result<Response<Self::GetLogsStream>, Status> {
        let part = GetLogsResponse {
            worker: "worker-1".to_owned(),
            chunk: Bytes::from_static(b"line\n"),
        };
        Ok(Response::new(
            stream::iter([Ok(part), Err(to_status(&no_such_job()))]).boxed(),
        ))
    }

    async fn fetch_artifact(
        &self,
        _: Request<FetchArtifactRequest>,
    ) -> Result<Response<Self::FetchArtifactStream>, Status> {
        unused()
    }
    async fn submit_job(&self, _: Request<SubmitJobRequest>) -> Result<Response<SubmitJobResponse>, Status> {
        unused()
    }
    async fn list_jobs(&self, _: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        unused()
    }
    async fn watch_job(&self, _: Request<WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
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

async fn serve() -> (DispatcherClient, Arc<Mutex<Vec<Upload>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dispatcher = FakeDispatcher::default();
    let uploads = dispatcher.uploads.clone();
    let server = limits::server()
        .add_service(limits::dispatcher_server(dispatcher))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (DispatcherClient::connect(&address).await.unwrap(), uploads)
}

#[tokio::test]
async fn an_application_is_uploaded_in_chunks_and_only_once() {
    let (client, uploads) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app");
    let bytes: Vec<u8> = (0..CHUNK_BYTES * 2 + 5).map(|i| (i % 251) as u8).collect();
    std::fs::write(&path, &bytes).unwrap();
    let application = ApplicationFile::open(&path).await.unwrap();
    client.upload(&application).await.unwrap();
    client.upload(&application).await.unwrap();
    let uploads = uploads.lock().unwrap();
    assert_eq!(uploads.len(), 1);
    let header = uploads[0].header.clone().unwrap();
    assert_eq!(
        (header.sha256, header.size, header.file_name.as_str()),
        (application.sha256, bytes.len() as u64, "app")
    );
    assert_eq!(uploads[0].chunks, [CHUNK_BYTES, CHUNK_BYTES, 5]);
    assert!(uploads[0].bytes == bytes);
}

#[tokio::test]
async fn an_application_that_vanishes_before_its_upload_is_told_as_such() {
    let (client, _) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app");
    std::fs::write(&path, b"abc").unwrap();
    let application = ApplicationFile::open(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = client.upload(&application).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ApplicationNotFound);
}

#[tokio::test]
async fn the_error_of_a_call_arrives_with_code_message_and_hint() {
    let (client, _) = serve().await;
    let error = client
        .get_job(GetJobRequest {
            job_id: "00".to_owned(),
        })
        .await
        .unwrap_err();
    assert_eq!(error, no_such_job());
}

#[tokio::test]
async fn the_error_in_the_middle_of_a_stream_arrives_after_what_came_before() {
    let (client, _) = serve().await;
    let mut logs = client.get_logs(GetLogsRequest::default()).await.unwrap();
    assert_eq!(logs.next().await.unwrap().unwrap().chunk, "line\n");
    assert_eq!(logs.next().await.unwrap_err(), no_such_job());
}

#[tokio::test]
async fn the_largest_plan_fits_into_a_message_and_a_huge_request_does_not() {
    let (client, _) = serve().await;
    let plan = client
        .describe_application(DescribeApplicationRequest::default())
        .await
        .unwrap()
        .plan;
    assert_eq!(plan.len(), limits::PLAN_BYTES);
    let huge = Application {
        arguments: vec!["x".repeat(limits::CONTROL_MESSAGE_BYTES)],
        ..Application::default()
    };
    let request = DescribeApplicationRequest {
        application: Some(huge),
    };
    let error = client.describe_application(request).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert!(error.message.contains("too large"), "{error}");
}
