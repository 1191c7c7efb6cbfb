//! Task managers: how they begin, find a job manager, do what it says, and are lost.

use streamd_core::id::{TaskManagerId, WorkerId};
use streamd_core::protocol::{Failure, FaultDomain};
use streamd_jobmanager::unlinked::proto;
use streamd_jobmanager::unlinked::proto::task_manager_command::Command;
use streamd_jobmanager::unlinked::proto::task_manager_event::Event;
use tokio::sync::mpsc;

use super::{Cluster, Farewell, Happening};
use crate::crash::CrashSide;
use crate::task_manager::TaskManager;

/// How often a task manager says that it lives, in milliseconds.
const BEAT_MS: u64 = 800;

/// The longest pause before a task manager looks for a job manager again, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 200;

/// When a task manager takes a job manager for gone that does not answer: the earliest and the latest moment, in milliseconds.
const SUSPICION_MS: (u64, u64) = (700, 1_500);

/// Commands that wait for a task manager: more than a job manager gives in one step.
const COMMANDS: usize = 1 << 10;

impl Cluster<'_> {
    pub(super) fn task_manager_joins(&mut self) {
        self.born += 1;
        let name = TaskManagerId(format!("tm-{}", self.born));
        self.task_managers.insert(name.clone(), TaskManager::new());
        let pause = self.dice.between(1, 20);
        self.later(pause, Happening::TaskManagerSeeks(name.clone()));
        self.later(BEAT_MS, Happening::TaskManagerBeats(name));
    }

    pub(super) fn any_task_manager(&mut self) -> Option<TaskManagerId> {
        let names: Vec<TaskManagerId> = self.task_managers.keys().cloned().collect();
        self.dice.pick(&names).cloned()
    }

    /// The machine is gone, with all that ran on it.
    pub(super) fn lose_task_manager(&mut self, name: &TaskManagerId) {
        let Some(mut task_manager) = self.task_managers.remove(name) else {
            return;
        };
        self.line(format_args!("{} is lost", name.0));
        for worker in self.workers_on(name) {
            self.kill(worker, "died with its machine");
        }
        if let Some((manager, link)) = task_manager.detach() {
            let pause = self.dice.between(1, 300);
            self.bid_farewell(pause, manager, Farewell::TaskManager(link));
        }
    }

    fn workers_on(&self, name: &TaskManagerId) -> Vec<WorkerId> {
        let of = self.processes.values().filter(|process| process.task_manager == *name);
        of.map(|process| process.worker).collect()
    }

    /// It looks for a job manager, with the workers that it has.
    pub(super) fn task_manager_seeks(&mut self, name: &TaskManagerId) {
        let Some(task_manager) = self.task_managers.get(name).filter(|it| it.link.is_none()) else {
            return;
        };
        let followed = task_manager.epoch;
        let pause = self.dice.between(20, LONGEST_PAUSE_MS);
        self.later(pause, Happening::TaskManagerSeeks(name.clone()));
        let Some((manager, epoch)) = self.find_manager().filter(|(_, epoch)| *epoch >= followed) else {
            return;
        };
        let side = self.crash_at_message();
        if side != Some(CrashSide::Before) {
            self.register(name, manager, epoch);
        }
        if side.is_some() {
            self.crash_task_manager(name);
        }
    }

    fn register(&mut self, name: &TaskManagerId, manager: u32, epoch: u64) {
        let workers = self.workers_on(name);
        let running = |worker: &WorkerId| proto::RunningWorker {
            worker_id: worker.0,
            job_id: self.job_id.to_string(),
        };
        let registration = proto::TaskManagerRegistration {
            task_manager_id: name.0.clone(),
            host: "simulated".to_owned(),
            slots: self.settings.slots,
            workers: workers.iter().map(running).collect(),
            ..proto::TaskManagerRegistration::default()
        };
        let (commands, queue) = mpsc::channel(COMMANDS);
        let registered = self.ask(manager, async |it| it.register(registration, commands).await);
        let (Some(Ok(link)), Some(task_manager)) = (registered, self.task_managers.get_mut(name)) else {
            return;
        };
        task_manager.attach((manager, epoch), link, queue);
        self.line(format_args!("{} is at job manager {manager} with {workers:?}", name.0));
        if !workers.is_empty() {
            self.saw("a task manager came back with its workers");
        }
        // They read its word from time to time.
        for worker in workers {
            let pause = self.dice.between(1, 500);
            self.later(pause, Happening::WorkerIsTold(worker, manager));
        }
    }

    /// Its link is gone: it looks for a job manager.
    pub(super) fn task_manager_leaves(&mut self, name: &TaskManagerId, why: &str) {
        let Some((manager, link)) = self.task_managers.get_mut(name).and_then(TaskManager::detach) else {
            return;
        };
        self.line(format_args!("{} leaves job manager {manager}: {why}", name.0));
        let pause = self.dice.between(1, 40);
        self.bid_farewell(pause, manager, Farewell::TaskManager(link));
        let pause = self.dice.between(1, LONGEST_PAUSE_MS);
        self.later(pause, Happening::TaskManagerSeeks(name.clone()));
    }

    /// The process at the far end of links is gone: whoever was linked to it finds out.
    pub(super) fn links_are_gone(&mut self, manager: u32) {
        for name in self.task_managers_of(manager) {
            let pause = self.dice.between(1, 40);
            self.later(pause, Happening::TaskManagerLeaves(name, manager));
        }
        for worker in self.workers_of(manager) {
            let pause = self.dice.between(1, 40);
            self.later(pause, Happening::WorkerLeaves(worker, manager));
        }
    }

    /// The process at the far end of links does not answer: task managers find out, and tell their workers where they went.
    pub(super) fn links_hang(&mut self, manager: u32) {
        for name in self.task_managers_of(manager) {
            let pause = self.dice.between(SUSPICION_MS.0, SUSPICION_MS.1);
            self.later(pause, Happening::TaskManagerSuspects(name, manager));
        }
    }

    pub(super) fn task_manager_suspects(&mut self, name: &TaskManagerId, manager: u32) {
        let hangs = self.managers.get(&manager).is_none_or(|manager| manager.is_stopped());
        if hangs && self.is_at(name, manager) {
            self.task_manager_leaves(name, "it does not answer");
        }
    }

    pub(super) fn is_at(&self, name: &TaskManagerId, manager: u32) -> bool {
        let link = self.task_managers.get(name).and_then(|it| it.link.as_ref());
        link.is_some_and(|(at, _)| *at == manager)
    }

    fn task_managers_of(&self, manager: u32) -> Vec<TaskManagerId> {
        let names = self.task_managers.keys().filter(|name| self.is_at(name, manager));
        names.cloned().collect()
    }

    pub(super) fn task_manager_beats(&mut self, name: &TaskManagerId) {
        if self.task_managers.contains_key(name) {
            self.later(BEAT_MS, Happening::TaskManagerBeats(name.clone()));
            self.task_manager_says(name, Event::Heartbeat(proto::TaskManagerHeartbeat {}));
        }
    }

    pub(super) fn worker_exited(&mut self, name: &TaskManagerId, worker: WorkerId, why: &str) {
        let failure = Failure::new(FaultDomain::External, format!("`{worker}` {why}"));
        let exited = proto::WorkerExited {
            worker_id: worker.0,
            reason: Some(failure.into()),
        };
        self.task_manager_says(name, Event::WorkerExited(exited));
    }

    pub(super) fn worker_has_started(&mut self, name: &TaskManagerId, worker: WorkerId) {
        let started = proto::WorkerStarted {
            worker_id: worker.0,
            process_id: 1,
        };
        self.task_manager_says(name, Event::WorkerStarted(started));
    }

    /// What it says while it has no link, nobody ever hears.
    fn task_manager_says(&mut self, name: &TaskManagerId, event: Event) {
        if self.task_managers.get(name).is_none_or(|it| it.link.is_none()) {
            return;
        }
        let side = self.crash_at_message();
        let now = self.now();
        if let Some(task_manager) = self
            .task_managers
            .get_mut(name)
            .filter(|_| side != Some(CrashSide::Before))
        {
            task_manager.up.send(now, &mut self.dice, event);
            if side.is_some() {
                task_manager.up.hurry(now);
                self.hear_task_manager(name);
            }
        }
        if side.is_some() {
            self.crash_task_manager(name);
        }
    }

    pub(super) fn move_words_of_task_managers(&mut self) -> bool {
        let mut any = false;
        let names: Vec<TaskManagerId> = self.task_managers.keys().cloned().collect();
        for name in names {
            any |= self.collect_commands(&name);
            any |= self.hear_task_manager(&name);
            any |= self.obey(&name);
            if self.task_managers.get(&name).is_some_and(TaskManager::is_given_up) {
                any = true;
                self.task_manager_leaves(&name, "it is given up");
            }
        }
        any
    }

    /// What the job manager says to it goes on its way.
    fn collect_commands(&mut self, name: &TaskManagerId) -> bool {
        let mut any = false;
        while let Some(task_manager) = self.task_managers.get_mut(name)
            && let Some(command) = task_manager.next_command()
            && let Some((manager, _)) = task_manager.link
        {
            any = true;
            let side = self.crash_at_message();
            let now = self.now();
            if let Some(task_manager) = self
                .task_managers
                .get_mut(name)
                .filter(|_| side != Some(CrashSide::Before))
            {
                task_manager.down.send(now, &mut self.dice, command);
                if side.is_some() {
                    task_manager.down.hurry(now);
                    self.obey(name);
                }
            }
            if side.is_some() {
                self.kill_manager(manager, "crashed");
            }
        }
        any
    }

    fn hear_task_manager(&mut self, name: &TaskManagerId) -> bool {
        let now = self.now();
        let mut any = false;
        while let Some(task_manager) = self.task_managers.get_mut(name)
            && let Some((manager, link)) = task_manager.link.clone()
            && self.managers.get(&manager).is_some_and(|manager| manager.is_serving())
            && let Some(event) = task_manager.up.take(now)
        {
            any = true;
            self.ask(manager, async |_| link.hear(event).await);
        }
        any
    }

    fn obey(&mut self, name: &TaskManagerId) -> bool {
        let now = self.now();
        let mut any = false;
        while let Some(command) = self.task_managers.get_mut(name).and_then(|it| it.down.take(now)) {
            any = true;
            match command {
                Command::Describe(describe) => {
                    let described = proto::ApplicationDescribed {
                        request_id: describe.request_id,
                        outcome: Some(proto::application_described::Outcome::Plan(self.plan.clone())),
                    };
                    self.task_manager_says(name, Event::Described(described));
                }
                Command::StartWorker(start) => {
                    let pause = self.dice.between(5, 60);
                    let worker = WorkerId(start.worker_id);
                    self.later(pause, Happening::StartWorker(name.clone(), worker));
                }
                Command::StopWorker(stop) => {
                    let pause = self.dice.between(1, 10);
                    let worker = WorkerId(stop.worker_id);
                    self.later(pause, Happening::StopWorker(name.clone(), worker));
                }
                Command::Accepted(_)
                | Command::ReadLog(_)
                | Command::ForgetJob(_)
                | Command::Heartbeat(_)
                | Command::FetchProgram(_)
                | Command::SetUse(_)
                | Command::LeaveNow(_)
                | Command::ProfileWorker(_)
                | Command::StopProfile(_) => {}
            }
        }
        any
    }
}
