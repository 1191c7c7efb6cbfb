use std::sync::Arc;
use std::time::Duration;

use streamd_core::time::ManualClock;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::super::departure::Departure;
use super::super::handle::{ResourceManagerHandle, Session, TaskManagerReport};
use super::super::service::{ResourceManagerOptions, spawn};
use super::*;

const TICK_MS: u64 = 100;
const LOOKED_AT_MS: u64 = 2_000;

/// A resource manager whose task managers never are too silent.
struct Manager {
    handle: ResourceManagerHandle,
    clock: Arc<ManualClock>,
}

/// A task manager, as the resource manager sees it.
struct Registered {
    id: TaskManagerId,
    session: Session,
    commands: mpsc::Receiver<proto::TaskManagerCommand>,
}

type Profiled = JoinHandle<Result<proto::Profile, CodedError>>;

impl Manager {
    fn start() -> Self {
        let clock = Arc::new(ManualClock::default());
        let options = ResourceManagerOptions {
            heartbeat_interval_ms: TICK_MS,
            heartbeat_timeout_ms: u64::MAX,
            describe_timeout_ms: 1_000,
            leader_epoch: 1,
        };
        let handle = spawn(options, clock.clone(), &TaskTracker::new());
        Self { handle, clock }
    }

    async fn register(&self, name: &str) -> Registered {
        let (sender, commands) = mpsc::channel(16);
        let registration = proto::TaskManagerRegistration {
            task_manager_id: name.to_owned(),
            host: "h".to_owned(),
            slots: 1,
            ..proto::TaskManagerRegistration::default()
        };
        Registered {
            id: TaskManagerId(name.to_owned()),
            session: self.handle.register(registration, sender).await.unwrap(),
            commands,
        }
    }

    fn profile(&self, task_manager: &str) -> Profiled {
        let order = ProfileOrder {
            task_manager: TaskManagerId(task_manager.to_owned()),
            worker: WorkerId(7),
            duration_ms: LOOKED_AT_MS,
            frequency: 99,
        };
        let handle = self.handle.clone();
        tokio::spawn(async move { handle.profile(order).await })
    }

    async fn report(&self, from: &Registered, report: TaskManagerReport) {
        self.handle.report(from.id.clone(), &from.session, report).await;
    }

    /// Time passes, for the resource manager to see.
    async fn wait(&self, millis: u64) {
        self.clock.advance(millis);
        tokio::time::sleep(Duration::from_millis(2 * TICK_MS)).await;
    }
}

impl Registered {
    /// The number of the profile that it is told to take.
    async fn ordered(&mut self) -> u64 {
        loop {
            if let Some(Command::ProfileWorker(order)) = self.commands.recv().await.unwrap().command {
                return order.request_id;
            }
        }
    }

    /// The number of the profile that it is told to take no longer.
    async fn stopped(&mut self) -> u64 {
        loop {
            if let Some(Command::StopProfile(stop)) = self.commands.recv().await.unwrap().command {
                return stop.request_id;
            }
        }
    }
}

fn refused(outcome: Result<proto::Profile, CodedError>, why: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.code, ErrorCode::ProfileFailed);
    assert!(error.message.contains(why), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_profile_ends_with_its_task_manager() {
    let manager = Manager::start();
    let mut task_manager = manager.register("a").await;
    let profiled = manager.profile("a");
    task_manager.ordered().await;
    manager
        .report(&task_manager, TaskManagerReport::Departed(Departure::LinkBroken))
        .await;
    refused(profiled.await.unwrap(), "task manager `a` of `worker-7` is gone");
    // There is none to ask any more.
    refused(manager.profile("a").await.unwrap(), "is gone");
}

#[tokio::test(start_paused = true)]
async fn a_task_manager_that_answers_too_late_is_told_to_stop_and_its_answer_is_nobodys() {
    let manager = Manager::start();
    let mut task_manager = manager.register("a").await;
    let profiled = manager.profile("a");
    let number = task_manager.ordered().await;
    manager.wait(LOOKED_AT_MS + READING_GRACE_MS - 1).await;
    assert!(!profiled.is_finished());
    manager.wait(1).await;
    refused(profiled.await.unwrap(), "sent no profile of `worker-7` in time");
    assert_eq!(task_manager.stopped().await, number);
    let late = TaskManagerReport::Profiled(number, Ok(proto::Profile::default()));
    manager.report(&task_manager, late).await;
    // It serves as before.
    let again = manager.profile("a");
    let number = task_manager.ordered().await;
    let in_time = TaskManagerReport::Profiled(number, Ok(proto::Profile::default()));
    manager.report(&task_manager, in_time).await;
    again.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_the_task_manager_that_was_asked_can_answer() {
    let manager = Manager::start();
    let (mut asked, other) = (manager.register("a").await, manager.register("b").await);
    let profiled = manager.profile("a");
    let number = asked.ordered().await;
    let answer = || TaskManagerReport::Profiled(number, Ok(proto::Profile::default()));
    manager.report(&other, answer()).await;
    manager.wait(0).await;
    assert!(!profiled.is_finished());
    manager.report(&asked, answer()).await;
    profiled.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_nobody_waits_for_is_stopped() {
    let manager = Manager::start();
    let mut task_manager = manager.register("a").await;
    let profiled = manager.profile("a");
    let number = task_manager.ordered().await;
    profiled.abort();
    assert!(profiled.await.unwrap_err().is_cancelled());
    manager.handle.stop_abandoned_profiles().await;
    assert_eq!(task_manager.stopped().await, number);
}
