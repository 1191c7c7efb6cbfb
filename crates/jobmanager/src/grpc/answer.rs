//! What is known about jobs, as messages.

use streamd_coordinator::job::{CheckpointStatistics, OperationStatus, RestoredFrom, WorkerView};
use streamd_coordinator::lifecycle::JobState;
use streamd_core::barrier::SnapshotKind;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::Guarantee;
use streamd_rpc::proto;
use streamd_rpc::proto::wait_operation_response::Outcome;
use streamd_rpc::status::to_proto;

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
            .map_or_else(String::new, |failure| failure.message.clone()),
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
        checkpoints: Some(proto::CheckpointCounts {
            completed: details.checkpoints.completed,
            failed: details.checkpoints.failed,
            in_progress: details.checkpoints.in_progress,
        }),
        failures: details.failures.into_iter().map(Into::into).collect(),
        guarantee: guarantee_name(graph.guarantee()).to_owned(),
        workers: details.workers.iter().map(worker).collect(),
    }
}

pub(super) fn operation_outcome(status: OperationStatus) -> proto::WaitOperationResponse {
    let outcome = match status {
        OperationStatus::InProgress { acknowledged, subtasks } => Outcome::InProgress(proto::OperationProgress {
            acknowledged_subtasks: acknowledged,
            subtasks,
        }),
        OperationStatus::Ended(Ok(completed)) => Outcome::Completed(proto::OperationCompleted {
            savepoint_path: completed.savepoint_path,
            bytes: completed.bytes,
            duration_ms: completed.duration_ms,
        }),
        OperationStatus::Ended(Err(error)) => Outcome::Failed(to_proto(&error)),
    };
    proto::WaitOperationResponse { outcome: Some(outcome) }
}

fn job_state(state: JobState) -> proto::JobState {
    match state {
        JobState::Initializing => proto::JobState::Initializing,
        JobState::Created => proto::JobState::Created,
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
        records_out: subtask.metrics.records_out,
        busy_ns: subtask.metrics.busy_ns,
        backpressured_ns: subtask.metrics.backpressured_ns,
    }
}

fn restored_from(restored: &RestoredFrom) -> proto::SnapshotReference {
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
