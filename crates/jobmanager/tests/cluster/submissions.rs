//! What is accepted, and what is refused before anything starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::ErrorCode;
use streamd_core::graph::OperatorKind;
use streamd_core::time::{SystemClock, WallTime};
use streamd_jobmanager::{JobManager, JobOptionsInputs};
use streamd_rpc::proto;
use streamd_snapshot::{JobRecord, JobStore, Location};

use crate::fake::Script;
use crate::fixture::{Cluster, graph, options, upload};

const JOB: &str = "00000000000000000000000000000001";

#[tokio::test(flavor = "multi_thread")]
async fn without_a_task_manager_nothing_can_be_submitted() {
    let cluster = Cluster::start().await;
    let error = cluster.client.submit_job(cluster.submission(JOB)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NoTaskManager);
    assert!(error.hint.unwrap().contains("streamd taskmanager"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_submission_twice_is_one_job_and_another_with_its_id_is_refused() {
    let (cluster, task_manager) = Cluster::with_task_manager(1, Script::running(graph(1, None))).await;
    let submission = cluster.submission(JOB);
    let (first, second) = tokio::join!(
        cluster.client.submit_job(submission.clone()),
        cluster.client.submit_job(submission.clone())
    );
    assert_eq!(first.unwrap(), second.unwrap());
    cluster.client.submit_job(submission).await.unwrap();
    assert_eq!(*task_manager.descriptions.borrow(), 1);
    assert_eq!(
        cluster
            .client
            .list_jobs(proto::ListJobsRequest {})
            .await
            .unwrap()
            .jobs
            .len(),
        1
    );

    let mut other = cluster.submission(JOB);
    other.application.as_mut().unwrap().arguments.push("--other".to_owned());
    assert_eq!(
        cluster.client.submit_job(other).await.unwrap_err().code,
        ErrorCode::DuplicateJob
    );
}

/// Every file below a folder, by its path, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => drop(files.insert(path.clone(), std::fs::read(path).unwrap())),
        }
    }
    files
}

/// RS28.
#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_that_is_refused_takes_nothing_of_the_running_job_with_it() {
    let (cluster, _task_manager) = Cluster::with_task_manager(1, Script::running(graph(1, Some(50)))).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    cluster.job_runs(JOB).await;
    let of_the_job = || {
        let mut all = files(&cluster.directory.path().join("jobs").join(JOB));
        all.extend(files(&cluster.directory.path().join("artifacts")));
        all
    };
    let before = of_the_job();
    assert!(before.len() > 1, "{:?}", before.keys());

    let mut with_other_arguments = cluster.submission(JOB);
    let application = with_other_arguments.application.as_mut().unwrap();
    application.arguments.push("--other".to_owned());
    let of_another_application = proto::SubmitJobRequest {
        application: Some(upload(&cluster.client, &cluster.directory, b"another").await.unwrap()),
        ..cluster.submission(JOB)
    };
    let from_nothing = proto::SubmitJobRequest {
        savepoint_path: cluster.path("nothing"),
        ..cluster.submission(JOB)
    };
    for duplicate in [with_other_arguments, of_another_application, from_nothing] {
        let refused = cluster.client.submit_job(duplicate).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::DuplicateJob);
    }
    let after = of_the_job();
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)));
    let completed = cluster.job_runs(JOB).await.checkpoints.unwrap().completed;
    let goes_on = |job: &proto::JobDetails| job.checkpoints.unwrap().completed > completed;
    cluster.job_when(JOB, goes_on).await;
}

