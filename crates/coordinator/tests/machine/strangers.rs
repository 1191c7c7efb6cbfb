//! Words of those who have no say (I7): about subtasks that are another's, for another job, under another number.

use streamd_coordinator::event::Event;
use streamd_coordinator::job::JobMachine;
use streamd_coordinator::lifecycle::JobState;
use streamd_core::id::{Attempt, CheckpointId, JobId, SubtaskId, WorkerId};
use streamd_core::protocol::{ExecutionState, Failure, FaultDomain, SubtaskMetrics, WorkerEvent, WorkerRegistration};
use streamd_core::snapshot::SubtaskSnapshot;

use crate::bench::{Bench, spec};
use crate::script::reach;

/// Runs on worker 1.
const SUBTASK: SubtaskId = SubtaskId { vertex: 0, index: 0 };
const NEIGHBOUR: WorkerId = WorkerId(2);

#[test]
fn what_a_worker_says_of_a_subtask_of_another_counts_for_nothing() {
    let checkpoint = CheckpointId(1);
    let attempt = Attempt(1);
    let failed = WorkerEvent::SubtaskState {
        attempt,
        subtask: SUBTASK,
        state: ExecutionState::Failed,
        failure: Some(Failure::new(FaultDomain::User, "boom")),
    };
    let declined = WorkerEvent::Decline {
        attempt,
        checkpoint,
        subtask: SUBTASK,
        reason: "disk full".to_owned(),
    };
    let acknowledged = WorkerEvent::Acknowledge {
        attempt,
        checkpoint,
        subtask: SUBTASK,
        snapshot: SubtaskSnapshot::default(),
    };
    let measured = WorkerEvent::Heartbeat {
        attempt,
        subtasks: vec![SubtaskMetrics::default()],
    };
    let ended = WorkerEvent::EndOfData {
        attempt,
        subtask: SUBTASK,
    };
    // All others have acknowledged the checkpoint, and come to the end of their data.
    let mut bench = reach(
        |_| {},
        "up; wait 1000; ack 1 0/1; ack 1 1/0; ack 1 1/1; end 0/1; end 1/0; end 1/1",
    );
    for said in [failed, declined, acknowledged, measured, ended] {
        let actions = bench.event(Event::Worker(NEIGHBOUR, said.clone()));
        assert!(actions.is_empty(), "{said:?} led to {actions:#?}");
    }
    assert_eq!(bench.machine.execution(SUBTASK), ExecutionState::Running);
    assert_eq!(bench.machine.checkpoints().in_progress, 1);
    assert_eq!(bench.machine.metrics(SUBTASK), None);
    let measured = WorkerEvent::Heartbeat {
        attempt,
        subtasks: vec![SubtaskMetrics::default()],
    };
    bench.event(Event::Worker(WorkerId(1), measured));
    assert_eq!(bench.machine.metrics(SUBTASK), Some(SubtaskMetrics::default()));
}

#[test]
fn a_worker_that_registers_for_another_job_or_as_another_worker_fails_the_job_for_good() {
    let of_another_job: fn(&mut WorkerRegistration) = |it| it.job_id = JobId::from_bytes([9; 16]);
    let as_another_worker: fn(&mut WorkerRegistration) = |it| it.worker = WorkerId(9);
    for wrong in [of_another_job, as_another_worker] {
        let mut bench = reach(|_| {}, "start; slots a:0 b:0; registered 2");
        let mut registration = bench.registration(WorkerId(1));
        wrong(&mut registration);
        bench.event(Event::Worker(WorkerId(1), WorkerEvent::Registered(registration)));
        assert_eq!(bench.machine.state(), JobState::Failed);
        let failure = &bench.machine.failures().last().unwrap().failure;
        assert_eq!(failure.domain, FaultDomain::Internal, "{failure:?}");
    }
}

#[test]
fn subtasks_of_a_job_that_ended_under_another_job_manager_are_shown_as_it_ended() {
    for (state, shown) in [
        (JobState::Finished, ExecutionState::Finished),
        (JobState::Canceled, ExecutionState::Canceled),
        (JobState::Failed, ExecutionState::Failed),
    ] {
        let machine = JobMachine::ended(spec(), Attempt(3), state, Vec::new());
        assert_eq!((machine.state(), machine.execution(SUBTASK)), (state, shown));
    }
}

#[test]
fn nothing_can_be_said_to_a_job_that_nobody_has_started() {
    let mut bench = Bench::new(spec());
    let registration = bench.registration(WorkerId(1));
    let actions = bench.event(Event::Worker(WorkerId(1), WorkerEvent::Registered(registration)));
    assert!(actions.is_empty(), "{actions:#?}");
    assert_eq!(bench.machine.state(), JobState::Created);
}
