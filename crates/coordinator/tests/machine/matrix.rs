//! Every situation of a job against every event, and every second event after that: nothing panics, no invariant breaks,
//! the job can still be cancelled to its end, and the end absorbs everything.

use streamd_coordinator::event::{
    Event, JobSpec, OperationKind, OperationRequest, PublishError, PublishedSnapshot, SlotId,
};
use streamd_core::graph::RestartStrategy;
use streamd_core::id::{Attempt, CheckpointId, OperationId, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::protocol::{ExecutionState, Failure, FaultDomain, SubtaskMetrics, WorkerEvent};
use streamd_core::snapshot::SubtaskSnapshot;

use crate::bench::{Bench, without_exchange};
use crate::script::{follows, reach};

/// How to get into each phase and course, in its variations.
const SITUATIONS: [&str; 35] = [
    "tick",
    "start",
    "start; slots a:0 b:0",
    "start; slots a:0 b:0; registered 1",
    "start; slots a:0 b:0; registered 1; registered 2",
    "up",
    "up; wait 1000",
    "up; wait 1000; ack 1",
    "up; wait 1000; done 1",
    "up; end 0/0",
    "up; end",
    "up; end; ack 1",
    "up; end; done 1",
    "up; end; done 1; state 0/0 FINISHED",
    "up; savepoint 1",
    "up; savepoint 1; ack 1",
    "up; stop 1",
    "up; stop 1; ack 1",
    "up; stop 1; done 1",
    "up; stop 1; ack 1; lost 1",
    "up; cancel-savepoint 1; ack 1",
    "up; cancel-savepoint 1; done 1",
    "up; drain 1",
    "up; drain 1; end",
    "up; wait 1000; lost 1",
    "up; wait 1000; lost 1; canceled",
    "up; wait 1000; ack 1; lost 1; canceled; wait 500",
    "up; wait 1000; done 1; lost 1; canceled; wait 500; slots a:0 b:0",
    "up; wait 1000; done 1; lost 1; savepoint 1",
    "up; evacuate a",
    "up; wait 1000; evacuate a; done 1",
    "up; evacuate b; savepoint 1; done 1",
    "up; cancel",
    "up; cancel; canceled",
    "up; end; done 1; finished",
];

/// How to get into each phase in which a region restarts and another, that of worker 1, goes on.
const IN_REGIONS: [&str; 8] = [
    "up; wait 1000; state 0/1 FAILED boom",
    "up; wait 1000; ack 1; state 0/1 FAILED boom",
    "up; wait 1000; done 1; lost 2",
    "up; wait 1000; ack 1; lost 2; wait 500",
    "up; wait 1000; done 1; lost 2; wait 500",
    "up; wait 1000; done 1; lost 2; wait 500; slots a:0 b:0",
    "up; wait 1000; done 1; lost 2; wait 500; slots a:0 b:0; registered 3",
    "up; wait 1000; done 1; lost 2; wait 500; slots a:0 b:0; registered 3; running",
];

/// A job in a situation.
fn arrange(situation: &str) -> Bench {
    let is_in_regions = IN_REGIONS.contains(&situation);
    let change = |spec: &mut JobSpec| {
        patience(spec);
        if is_in_regions {
            without_exchange(spec, 2);
        }
    };
    reach(change, situation)
}

fn failure() -> Failure {
    Failure::new(FaultDomain::External, "gone")
}

fn operation(kind: OperationKind) -> Event {
    Event::Operation(OperationRequest {
        id: OperationId::from_bytes([kind as u8 + 100; 16]),
        kind,
        target: None,
        folder: format!("sp-m-{}", kind as u8),
        timeout_ms: None,
    })
}

fn slots(task_manager: &str) -> Event {
    let slot = |slot| SlotId {
        task_manager: TaskManagerId(task_manager.to_owned()),
        slot,
    };
    Event::SlotsAllocated(vec![slot(0), slot(1)])
}

/// Every kind of event, told by or about worker 1 and subtask 0/0, which runs there.
fn events(bench: &Bench) -> Vec<Event> {
    let attempt = bench.machine.attempt();
    let subtask = SubtaskId { vertex: 0, index: 0 };
    let checkpoint = CheckpointId(1);
    let said = |event| Event::Worker(WorkerId(1), event);
    let state = |attempt, state| {
        said(WorkerEvent::SubtaskState {
            attempt,
            subtask,
            state,
            failure: None,
        })
    };
    let published = PublishedSnapshot {
        uri: "s3://published/1".to_owned(),
        bytes: 1,
    };
    let unpublished = |outcome_unknown| {
        Err(PublishError {
            message: "no".to_owned(),
            outcome_unknown,
        })
    };
    let mut wrong = bench.registration(WorkerId(1));
    wrong.fingerprint = "other".to_owned();
    let mut events = vec![
        Event::Start,
        slots("a"),
        slots("z"),
        Event::SlotsAllocated(Vec::new()),
        said(WorkerEvent::Registered(bench.registration(WorkerId(1)))),
        said(WorkerEvent::Registered(wrong)),
        said(WorkerEvent::Acknowledge {
            attempt,
            checkpoint,
            subtask,
            snapshot: SubtaskSnapshot::default(),
        }),
        said(WorkerEvent::Decline {
            attempt,
            checkpoint,
            subtask,
            reason: "no".to_owned(),
        }),
        said(WorkerEvent::EndOfData { attempt, subtask }),
        said(WorkerEvent::Heartbeat {
            attempt,
            subtasks: vec![SubtaskMetrics::default()],
        }),
        Event::WorkerLost(WorkerId(1), failure()),
        Event::WorkerLost(WorkerId(99), failure()),
        Event::TaskManagerLost(TaskManagerId("b".to_owned())),
        Event::Published(checkpoint, unpublished(false)),
        Event::Published(checkpoint, unpublished(true)),
        Event::Published(CheckpointId(77), unpublished(false)),
        Event::Promoted(OperationId::from_bytes([1; 16]), Ok(published.clone())),
        Event::Promoted(OperationId::from_bytes([1; 16]), unpublished(false)),
        Event::Promoted(OperationId::from_bytes([77; 16]), unpublished(true)),
        Event::Published(checkpoint, Ok(published)),
        Event::Evacuate(TaskManagerId("a".to_owned())),
        Event::Cancel,
        Event::Tick,
    ];
    let states = [
        ExecutionState::Created,
        ExecutionState::Scheduled,
        ExecutionState::Deploying,
        ExecutionState::Initializing,
        ExecutionState::Running,
        ExecutionState::Finished,
        ExecutionState::Canceling,
        ExecutionState::Canceled,
        ExecutionState::Failed,
    ];
    events.extend(states.map(|to| state(attempt, to)));
    events.push(state(Attempt(0), ExecutionState::Failed));
    let kinds = [
        OperationKind::Savepoint,
        OperationKind::CancelWithSavepoint,
        OperationKind::Stop,
        OperationKind::Drain,
    ];
    events.extend(kinds.map(operation));
    events
}

/// Cancels a job, answers every publication, lets every time-out pass: nothing may keep it alive.
fn must_end(bench: &mut Bench, story: &str) {
    bench.event(Event::Cancel);
    for id in 1..20 {
        let published = PublishedSnapshot {
            uri: format!("s3://published/{id}"),
            bytes: 1,
        };
        bench.event(Event::Published(CheckpointId(id), Ok(published)));
    }
    for promotion in [100, 101, 1] {
        let operation = OperationId::from_bytes([promotion; 16]);
        let gone = PublishError {
            message: "no".to_owned(),
            outcome_unknown: false,
        };
        bench.event(Event::Promoted(operation, Err(gone)));
    }
    for _ in 0..10 {
        bench.now += 100_000;
        bench.event(Event::Tick);
    }
    assert!(
        bench.machine.state().is_terminal(),
        "{story}: {}",
        bench.machine.state().name()
    );
    for event in events(bench) {
        assert!(bench.event(event).is_empty());
    }
}

fn patience(spec: &mut JobSpec) {
    spec.options.checkpointing.tolerable_failed = 1;
    spec.options.checkpointing.max_concurrent = 2;
}

#[test]
fn every_event_in_every_situation_is_taken_and_the_job_can_still_be_ended() {
    for situation in SITUATIONS.into_iter().chain(IN_REGIONS) {
        for index in 0..events(&arrange(situation)).len() {
            let mut bench = arrange(situation);
            let event = events(&bench).swap_remove(index);
            let story = format!("{situation}; {event:?}");
            bench.event(event);
            must_end(&mut bench, &story);
        }
    }
}

#[test]
fn every_pair_of_events_in_every_situation_is_taken() {
    for situation in SITUATIONS.into_iter().chain(IN_REGIONS) {
        let firsts = events(&arrange(situation));
        for first in &firsts {
            for second in 0..firsts.len() {
                let mut bench = arrange(situation);
                bench.event(first.clone());
                let event = events(&bench).swap_remove(second);
                bench.event(event);
            }
        }
    }
}

#[test]
fn the_clock_on_the_wall_decides_nothing() {
    // Back by ten minutes, on by a year, before 1970.
    let jumping = |now: u64| match now % 3 {
        0 => now as i64 - 600_000,
        1 => now as i64 + 31_536_000_000,
        _two => -1,
    };
    for situation in SITUATIONS {
        let story =
            format!("{situation}; wait 400; wait 601; lost 1; wait 700; slots a:0 b:0; wait 100000; wait 100000");
        assert_eq!(follows(jumping, &story), follows(|now| now as i64, &story), "{story}");
    }
}

#[test]
fn without_restarts_every_failure_ends_the_job() {
    for situation in &SITUATIONS[1..31] {
        let mut bench = reach(
            |spec| {
                patience(spec);
                spec.options.restart_strategy = RestartStrategy::None;
            },
            situation,
        );
        bench.event(Event::TaskManagerLost(TaskManagerId("a".to_owned())));
        bench.event(Event::TaskManagerLost(TaskManagerId("b".to_owned())));
        must_end(&mut bench, situation);
    }
}
