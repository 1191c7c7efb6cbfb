//! Logs of a job's workers, read from its task managers.

use std::collections::BTreeMap;
use std::time::Duration;

use streamd_core::error::CodedError;
use streamd_core::id::WorkerId;
use streamd_rpc::proto::GetLogsResponse;
use tokio::sync::mpsc;

use crate::job_master::JobMasterHandle;
use crate::resource_manager::ResourceManagerHandle;

/// How often a log is looked at again for new lines.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// How long a task manager may be silent while it sends a log.
const PART_TIMEOUT: Duration = Duration::from_secs(20);

/// Sends the log of a job to `client`; goes on with new lines until the job ends if `follow`. Ends when the client goes away.
pub(crate) async fn stream_logs(
    job: JobMasterHandle,
    resource_manager: ResourceManagerHandle,
    follow: bool,
    client: mpsc::Sender<Result<GetLogsResponse, CodedError>>,
) {
    let mut received = BTreeMap::new();
    loop {
        // Asked before reading, so that what the last words of a job are is read.
        let over = job.status().borrow().is_over();
        if !send_new_parts(&job, &resource_manager, &mut received, &client).await || over || !follow {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
            () = client.closed() => return,
        }
    }
}

/// Sends what the logs hold behind the bytes that were received of each. `false` if the client is gone or the reading failed.
async fn send_new_parts(
    job: &JobMasterHandle,
    resource_manager: &ResourceManagerHandle,
    received: &mut BTreeMap<WorkerId, u64>,
    client: &mpsc::Sender<Result<GetLogsResponse, CodedError>>,
) -> bool {
    let mut parts = resource_manager.read_logs(job.job_id(), received.clone()).await;
    while let Ok(Some(part)) = tokio::time::timeout(PART_TIMEOUT, parts.recv()).await {
        let response = part.map(|(worker, chunk)| {
            *received.entry(worker).or_default() += chunk.len() as u64;
            GetLogsResponse {
                worker: worker.to_string(),
                chunk,
            }
        });
        let failed = response.is_err();
        if client.send(response).await.is_err() || failed {
            return false;
        }
    }
    true
}
