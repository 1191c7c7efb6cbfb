//! Jobs that another job manager ran: the same attempt goes on where it can.

use streamd_coordinator::action::Action;
use streamd_coordinator::checkpoint::{CompletedCheckpoint, Objects};
use streamd_coordinator::event::{Event, RestorePoint};
use streamd_coordinator::failure::FailureRecord;
use streamd_coordinator::job::Recovery;
use streamd_coordinator::lifecycle::JobState;
use streamd_coordinator::operation::MAX_UNDER_WAY;
use streamd_core::id::{Attempt, CheckpointId, JobId, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::protocol::{
    ExecutionState, Failure, FaultDomain, SubtaskReport, WorkerCommand, WorkerEvent, WorkerPlacement, WorkerReturn,
};
use streamd_core::time::WallTime;

use crate::bench::{Bench, restore_point, spec};

const FIRST: WorkerId = WorkerId(1);
const SECOND: WorkerId = WorkerId(2);
const TIMEOUT_MS: u64 = 10_000;

/// A job whose attempt 3 ran when its job manager died; checkpoint 7 is complete.
/// What ended the attempt before the one that is recovered.
fn earlier_failure() -> FailureRecord {
    FailureRecord {
        failure: Failure::new(FaultDomain::External, "the first job manager saw it"),
        attempt: Attempt(2),
        at: WallTime(5),
        restart_delay_ms: Some(500),
    }
}

fn recovery() -> Recovery {
    let checkpoint = CompletedCheckpoint {
        location: "s3://c/chk-7".to_owned(),
        bytes: 1,
        duration_ms: 1,
        objects: Objects::default(),
    };
    Recovery {
        attempt: Attempt(3),
        failures: vec![earlier_failure()],
        last_snapshot: Some(CheckpointId(7)),
        completed: vec![(CheckpointId(7), checkpoint)],
        restore: Some(RestorePoint {
            uri: "s3://c/chk-7".to_owned(),
            ..restore_point(7, [7, 7])
        }),
        is_stopping: false,
        partly_needed: Vec::new(),
        abandoned: Vec::new(),
    }
}

fn bench(recovery: Recovery) -> Bench {
    let mut spec = spec();
    spec.first_worker = WorkerId(1_000);
    let mut bench = Bench::recovered(spec, recovery);
    let actions = bench.event(Event::Reconcile { timeout_ms: TIMEOUT_MS });
    assert_eq!(states(&actions), [(JobState::Created, JobState::Reconciling)]);
    bench
}

fn states(actions: &[Action]) -> Vec<(JobState, JobState)> {
    let state = |action: &Action| match action {
        Action::StateChanged { from, to, .. } => Some((*from, *to)),
        _ => None,
    };
    actions.iter().filter_map(state).collect()
}

fn sent(actions: &[Action], to: WorkerId) -> Vec<&WorkerCommand> {
    let command = |action| match action {
        &Action::Send { worker, ref command } if worker == to => Some(command),
        _ => None,
    };
    actions.iter().filter_map(command).collect()
}

/// Worker 1 runs the first subtask of each vertex on task manager `a`, worker 2 the others on `b`.
fn returned(bench: &Bench, worker: WorkerId) -> WorkerReturn {
    let index = |worker: WorkerId| u32::try_from(worker.0 - 1).expect("workers are numbered from 1");
    let subtasks = |index| [0, 1].map(|vertex| SubtaskId { vertex, index });
    let mut registration = bench.registration(worker);
    registration.task_manager = TaskManagerId(["a", "b"][index(worker) as usize].to_owned());
    WorkerReturn {
        registration,
        attempt: Attempt(3),
        placement: [FIRST, SECOND]
            .map(|worker| WorkerPlacement {
                worker,
                data_address: String::new(),
                subtasks: subtasks(index(worker)).to_vec(),
            })
            .to_vec(),
        slots: vec![0],
        subtasks: subtasks(index(worker))
            .map(|subtask| SubtaskReport {
                subtask,
                state: ExecutionState::Running,
                failure: None,
                end_of_data: false,
            })
            .to_vec(),
        last_snapshot: Some(CheckpointId(8)),
        open_snapshots: vec![CheckpointId(8)],
        is_drained: false,
    }
}

fn come_back(bench: &mut Bench, returned: WorkerReturn) -> Vec<Action> {
    let worker = returned.registration.worker;
    bench.event(Event::Worker(worker, WorkerEvent::Returned(Box::new(returned))))
}

#[test]
fn the_attempt_goes_on_once_all_of_its_workers_are_back() {
    let mut bench = bench(recovery());
    let (first, second) = (returned(&bench, FIRST), returned(&bench, SECOND));
    assert!(come_back(&mut bench, first).is_empty());
    let actions = come_back(&mut bench, second);
    assert_eq!(states(&actions), [(JobState::Reconciling, JobState::Running)]);
    assert_eq!(bench.machine.attempt(), Attempt(3));
    assert_eq!(bench.machine.failures().collect::<Vec<_>>(), [&earlier_failure()]);
    let adopted = actions.iter().find_map(|action| match action {
        Action::AdoptSlots { slots } => Some(slots.len()),
        _ => None,
    });
    assert_eq!(adopted, Some(2));
    // What was complete is committed, what was under way is given up, and its number is not used again.
    let attempt = Attempt(3);
    for worker in [FIRST, SECOND] {
        let complete = WorkerCommand::NotifyCheckpointComplete {
            attempt,
            checkpoint: CheckpointId(7),
        };
        let aborted = WorkerCommand::NotifyCheckpointAborted {
            attempt,
            checkpoint: CheckpointId(8),
        };
        assert_eq!(sent(&actions, worker), [&complete, &aborted]);
    }
    bench.now += 1_000;
    let triggered = bench.event(Event::Tick);
    let [WorkerCommand::TriggerCheckpoint { barrier, .. }] = sent(&triggered, FIRST)[..] else {
        panic!("{triggered:#?}")
    };
    assert!(barrier.checkpoint > CheckpointId(8 + 16), "{}", barrier.checkpoint);
}

#[test]
fn a_worker_that_does_not_come_back_costs_a_restart_that_no_strategy_counts() {
    let mut given = spec();
    given.options.restart_strategy = streamd_core::graph::RestartStrategy::None;
    let mut bench = Bench::recovered(given, recovery());
    bench.event(Event::Reconcile { timeout_ms: TIMEOUT_MS });
    let first = returned(&bench, FIRST);
    come_back(&mut bench, first);
    bench.now += TIMEOUT_MS;
    let actions = bench.event(Event::Tick);
    assert_eq!(states(&actions), [(JobState::Reconciling, JobState::Restarting)]);
    assert_eq!(sent(&actions, FIRST), [&cancel(3)]);
    assert!(
        bench
            .machine
            .failures()
            .last()
            .unwrap()
            .failure
            .message
            .contains("1 of 2 workers")
    );
    for vertex in [0, 1] {
        let event = WorkerEvent::SubtaskState {
            attempt: Attempt(3),
            subtask: SubtaskId { vertex, index: 0 },
            state: ExecutionState::Canceled,
            failure: None,
        };
        bench.event(Event::Worker(FIRST, event));
    }
    assert_eq!(
        (bench.machine.attempt(), bench.machine.state()),
        (Attempt(4), JobState::Running)
    );
}

#[test]
fn without_any_worker_the_next_attempt_begins_at_the_last_checkpoint() {
    let mut bench = bench(recovery());
    bench.now += TIMEOUT_MS;
    let actions = bench.event(Event::Tick);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::RequestSlots { count: 2 }))
    );
    let failure = &bench.machine.failures().last().unwrap().failure;
    assert!(failure.message.starts_with("no worker came back"), "{failure:?}");
    assert_eq!(bench.machine.attempt(), Attempt(4));
    assert_eq!(bench.machine.restored_from().unwrap().id, CheckpointId(7));
}

