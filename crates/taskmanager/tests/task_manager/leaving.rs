//! A task manager that is to end, and has its jobs move before; and one that is out of use.

use std::time::Duration;

use streamd_rpc::proto::task_manager_command::Command;
use streamd_rpc::proto::task_manager_event::Event;
use streamd_rpc::proto::{LeaveNow, SetUse, TaskManagerLeaving};

use crate::harness::{DEADLINE, JobManager, Stage};

/// As good as for ever, beside what a test waits for.
const PATIENT: Duration = Duration::from_secs(3_600);

fn is_leaving(event: Option<Event>) -> bool {
    matches!(event, Some(Event::Leaving(TaskManagerLeaving {})))
}

#[tokio::test]
async fn a_task_manager_that_is_to_end_waits_until_its_jobs_have_moved() {
    let mut stage = Stage::set_with(|options| options.drain_timeout = PATIENT).await;
    let program = stage.manager.script("sleep 1000 & wait");
    stage.link.start_worker(1, program).await;
    stage.link.started().await;
    {
        let mut drained = std::pin::pin!(stage.task_manager.drain());
        let event = tokio::select! {
            biased;
            () = &mut drained => panic!("it does not wait"),
            event = stage.link.event() => event,
        };
        assert!(is_leaving(event.clone()), "{event:?}");
        // What the job manager does with its workers is up to that.
        stage.link.stop_worker(1, 100).await;
        tokio::select! {
            biased;
            () = &mut drained => panic!("it does not wait for the word"),
            reason = stage.link.exited() => assert!(reason.contains("on request"), "{reason}"),
        }
        stage.link.tell(Command::LeaveNow(LeaveNow::default())).await;
        tokio::time::timeout(DEADLINE, drained).await.expect("it has the word");
    }
    stage.end().await;
}

#[tokio::test]
async fn a_task_manager_whose_jobs_do_not_move_in_time_waits_no_longer() {
    let mut stage = Stage::set_with(|options| options.drain_timeout = Duration::from_millis(50)).await;
    let drained = tokio::time::timeout(DEADLINE, stage.task_manager.drain());
    let (drained, event) = tokio::join!(drained, stage.link.event());
    drained.expect("it waits no longer");
    assert!(is_leaving(event.clone()), "{event:?}");
    stage.end().await;
}

#[tokio::test]
async fn nobody_is_asked_where_there_is_no_time_or_nobody() {
    let stage = Stage::set_with(|options| options.drain_timeout = Duration::ZERO).await;
    stage.task_manager.drain().await;
    let Stage {
        task_manager, mut link, ..
    } = stage;
    let (ended, event) = tokio::join!(task_manager.shutdown(), link.event());
    ended.unwrap();
    assert!(event.is_none(), "{event:?}");

    let Stage {
        manager,
        link,
        task_manager,
        folder: _folder,
    } = Stage::set_with(|options| options.drain_timeout = PATIENT).await;
    let (drained, ()) = tokio::join!(tokio::time::timeout(DEADLINE, task_manager.drain()), manager.stop(link));
    drained.expect("it does not wait for a job manager that is gone");
    task_manager.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_job_manager_that_dies_before_the_jobs_have_moved_is_waited_for() {
    let mut stage = Stage::set_with(|options| options.drain_timeout = PATIENT).await;
    let program = stage.manager.script("sleep 1000 & wait");
    stage.link.start_worker(1, program).await;
    stage.link.started().await;
    let Stage {
        manager,
        mut link,
        task_manager,
        folder: _folder,
    } = stage;
    {
        let mut drained = std::pin::pin!(task_manager.drain());
        let next = async {
            let event = link.event().await;
            assert!(is_leaving(event.clone()), "{event:?}");
            let address = manager.address;
            manager.stop(link).await;
            let mut next = JobManager::start_at(address).await;
            let mut link = next.link().await;
            let event = link.event().await;
            assert!(is_leaving(event.clone()), "{event:?}");
            (next, link)
        };
        let (_next, link) = tokio::select! {
            biased;
            () = &mut drained => panic!("it does not wait"),
            next = next => next,
        };
        link.tell(Command::LeaveNow(LeaveNow::default())).await;
        tokio::time::timeout(DEADLINE, drained).await.expect("it has the word");
    }
    task_manager.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_manager_says_to_the_next_job_manager_that_it_is_out_of_use() {
    let mut stage = Stage::set().await;
    assert!(!stage.link.registration.drained);
    for drained in [true, false] {
        stage.link.tell(Command::SetUse(SetUse { drained })).await;
        // What comes behind it is answered: it has been taken.
        stage.link.log(0).await;
        stage = stage.with_next_job_manager().await;
        assert_eq!(stage.link.registration.drained, drained);
    }
    stage.end().await;
}
