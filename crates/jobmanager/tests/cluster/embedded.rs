//! A job in one process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use streamd_coordinator::event::JobSpec;
use streamd_coordinator::lifecycle::JobState;
use streamd_core::id::WorkerId;
use streamd_core::protocol::{ExecutionState, WorkerCommand, WorkerEvent, WorkerRegistration};
use streamd_core::time::SystemClock;
use streamd_jobmanager::embedded::{EmbeddedJob, InProcessWorkers, WorkerConnection, random_job_id};
use streamd_jobmanager::{Dropping, JobDefaults, JobOptionsInputs, JobRequest, job_options, job_spec};

use crate::fake::{FakeWorker, Manners};
use crate::fixture::{DEADLINE, graph};

fn spec(parallelism: u32) -> JobSpec {
    let graph = graph(parallelism, None);
    let options = job_options(&graph, &JobOptionsInputs::default(), &JobDefaults::default(), 1).unwrap();
    let request = JobRequest {
        job_id: random_job_id(),
        graph,
        restore: None,
        dropping: Dropping::Nothing,
        max_parallelism: None,
        options,
        first_worker: WorkerId(1),
    };
    job_spec(request).unwrap().0
}

/// A worker that obeys, and does what `on_deployed` says once it has been deployed.
fn start(mut connection: WorkerConnection, fingerprint: String, at_once: Option<ExecutionState>) {
    let mut worker = FakeWorker {
        registration: WorkerRegistration {
            job_id: connection.job_id,
            worker: connection.worker,
            task_manager: connection.task_manager,
            data_address: "in-process".to_owned(),
            fingerprint,
            graph_outline: String::new(),
            process_id: std::process::id(),
        },
        acknowledges: true,
        manners: Manners::Good,
        running: BTreeSet::new(),
    };
    tokio::spawn(async move {
        let events = connection.events;
        events
            .send(WorkerEvent::Registered(worker.registration.clone()))
            .await
            .unwrap();
        while let Some(command) = connection.commands.recv().await {
            let deployed = match &command {
                WorkerCommand::Deploy(deployment) => Some(deployment.attempt),
                _other => None,
            };
            if !worker.obey(command, &events).await {
                return;
            }
            if let (Some(attempt), Some(state)) = (deployed, at_once) {
                if state == ExecutionState::Failed {
                    return;
                }
                for subtask in worker.running.clone() {
                    let event = match state {
                        ExecutionState::Finished => WorkerEvent::EndOfData { attempt, subtask },
                        state => WorkerEvent::SubtaskState {
                            attempt,
                            subtask,
                            state,
                            failure: None,
                        },
                    };
                    events.send(event).await.unwrap();
                }
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_to_its_end_in_one_process() {
    let spec = spec(3);
    let fingerprint = spec.fingerprint.clone();
    let workers = InProcessWorkers::new(move |connection| {
        start(connection, fingerprint.clone(), Some(ExecutionState::Finished));
    });
    let job = EmbeddedJob::start(spec, workers, Arc::new(SystemClock::new())).wait();
    let result = tokio::time::timeout(DEADLINE, job).await.expect("the job ends");
    assert_eq!(
        (result.state, result.failure, result.restarts),
        (JobState::Finished, None, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_early_restarts_the_job() {
    let spec = spec(1);
    let fingerprint = spec.fingerprint.clone();
    let starts = AtomicU32::new(0);
    let workers = InProcessWorkers::new(move |connection| {
        let first = starts.fetch_add(1, Ordering::SeqCst) == 0;
        let end = if first {
            ExecutionState::Failed
        } else {
            ExecutionState::Finished
        };
        start(connection, fingerprint.clone(), Some(end));
    });
    let job = EmbeddedJob::start(spec, workers, Arc::new(SystemClock::new())).wait();
    let result = tokio::time::timeout(DEADLINE, job).await.expect("the job ends");
    assert_eq!((result.state, result.restarts), (JobState::Finished, 1));
    assert!(result.failure.unwrap().message.contains("without a word"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_job_can_be_cancelled() {
    let spec = spec(1);
    let fingerprint = spec.fingerprint.clone();
    let workers = InProcessWorkers::new(move |connection| start(connection, fingerprint.clone(), None));
    let job = EmbeddedJob::start(spec, workers, Arc::new(SystemClock::new()));
    let mut status = job.handle().status();
    status
        .wait_for(|status| status.state == JobState::Running)
        .await
        .unwrap();
    job.handle().cancel().await.unwrap();
    let result = tokio::time::timeout(DEADLINE, job.wait()).await.expect("the job ends");
    assert_eq!(result.state, JobState::Canceled);
}
