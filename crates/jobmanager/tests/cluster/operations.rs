//! Operations as durable things: recorded, found again, promoted; and jobs that go on from what an earlier one left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::ErrorCode;
use streamd_core::graph::RestartStrategy;
use streamd_core::time::{SystemClock, WallTime};
use streamd_jobmanager::{JobManager, JobOptionsInputs, RunningJobManager};
use streamd_rpc::client::DispatcherClient;
use streamd_rpc::proto;
use streamd_rpc::proto::operation_details::Outcome as Recorded;
use streamd_rpc::proto::wait_operation_response::Outcome;
use streamd_snapshot::{Location, OperationBegun, OperationCatalogue, OperationVerb};
use tempfile::TempDir;

use crate::fake::{Manners, Script};
use crate::fixture::{Cluster, DEADLINE, graph, options, state_of};

const JOB: &str = "00000000000000000000000000000001";
const NEXT: &str = "00000000000000000000000000000002";
const OPERATION: &str = "0000000000000000000000000000000a";
const ANOTHER: &str = "0000000000000000000000000000000b";

/// A cluster with a job that runs.
async fn running(script: Script) -> (Cluster, crate::fake::FakeTaskManager) {
    let (cluster, task_manager) = Cluster::with_task_manager(2, script).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    cluster.job_runs(JOB).await;
    (cluster, task_manager)
}

async fn completed(cluster: &Cluster, kind: proto::OperationKind) -> proto::OperationCompleted {
    cluster.start_operation(JOB, OPERATION, kind).await.unwrap();
    match cluster.wait_operation("", OPERATION, DEADLINE).await.unwrap() {
        Outcome::Completed(completed) => completed,
        other => panic!("{other:?}"),
    }
}

/// The next job manager over the same storage.
async fn restarted(cluster: Cluster) -> (RunningJobManager, DispatcherClient, TempDir) {
    cluster.job_manager.shutdown().await;
    let resolve = Arc::new(|_: &_, _: &_| Ok(JobOptionsInputs::default()));
    let job_manager = JobManager::start(options(&cluster.directory), Arc::new(SystemClock::new()), resolve)
        .await
        .unwrap();
    let client = DispatcherClient::connect(&job_manager.address().to_string())
        .await
        .unwrap();
    (job_manager, client, cluster.directory)
}

async fn recorded(client: &DispatcherClient, id: &str) -> proto::OperationDetails {
    let operation_id = id.to_owned();
    let request = proto::GetOperationRequest { operation_id };
    client.get_operation(request).await.unwrap().operation.unwrap()
}

async fn listed(client: &DispatcherClient, job: &str) -> Vec<proto::OperationDetails> {
    let request = proto::ListOperationsRequest { job: job.to_owned() };
    client.list_operations(request).await.unwrap().operations
}