#[test]
fn a_failure_that_nobody_was_told_of_is_told_by_the_worker_that_comes_back() {
    let mut bench = bench(recovery());
    let mut first = returned(&bench, FIRST);
    first.subtasks[0].state = ExecutionState::Failed;
    first.subtasks[0].failure = Some(Failure::new(FaultDomain::User, "boom"));
    let actions = come_back(&mut bench, first);
    assert_eq!(states(&actions), [(JobState::Reconciling, JobState::Restarting)]);
    assert_eq!(bench.machine.failures().last().unwrap().failure.message, "boom");
}

#[test]
fn a_worker_lost_while_others_come_back_ends_the_attempt_at_once() {
    let mut bench = bench(recovery());
    let first = returned(&bench, FIRST);
    come_back(&mut bench, first);
    let lost = Failure::new(FaultDomain::External, "killed");
    let actions = bench.event(Event::WorkerLost(FIRST, lost));
    // Nothing of the attempt is left: the next begins at once.
    let expected = [
        (JobState::Reconciling, JobState::Restarting),
        (JobState::Restarting, JobState::Running),
    ];
    assert_eq!(states(&actions), expected);
}

/// I7.
#[test]
fn a_worker_of_another_attempt_job_or_application_is_sent_home() {
    let changes: [fn(&mut WorkerReturn); 4] = [
        |it| it.attempt = Attempt(2),
        |it| it.registration.job_id = JobId::from_bytes([9; 16]),
        |it| it.registration.fingerprint = "other".to_owned(),
        |it| it.registration.worker = SECOND,
    ];
    for change in changes {
        let mut bench = bench(recovery());
        let mut strange = returned(&bench, FIRST);
        change(&mut strange);
        let actions = bench.event(Event::Worker(FIRST, WorkerEvent::Returned(Box::new(strange))));
        assert!(
            matches!(actions[..], [Action::StopWorker { worker: FIRST }]),
            "{actions:#?}"
        );
        assert_eq!(bench.machine.state(), JobState::Reconciling);
        assert!(bench.machine.workers().is_empty());
    }
}

