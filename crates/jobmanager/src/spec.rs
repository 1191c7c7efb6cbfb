//! From what a user asks for to a job that can be started: plan and snapshot checked, every setting resolved.

use std::sync::Arc;

use streamd_coordinator::event::{JobOptions, JobSpec, RestorePoint};
use streamd_coordinator::restore::{Dropping, check_dropping};
use streamd_coordinator::validate::validate;
use streamd_core::error::CodedError;
use streamd_core::graph::{JobGraph, JobVertex};
use streamd_core::id::{JobId, WorkerId};
use streamd_snapshot::{Location, SnapshotError, StoreError, check_objects, layout, read_snapshot};

/// A job to be checked.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// Its id.
    pub job_id: JobId,
    /// What it runs, as the application described it.
    pub graph: JobGraph,
    /// What it starts from.
    pub restore: Option<RestorePoint>,
    /// What becomes of state that no operator claims.
    pub dropping: Dropping,
    /// The number of key groups of vertices whose code sets none; `None`: by their parallelism, or the snapshot's.
    pub max_parallelism: Option<u32>,
    /// Its settings. The checkpoint directory is the cluster's; the job's own folder in it is made here.
    pub options: JobOptions,
    /// The first number that its workers may have.
    pub first_worker: WorkerId,
}

/// Checks a job. Returns it ready to start, and what the user should know about it.
pub fn job_spec(request: JobRequest) -> Result<(JobSpec, Vec<String>), CodedError> {
    let graph = with_max_parallelism(&request.graph, request.max_parallelism);
    let mut warnings = validate(&graph)?;
    let max_parallelism = match &request.restore {
        Some(restore) => {
            let plan = check_dropping(&graph, &restore.metadata, &request.dropping)?;
            warnings.extend(plan.warnings);
            plan.max_parallelism
        }
        None => graph
            .vertices
            .iter()
            .map(JobVertex::effective_max_parallelism)
            .collect(),
    };
    let mut options = request.options;
    if let Some(directory) = options.checkpoint_directory.take() {
        options.checkpoint_directory = Some(job_folder(&directory, request.job_id).map_err(|error| error.to_coded())?);
    }
    let spec = JobSpec {
        job_id: request.job_id,
        fingerprint: request.graph.fingerprint(),
        graph: Arc::new(request.graph),
        max_parallelism,
        restore: request.restore,
        options,
        first_worker: request.first_worker,
    };
    Ok((spec, warnings))
}

/// The graph as the configuration completes it. Only for checks: what workers build is the graph of the code.
pub(crate) fn with_max_parallelism(graph: &JobGraph, max_parallelism: Option<u32>) -> JobGraph {
    let mut graph = graph.clone();
    for vertex in &mut graph.vertices {
        vertex.max_parallelism = vertex.max_parallelism.or(max_parallelism);
    }
    graph
}

/// Reads the snapshot that a job is to start from, and checks that all of its objects are there.
pub async fn read_restore_point(path: &str) -> Result<RestorePoint, CodedError> {
    let read = async || -> Result<RestorePoint, SnapshotError> {
        let snapshot = read_snapshot(path).await?;
        check_objects(&snapshot.metadata, &snapshot.folder).await?;
        Ok(RestorePoint {
            uri: snapshot.folder,
            metadata: Arc::new(snapshot.metadata),
        })
    };
    read().await.map_err(|error| error.to_coded())
}

fn job_folder(directory: &str, job: JobId) -> Result<String, StoreError> {
    Ok(layout::job_folder(&Location::open(directory)?, job)?.uri())
}
