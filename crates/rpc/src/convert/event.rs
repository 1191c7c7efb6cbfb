//! What a worker tells the job master.

use streamd_core::id::{Attempt, CheckpointId, TaskManagerId, WorkerId};
use streamd_core::protocol::{
    ExecutionState, Failure, SubtaskMetrics, SubtaskReport, WorkerEvent, WorkerRegistration, WorkerReturn,
};
use streamd_core::snapshot::SubtaskSnapshot;

use super::ConvertError;
use super::field::{all, event_times, id, required, text};
use super::snapshot::{operators, operators_to_proto};
use super::state::{execution_state, subtask};
use crate::proto;
use crate::proto::worker_event::Event;

impl From<WorkerEvent> for proto::WorkerEvent {
    fn from(event: WorkerEvent) -> Self {
        let event = match event {
            WorkerEvent::Registered(registration) => Event::Registration(registration.into()),
            WorkerEvent::Returned(returned) => Event::Returned((*returned).into()),
            WorkerEvent::SubtaskState {
                attempt,
                subtask,
                state,
                failure,
            } => Event::SubtaskState(proto::SubtaskStateChanged {
                attempt: attempt.0,
                subtask: Some(subtask.into()),
                state: proto::ExecutionState::from(state).into(),
                failure: failure.map(Into::into),
            }),
            WorkerEvent::Acknowledge {
                attempt,
                checkpoint,
                subtask,
                snapshot,
            } => Event::Acknowledge(proto::AcknowledgeCheckpoint {
                attempt: attempt.0,
                checkpoint_id: checkpoint.0,
                subtask: Some(subtask.into()),
                operators: operators_to_proto(snapshot.operators),
            }),
            WorkerEvent::Decline {
                attempt,
                checkpoint,
                subtask,
                reason,
            } => Event::Decline(proto::DeclineCheckpoint {
                attempt: attempt.0,
                checkpoint_id: checkpoint.0,
                subtask: Some(subtask.into()),
                reason,
            }),
            WorkerEvent::EndOfData { attempt, subtask } => Event::EndOfData(proto::EndOfData {
                attempt: attempt.0,
                subtask: Some(subtask.into()),
            }),
            WorkerEvent::Heartbeat { attempt, subtasks } => Event::Heartbeat(proto::WorkerHeartbeat {
                attempt: attempt.0,
                subtasks: subtasks.into_iter().map(Into::into).collect(),
            }),
        };
        Self { event: Some(event) }
    }
}

impl TryFrom<proto::WorkerEvent> for WorkerEvent {
    type Error = ConvertError;

    fn try_from(message: proto::WorkerEvent) -> Result<Self, ConvertError> {
        Ok(match required(message.event, "WorkerEvent.event")? {
            Event::Registration(registration) => Self::Registered(registration.try_into()?),
            Event::Returned(returned) => Self::Returned(Box::new(returned.try_into()?)),
            Event::SubtaskState(change) => subtask_state(change)?,
            Event::Acknowledge(acknowledge) => Self::Acknowledge {
                attempt: Attempt(acknowledge.attempt),
                checkpoint: CheckpointId(acknowledge.checkpoint_id),
                subtask: subtask(acknowledge.subtask, "AcknowledgeCheckpoint.subtask")?,
                snapshot: SubtaskSnapshot {
                    operators: operators(acknowledge.operators)?,
                },
            },
            Event::Decline(decline) => Self::Decline {
                attempt: Attempt(decline.attempt),
                checkpoint: CheckpointId(decline.checkpoint_id),
                subtask: subtask(decline.subtask, "DeclineCheckpoint.subtask")?,
                reason: decline.reason,
            },
            Event::EndOfData(end) => Self::EndOfData {
                attempt: Attempt(end.attempt),
                subtask: subtask(end.subtask, "EndOfData.subtask")?,
            },
            Event::Heartbeat(heartbeat) => Self::Heartbeat {
                attempt: Attempt(heartbeat.attempt),
                subtasks: all(heartbeat.subtasks)?,
            },
        })
    }
}

/// A failed subtask must say why: a job that fails without a reason cannot be helped.
fn subtask_state(change: proto::SubtaskStateChanged) -> Result<WorkerEvent, ConvertError> {
    let state = execution_state(change.state, "SubtaskStateChanged.state")?;
    let failure = change.failure.map(Failure::try_from).transpose()?;
    if state == ExecutionState::Failed && failure.is_none() {
        return Err(ConvertError::Missing {
            field: "SubtaskStateChanged.failure",
        });
    }
    Ok(WorkerEvent::SubtaskState {
        attempt: Attempt(change.attempt),
        subtask: subtask(change.subtask, "SubtaskStateChanged.subtask")?,
        state,
        failure,
    })
}