#[test]
fn a_job_that_was_finishing_finishes() {
    let mut bench = bench(recovery());
    let (mut first, second) = (returned(&bench, FIRST), returned(&bench, SECOND));
    for report in &mut first.subtasks {
        report.state = ExecutionState::Finished;
    }
    come_back(&mut bench, first);
    let actions = come_back(&mut bench, second);
    let finish = WorkerCommand::Finish { attempt: Attempt(3) };
    assert!(sent(&actions, SECOND).contains(&&finish), "{actions:#?}");
    for vertex in [0, 1] {
        let event = WorkerEvent::SubtaskState {
            attempt: Attempt(3),
            subtask: SubtaskId { vertex, index: 1 },
            state: ExecutionState::Finished,
            failure: None,
        };
        bench.event(Event::Worker(SECOND, event));
    }
    assert_eq!(bench.machine.state(), JobState::Finished);
}

#[test]
fn a_drain_that_lost_its_job_manager_goes_back_to_the_last_checkpoint() {
    for both in [false, true] {
        let mut bench = bench(recovery());
        let (mut first, mut second) = (returned(&bench, FIRST), returned(&bench, SECOND));
        (first.is_drained, second.is_drained) = (true, both);
        come_back(&mut bench, first);
        come_back(&mut bench, second);
        assert_eq!(bench.machine.state(), JobState::Restarting);
    }
}

/// I11: the job manager before may have given out as many numbers as may be under way at once, which nobody heard of.
#[test]
fn no_snapshot_gets_a_number_that_another_job_manager_may_have_given_out() {
    let mut given = spec();
    given.options.checkpointing.max_concurrent = 3;
    let mut bench = Bench::recovered(given, recovery());
    bench.event(Event::Reconcile { timeout_ms: TIMEOUT_MS });
    let (first, second) = (returned(&bench, FIRST), returned(&bench, SECOND));
    come_back(&mut bench, first);
    come_back(&mut bench, second);
    bench.now += 1_000;
    let actions = bench.event(Event::Tick);
    let triggered = sent(&actions, FIRST).into_iter().find_map(|command| match command {
        WorkerCommand::TriggerCheckpoint { barrier, .. } => Some(barrier.checkpoint),
        _ => None,
    });
    // The workers know of 8.
    assert_eq!(triggered, Some(CheckpointId(8 + 3 + MAX_UNDER_WAY as u64 + 1)));
}

