//! Where the processor time of a job's workers goes, seen by their task managers.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use streamd_coordinator::lifecycle::JobState;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_rpc::proto::{ProfileJobRequest, ProfileJobResponse};
use tokio::sync::mpsc;

use crate::job_master::JobDetails;
use crate::resource_manager::{ProfileOrder, ResourceManagerHandle};

/// The longest time that a worker is looked at. What is seen lies on the disk of its task manager until the end.
const LONGEST_MS: u64 = 300_000;

/// The most often that a worker is looked at in a second: its threads stop for each look, and a thousand cost some percent.
const MOST_OFTEN: u32 = 1_000;

/// What the task managers of a job are asked. Errors if the job does not run, or has no worker there.
pub(crate) fn profile_orders(job: &JobDetails, request: &ProfileJobRequest) -> Result<Vec<ProfileOrder>, CodedError> {
    check(request)?;
    let id = job.spec.job_id;
    if job.status.state != JobState::Running || job.workers.is_empty() {
        let message = format!("job `{id}` is not running: it has no workers to look at");
        return Err(CodedError::new(ErrorCode::JobNotRunning, message)
            .with_hint("wait until `streamctl list` shows it as RUNNING"));
    }
    let wanted = &request.task_manager_id;
    let workers = job.workers.iter();
    let orders: Vec<ProfileOrder> = workers
        .filter(|worker| wanted.is_empty() || worker.task_manager.0 == *wanted)
        .map(|worker| ProfileOrder {
            task_manager: worker.task_manager.clone(),
            worker: worker.worker,
            duration_ms: request.duration_ms,
            frequency: request.frequency,
        })
        .collect();
    if orders.is_empty() {
        let message = format!("job `{id}` has no worker on a task manager `{wanted}`");
        return Err(
            CodedError::new(ErrorCode::TaskManagerNotFound, message).with_hint(format!(
                "`streamctl status {id}` names its workers and their task managers"
            )),
        );
    }
    Ok(orders)
}

fn check(request: &ProfileJobRequest) -> Result<(), CodedError> {
    let malformed = |what: &str| {
        let error = CodedError::new(ErrorCode::InvalidArgument, what);
        Err(error.with_hint("a minute at 99 a second shows what matters"))
    };
    match request {
        ProfileJobRequest { duration_ms, .. } if !(1..=LONGEST_MS).contains(duration_ms) => {
            malformed("the time of a profile is not between 1 ms and 5 min")
        }
        ProfileJobRequest { frequency, .. } if !(1..=MOST_OFTEN).contains(frequency) => {
            malformed("the frequency of a profile is not between 1 and 1000 a second")
        }
        _well_formed => Ok(()),
    }
}

/// Has the task managers look at the workers, all at the same time, and sends what each has seen. Ends with the first that cannot, or
/// when the client goes away.
pub(crate) async fn stream_profiles(
    orders: Vec<ProfileOrder>,
    resource_manager: ResourceManagerHandle,
    client: mpsc::Sender<Result<ProfileJobResponse, CodedError>>,
) {
    let mut profiles: FuturesUnordered<_> = orders
        .into_iter()
        .map(|order| take(order, resource_manager.clone()))
        .collect();
    loop {
        let profile = tokio::select! {
            profile = profiles.next() => profile,
            () = client.closed() => None,
        };
        let Some(profile) = profile else { break };
        let failed = profile.is_err();
        if client.send(profile).await.is_err() || failed {
            break;
        }
    }
    drop(profiles);
    resource_manager.stop_abandoned_profiles().await;
}

async fn take(order: ProfileOrder, resource_manager: ResourceManagerHandle) -> Result<ProfileJobResponse, CodedError> {
    let (worker, task_manager) = (order.worker.to_string(), order.task_manager.0.clone());
    Ok(ProfileJobResponse {
        profile: Some(resource_manager.profile(order).await?),
        worker,
        task_manager,
    })
}
