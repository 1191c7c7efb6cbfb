//! What is known about jobs, as messages.

use streamd_coordinator::action::CompletedOperation;
use streamd_coordinator::failure::FailureRecord;
use streamd_coordinator::job::{
    CheckpointStatistics, OperationProgress, OperationStage, OperationStatus, RestoredFrom, WorkerView,
};
use streamd_coordinator::lifecycle::JobState;
use streamd_core::barrier::SnapshotKind;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::Guarantee;
use streamd_rpc::proto;
use streamd_rpc::proto::operation_details::Outcome as DetailsOutcome;
use streamd_rpc::proto::wait_operation_response::Outcome;
use streamd_rpc::status::to_proto;
use streamd_snapshot::OperationVerb;

use crate::dispatcher::KnownOperation;
use crate::job_master::{JobDetails, JobStatus, SubtaskView};

/// Parses an id of a request.
pub(super) fn parse_id<T: std::str::FromStr<Err = streamd_core::id::ParseIdError>>(
    text: &str,
) -> Result<T, CodedError> {
    text.parse()
        .map_err(|error: T::Err| CodedError::new(ErrorCode::InvalidArgument, error.to_string()))
}

pub(super) fn job_summary(status: &JobStatus) -> proto::JobSummary {
    let state = if status.suspended {
        proto::JobState::Suspended
    } else {
        job_state(status.state)
    };
    proto::JobSummary {
        job_id: status.job_id.to_string(),
        name: status.name.to_string(),
        state: state.into(),
        start_time_ms: status.started_at.0,
        end_time_ms: status.ended_at.map_or(0, |at| at.0),
        restarts: status.restarts,
        last_failure: status
            .last_failure
            .as_ref()
            .map_or_else(String::new, |record| record.failure.message.clone()),
        last_failure_record: status.last_failure.as_ref().map(failure_record),
    }
}

fn failure_record(record: &FailureRecord) -> proto::FailureRecord {
    proto::FailureRecord {
        failure: Some(record.failure.clone().into()),
        code: record.code().to_string(),
        hint: record.hint().to_owned(),
        attempt: record.attempt.0,
        time_ms: record.at.0,
        restart_delay_ms: record.restart_delay_ms,
    }
}

pub(super) fn job_details(details: JobDetails) -> proto::JobDetails {
    let graph = details.spec.graph.clone();
    let vertices = graph
        .vertices
        .iter()
        .zip(&details.spec.max_parallelism)
        .zip(&details.vertices);
    proto::JobDetails {
        summary: Some(job_summary(&details.status)),
        attempt: details.attempt.0,
        leader_epoch: details.spec.options.leader_epoch,
        vertices: vertices
            .map(|((vertex, max_parallelism), subtasks)| proto::VertexDetails {
                id: vertex.id.to_string(),
                name: vertex.name.clone(),
                parallelism: vertex.parallelism,
                max_parallelism: *max_parallelism,
                subtasks: subtasks
                    .iter()
                    .zip(0..)
                    .map(|(subtask, index)| subtask_details(index, subtask))
                    .collect(),
            })
            .collect(),
        restored_from: details.restored_from.as_ref().map(restored_from),
        last_checkpoint: last_checkpoint(&details.checkpoints),
        last_failed_checkpoint: details
            .checkpoints
            .last_failed
            .as_ref()
            .map(|failed| proto::FailedCheckpoint {
                id: failed.id.0,
                cause: failed.cause.clone(),
                time_ms: failed.at.0,
            }),
        checkpoints: Some(proto::CheckpointCounts {
            completed: details.checkpoints.completed,
            failed: details.checkpoints.failed,
            in_progress: details.checkpoints.in_progress,
        }),
        failures: details.failures.iter().map(failure_record).collect(),
        guarantee: guarantee_name(graph.guarantee(details.spec.options.checkpointing.mode)).to_owned(),
        workers: details.workers.iter().map(worker).collect(),
    }
}

pub(super) fn operation_outcome(status: OperationStatus) -> proto::WaitOperationResponse {
    let outcome = match status {
        OperationStatus::InProgress(progress) => Outcome::InProgress(operation_progress(progress)),
        OperationStatus::Ended(Ok(completed)) => Outcome::Completed(operation_completed(completed)),
        OperationStatus::Ended(Err(error)) => Outcome::Failed(to_proto(&error)),
    };
    proto::WaitOperationResponse { outcome: Some(outcome) }
}