fn local(uri: &str) -> PathBuf {
    Path::new(uri.strip_prefix("file://").unwrap()).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_savepoint_outlives_the_job_manager() {
    let (cluster, _task_manager) = running(Script::running(graph(2, Some(3_600_000)))).await;
    let savepoint = completed(&cluster, proto::OperationKind::Savepoint).await;
    // The record of the end is written behind the answer.
    let ended = async {
        while recorded(&cluster.client, OPERATION).await.ended_at_ms == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, ended).await.unwrap();
    let (_job_manager, client, _directory) = restarted(cluster).await;

    let found = recorded(&client, OPERATION).await;
    assert_eq!((found.job_id.as_str(), found.job_name.as_str()), (JOB, "test job"));
    let Some(Recorded::Completed(again)) = found.outcome else {
        panic!("{found:?}")
    };
    assert_eq!(again.savepoint_path, savepoint.savepoint_path);
    assert_eq!(listed(&client, "test job").await.len(), 1);
    assert_eq!(listed(&client, JOB).await.len(), 1);
    assert!(listed(&client, "another job").await.is_empty());
    // A client that asks once more with the same id is given the same savepoint, though the job is gone.
    let request = proto::StartOperationRequest {
        job_id: JOB.to_owned(),
        operation_id: OPERATION.to_owned(),
        kind: proto::OperationKind::Savepoint.into(),
        ..proto::StartOperationRequest::default()
    };
    client.start_operation(request).await.unwrap();

    std::fs::remove_dir_all(local(&savepoint.savepoint_path)).unwrap();
    assert!(listed(&client, "").await[0].missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_ends_though_its_client_goes_away_at_whatever_moment_of_its_beginning() {
    let (cluster, _task_manager) = running(Script::running(graph(2, Some(3_600_000)))).await;
    for attempt in 0..60_u32 {
        let id = format!("{attempt:032x}");
        let starting = cluster.start_operation(JOB, &id, proto::OperationKind::Savepoint);
        let _left = tokio::time::timeout(attempt * Duration::from_micros(150), starting).await;
    }
    let all_end = async {
        while listed(&cluster.client, JOB).await.iter().any(|it| it.ended_at_ms == 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, all_end).await.is_err() {
        let left = listed(&cluster.client, JOB).await;
        panic!("{:#?}", left.iter().find(|it| it.ended_at_ms == 0));
    }
    assert!(!listed(&cluster.client, JOB).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_savepoint_is_deleted_whole_or_not_at_all_though_who_wants_it_goes_away() {
    let (cluster, _task_manager) = running(Script::running(graph(2, Some(3_600_000)))).await;
    for attempt in 0..40_u32 {
        let id = format!("{attempt:032x}");
        let savepoint = proto::OperationKind::Savepoint;
        cluster.start_operation(JOB, &id, savepoint).await.unwrap();
        let Outcome::Completed(done) = cluster.wait_operation("", &id, DEADLINE).await.unwrap() else {
            panic!("the savepoint is not complete");
        };
        let folder = local(&done.savepoint_path);
        assert!(folder.join("_metadata").exists());
        let path = done.savepoint_path;
        let disposing = cluster
            .client
            .dispose_savepoint(proto::DisposeSavepointRequest { path });
        let _left = tokio::time::timeout(attempt * Duration::from_micros(100), disposing).await;
        let settled = async {
            while folder.exists() && !folder.join("_metadata").exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let left = tokio::time::timeout(Duration::from_secs(10), settled).await;
        assert!(
            left.is_ok(),
            "{:?} is left of it",
            std::fs::read_dir(&folder).map(Iterator::count)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_outlived_its_job_manager_is_what_its_place_says() {
    let (cluster, _task_manager) = running(Script::running(graph(2, Some(3_600_000)))).await;
    let savepoint = completed(&cluster, proto::OperationKind::Savepoint).await;
    let catalogue = OperationCatalogue::new(Location::open(cluster.directory.path().to_str().unwrap()).unwrap());
    let begun = |id: &str, kind, location: &str| OperationBegun {
        version: OperationBegun::VERSION,
        operation_id: id.parse().unwrap(),
        job_id: JOB.parse().unwrap(),
        job_name: "test job".to_owned(),
        kind,
        location: location.to_owned(),
        requested_at: WallTime(1),
    };
    let ids = ["b", "c", "d"].map(|digit| OPERATION.replace('a', digit));
    let nowhere = format!("file://{}", cluster.path("savepoints/never-written"));
    for (id, kind, place) in [
        (&ids[0], OperationVerb::Savepoint, &savepoint.savepoint_path),
        (&ids[1], OperationVerb::Savepoint, &nowhere),
        (&ids[2], OperationVerb::Stop, &savepoint.savepoint_path),
    ] {
        catalogue.begin(&begun(id, kind, place)).await.unwrap();
    }
    let (_job_manager, client, _directory) = restarted(cluster).await;
    for _again in 0..2 {
        let outcome = recorded(&client, &ids[0]).await.outcome;
        assert!(matches!(outcome, Some(Recorded::Completed(_))), "{outcome:?}");
        for (id, code) in [(&ids[1], ErrorCode::SavepointFailed), (&ids[2], ErrorCode::StopFailed)] {
            let outcome = recorded(&client, id).await.outcome;
            assert!(
                matches!(&outcome, Some(Recorded::Failed(error)) if error.code == code as u32),
                "{outcome:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_operation_is_not_recorded() {
    let (cluster, _task_manager) = running(Script::running(graph(2, None))).await;
    let error = cluster
        .start_operation(JOB, OPERATION, proto::OperationKind::Savepoint)
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::CheckpointingDisabled);
    assert!(error.hint.unwrap().contains("env.enable_checkpointing("));
    assert!(listed(&cluster.client, "").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_id_stands_for_one_request() {
    let (cluster, _task_manager) = running(Script::running(graph(2, Some(3_600_000)))).await;
    completed(&cluster, proto::OperationKind::Savepoint).await;
    let error = cluster
        .start_operation(JOB, OPERATION, proto::OperationKind::Stop)
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    cluster.job_runs(JOB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wants_a_job_cancelled_as_it_already_is_gets_the_operation_that_does_it() {
    let kind = proto::OperationKind::CancelWithSavepoint;
    let script = Script {
        acknowledges: false,
        ..Script::running(graph(2, Some(3_600_000)))
    };
    let (cluster, _task_manager) = running(script).await;
    cluster.start_operation(JOB, OPERATION, kind).await.unwrap();
    let again = cluster.start_operation(JOB, ANOTHER, kind).await.unwrap();
    assert_eq!(again.operation_id, OPERATION);

    let (cluster, _task_manager) = running(Script::running(graph(2, Some(3_600_000)))).await;
    completed(&cluster, kind).await;
    cluster.job_in_state(JOB, proto::JobState::Canceled).await;
    let again = cluster.start_operation(JOB, ANOTHER, kind).await.unwrap();
    assert_eq!(again.operation_id, OPERATION);
    assert_eq!(listed(&cluster.client, "").await.len(), 1);
    // Not another end, nor one with the savepoint elsewhere.
    let stop = cluster.start_operation(JOB, ANOTHER, proto::OperationKind::Stop).await;
    let elsewhere = proto::StartOperationRequest {
        job_id: JOB.to_owned(),
        operation_id: ANOTHER.to_owned(),
        kind: kind.into(),
        target_directory: cluster.path("elsewhere"),
        timeout_ms: 0,
    };
    let elsewhere = cluster.client.start_operation(elsewhere).await;
    for refused in [stop, elsewhere] {
        assert_eq!(refused.unwrap_err().code, ErrorCode::JobTerminated);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_savepoint_whose_time_is_up_fails_and_the_job_goes_on() {
    let script = Script {
        acknowledges: false,
        ..Script::running(graph(2, Some(3_600_000)))
    };
    let (cluster, _task_manager) = running(script).await;
    let request = proto::StartOperationRequest {
        job_id: JOB.to_owned(),
        operation_id: OPERATION.to_owned(),
        kind: proto::OperationKind::Savepoint.into(),
        target_directory: cluster.path("savepoints"),
        timeout_ms: 50,
    };
    cluster.client.start_operation(request).await.unwrap();
    let outcome = cluster.wait_operation(JOB, OPERATION, DEADLINE).await.unwrap();
    assert!(
        matches!(&outcome, Outcome::Failed(error) if error.code == ErrorCode::OperationTimedOut as u32),
        "{outcome:?}"
    );
    assert_eq!(cluster.job(JOB).await.attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_checkpoint_of_a_restarting_job_becomes_a_savepoint_that_the_next_job_starts_from() {
    let mut slow = graph(2, Some(50));
    slow.restart_strategy = Some(RestartStrategy::FixedDelay {
        attempts: 1,
        delay_ms: 3_600_000,
    });
    let (cluster, task_manager) = running(Script::running(slow)).await;
    cluster
        .job_when(JOB, |job| job.checkpoints.unwrap().completed >= 1)
        .await;
    task_manager.kill_a_worker();
    let job = cluster.job_in_state(JOB, proto::JobState::Restarting).await;
    let savepoint = completed(&cluster, proto::OperationKind::Savepoint).await;
    // One whose snapshots were complete when the worker died may have been published since.
    let latest = cluster.job(JOB).await.last_checkpoint.unwrap().id;
    let promoted = savepoint.promoted_checkpoint;
    assert!(
        (job.last_checkpoint.unwrap().id..=latest).contains(&promoted),
        "{promoted}"
    );
    let snapshot = streamd_snapshot::read_snapshot(&savepoint.savepoint_path)
        .await
        .unwrap();
    assert_eq!(snapshot.metadata.kind, streamd_core::barrier::SnapshotKind::Savepoint);
    cluster.cancel(JOB).await.unwrap();
    cluster.job_in_state(JOB, proto::JobState::Canceled).await;

    let submission = proto::SubmitJobRequest {
        savepoint_path: savepoint.savepoint_path.clone(),
        ..cluster.submission(NEXT)
    };
    let submitted = cluster.client.submit_job(submission).await.unwrap();
    assert_eq!(submitted.restored_from.unwrap().uri, savepoint.savepoint_path);
}

/// I18: the savepoint is complete, so the job ends, whoever leads.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_after_its_savepoint_is_cancelled_by_the_next_job_manager() {
    let script = Script {
        manners: Manners::Blocked,
        ..Script::running(graph(2, Some(3_600_000)))
    };
    let (cluster, _task_manager) = running(script).await;
    let kind = proto::OperationKind::CancelWithSavepoint;
    cluster.start_operation(JOB, OPERATION, kind).await.unwrap();
    cluster.job_in_state(JOB, proto::JobState::Cancelling).await;
    let (_job_manager, client, directory) = restarted(cluster).await;
    // A client that has lost the answer asks once more, and is not refused.
    let request = |id: &str| proto::StartOperationRequest {
        job_id: JOB.to_owned(),
        operation_id: id.to_owned(),
        kind: kind.into(),
        target_directory: directory.path().join("savepoints").to_str().unwrap().to_owned(),
        timeout_ms: 0,
    };
    for id in [OPERATION, ANOTHER] {
        let begun = client.start_operation(request(id)).await.unwrap();
        assert_eq!(begun.operation_id, OPERATION);
    }
    let request = proto::WaitOperationRequest {
        operation_id: OPERATION.to_owned(),
        timeout_ms: 30_000,
        ..proto::WaitOperationRequest::default()
    };
    let outcome = client.wait_operation(request).await.unwrap().outcome;
    assert!(matches!(&outcome, Some(Outcome::Completed(_))), "{outcome:?}");
    let job_id = JOB.to_owned();
    let job = client.get_job(proto::GetJobRequest { job_id }).await.unwrap().job;
    assert_eq!(state_of(&job.unwrap()), proto::JobState::Canceled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_by_name_from_the_latest_snapshot_that_one_of_its_name_left() {
    let (cluster, _task_manager) = running(Script::running(graph(2, Some(3_600_000)))).await;
    let resuming = |name: &str| proto::SubmitJobRequest {
        resume_job: name.to_owned(),
        ..cluster.submission(NEXT)
    };
    let error = cluster.client.submit_job(resuming("test job")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ResumeAmbiguous, "{error}");
    let savepoint = completed(&cluster, proto::OperationKind::CancelWithSavepoint).await;
    cluster.job_in_state(JOB, proto::JobState::Canceled).await;
    let error = cluster.client.submit_job(resuming("no such job")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ResumeNotFound, "{error}");

    let submitted = cluster.client.submit_job(resuming("test job")).await.unwrap();
    assert_eq!(submitted.restored_from.unwrap().uri, savepoint.savepoint_path);
    assert_eq!(
        cluster.job_runs(NEXT).await.restored_from.unwrap().uri,
        savepoint.savepoint_path
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_savepoint_goes_once_the_job_has_a_checkpoint_and_an_unclaimed_one_never() {
    for (mode, stays) in [(proto::ClaimMode::NoClaim, true), (proto::ClaimMode::Claim, false)] {
        let (cluster, _task_manager) = running(Script::running(graph(2, Some(50)))).await;
        let savepoint = completed(&cluster, proto::OperationKind::CancelWithSavepoint).await;
        cluster.job_in_state(JOB, proto::JobState::Canceled).await;
        let submission = proto::SubmitJobRequest {
            savepoint_path: savepoint.savepoint_path.clone(),
            claim_mode: mode.into(),
            ..cluster.submission(NEXT)
        };
        cluster.client.submit_job(submission).await.unwrap();
        cluster
            .job_when(NEXT, |job| job.checkpoints.unwrap().completed >= 2)
            .await;
        let folder = local(&savepoint.savepoint_path);
        if stays {
            assert!(folder.join("_metadata").exists());
        } else {
            let gone = async {
                while folder.exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(DEADLINE, gone).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_claimed_by_a_job_that_starts_afresh() {
    let (cluster, _task_manager) = Cluster::with_task_manager(2, Script::running(graph(2, Some(50)))).await;
    let submission = proto::SubmitJobRequest {
        claim_mode: proto::ClaimMode::Claim.into(),
        ..cluster.submission(JOB)
    };
    let error = cluster.client.submit_job(submission).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ClaimRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_known_to_the_next_job_manager_though_its_application_cannot_be_read() {
    let (cluster, _task_manager) = running(Script::running(graph(2, None))).await;
    std::fs::remove_dir_all(cluster.directory.path().join("artifacts")).unwrap();
    let (_job_manager, client, _directory) = restarted(cluster).await;
    let job_id = JOB.to_owned();
    let job = client.get_job(proto::GetJobRequest { job_id }).await.unwrap().job;
    assert_eq!(job.unwrap().summary.unwrap().job_id, JOB);
}
