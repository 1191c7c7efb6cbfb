//! A job manager with a client, and jobs for it.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use streamd_core::error::CodedError;
use streamd_core::graph::{
    CheckpointSettings, Guarantee, JobGraph, JobVertex, Operator, OperatorKind, PLAN_VERSION, RestartStrategy,
};
use streamd_core::id::OperatorId;
use streamd_core::time::SystemClock;
use streamd_jobmanager::{JobManager, JobManagerOptions, JobOptionsInputs, RunningJobManager};
use streamd_rpc::client::{ApplicationFile, DispatcherClient};
use streamd_rpc::proto;
use tempfile::TempDir;

use crate::fake::{FakeTaskManager, Script};

/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(120);

pub struct Cluster {
    pub job_manager: RunningJobManager,
    pub client: DispatcherClient,
    pub directory: TempDir,
    pub application: proto::Application,
}

impl Cluster {
    /// A job manager without task managers, to which an application has been uploaded.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(adjust: impl FnOnce(&mut JobManagerOptions)) -> Self {
        let directory = TempDir::new().unwrap();
        let mut options = options(&directory);
        adjust(&mut options);
        let resolve = Arc::new(|_: &_, _: &_| Ok(JobOptionsInputs::default()));
        let job_manager = JobManager::start(options, Arc::new(SystemClock::new()), resolve)
            .await
            .unwrap();
        let client = DispatcherClient::connect(&job_manager.address().to_string())
            .await
            .unwrap();
        let application = upload(&client, &directory, b"an application").await.unwrap();
        Self {
            job_manager,
            client,
            directory,
            application,
        }
    }

    /// A job manager with one task manager of `slots` slots.
    pub async fn with_task_manager(slots: u32, script: Script) -> (Self, FakeTaskManager) {
        let cluster = Self::start().await;
        let task_manager = cluster.task_manager("tm-1", slots, script).await;
        (cluster, task_manager)
    }

    pub async fn task_manager(&self, name: &str, slots: u32, script: Script) -> FakeTaskManager {
        FakeTaskManager::start(self.job_manager.address(), name, slots, script).await
    }

    pub fn submission(&self, job_id: &str) -> proto::SubmitJobRequest {
        proto::SubmitJobRequest {
            application: Some(self.application.clone()),
            job_id: job_id.to_owned(),
            savepoint_path: String::new(),
            ..proto::SubmitJobRequest::default()
        }
    }

    /// The job once it satisfies a condition.
    pub async fn job_when(&self, job_id: &str, condition: impl Fn(&proto::JobDetails) -> bool) -> proto::JobDetails {
        let look = async {
            loop {
                let job = self.job(job_id).await;
                if condition(&job) {
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, look).await {
            Ok(job) => job,
            Err(_) => panic!(
                "the job never came to satisfy the condition: {:#?}",
                self.job(job_id).await
            ),
        }
    }

    pub async fn job_in_state(&self, job_id: &str, state: proto::JobState) -> proto::JobDetails {
        self.job_when(job_id, |job| state_of(job) == state).await
    }

    /// Waits until as many task managers are known.
    pub async fn task_managers_are(&self, count: usize) {
        let look = async {
            loop {
                let view = self.client.get_cluster(proto::GetClusterRequest {}).await.unwrap();
                if view.task_managers.len() == count {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, look)
            .await
            .expect("task managers come and go in time");
    }

    /// The job once all of its subtasks run.
    pub async fn job_runs(&self, job_id: &str) -> proto::JobDetails {
        let running = |job: &proto::JobDetails| {
            let mut subtasks = job.vertices.iter().flat_map(|vertex| &vertex.subtasks);
            state_of(job) == proto::JobState::Running && subtasks.all(|s| s.state() == proto::ExecutionState::Running)
        };
        self.job_when(job_id, running).await
    }

    pub async fn job(&self, job_id: &str) -> proto::JobDetails {
        let job_id = job_id.to_owned();
        self.client
            .get_job(proto::GetJobRequest { job_id })
            .await
            .unwrap()
            .job
            .unwrap()
    }

    pub async fn cancel(&self, job_id: &str) -> Result<proto::CancelJobResponse, CodedError> {
        let job_id = job_id.to_owned();
        self.client.cancel_job(proto::CancelJobRequest { job_id }).await
    }

    pub async fn start_operation(
        &self,
        job_id: &str,
        operation_id: &str,
        kind: proto::OperationKind,
    ) -> Result<proto::StartOperationResponse, CodedError> {
        self.client
            .start_operation(proto::StartOperationRequest {
                job_id: job_id.to_owned(),
                operation_id: operation_id.to_owned(),
                kind: kind.into(),
                target_directory: self.path("savepoints"),
                timeout_ms: 0,
            })
            .await
    }

    pub async fn wait_operation(
        &self,
        job_id: &str,
        operation_id: &str,
        timeout: Duration,
    ) -> Result<proto::wait_operation_response::Outcome, CodedError> {
        let request = proto::WaitOperationRequest {
            job_id: job_id.to_owned(),
            operation_id: operation_id.to_owned(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap(),
        };
        Ok(self.client.wait_operation(request).await?.outcome.unwrap())
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }
}

pub fn options(directory: &TempDir) -> JobManagerOptions {
    let mut options = JobManagerOptions::new(format!("file://{}", directory.path().display()));
    options.bind_address = "127.0.0.1:0".to_owned();
    // The scripts send no heartbeats.
    options.heartbeat_timeout_ms = 3_600_000;
    options
}

pub fn state_of(job: &proto::JobDetails) -> proto::JobState {
    job.summary.as_ref().unwrap().state()
}

/// Uploads `bytes` as an application.
pub async fn upload(
    client: &DispatcherClient,
    directory: &TempDir,
    bytes: &[u8],
) -> Result<proto::Application, CodedError> {
    let path = directory.path().join("app");
    std::fs::write(&path, bytes).unwrap();
    let file = ApplicationFile::open(&path).await?;
    client.upload(&file).await?;
    Ok(proto::Application {
        sha256: file.sha256,
        file_name: file.file_name,
        arguments: Vec::new(),
        parallelism: 2,
        configuration: Default::default(),
    })
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One vertex, a source chained to a sink, that restarts at once, up to ten times.
pub fn graph(parallelism: u32, checkpoint_interval_ms: Option<u64>) -> JobGraph {
    let source = operator("source", OperatorKind::Source);
    JobGraph {
        version: PLAN_VERSION,
        name: "test job".to_owned(),
        vertices: vec![JobVertex {
            id: source.id,
            name: "source -> sink".to_owned(),
            parallelism,
            max_parallelism: None,
            slot_sharing_group: "default".to_owned(),
            operators: vec![source, operator("sink", OperatorKind::Sink)],
        }],
        edges: Vec::new(),
        checkpointing: CheckpointSettings {
            interval_ms: checkpoint_interval_ms,
            ..CheckpointSettings::default()
        },
        restart_strategy: Some(RestartStrategy::FixedDelay {
            attempts: 10,
            delay_ms: 0,
        }),
    }
}

fn operator(uid: &str, kind: OperatorKind) -> Operator {
    Operator {
        id: OperatorId::from_uid(uid),
        uid: Some(uid.to_owned()),
        name: uid.to_owned(),
        kind,
        states: Vec::new(),
        initial_splits: None,
        guarantee: Some(Guarantee::ExactlyOnce),
    }
}
