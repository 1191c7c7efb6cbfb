//! The life of a job: it runs, is saved, restarts, ends.

use std::time::Duration;

use streamd_core::error::ErrorCode;
use streamd_rpc::proto;
use streamd_rpc::proto::wait_operation_response::Outcome;

use crate::fake::{Manners, Script};
use crate::fixture::{Cluster, DEADLINE, graph, state_of};

const JOB: &str = "00000000000000000000000000000001";
const OPERATION: &str = "0000000000000000000000000000000a";

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_takes_checkpoints_is_saved_and_cancelled() {
    let (cluster, task_manager) = Cluster::with_task_manager(2, Script::running(graph(2, Some(50)))).await;
    let submitted = cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    assert_eq!(
        (submitted.job_id.as_str(), submitted.job_name.as_str()),
        (JOB, "test job")
    );
    cluster.job_runs(JOB).await;

    let job = cluster
        .job_when(JOB, |job| job.checkpoints.unwrap().completed >= 2)
        .await;
    let checkpoint = job.last_checkpoint.unwrap();
    assert!(
        checkpoint
            .uri
            .ends_with(&format!("checkpoints/{JOB}/chk-{}", checkpoint.id)),
        "{checkpoint:?}"
    );
    assert_eq!(job.workers.len(), 1);
    assert_eq!(job.guarantee, "EXACTLY_ONCE");
    cluster
        .job_when(JOB, |job| {
            job.vertices[0].subtasks.iter().all(|subtask| subtask.records_in == 42)
        })
        .await;

    cluster
        .start_operation(JOB, OPERATION, proto::OperationKind::Savepoint)
        .await
        .unwrap();
    let Outcome::Completed(savepoint) = cluster.wait_operation(JOB, OPERATION, DEADLINE).await.unwrap() else {
        panic!("the savepoint is not completed");
    };
    assert!(
        savepoint
            .savepoint_path
            .starts_with(&format!("file://{}", cluster.path("savepoints/savepoint-000000-")))
    );
    let metadata = format!(
        "{}/_metadata",
        savepoint.savepoint_path.strip_prefix("file://").unwrap()
    );
    assert!(std::fs::exists(metadata).unwrap());

    cluster.cancel(JOB).await.unwrap();
    let job = cluster.job_in_state(JOB, proto::JobState::Canceled).await;
    assert!(job.summary.unwrap().end_time_ms > 0);
    cluster.cancel(JOB).await.unwrap();
    let error = cluster
        .start_operation(JOB, &OPERATION.replace('a', "b"), proto::OperationKind::Savepoint)
        .await;
    assert_eq!(error.unwrap_err().code, ErrorCode::JobTerminated);
    all_slots_are_free(&cluster, 2).await;
    no_worker_runs(&task_manager).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_with_savepoint_ends_the_job_and_the_savepoint_starts_the_next() {
    let (cluster, _task_manager) = Cluster::with_task_manager(2, Script::running(graph(2, Some(1_000)))).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    cluster.job_runs(JOB).await;
    cluster
        .start_operation(JOB, OPERATION, proto::OperationKind::CancelWithSavepoint)
        .await
        .unwrap();
    let Outcome::Completed(savepoint) = cluster.wait_operation(JOB, OPERATION, DEADLINE).await.unwrap() else {
        panic!("the savepoint is not completed");
    };
    cluster.job_in_state(JOB, proto::JobState::Canceled).await;

    let next = "00000000000000000000000000000002";
    let submission = proto::SubmitJobRequest {
        savepoint_path: savepoint.savepoint_path.clone(),
        ..cluster.submission(next)
    };
    cluster.client.submit_job(submission).await.unwrap();
    let job = cluster.job_runs(next).await;
    assert_eq!(job.restored_from.unwrap().uri, savepoint.savepoint_path);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_finishes_the_job_and_a_finished_job_cannot_be_cancelled() {
    let (cluster, _task_manager) = Cluster::with_task_manager(1, Script::running(graph(1, Some(1_000)))).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    cluster.job_runs(JOB).await;
    cluster
        .start_operation(JOB, OPERATION, proto::OperationKind::Stop)
        .await
        .unwrap();
    let outcome = cluster.wait_operation(JOB, OPERATION, DEADLINE).await.unwrap();
    assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}");
    cluster.job_in_state(JOB, proto::JobState::Finished).await;
    assert_eq!(cluster.cancel(JOB).await.unwrap_err().code, ErrorCode::JobTerminated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_savepoint_that_is_under_way_tells_its_progress_and_is_started_once() {
    let script = Script {
        acknowledges: false,
        ..Script::running(graph(2, Some(3_600_000)))
    };
    let (cluster, _task_manager) = Cluster::with_task_manager(2, script).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    cluster.job_runs(JOB).await;
    for _ in 0..2 {
        cluster
            .start_operation(JOB, OPERATION, proto::OperationKind::Savepoint)
            .await
            .unwrap();
    }
    let outcome = cluster.wait_operation(JOB, OPERATION, Duration::ZERO).await.unwrap();
    let Outcome::InProgress(progress) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((progress.acknowledged_subtasks, progress.subtasks), (0, 2));
    assert_eq!(cluster.job(JOB).await.checkpoints.unwrap().in_progress, 1);

    cluster.cancel(JOB).await.unwrap();
    let outcome = cluster.wait_operation(JOB, OPERATION, DEADLINE).await.unwrap();
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_restarts_the_job_from_its_checkpoint_and_the_reason_is_told() {
    let (cluster, task_manager) = Cluster::with_task_manager(2, Script::running(graph(2, Some(50)))).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    cluster
        .job_when(JOB, |job| job.checkpoints.unwrap().completed >= 1)
        .await;
    task_manager.kill_a_worker();
    let job = cluster
        .job_when(JOB, |job| job.attempt == 2 && job.restored_from.is_some())
        .await;
    let summary = job.summary.unwrap();
    assert_eq!(summary.restarts, 1);
    assert!(summary.last_failure.contains("signal 9"), "{}", summary.last_failure);
    cluster.job_runs(JOB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_task_manager_is_replaced_by_the_next_one() {
    let (cluster, first) = Cluster::with_task_manager(1, Script::running(graph(1, Some(50)))).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    cluster.job_runs(JOB).await;
    first.dead.cancel();
    cluster.job_when(JOB, |job| job.workers.is_empty()).await;
    let _second = cluster
        .task_manager("tm-2", 1, Script::running(graph(1, Some(50))))
        .await;
    let job = cluster
        .job_when(JOB, |job| {
            job.workers.iter().any(|worker| worker.task_manager == "tm-2")
        })
        .await;
    assert_eq!(job.attempt, 2);
    cluster.job_runs(JOB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_the_job_to_its_end() {
    let (cluster, _task_manager) = Cluster::with_task_manager(1, Script::running(graph(1, None))).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    cluster.job_runs(JOB).await;
    let request = proto::WatchJobRequest { job_id: JOB.to_owned() };
    let mut changes = cluster.client.watch_job(request).await.unwrap();
    let now = changes.next().await.unwrap().unwrap().job.unwrap();
    assert_eq!(state_of(&now), proto::JobState::Running);
    cluster.cancel(JOB).await.unwrap();
    let mut last = now;
    while let Some(change) = changes.next().await.unwrap() {
        last = change.job.unwrap();
    }
    assert_eq!(state_of(&last), proto::JobState::Canceled);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_of_a_job_come_from_its_task_managers() {
    let (cluster, _task_manager) = Cluster::with_task_manager(1, Script::running(graph(1, None))).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    let request = proto::GetLogsRequest {
        job_id: JOB.to_owned(),
        follow: false,
    };
    let mut parts = cluster.client.get_logs(request).await.unwrap();
    let mut log = Vec::new();
    while let Some(part) = parts.next().await.unwrap() {
        assert_eq!(part.worker, "worker-7");
        log.extend_from_slice(&part.chunk);
    }
    assert_eq!(log, b"hello log\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_suspends_jobs_and_keeps_their_checkpoints() {
    let (cluster, task_manager) = Cluster::with_task_manager(1, Script::running(graph(1, Some(50)))).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    let job = cluster
        .job_when(JOB, |job| job.checkpoints.unwrap().completed >= 1)
        .await;
    assert_eq!(state_of(&job), proto::JobState::Running);
    let request = proto::WatchJobRequest { job_id: JOB.to_owned() };
    let mut changes = cluster.client.watch_job(request).await.unwrap();
    let checkpoints = cluster.directory.path().join("checkpoints").join(JOB);
    tokio::time::timeout(DEADLINE, cluster.job_manager.shutdown())
        .await
        .expect("the job manager drains");
    assert!(std::fs::read_dir(checkpoints).unwrap().count() > 0);
    no_worker_runs(&task_manager).await;
    let mut last = None;
    while let Ok(Some(change)) = changes.next().await {
        last = change.job;
    }
    assert_eq!(state_of(&last.unwrap()), proto::JobState::Suspended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_whose_user_code_blocks_ends_when_patience_does_and_its_workers_with_it() {
    let cluster = Cluster::start_with(|options| options.job_defaults.cancel_timeout_ms = 100).await;
    let blocked = Script {
        manners: Manners::Blocked,
        ..Script::running(graph(2, Some(1_000)))
    };
    let task_manager = cluster.task_manager("tm-1", 2, blocked).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    cluster.job_runs(JOB).await;
    cluster.cancel(JOB).await.unwrap();
    cluster.job_in_state(JOB, proto::JobState::Canceled).await;
    no_worker_runs(&task_manager).await;
    all_slots_are_free(&cluster, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_never_reports_for_work_fails_the_job_and_is_ended() {
    let cluster = Cluster::start_with(|options| options.describe_timeout_ms = 100).await;
    let silent = Script {
        manners: Manners::Silent,
        ..Script::running(graph(1, None))
    };
    let task_manager = cluster.task_manager("tm-1", 1, silent).await;
    cluster.client.submit_job(cluster.submission(JOB)).await.unwrap();
    let job = cluster.job_in_state(JOB, proto::JobState::Failed).await;
    let failure = job.summary.unwrap().last_failure;
    assert!(failure.contains("has not reported for work"), "{failure}");
    no_worker_runs(&task_manager).await;
    all_slots_are_free(&cluster, 1).await;
}

async fn all_slots_are_free(cluster: &Cluster, slots: u32) {
    let free = async {
        while cluster
            .client
            .get_cluster(proto::GetClusterRequest {})
            .await
            .unwrap()
            .slots_free
            != slots
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, free)
        .await
        .expect("all slots become free");
}

async fn no_worker_runs(task_manager: &crate::fake::FakeTaskManager) {
    let none = async {
        while !task_manager.workers.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, none).await.expect("all workers end");
}