/// RS28: a job that this job manager does not know, such as one that another has just begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_comes_too_late_leaves_the_record_of_whoever_was_first() {
    let (cluster, _task_manager) = Cluster::with_task_manager(1, Script::running(graph(1, None))).await;
    let jobs = JobStore::new(Location::open(&cluster.path("")).unwrap());
    let record = JobRecord {
        version: JobRecord::VERSION,
        job_id: JOB.parse().unwrap(),
        leader_epoch: 1,
        submitted_at: WallTime(1),
        submission: serde_json::Value::Null,
        graph: graph(1, None),
        max_parallelism: Vec::new(),
        restore: None,
        options: serde_json::Value::Null,
        warnings: Vec::new(),
        nonce: "of whoever was first".to_owned(),
    };
    jobs.create(&record).await.unwrap();
    let refused = cluster.client.submit_job(cluster.submission(JOB)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::DuplicateJob);
    assert_eq!(jobs.find(record.job_id).await.unwrap().unwrap().record, record);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_submission_leaves_its_id_free() {
    let (cluster, task_manager) = Cluster::with_task_manager(1, Script::failing("it panicked")).await;
    let error = cluster.client.submit_job(cluster.submission(JOB)).await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (ErrorCode::DescribeFailed, "it panicked")
    );
    assert!(
        cluster
            .client
            .list_jobs(proto::ListJobsRequest {})
            .await
            .unwrap()
            .jobs
            .is_empty()
    );

    task_manager.dead.cancel();
    cluster.task_managers_are(0).await;
    let _next = cluster.task_manager("tm-2", 1, Script::running(graph(1, None))).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    cluster.job_runs(JOB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_needs_more_slots_is_accepted_with_a_warning_and_waits_for_them() {
    let (cluster, _first) = Cluster::with_task_manager(1, Script::running(graph(2, None))).await;
    let submitted = cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    assert!(
        submitted.warnings.iter().any(|warning| warning.contains("2 slots")),
        "{:?}",
        submitted.warnings
    );
    cluster.job_in_state(JOB, proto::JobState::Running).await;
    let _second = cluster.task_manager("tm-2", 1, Script::running(graph(2, None))).await;
    let job = cluster.job_runs(JOB).await;
    assert_eq!(job.workers.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_never_gets_its_slots_fails_and_says_so() {
    let mut graph = graph(2, None);
    graph.restart_strategy = None;
    let cluster = Cluster::start_with(|options| options.job_defaults.slot_request_timeout_ms = 100).await;
    let _task_manager = cluster.task_manager("tm-1", 1, Script::running(graph)).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    let job = cluster.job_in_state(JOB, proto::JobState::Failed).await;
    assert!(job.summary.unwrap().last_failure.contains("slots"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_their_code() {
    let (cluster, _task_manager) = Cluster::with_task_manager(1, Script::running(graph(1, None))).await;
    let submit = async |request| cluster.client.submit_job(request).await.unwrap_err().code;
    assert_eq!(submit(cluster.submission("../x")).await, ErrorCode::InvalidArgument);
    let missing = proto::SubmitJobRequest {
        savepoint_path: cluster.path("nothing"),
        ..cluster.submission(JOB)
    };
    assert_eq!(submit(missing).await, ErrorCode::SnapshotNotFound);
    let relative = proto::SubmitJobRequest {
        savepoint_path: "nothing".to_owned(),
        ..cluster.submission(JOB)
    };
    assert_eq!(submit(relative).await, ErrorCode::InvalidStorageUri);
    let mut unknown = cluster.submission(JOB);
    unknown.application.as_mut().unwrap().sha256 = "0".repeat(64);
    assert_eq!(submit(unknown).await, ErrorCode::ApplicationNotFound);
    let mut nameless = cluster.submission(JOB);
    nameless.application = None;
    assert_eq!(submit(nameless).await, ErrorCode::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_jobs_and_operations_are_not_found() {
    let (cluster, _task_manager) = Cluster::with_task_manager(1, Script::running(graph(1, None))).await;
    let error = cluster.cancel(JOB).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::JobNotFound);
    assert!(error.hint.unwrap().contains("streamctl list -a"));
    assert_eq!(
        cluster.cancel("fd72").await.unwrap_err().code,
        ErrorCode::InvalidArgument
    );
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    let error = cluster.wait_operation(JOB, JOB, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::OperationNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_ended_are_forgotten_when_there_are_too_many() {
    let cluster = Cluster::start_with(|options| options.ended_jobs_kept = 1).await;
    let _task_manager = cluster.task_manager("tm-1", 1, Script::running(graph(1, None))).await;
    let ids = ["01", "02", "03"].map(|digits| digits.repeat(16));
    for id in &ids[..2] {
        cluster.client.submit_job(cluster.submission(id)).await.unwrap();
        cluster.cancel(id).await.unwrap();
        cluster.job_in_state(id, proto::JobState::Canceled).await;
    }
    cluster.client.submit_job(cluster.submission(&ids[2])).await.unwrap();
    let jobs = cluster.client.list_jobs(proto::ListJobsRequest {}).await.unwrap().jobs;
    let listed: Vec<&str> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(listed, [&ids[1], &ids[2]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_plan_is_refused() {
    let mut impossible = graph(1, None);
    impossible.vertices[0].parallelism = 0;
    let (cluster, _task_manager) = Cluster::with_task_manager(1, Script::running(impossible)).await;
    let error = cluster.client.submit_job(cluster.submission(JOB)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidJobGraph);
    let request = proto::DescribeApplicationRequest {
        application: Some(cluster.application.clone()),
    };
    let error = cluster.client.describe_application(request).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidJobGraph);
}

#[tokio::test(flavor = "multi_thread")]
async fn describing_starts_nothing() {
    let mut loose = graph(1, None);
    let last = loose.vertices.last_mut().and_then(|vertex| vertex.operators.last_mut());
    let last = last.expect("the graph has operators");
    last.kind = OperatorKind::Transformation;
    let warning = format!(
        "the output of operator `{}` goes nowhere: add a sink, or a step that takes it",
        last.label()
    );
    let (cluster, _task_manager) = Cluster::with_task_manager(1, Script::running(loose.clone())).await;
    let request = proto::DescribeApplicationRequest {
        application: Some(cluster.application.clone()),
    };
    let answer = cluster.client.describe_application(request).await.unwrap();
    assert_eq!(
        serde_json::from_slice::<streamd_core::graph::JobGraph>(&answer.plan).unwrap(),
        loose
    );
    assert_eq!(answer.warnings, [warning]);
    assert!(
        cluster
            .client
            .list_jobs(proto::ListJobsRequest {})
            .await
            .unwrap()
            .jobs
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_refused_with_a_hint() {
    let cluster = Cluster::start().await;
    let mut options = options(&cluster.directory);
    options.bind_address = cluster.job_manager.address().to_string();
    let resolve = Arc::new(|_: &_, _: &_| Ok(JobOptionsInputs::default()));
    let error = JobManager::start(options, Arc::new(SystemClock::new()), resolve)
        .await
        .err()
        .unwrap();
    assert_eq!(error.code, ErrorCode::AddressInUse);
    assert!(error.hint.is_some());
}
