//! Watermark alignment: who is told how far the others are.

use std::collections::BTreeMap;

use streamd_core::id::{Attempt, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::protocol::{SubtaskMetrics, WorkerCommand, WorkerEvent};
use streamd_core::time::EventTime;

use streamd_coordinator::action::Action;
use streamd_coordinator::event::{Event, SlotId};

use crate::bench::{Bench, spec};

/// Subtasks 0 of both vertices on worker 1, the others on worker 2.
fn deployed() -> Bench {
    let mut bench = Bench::new(spec());
    bench.event(Event::Start);
    let slot = |task_manager: &str| SlotId {
        task_manager: TaskManagerId(task_manager.to_owned()),
        slot: 0,
    };
    bench.event(Event::SlotsAllocated(vec![slot("a"), slot("b")]));
    for worker in [WorkerId(1), WorkerId(2)] {
        let registration = bench.registration(worker);
        bench.event(Event::Worker(worker, WorkerEvent::Registered(registration)));
    }
    bench
}

/// Who is told what when a worker says how far the sources of its subtasks are, if they are in the group.
fn heartbeat(bench: &mut Bench, worker: WorkerId, source_at: impl Into<Option<i64>>) -> Vec<(WorkerId, i64)> {
    let source_at = source_at.into().map(|at| ("clocks".to_owned(), EventTime(at)));
    let subtasks = bench.deployed();
    let subtasks = subtasks.iter().filter(|(runs_on, _)| *runs_on == worker);
    let metrics = subtasks.map(|(_, SubtaskId { vertex, index })| SubtaskMetrics {
        vertex: *vertex,
        index: *index,
        alignment: match vertex {
            0 => source_at.clone().into_iter().collect(),
            _ => BTreeMap::new(),
        },
        ..SubtaskMetrics::default()
    });
    let event = WorkerEvent::Heartbeat {
        attempt: bench.attempt,
        subtasks: metrics.collect(),
    };
    let actions = bench.event(Event::Worker(worker, event));
    let told = actions.into_iter().map(|action| match action {
        Action::Send {
            worker,
            command: WorkerCommand::AlignWatermarks { attempt, groups },
        } if attempt == bench.attempt => (worker, groups["clocks"].0),
        other => panic!("{other:?}"),
    });
    told.collect()
}

#[test]
fn a_worker_is_told_the_least_of_its_group_once_every_subtask_has_said_where_it_is() {
    let mut bench = deployed();
    assert_eq!(heartbeat(&mut bench, WorkerId(1), 500), []);
    for (worker, source_at, least) in [(2, 300, 300), (1, 600, 300), (2, 700, 600)] {
        let told = heartbeat(&mut bench, WorkerId(worker), source_at);
        assert_eq!(told, [(WorkerId(worker), least)]);
    }
}

#[test]
fn a_worker_without_a_source_in_a_group_is_told_nothing() {
    let mut bench = deployed();
    assert_eq!(heartbeat(&mut bench, WorkerId(2), None), []);
    assert_eq!(heartbeat(&mut bench, WorkerId(1), 500), [(WorkerId(1), 500)]);
    assert_eq!(heartbeat(&mut bench, WorkerId(2), None), []);
}

#[test]
fn what_is_said_of_an_earlier_attempt_is_not_how_far_this_one_is() {
    let mut bench = deployed();
    heartbeat(&mut bench, WorkerId(1), 500);
    let attempt = std::mem::replace(&mut bench.attempt, Attempt::NONE);
    assert_eq!(heartbeat(&mut bench, WorkerId(2), 300), []);
    bench.attempt = attempt;
    assert_eq!(
        heartbeat(&mut bench, WorkerId(1), 500),
        [],
        "the second has not said anything yet"
    );
}
