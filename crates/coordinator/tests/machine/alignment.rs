//! Watermark alignment: who is told how far the others are.

use std::collections::BTreeMap;

use streamd_core::id::{SubtaskId, TaskManagerId, WorkerId};
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

/// Who is told what when a worker says how far the sources of its subtasks are.
fn heartbeat(bench: &mut Bench, worker: WorkerId, source_at: i64) -> Vec<(WorkerId, i64)> {
    let subtasks = bench.deployed();
    let subtasks = subtasks.iter().filter(|(runs_on, _)| *runs_on == worker);
    let metrics = subtasks.map(|(_, SubtaskId { vertex, index })| SubtaskMetrics {
        vertex: *vertex,
        index: *index,
        alignment: match vertex {
            0 => [("clocks".to_owned(), EventTime(source_at))].into(),
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