impl From<WorkerRegistration> for proto::WorkerRegistration {
    fn from(registration: WorkerRegistration) -> Self {
        Self {
            job_id: registration.job_id.to_string(),
            worker_id: registration.worker.0,
            task_manager_id: registration.task_manager.0,
            data_address: registration.data_address,
            fingerprint: registration.fingerprint,
            graph_outline: registration.graph_outline,
            process_id: registration.process_id,
        }
    }
}

impl TryFrom<proto::WorkerRegistration> for WorkerRegistration {
    type Error = ConvertError;

    fn try_from(registration: proto::WorkerRegistration) -> Result<Self, ConvertError> {
        Ok(Self {
            job_id: id(&registration.job_id, "WorkerRegistration.job_id")?,
            worker: WorkerId(registration.worker_id),
            task_manager: TaskManagerId(text(
                registration.task_manager_id,
                "WorkerRegistration.task_manager_id",
            )?),
            data_address: text(registration.data_address, "WorkerRegistration.data_address")?,
            fingerprint: text(registration.fingerprint, "WorkerRegistration.fingerprint")?,
            graph_outline: registration.graph_outline,
            process_id: registration.process_id,
        })
    }
}

impl From<WorkerReturn> for proto::WorkerReturn {
    fn from(returned: WorkerReturn) -> Self {
        Self {
            registration: Some(returned.registration.into()),
            attempt: returned.attempt.0,
            placement: returned.placement.into_iter().map(Into::into).collect(),
            slots: returned.slots,
            subtasks: returned.subtasks.into_iter().map(Into::into).collect(),
            last_snapshot_id: returned.last_snapshot.map_or(0, |id| id.0),
            open_snapshot_ids: returned.open_snapshots.iter().map(|id| id.0).collect(),
            drained: returned.is_drained,
        }
    }
}

impl TryFrom<proto::WorkerReturn> for WorkerReturn {
    type Error = ConvertError;

    fn try_from(returned: proto::WorkerReturn) -> Result<Self, ConvertError> {
        Ok(Self {
            registration: required(returned.registration, "WorkerReturn.registration")?.try_into()?,
            attempt: Attempt(returned.attempt),
            placement: all(returned.placement)?,
            slots: returned.slots,
            subtasks: all(returned.subtasks)?,
            last_snapshot: Some(CheckpointId(returned.last_snapshot_id)).filter(|id| id.0 > 0),
            open_snapshots: returned.open_snapshot_ids.into_iter().map(CheckpointId).collect(),
            is_drained: returned.drained,
        })
    }
}

impl From<SubtaskReport> for proto::SubtaskReport {
    fn from(report: SubtaskReport) -> Self {
        Self {
            subtask: Some(report.subtask.into()),
            state: proto::ExecutionState::from(report.state).into(),
            failure: report.failure.map(Into::into),
            end_of_data: report.end_of_data,
        }
    }
}

impl TryFrom<proto::SubtaskReport> for SubtaskReport {
    type Error = ConvertError;

    fn try_from(report: proto::SubtaskReport) -> Result<Self, ConvertError> {
        Ok(Self {
            subtask: subtask(report.subtask, "SubtaskReport.subtask")?,
            state: execution_state(report.state, "SubtaskReport.state")?,
            failure: report.failure.map(Failure::try_from).transpose()?,
            end_of_data: report.end_of_data,
        })
    }
}

impl From<SubtaskMetrics> for proto::SubtaskCounters {
    fn from(metrics: SubtaskMetrics) -> Self {
        Self {
            subtask: Some(proto::Subtask {
                vertex: metrics.vertex,
                index: metrics.index,
            }),
            records_in: metrics.records_in,
            busy_ns: metrics.busy_ns,
            backpressured_ns: metrics.backpressured_ns,
            late_dropped: metrics.late_dropped,
            watermark: metrics.watermark,
            alignment: metrics
                .alignment
                .into_iter()
                .map(|(group, time)| (group, time.0))
                .collect(),
        }
    }
}

impl TryFrom<proto::SubtaskCounters> for SubtaskMetrics {
    type Error = ConvertError;

    fn try_from(counters: proto::SubtaskCounters) -> Result<Self, ConvertError> {
        let id = subtask(counters.subtask, "SubtaskCounters.subtask")?;
        Ok(Self {
            vertex: id.vertex,
            index: id.index,
            records_in: counters.records_in,
            busy_ns: counters.busy_ns,
            backpressured_ns: counters.backpressured_ns,
            late_dropped: counters.late_dropped,
            watermark: counters.watermark,
            alignment: event_times(counters.alignment),
        })
    }
}
