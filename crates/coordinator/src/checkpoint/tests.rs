use std::collections::BTreeSet;

use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment};
use streamd_core::graph::{CheckpointingMode, ExternalizedCheckpointRetention};
use streamd_core::id::{CheckpointId, OperationId};
use streamd_core::time::{MonotonicTime, WallTime};

use super::store::CompletedCheckpoint;
use super::{CheckpointCoordinator, NewSnapshot, Purpose};
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
    let new = NewSnapshot {
        purpose,
        location: format!("s3://b/chk-{}", coordinator.next_id()),
        sources: AfterBarrier::Continue,
        timeout_ms: None,
    };
    coordinator.trigger((MonotonicTime(0), WallTime(0)), new, std::iter::empty())
}

fn complete(coordinator: &mut CheckpointCoordinator, id: u64, refers_to: &[u64]) {
    let refers_to: BTreeSet<String> = refers_to.iter().map(|id| format!("s3://b/chk-{id}")).collect();
    let checkpoint = CompletedCheckpoint {
        location: format!("s3://b/chk-{id}"),
        bytes: 0,
        duration_ms: 0,
        refers_to,
    };
    coordinator.give_up(CheckpointId(id));
    coordinator.store().add(CheckpointId(id), checkpoint);
}

fn swept(coordinator: &mut CheckpointCoordinator) -> Vec<u64> {
    coordinator.sweep().into_iter().map(|(id, _)| id.0).collect()
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
