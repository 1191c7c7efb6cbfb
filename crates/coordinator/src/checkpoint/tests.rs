use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment};
use streamd_core::graph::{
    CheckpointSettings, CheckpointingMode, ExternalizedCheckpointRetention, JobGraph, JobVertex, Operator,
    OperatorKind, PLAN_VERSION,
};
use streamd_core::id::{Attempt, CheckpointId, JobId, OperationId, OperatorId, SubtaskId};
use streamd_core::row::DataType;
use streamd_core::snapshot::{ListState, OperatorSubtaskState, SubtaskSnapshot};
use streamd_core::time::{MonotonicTime, WallTime};

use super::store::{CompletedCheckpoint, Objects};
use super::{Acknowledgement, CheckpointCoordinator, NewSnapshot, Origin, Purpose};
use crate::event::CheckpointOptions;

fn coordinator(incremental: bool) -> CheckpointCoordinator {
    let options = CheckpointOptions {
        interval_ms: Some(1_000),
        mode: CheckpointingMode::ExactlyOnce,
        timeout_ms: 1_000,
        min_pause_ms: 0,
        max_concurrent: 2,
        tolerable_failed: 0,
        retention: ExternalizedCheckpointRetention::default(),
        num_retained: 1,
        incremental,
        compression: Compression::Lz4,
    };
    CheckpointCoordinator::new(options, None)
}

fn trigger(coordinator: &mut CheckpointCoordinator, purpose: Purpose) -> Barrier {
    trigger_for(coordinator, purpose, &[])
}

fn trigger_for(coordinator: &mut CheckpointCoordinator, purpose: Purpose, subtasks: &[SubtaskId]) -> Barrier {
    let new = NewSnapshot {
        purpose,
        location: format!("s3://b/chk-{}", coordinator.next_id()),
        sources: AfterBarrier::Continue,
        timeout_ms: None,
    };
    coordinator.trigger((MonotonicTime(0), WallTime(0)), new, subtasks.iter().copied())
}

fn complete(coordinator: &mut CheckpointCoordinator, id: u64, refers_to: &[u64]) {
    coordinator.give_up(CheckpointId(id));
    coordinator.store().add(CheckpointId(id), completed(id, refers_to));
}

fn completed(id: u64, refers_to: &[u64]) -> CompletedCheckpoint {
    CompletedCheckpoint {
        location: format!("s3://b/chk-{id}"),
        bytes: 0,
        duration_ms: 0,
        objects: Objects {
            own: [].into(),
            elsewhere: refers_to.iter().map(|id| format!("s3://b/chk-{id}/a")).collect(),
        },
    }
}

fn swept(coordinator: &mut CheckpointCoordinator) -> Vec<u64> {
    coordinator.sweep().unneeded.into_iter().map(|(id, _)| id.0).collect()
}

#[test]
fn the_barrier_says_what_is_complete_and_that_stays_while_the_checkpoint_is_under_way() {
    let mut coordinator = coordinator(true);
    let first = trigger(&mut coordinator, Purpose::Periodic);
    assert_eq!(
        (first.options.increment, first.options.compression),
        (Increment::First, Compression::Lz4)
    );
    complete(&mut coordinator, 1, &[]);
    // Two that build upon the first, of which the later completes first and refers to nothing of it.
    for id in [2, 3] {
        let barrier = trigger(&mut coordinator, Purpose::Periodic);
        assert_eq!(barrier.checkpoint, CheckpointId(id));
        assert_eq!(barrier.options.increment, Increment::Since(CheckpointId(1)));
    }
    complete(&mut coordinator, 3, &[]);
    assert_eq!(swept(&mut coordinator), [0; 0]);
    assert_eq!(
        trigger(&mut coordinator, Purpose::Periodic).options.increment,
        Increment::Since(CheckpointId(3))
    );
    complete(&mut coordinator, 2, &[1]);
    assert_eq!(swept(&mut coordinator), [1, 2]);
}

#[test]
fn savepoints_hold_everything_and_checkpoints_too_unless_it_is_asked_for() {
    let mut incremental = coordinator(true);
    complete(&mut incremental, 1, &[]);
    let savepoint = trigger(&mut incremental, Purpose::Savepoint(OperationId::from_bytes([1; 16])));
    assert_eq!(savepoint.options.increment, Increment::Off);

    let mut full = coordinator(false);
    complete(&mut full, 1, &[]);
    assert_eq!(trigger(&mut full, Purpose::Periodic).options.increment, Increment::Off);
}

