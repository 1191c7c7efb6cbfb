//! What the job master tells a worker.

use std::sync::Arc;

use streamd_core::backend::{StateBackendKind, StateBackendOptions};
use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, CheckpointId, SubtaskId, WorkerId};
use streamd_core::protocol::{Deployment, KeptSlot, SlotDeployment, SubtaskDeployment, WorkerCommand, WorkerPlacement};

use super::ConvertError;
use super::field::{all, event_times, id, required, text};
use super::snapshot::{operators, operators_to_proto};
use super::state::{key_groups, subtask};
use crate::proto;
use crate::proto::worker_command::Command;

impl From<WorkerCommand> for proto::WorkerCommand {
    fn from(command: WorkerCommand) -> Self {
        let command = match command {
            WorkerCommand::Deploy(deployment) => Command::Deploy((*deployment).into()),
            WorkerCommand::TriggerCheckpoint { attempt, barrier } => {
                Command::TriggerCheckpoint(trigger_to_proto(attempt, &barrier))
            }
            WorkerCommand::NotifyCheckpointComplete { attempt, checkpoint } => {
                Command::CheckpointComplete(proto::NotifyCheckpointComplete {
                    attempt: attempt.0,
                    checkpoint_id: checkpoint.0,
                })
            }
            WorkerCommand::NotifyCheckpointAborted { attempt, checkpoint } => {
                Command::CheckpointAborted(proto::NotifyCheckpointAborted {
                    attempt: attempt.0,
                    checkpoint_id: checkpoint.0,
                })
            }
            WorkerCommand::Drain { attempt } => Command::Drain(proto::Drain { attempt: attempt.0 }),
            WorkerCommand::AlignWatermarks { attempt, groups } => Command::AlignWatermarks(proto::AlignWatermarks {
                attempt: attempt.0,
                groups: groups.into_iter().map(|(group, time)| (group, time.0)).collect(),
            }),
            WorkerCommand::Finish { attempt } => Command::Finish(proto::Finish { attempt: attempt.0 }),
            WorkerCommand::Cancel { attempt, kept } => Command::Cancel(proto::CancelSubtasks {
                attempt: attempt.0,
                kept_slots: kept,
            }),
            WorkerCommand::Shutdown => Command::Shutdown(proto::Shutdown {}),
        };
        Self { command: Some(command) }
    }
}

impl TryFrom<proto::WorkerCommand> for WorkerCommand {
    type Error = ConvertError;

    fn try_from(message: proto::WorkerCommand) -> Result<Self, ConvertError> {
        Ok(match required(message.command, "WorkerCommand.command")? {
            Command::Deploy(deploy) => Self::Deploy(Box::new(deploy.try_into()?)),
            Command::TriggerCheckpoint(trigger) => Self::TriggerCheckpoint {
                attempt: Attempt(trigger.attempt),
                barrier: barrier(trigger)?,
            },
            Command::CheckpointComplete(notice) => Self::NotifyCheckpointComplete {
                attempt: Attempt(notice.attempt),
                checkpoint: CheckpointId(notice.checkpoint_id),
            },
            Command::CheckpointAborted(notice) => Self::NotifyCheckpointAborted {
                attempt: Attempt(notice.attempt),
                checkpoint: CheckpointId(notice.checkpoint_id),
            },
            Command::Drain(drain) => Self::Drain {
                attempt: Attempt(drain.attempt),
            },
            Command::AlignWatermarks(align) => Self::AlignWatermarks {
                attempt: Attempt(align.attempt),
                groups: event_times(align.groups),
            },
            Command::Finish(finish) => Self::Finish {
                attempt: Attempt(finish.attempt),
            },
            Command::Cancel(cancel) => Self::Cancel {
                attempt: Attempt(cancel.attempt),
                kept: cancel.kept_slots,
            },
            Command::Shutdown(proto::Shutdown {}) => Self::Shutdown,
        })
    }
}