/// I9, I10: what the workers have begun to write for another job manager is deleted once they write no more, and nothing else.
#[test]
fn what_was_under_way_when_the_job_manager_was_lost_is_deleted_with_the_attempt() {
    let mut bench = bench(recovery());
    for worker in [FIRST, SECOND] {
        let mut returned = returned(&bench, worker);
        returned.open_snapshots = vec![CheckpointId(6), CheckpointId(7), CheckpointId(8)];
        come_back(&mut bench, returned);
    }
    let failed = WorkerEvent::SubtaskState {
        attempt: Attempt(3),
        subtask: SubtaskId { vertex: 0, index: 0 },
        state: ExecutionState::Failed,
        failure: Some(Failure::new(FaultDomain::User, "boom")),
    };
    let mut actions = bench.event(Event::Worker(FIRST, failed));
    for (worker, vertex, index) in [(FIRST, 1, 0), (SECOND, 0, 1), (SECOND, 1, 1)] {
        let gone = WorkerEvent::SubtaskState {
            attempt: Attempt(3),
            subtask: SubtaskId { vertex, index },
            state: ExecutionState::Canceled,
            failure: None,
        };
        actions.extend(bench.event(Event::Worker(worker, gone)));
    }
    let discarded = actions.iter().filter_map(|action| match action {
        Action::Discard { location, .. } => Some(location.as_str()),
        _ => None,
    });
    assert_eq!(discarded.collect::<Vec<_>>(), ["s3://c/chk-8"]);
}

/// The subtasks of a worker let go.
fn let_go(bench: &mut Bench, worker: WorkerId, index: u32) {
    for vertex in [0, 1] {
        let event = WorkerEvent::SubtaskState {
            attempt: Attempt(3),
            subtask: SubtaskId { vertex, index },
            state: ExecutionState::Canceled,
            failure: None,
        };
        bench.event(Event::Worker(worker, event));
    }
}

/// I10: what a worker writes that is not back yet would come after the end of its job.
#[test]
fn a_job_that_is_cancelled_while_its_workers_come_back_waits_for_them_before_it_ends() {
    let mut bench = bench(recovery());
    let (first, second) = (returned(&bench, FIRST), returned(&bench, SECOND));
    come_back(&mut bench, first);
    let actions = bench.event(Event::Cancel);
    assert_eq!(states(&actions), [(JobState::Reconciling, JobState::Cancelling)]);
    assert!(bench.machine.awaits_workers());
    // A second time it is what the user wants already.
    assert!(bench.event(Event::Cancel).is_empty());
    let actions = come_back(&mut bench, second);
    assert!(!bench.machine.awaits_workers());
    let cancel = cancel(3);
    assert_eq!([sent(&actions, FIRST), sent(&actions, SECOND)], [[&cancel], [&cancel]]);
    let_go(&mut bench, FIRST, 0);
    assert_eq!(bench.machine.state(), JobState::Cancelling);
    let_go(&mut bench, SECOND, 1);
    assert_eq!(
        (bench.machine.state(), bench.machine.attempt()),
        (JobState::Canceled, Attempt(3))
    );
}

#[test]
fn a_cancelled_job_waits_for_its_workers_no_longer_than_any_other() {
    let mut bench = bench(recovery());
    let first = returned(&bench, FIRST);
    come_back(&mut bench, first);
    bench.event(Event::Cancel);
    bench.now += TIMEOUT_MS;
    let actions = bench.event(Event::Tick);
    assert_eq!(sent(&actions, FIRST), [&cancel(3)]);
    let_go(&mut bench, FIRST, 0);
    assert_eq!(bench.machine.state(), JobState::Canceled);
}

#[test]
fn a_cancelled_job_whose_worker_is_lost_while_others_come_back_does_not_begin_again() {
    let mut bench = bench(recovery());
    let first = returned(&bench, FIRST);
    come_back(&mut bench, first);
    bench.event(Event::Cancel);
    let lost = Failure::new(FaultDomain::External, "killed");
    bench.event(Event::WorkerLost(FIRST, lost));
    assert_eq!(bench.machine.state(), JobState::Canceled);
}

#[test]
fn a_job_that_was_let_go_of_in_order_begins_its_next_attempt_at_once() {
    let mut bench = Bench::recovered(spec(), recovery());
    bench.event(Event::Start);
    assert_eq!(
        (bench.machine.attempt(), bench.machine.state()),
        (Attempt(4), JobState::Running)
    );
}

fn cancel(attempt: u32) -> WorkerCommand {
    WorkerCommand::Cancel {
        attempt: Attempt(attempt),
        kept: Vec::new(),
    }
}
