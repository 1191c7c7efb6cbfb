//! Each invariant is broken on purpose: the onlooker must see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::graph::{CheckpointingMode, ClaimMode, ExternalizedCheckpointRetention, JobGraph, RestartStrategy};
use streamd_core::id::{Attempt, CheckpointId, JobId, OperationId, OperatorId, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::protocol::{Deployment, KeptSlot, SlotDeployment, SubtaskDeployment, WorkerCommand, WorkerEvent};
use streamd_core::snapshot::{ListState, OperatorSubtaskState, SubtaskSnapshot};
use streamd_core::time::{MonotonicTime, WallTime};

use super::*;
use crate::action::{Action, CompletedOperation};
use crate::event::{
    CheckpointOptions, Event, JobOptions, JobSpec, OperationKind, OperationRequest, PublishError, PublishedSnapshot,
    RestorePoint,
};
use crate::job::JobMachine;
use crate::lifecycle::JobState;

fn spec() -> JobSpec {
    JobSpec {
        job_id: JobId::from_bytes([1; 16]),
        graph: Arc::new(JobGraph::new("job")),
        fingerprint: String::new(),
        max_parallelism: Vec::new(),
        restore: None,
        options: JobOptions {
            checkpointing: CheckpointOptions {
                interval_ms: Some(10),
                mode: CheckpointingMode::ExactlyOnce,
                timeout_ms: 10,
                min_pause_ms: 0,
                max_concurrent: 1,
                tolerable_failed: 0,
                retention: ExternalizedCheckpointRetention::default(),
                num_retained: 1,
                incremental: false,
                compression: streamd_core::barrier::Compression::None,
            },
            state_backend: streamd_core::backend::StateBackendOptions::default(),
            restart_strategy: RestartStrategy::None,
            checkpoint_directory: Some("s3://c".to_owned()),
            savepoint_directory: None,
            claim_mode: ClaimMode::NoClaim,
            leader_epoch: 1,
            slot_request_timeout_ms: 1,
            worker_start_timeout_ms: 1,
            cancel_timeout_ms: 1,
        },
        first_worker: WorkerId(1),
    }
}

const OPERATION: OperationId = OperationId::from_bytes([7; 16]);

/// What a machine did, and what the onlooker says of it. The machine itself is one that has not begun.
struct Story(Audit, Result<(), Violation>);

impl Story {
    fn new() -> Self {
        Self(Audit::new(&spec()), Ok(()))
    }

    fn then(mut self, event: Event, actions: Vec<Action>) -> Self {
        let machine = JobMachine::new(spec());
        self.1 = self
            .1
            .and_then(|()| self.0.observe(&machine, MonotonicTime(0), &event, &actions));
        self
    }

    fn worker(self) -> Self {
        let task_manager = TaskManagerId("a".to_owned());
        self.then(
            Event::Tick,
            vec![Action::StartWorker {
                worker: WorkerId(1),
                task_manager,
            }],
        )
    }

    fn triggered(self, id: u64, kind: SnapshotKind) -> Self {
        self.worker().then(Event::Tick, vec![trigger(id, kind)])
    }

    fn publishing(self, id: u64, kind: SnapshotKind) -> Self {
        self.triggered(id, kind).then(Event::Tick, vec![publish(id)])
    }

    fn complete(self, id: u64, kind: SnapshotKind) -> Self {
        self.publishing(id, kind).then(published(id), vec![])
    }

    fn breaks(self, invariant: &str) {
        assert_eq!(self.1.expect_err("the onlooker sees nothing").invariant, invariant);
    }
}

fn send(command: WorkerCommand) -> Action {
    Action::Send {
        worker: WorkerId(1),
        command,
    }
}

fn trigger(id: u64, kind: SnapshotKind) -> Action {
    send(WorkerCommand::TriggerCheckpoint {
        attempt: Attempt(1),
        barrier: Barrier {
            checkpoint: CheckpointId(id),
            options: Arc::new(SnapshotOptions {
                kind,
                location: location(id),
                sources: AfterBarrier::Continue,
                aligned: true,
                increment: Increment::Off,
                compression: Compression::None,
            }),
        },
    })
}

fn location(id: u64) -> String {
    format!("s3://c/{id}")
}

fn metadata(id: u64) -> streamd_core::snapshot::SnapshotMetadata {
    streamd_core::snapshot::SnapshotMetadata {
        version: 1,
        key_hash_version: 1,
        kind: SnapshotKind::Checkpoint,
        job_id: JobId::from_bytes([1; 16]),
        checkpoint_id: CheckpointId(id),
        triggered_at: Default::default(),
        leader_epoch: 1,
        attempt: Attempt(1),
        nonce: String::new(),
        graph: (*spec().graph).clone(),
        operators: Vec::new(),
    }
}

fn restore_point(id: u64) -> RestorePoint {
    RestorePoint {
        metadata: Arc::new(metadata(id)),
        uri: location(id),
    }
}

fn publish(id: u64) -> Action {
    Action::Publish {
        checkpoint: CheckpointId(id),
        metadata: Box::new(metadata(id)),
        location: location(id),
    }
}

fn published(id: u64) -> Event {
    Event::Published(
        CheckpointId(id),
        Ok(PublishedSnapshot {
            uri: location(id),
            bytes: 1,
        }),
    )
}

fn unknown(id: u64) -> Event {
    let error = PublishError {
        message: "timed out".to_owned(),
        outcome_unknown: true,
    };
    Event::Published(CheckpointId(id), Err(error))
}

fn discard(id: u64) -> Action {
    Action::Discard {
        checkpoint: CheckpointId(id),
        location: location(id),
    }
}

fn commit(id: u64) -> Action {
    send(WorkerCommand::NotifyCheckpointComplete {
        attempt: Attempt(1),
        checkpoint: CheckpointId(id),
    })
}

fn asked(kind: OperationKind) -> Event {
    Event::Operation(OperationRequest {
        id: OPERATION,
        kind,
        target: None,
        folder: "1".to_owned(),
        timeout_ms: None,
    })
}

fn answered() -> Action {
    answered_with_copy_of(None)
}

fn answered_with_copy_of(promoted: Option<u64>) -> Action {
    let completed = CompletedOperation {
        savepoint_path: location(1),
        bytes: 1,
        duration_ms: 1,
        promoted: promoted.map(CheckpointId),
    };
    Action::CompleteOperation {
        id: OPERATION,
        result: Ok(completed),
    }
}

#[test]
fn an_honest_story_breaks_nothing() {
    let story = Story::new()
        .complete(1, SnapshotKind::Checkpoint)
        .then(Event::Tick, vec![commit(1)]);
    assert_eq!(story.1, Ok(()));
}

#[test]
fn a_worker_number_given_out_twice_is_seen() {
    Story::new().worker().worker().breaks("I7");
}

#[test]
fn a_word_to_a_worker_that_is_gone_is_seen() {
    Story::new()
        .then(Event::Tick, vec![send(WorkerCommand::Shutdown)])
        .breaks("I7");
}

#[test]
fn a_word_to_an_older_attempt_is_seen() {
    let cancel = |attempt| {
        send(WorkerCommand::Cancel {
            attempt: Attempt(attempt),
            kept: Vec::new(),
        })
    };
    Story::new()
        .worker()
        .then(Event::Tick, vec![cancel(2), cancel(1)])
        .breaks("I7");
}

#[test]
fn a_snapshot_id_used_twice_is_seen() {
    Story::new()
        .complete(1, SnapshotKind::Checkpoint)
        .then(Event::Tick, vec![trigger(1, SnapshotKind::Checkpoint)])
        .breaks("I11");
}

#[test]
fn the_deletion_of_the_latest_checkpoint_is_seen() {
    Story::new()
        .complete(1, SnapshotKind::Checkpoint)
        .then(Event::Tick, vec![discard(1)])
        .breaks("I9");
}

#[test]
fn the_deletion_of_what_may_be_published_is_seen() {
    Story::new()
        .publishing(1, SnapshotKind::Checkpoint)
        .then(Event::Tick, vec![discard(1)])
        .breaks("I9");
    Story::new()
        .publishing(1, SnapshotKind::Checkpoint)
        .then(unknown(1), vec![discard(1)])
        .breaks("I9");
}

#[test]
fn the_deletion_of_a_savepoint_is_seen() {
    Story::new()
        .complete(1, SnapshotKind::Savepoint)
        .then(Event::Tick, vec![discard(1)])
        .breaks("I16");
}

#[test]
fn the_deletion_of_a_savepoint_that_may_have_been_made_after_all_is_seen() {
    let promote = Action::Promote {
        operation: OPERATION,
        source: restore_point(1),
        location: location(2),
        timeout_ms: 1,
    };
    let error = PublishError {
        message: "timed out".to_owned(),
        outcome_unknown: true,
    };
    Story::new()
        .then(asked(OperationKind::Savepoint), vec![])
        .complete(1, SnapshotKind::Checkpoint)
        .then(Event::Tick, vec![promote])
        .then(Event::Promoted(OPERATION, Err(error)), vec![discard(2)])
        .breaks("I16");
}

#[test]
fn the_publication_of_what_is_deleted_is_seen() {
    Story::new()
        .triggered(1, SnapshotKind::Checkpoint)
        .then(Event::Tick, vec![discard(1), publish(1)])
        .breaks("I11");
}

#[test]
fn the_deletion_of_what_was_not_given_to_the_job_is_seen() {
    let discard_claimed = |id| Action::DiscardClaimed {
        checkpoint: CheckpointId(id),
        location: location(id),
    };
    for (claim_mode, deleted) in [(ClaimMode::NoClaim, 1), (ClaimMode::Claim, 2)] {
        let mut spec = spec();
        spec.restore = Some(restore_point(1));
        spec.options.claim_mode = claim_mode;
        Story(Audit::new(&spec), Ok(()))
            .complete(3, SnapshotKind::Checkpoint)
            .then(Event::Tick, vec![discard_claimed(deleted)])
            .breaks("I16");
    }
}

#[test]
fn a_commit_before_publication_is_seen() {
    Story::new()
        .publishing(1, SnapshotKind::Checkpoint)
        .then(Event::Tick, vec![commit(1)])
        .breaks("I17");
}

#[test]
fn a_commit_of_a_mere_savepoint_is_seen() {
    Story::new()
        .then(asked(OperationKind::Savepoint), vec![])
        .complete(1, SnapshotKind::Savepoint)
        .then(Event::Tick, vec![commit(1)])
        .breaks("I16");
}

#[test]
fn finishing_without_a_commit_is_seen() {
    let finish = send(WorkerCommand::Finish { attempt: Attempt(1) });
    Story::new()
        .complete(1, SnapshotKind::Checkpoint)
        .then(Event::Tick, vec![finish])
        .breaks("I17");
}

#[test]
fn a_stop_that_succeeds_while_the_job_goes_on_is_seen() {
    Story::new()
        .then(asked(OperationKind::Stop), vec![])
        .complete(1, SnapshotKind::Savepoint)
        .then(Event::Tick, vec![answered()])
        .breaks("I18");
}

#[test]
fn a_job_that_leaves_an_older_checkpoint_than_it_has_committed_is_seen() {
    Story::new()
        .complete(1, SnapshotKind::Checkpoint)
        .then(asked(OperationKind::CancelWithSavepoint), vec![])
        .then(Event::Tick, vec![trigger(2, SnapshotKind::Checkpoint), publish(2)])
        .then(published(2), vec![commit(2)])
        .then(Event::Tick, vec![answered_with_copy_of(Some(1))])
        .breaks("I17");
}

#[test]
fn a_savepoint_handed_out_before_it_is_complete_is_seen() {
    Story::new()
        .then(asked(OperationKind::Savepoint), vec![])
        .publishing(1, SnapshotKind::Savepoint)
        .then(Event::Tick, vec![answered()])
        .breaks("I18");
}

#[test]
fn a_leap_from_state_to_state_is_seen() {
    let leap = Action::StateChanged {
        from: JobState::Created,
        to: JobState::Finished,
        failure: None,
    };
    Story::new().then(Event::Tick, vec![leap]).breaks("I15");
    // A step that would be one of another job.
    let step = Action::StateChanged {
        from: JobState::Running,
        to: JobState::Restarting,
        failure: None,
    };
    Story::new().then(Event::Tick, vec![step]).breaks("I15");
}

#[test]
fn a_job_that_lets_its_deadline_pass_is_seen() {
    let mut machine = JobMachine::new(spec());
    let actions = machine.on_event(MonotonicTime(0), WallTime(0), Event::Start);
    let deadline = machine.next_deadline().expect("slots are waited for within a time");
    let seen = |now| Audit::new(&spec()).observe(&machine, now, &Event::Start, &actions);
    assert_eq!(seen(MonotonicTime(deadline.0 - 1)), Ok(()));
    assert_eq!(seen(deadline).expect_err("the onlooker sees nothing").invariant, "I20");
}

#[test]
fn a_restore_of_anything_but_the_latest_is_seen() {
    let deployment = deployment(2, &[]);
    Story::new()
        .complete(1, SnapshotKind::Checkpoint)
        .then(Event::Tick, vec![send(WorkerCommand::Deploy(Box::new(deployment)))])
        .breaks("I12");
}

#[test]
fn a_region_that_restarts_with_what_another_has_is_seen() {
    let restart = |splits: &[(u32, &[u64])]| {
        let kept = vec![KeptSlot {
            slot: 7,
            subtasks: Vec::new(),
        }];
        let deployment = Deployment {
            kept,
            ..deployment(2, splits)
        };
        vec![send(WorkerCommand::Deploy(Box::new(deployment)))]
    };
    let whole = send(WorkerCommand::Deploy(Box::new(deployment(
        1,
        &[(0, &[1, 2]), (1, &[3])],
    ))));
    let begun = || Story::new().worker().then(Event::Tick, vec![whole.clone()]);
    let again = begun().then(Event::Tick, restart(&[(0, &[1, 2])]));
    assert_eq!(again.1, Ok(()));
    begun().then(Event::Tick, restart(&[(0, &[1, 3])])).breaks("RS32");
    begun().then(Event::Tick, restart(&[(1, &[])])).breaks("RS32");
    // From a checkpoint, by what each had then.
    let complete = || {
        let acknowledged = WorkerEvent::Acknowledge {
            attempt: Attempt(1),
            checkpoint: CheckpointId(1),
            subtask: SubtaskId { vertex: 0, index: 0 },
            snapshot: SubtaskSnapshot { operators: state(&[2]) },
        };
        let taken = begun().then(Event::Tick, vec![trigger(1, SnapshotKind::Checkpoint)]);
        let written = taken.then(Event::Worker(WorkerId(1), acknowledged), vec![publish(1)]);
        written.then(published(1), vec![])
    };
    let from_it = |splits: &[(u32, &[u64])]| {
        let mut actions = restart(splits);
        if let Action::Send {
            command: WorkerCommand::Deploy(deployment),
            ..
        } = &mut actions[0]
        {
            deployment.restored = Some(CheckpointId(1));
        }
        actions
    };
    assert_eq!(complete().then(Event::Tick, from_it(&[(0, &[2])])).1, Ok(()));
    complete().then(Event::Tick, from_it(&[(0, &[1, 2])])).breaks("RS32");
}

fn state(splits: &[u64]) -> BTreeMap<OperatorId, OperatorSubtaskState> {
    let lists = vec![ListState::of("splits", splits)];
    let keyed = Vec::new();
    [(OperatorId::from_uid("source"), OperatorSubtaskState { keyed, lists })].into()
}

/// A deployment of sources with these splits, by index.
fn deployment(attempt: u32, splits: &[(u32, &[u64])]) -> Deployment {
    let slots = splits.iter().map(|(index, splits)| SlotDeployment {
        slot: *index,
        subtasks: vec![SubtaskDeployment {
            subtask: SubtaskId {
                vertex: 0,
                index: *index,
            },
            key_groups: KeyGroupRange::all(1),
            state: state(splits),
        }],
    });
    Deployment {
        job_id: JobId::from_bytes([1; 16]),
        attempt: Attempt(attempt),
        slots: slots.collect(),
        kept: Vec::new(),
        placement: Vec::new(),
        max_parallelism: Vec::new(),
        state_backend: streamd_core::backend::StateBackendOptions::default(),
        restored: None,
    }
}