fn trigger_to_proto(attempt: Attempt, barrier: &Barrier) -> proto::TriggerCheckpoint {
    let options = &barrier.options;
    proto::TriggerCheckpoint {
        attempt: attempt.0,
        checkpoint_id: barrier.checkpoint.0,
        savepoint: match options.kind {
            SnapshotKind::Savepoint => true,
            SnapshotKind::Checkpoint => false,
        },
        location: options.location.clone(),
        halt_sources: match options.sources {
            AfterBarrier::Halt => true,
            AfterBarrier::Continue => false,
        },
        aligned: options.aligned,
        compression: match options.compression {
            Compression::None => proto::trigger_checkpoint::Compression::None,
            Compression::Lz4 => proto::trigger_checkpoint::Compression::Lz4,
            Compression::Zstd => proto::trigger_checkpoint::Compression::Zstd,
        }
        .into(),
        incremental: match options.increment {
            Increment::Off => false,
            Increment::First | Increment::Since(_) => true,
        },
        base_checkpoint_id: match options.increment {
            Increment::Off | Increment::First => 0,
            Increment::Since(base) => base.0,
        },
    }
}

fn compression(number: i32) -> Result<Compression, ConvertError> {
    use proto::trigger_checkpoint::Compression as Wire;
    match Wire::try_from(number) {
        Ok(Wire::None) => Ok(Compression::None),
        Ok(Wire::Lz4) => Ok(Compression::Lz4),
        Ok(Wire::Zstd) => Ok(Compression::Zstd),
        Err(_) => Err(ConvertError::invalid(
            "TriggerCheckpoint.compression",
            format!("{number} is no compression"),
        )),
    }
}

fn barrier(trigger: proto::TriggerCheckpoint) -> Result<Barrier, ConvertError> {
    Ok(Barrier {
        checkpoint: CheckpointId(trigger.checkpoint_id),
        options: Arc::new(SnapshotOptions {
            kind: match trigger.savepoint {
                true => SnapshotKind::Savepoint,
                false => SnapshotKind::Checkpoint,
            },
            location: text(trigger.location, "TriggerCheckpoint.location")?,
            sources: match trigger.halt_sources {
                true => AfterBarrier::Halt,
                false => AfterBarrier::Continue,
            },
            aligned: trigger.aligned,
            increment: match (trigger.incremental, trigger.base_checkpoint_id) {
                (false, _) => Increment::Off,
                (true, 0) => Increment::First,
                (true, base) => Increment::Since(CheckpointId(base)),
            },
            compression: compression(trigger.compression)?,
        }),
    })
}

impl From<Deployment> for proto::Deploy {
    fn from(deployment: Deployment) -> Self {
        let slots = deployment.slots.into_iter().map(Into::into);
        let kept = deployment.kept.into_iter().map(Into::into);
        Self {
            job_id: deployment.job_id.to_string(),
            attempt: deployment.attempt.0,
            slots: slots.chain(kept).collect(),
            placement: deployment.placement.into_iter().map(Into::into).collect(),
            max_parallelism: deployment.max_parallelism,
            restored_checkpoint_id: deployment.restored.map_or(0, |checkpoint| checkpoint.0),
            state_backend: Some(state_backend_to_proto(deployment.state_backend)),
        }
    }
}

impl TryFrom<proto::Deploy> for Deployment {
    type Error = ConvertError;

    fn try_from(deploy: proto::Deploy) -> Result<Self, ConvertError> {
        let (kept, slots): (Vec<_>, Vec<_>) = deploy.slots.into_iter().partition(|slot| slot.kept);
        Ok(Self {
            job_id: id(&deploy.job_id, "Deploy.job_id")?,
            attempt: Attempt(deploy.attempt),
            slots: all(slots)?,
            kept: all(kept)?,
            placement: all(deploy.placement)?,
            max_parallelism: deploy.max_parallelism,
            restored: match deploy.restored_checkpoint_id {
                0 => None,
                checkpoint => Some(CheckpointId(checkpoint)),
            },
            state_backend: match deploy.state_backend {
                None => StateBackendOptions::default(),
                Some(backend) => state_backend(backend)?,
            },
        })
    }
}