fn operation_progress(progress: OperationProgress) -> proto::OperationProgress {
    let stage = match progress.stage {
        OperationStage::Draining => proto::OperationStage::Draining,
        OperationStage::Writing => proto::OperationStage::Writing,
        OperationStage::Publishing => proto::OperationStage::Publishing,
        OperationStage::Ending => proto::OperationStage::Ending,
        OperationStage::Promoting => proto::OperationStage::Promoting,
    };
    proto::OperationProgress {
        acknowledged_subtasks: progress.acknowledged,
        subtasks: progress.subtasks,
        stage: stage.into(),
        bytes: progress.bytes,
    }
}

fn operation_completed(completed: CompletedOperation) -> proto::OperationCompleted {
    proto::OperationCompleted {
        savepoint_path: completed.savepoint_path,
        bytes: completed.bytes,
        duration_ms: completed.duration_ms,
        promoted_checkpoint: completed.promoted.map_or(0, |id| id.0),
    }
}

/// An operation, wherever it is known from.
pub(super) fn operation_details(operation: KnownOperation) -> proto::OperationDetails {
    let begun = operation.begun;
    let kind = match begun.kind {
        OperationVerb::Savepoint => proto::OperationKind::Savepoint,
        OperationVerb::Cancel => proto::OperationKind::CancelWithSavepoint,
        OperationVerb::Stop => proto::OperationKind::Stop,
        OperationVerb::Drain => proto::OperationKind::Drain,
    };
    let outcome = match operation.status {
        OperationStatus::InProgress(progress) => DetailsOutcome::InProgress(operation_progress(progress)),
        OperationStatus::Ended(Ok(completed)) => DetailsOutcome::Completed(operation_completed(completed)),
        OperationStatus::Ended(Err(error)) => DetailsOutcome::Failed(to_proto(&error)),
    };
    proto::OperationDetails {
        operation_id: begun.operation_id.to_string(),
        job_id: begun.job_id.to_string(),
        job_name: begun.job_name,
        kind: kind.into(),
        requested_at_ms: begun.requested_at.0,
        ended_at_ms: operation.ended_at.map_or(0, |at| at.0),
        location: begun.location,
        outcome: Some(outcome),
        missing: operation.missing,
    }
}

fn job_state(state: JobState) -> proto::JobState {
    match state {
        JobState::Initializing => proto::JobState::Initializing,
        JobState::Created => proto::JobState::Created,
        JobState::Reconciling => proto::JobState::Reconciling,
        JobState::Running => proto::JobState::Running,
        JobState::Restarting => proto::JobState::Restarting,
        JobState::Failing => proto::JobState::Failing,
        JobState::Failed => proto::JobState::Failed,
        JobState::Cancelling => proto::JobState::Cancelling,
        JobState::Canceled => proto::JobState::Canceled,
        JobState::Finished => proto::JobState::Finished,
    }
}

fn subtask_details(index: u32, subtask: &SubtaskView) -> proto::SubtaskDetails {
    proto::SubtaskDetails {
        index,
        state: proto::ExecutionState::from(subtask.state).into(),
        records_in: subtask.metrics.records_in,
        busy_ns: subtask.metrics.busy_ns,
        backpressured_ns: subtask.metrics.backpressured_ns,
        late_dropped: subtask.metrics.late_dropped,
        watermark: subtask.metrics.watermark,
    }
}

pub(super) fn restored_from(restored: &RestoredFrom) -> proto::SnapshotReference {
    proto::SnapshotReference {
        id: restored.id.0,
        uri: restored.uri.clone(),
        savepoint: restored.kind == SnapshotKind::Savepoint,
        bytes: 0,
        duration_ms: 0,
    }
}

fn last_checkpoint(statistics: &CheckpointStatistics) -> Option<proto::SnapshotReference> {
    statistics
        .last_completed
        .as_ref()
        .map(|completed| proto::SnapshotReference {
            id: completed.id.0,
            uri: completed.uri.clone(),
            savepoint: false,
            bytes: completed.bytes,
            duration_ms: completed.duration_ms,
        })
}

fn worker(view: &WorkerView) -> proto::Worker {
    proto::Worker {
        worker: view.worker.to_string(),
        task_manager: view.task_manager.to_string(),
        process_id: view.process_id.unwrap_or(0),
    }
}

fn guarantee_name(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::AtMostOnce => "AT_MOST_ONCE",
        Guarantee::AtLeastOnce => "AT_LEAST_ONCE",
        Guarantee::ExactlyOnce => "EXACTLY_ONCE",
    }
}