#[test]
fn what_another_job_manager_completed_is_built_upon_and_its_numbers_are_not_given_out_again() {
    let mut coordinator = coordinator(true);
    coordinator.recover(CheckpointId(8), [(CheckpointId(3), completed(3, &[]))], []);
    let barrier = trigger(&mut coordinator, Purpose::Periodic);
    assert_eq!(barrier.checkpoint, CheckpointId(8));
    assert_eq!(barrier.options.increment, Increment::Since(CheckpointId(3)));
    complete(&mut coordinator, 8, &[]);
    assert_eq!(swept(&mut coordinator), [3]);
}

#[test]
fn a_subtask_that_declined_one_snapshot_may_still_write_another() {
    let subtask = SubtaskId { vertex: 0, index: 0 };
    let mut coordinator = coordinator(false);
    for id in [1, 2] {
        trigger_for(&mut coordinator, Purpose::Periodic, &[subtask]);
        coordinator.give_up(CheckpointId(id));
    }
    coordinator.declined(CheckpointId(1), subtask);
    assert_eq!(coordinator.acknowledged_too_late(CheckpointId(1), subtask), None);
    let written = coordinator.acknowledged_too_late(CheckpointId(2), subtask);
    assert_eq!(written, Some((CheckpointId(2), "s3://b/chk-2".to_owned())));
}

#[test]
fn the_last_sixteen_snapshots_that_were_given_up_are_remembered() {
    let subtask = SubtaskId { vertex: 0, index: 0 };
    for (given_up, is_remembered) in [(16, true), (17, false)] {
        let mut coordinator = coordinator(false);
        for id in 1..=given_up {
            trigger_for(&mut coordinator, Purpose::Periodic, &[subtask]);
            coordinator.give_up(CheckpointId(id));
        }
        let first = coordinator.acknowledged_too_late(CheckpointId(1), subtask);
        assert_eq!(first.is_some(), is_remembered, "after {given_up}");
        let second = coordinator.acknowledged_too_late(CheckpointId(2), subtask);
        assert!(second.is_some(), "after {given_up}");
    }
}

/// A job of two subtasks of one operator.
fn origin() -> Origin {
    let id = OperatorId::from_uid("source");
    let operator = Operator {
        id,
        uid: None,
        name: String::new(),
        kind: OperatorKind::Source,
        states: Vec::new(),
        initial_splits: None,
        guarantee: None,
    };
    let vertex = JobVertex {
        id,
        name: String::new(),
        parallelism: 2,
        max_parallelism: None,
        slot_sharing_group: "default".to_owned(),
        operators: vec![operator],
    };
    Origin {
        job_id: JobId::from_bytes([1; 16]),
        leader_epoch: 1,
        attempt: Attempt(1),
        graph: Arc::new(JobGraph {
            version: PLAN_VERSION,
            name: String::new(),
            vertices: vec![vertex],
            edges: Vec::new(),
            checkpointing: CheckpointSettings::default(),
            restart_strategy: None,
        }),
        max_parallelism: vec![2],
    }
}

#[test]
fn a_subtask_acknowledges_state_of_its_own_operators_only_and_its_bytes_count() {
    let subtasks = [0, 1].map(|index| SubtaskId { vertex: 0, index });
    let state_of = |uid| {
        let list = ListState {
            name: "list".to_owned(),
            data_type: DataType::UInt64,
            items: vec![vec![0; 8]; 3],
        };
        let state = OperatorSubtaskState {
            keyed: Vec::new(),
            lists: vec![list],
        };
        SubtaskSnapshot {
            operators: BTreeMap::from([(OperatorId::from_uid(uid), state)]),
        }
    };
    let mut coordinator = coordinator(false);
    trigger_for(&mut coordinator, Purpose::Periodic, &subtasks);
    let id = CheckpointId(1);
    let foreign = coordinator.acknowledge(id, subtasks[0], state_of("sink"), &origin());
    assert!(matches!(foreign, Acknowledgement::Foreign), "{foreign:?}");
    let own = state_of("source");
    let bytes = own.state_bytes();
    assert!(bytes > 1);
    let taken = coordinator.acknowledge(id, subtasks[0], own, &origin());
    assert!(matches!(taken, Acknowledgement::Awaiting), "{taken:?}");
    assert_eq!(coordinator.give_up(id).map(|pending| pending.bytes()), Some(bytes));
}