fn state_backend_to_proto(options: StateBackendOptions) -> proto::StateBackend {
    let kind = match options.kind {
        StateBackendKind::HashMap => proto::state_backend::Kind::Hashmap,
        StateBackendKind::RocksDb => proto::state_backend::Kind::Rocksdb,
        StateBackendKind::Memory => proto::state_backend::Kind::Memory,
    };
    proto::StateBackend {
        kind: kind.into(),
        rocksdb_memory_per_slot: options.rocksdb_memory_per_slot,
        inline_threshold: options.inline_threshold,
        memory_max_state: options.memory_max_state,
        local_recovery: options.local_recovery,
    }
}

fn state_backend(backend: proto::StateBackend) -> Result<StateBackendOptions, ConvertError> {
    use proto::state_backend::Kind;
    let kind = match Kind::try_from(backend.kind) {
        Ok(Kind::Hashmap) => StateBackendKind::HashMap,
        Ok(Kind::Rocksdb) => StateBackendKind::RocksDb,
        Ok(Kind::Memory) => StateBackendKind::Memory,
        Err(_) => {
            let reason = format!("{} is no state backend", backend.kind);
            return Err(ConvertError::invalid("StateBackend.kind", reason));
        }
    };
    Ok(StateBackendOptions {
        kind,
        rocksdb_memory_per_slot: backend.rocksdb_memory_per_slot,
        inline_threshold: backend.inline_threshold,
        memory_max_state: backend.memory_max_state,
        local_recovery: backend.local_recovery,
    })
}

impl From<SlotDeployment> for proto::SlotDeployment {
    fn from(slot: SlotDeployment) -> Self {
        Self {
            slot: slot.slot,
            subtasks: slot.subtasks.into_iter().map(Into::into).collect(),
            kept: false,
        }
    }
}

impl From<KeptSlot> for proto::SlotDeployment {
    fn from(slot: KeptSlot) -> Self {
        let only_which = |subtask: SubtaskId| proto::SubtaskDeployment {
            subtask: Some(subtask.into()),
            ..proto::SubtaskDeployment::default()
        };
        Self {
            slot: slot.slot,
            subtasks: slot.subtasks.into_iter().map(only_which).collect(),
            kept: true,
        }
    }
}

impl TryFrom<proto::SlotDeployment> for KeptSlot {
    type Error = ConvertError;

    fn try_from(slot: proto::SlotDeployment) -> Result<Self, ConvertError> {
        let which = |it: proto::SubtaskDeployment| subtask(it.subtask, "SubtaskDeployment.subtask");
        Ok(Self {
            slot: slot.slot,
            subtasks: slot.subtasks.into_iter().map(which).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<proto::SlotDeployment> for SlotDeployment {
    type Error = ConvertError;

    fn try_from(slot: proto::SlotDeployment) -> Result<Self, ConvertError> {
        Ok(Self {
            slot: slot.slot,
            subtasks: all(slot.subtasks)?,
        })
    }
}

impl From<SubtaskDeployment> for proto::SubtaskDeployment {
    fn from(deployment: SubtaskDeployment) -> Self {
        Self {
            subtask: Some(deployment.subtask.into()),
            key_groups: Some(deployment.key_groups.into()),
            state: operators_to_proto(deployment.state),
        }
    }
}

impl TryFrom<proto::SubtaskDeployment> for SubtaskDeployment {
    type Error = ConvertError;

    fn try_from(deployment: proto::SubtaskDeployment) -> Result<Self, ConvertError> {
        Ok(Self {
            subtask: subtask(deployment.subtask, "SubtaskDeployment.subtask")?,
            key_groups: key_groups(deployment.key_groups, "SubtaskDeployment.key_groups")?,
            state: operators(deployment.state)?,
        })
    }
}

impl From<WorkerPlacement> for proto::WorkerPlacement {
    fn from(placement: WorkerPlacement) -> Self {
        Self {
            worker_id: placement.worker.0,
            data_address: placement.data_address,
            subtasks: placement.subtasks.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::WorkerPlacement> for WorkerPlacement {
    type Error = ConvertError;

    fn try_from(placement: proto::WorkerPlacement) -> Result<Self, ConvertError> {
        Ok(Self {
            worker: WorkerId(placement.worker_id),
            data_address: text(placement.data_address, "WorkerPlacement.data_address")?,
            subtasks: placement.subtasks.into_iter().map(SubtaskId::from).collect(),
        })
    }
}
