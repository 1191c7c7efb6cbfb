//! Worker processes: how they begin, find their job, and end.

use std::sync::Arc;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{TaskManagerId, WorkerId};
use streamd_core::protocol::WorkerEvent;
use streamd_core::time::Clock;
use tokio::sync::mpsc;

use super::{Cluster, Farewell, Happening};
use crate::crash::CrashSide;
use crate::host::SimulatedHost;
use crate::process::{Birth, Link, Process};
use crate::sabotage::Sabotage;

/// How long a worker that is to stop may take before it is killed.
const STOP_GRACE_MS: u64 = 3_000;

/// The longest pause before a worker looks for its job again, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 200;

/// A worker that finds no job manager for so many milliseconds ends.
const PATIENCE_MS: u64 = 20_000;

/// Commands that wait for a worker's link: more than a job master gives in one step.
const COMMANDS: usize = 1 << 12;

impl Cluster<'_> {
    pub(super) fn start_worker(&mut self, name: &TaskManagerId, worker: WorkerId) {
        if self.stillborn.contains(&worker) || !self.task_managers.contains_key(name) {
            return;
        }
        let pipeline = match (self.application)(&self.outside) {
            Ok(pipeline) => pipeline,
            Err(error) => return self.violated(format_args!("I25: the application cannot be built again: {error}")),
        };
        let birth = Birth {
            worker,
            task_manager: name.clone(),
            job_id: self.job_id,
            network: &self.network,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            host: SimulatedHost::new(self.io.handle().clone()),
        };
        let process = Process::start(&self.machines, pipeline, birth);
        self.processes.insert(worker, process);
        self.worker_has_started(name, worker);
        let pause = self.dice.between(1, 20);
        self.later(pause, Happening::WorkerSeeks(worker));
    }

    pub(super) fn stop_worker(&mut self, name: &TaskManagerId, worker: WorkerId) {
        match self.processes.contains_key(&worker) {
            true => self.later(STOP_GRACE_MS, Happening::KillWorker(worker)),
            false => {
                if self.stillborn.insert(worker) {
                    let never = Happening::WorkerExited(name.clone(), worker, "never started".to_owned());
                    self.later(5, never);
                }
            }
        }
    }

    /// A process is gone, with all that it did. Its task manager tells of it a little later.
    pub(super) fn kill(&mut self, worker: WorkerId, why: &str) {
        let Some(mut process) = self.processes.remove(&worker) else {
            return;
        };
        self.line(format_args!("{worker} {why}"));
        if let Some(Link { manager, job, .. }) = process.detach() {
            let pause = self.dice.between(1, 40);
            self.bid_farewell(pause, manager, Farewell::Worker(job, worker));
        }
        let name = process.task_manager.clone();
        process.kill();
        self.stillborn.insert(worker);
        self.network.cut(worker);
        self.parted.remove(&worker);
        let pause = self.dice.between(1, 40);
        self.later(pause, Happening::WorkerExited(name, worker, why.to_owned()));
    }

    /// It was to stop, and has not.
    pub(super) fn kill_lingering(&mut self, worker: WorkerId) {
        if self.sabotage != Some(Sabotage::Lingers) {
            self.kill(worker, "killed because it did not stop");
        }
    }

    pub(super) fn any_worker(&mut self) -> Option<WorkerId> {
        let ids: Vec<WorkerId> = self.processes.keys().copied().collect();
        self.dice.pick(&ids).copied()
    }

    pub(super) fn part(&mut self, worker: WorkerId, millis: u64) {
        self.line(format_args!("{worker} is parted from all for {millis} ms"));
        self.parted.insert(worker);
        self.later(millis, Happening::Reunite(worker));
    }

    pub(super) fn break_channels(&mut self, worker: WorkerId) {
        self.line(format_args!("the channels of {worker} break"));
        self.network.sever(worker);
    }

    pub(super) fn cut_next_writer(&mut self) {
        self.saw("a writer was cut off");
        self.cut_next_writer = true;
    }

    pub(super) fn workers_of(&self, manager: u32) -> Vec<WorkerId> {
        let is_at = |process: &&Process| process.link.as_ref().is_some_and(|link| link.manager == manager);
        let found = self.processes.values().filter(is_at);
        found.map(|process| process.worker).collect()
    }

    /// Its link is gone: it works on, and looks for its job.
    pub(super) fn worker_leaves(&mut self, worker: WorkerId, why: &str) {
        let Some(Link { manager, job, .. }) = self.processes.get_mut(&worker).and_then(Process::detach) else {
            return;
        };
        self.line(format_args!("{worker} leaves job manager {manager}: {why}"));
        let pause = self.dice.between(1, 40);
        self.bid_farewell(pause, manager, Farewell::Worker(job, worker));
        let pause = self.dice.between(1, LONGEST_PAUSE_MS);
        self.later(pause, Happening::WorkerSeeks(worker));
    }

    /// Its task manager is at another job manager.
    pub(super) fn worker_is_told(&mut self, worker: WorkerId, manager: u32) {
        let link = self.processes.get(&worker).and_then(|process| process.link.as_ref());
        if link.is_some_and(|link| link.manager != manager) {
            self.worker_leaves(worker, "another one leads");
        }
    }

    /// It looks for its job, says what it runs, and is attached or sent home.
    pub(super) fn worker_seeks(&mut self, worker: WorkerId) {
        let now = self.now();
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        if process.link.is_some() || process.is_sent_home() {
            return;
        }
        let is_lost = now > *process.seeks_since.get_or_insert(now) + PATIENCE_MS;
        if is_lost && self.sabotage != Some(Sabotage::Lingers) {
            return process.send_home();
        }
        let (followed, word) = (process.epoch, process.first_word());
        let pause = self.dice.between(5, LONGEST_PAUSE_MS);
        self.later(pause, Happening::WorkerSeeks(worker));
        let Some(word) = word.filter(|_| !self.parted.contains(&worker)) else {
            return;
        };
        let Some((manager, epoch)) = self.find_manager().filter(|(_, epoch)| *epoch >= followed) else {
            return;
        };
        let side = self.crash_at_message();
        if side != Some(CrashSide::Before) {
            self.attach(worker, (manager, epoch), word);
        }
        if side.is_some() {
            self.kill(worker, "crashed");
        }
    }

    fn attach(&mut self, worker: WorkerId, (manager, epoch): (u32, u64), word: WorkerEvent) {
        let is_back = matches!(word, WorkerEvent::Returned(_));
        let (commands, queue) = mpsc::channel(COMMANDS);
        let attached = self.ask(manager, async |it| it.attach(word, commands).await);
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        match attached {
            Some(Ok(job)) => {
                process.epoch = epoch;
                process.seeks_since = None;
                process.link = Some(Link {
                    manager,
                    job,
                    commands: queue,
                });
                self.line(format_args!("{worker} is at job manager {manager}, back: {is_back}"));
                if is_back {
                    self.saw("a worker came back to its job");
                }
            }
            Some(Err(error)) if is_final(&error) => {
                if self.sabotage != Some(Sabotage::Lingers) {
                    process.send_home();
                }
                self.line(format_args!(
                    "{worker} is refused by job manager {manager}: {}",
                    error.code
                ));
                if is_back {
                    self.saw("a worker that came back was sent home");
                }
            }
            Some(Err(_later)) => {}
            None => {}
        }
    }
}

/// Whether the job manager knows the worker, and does not want it: as in [`streamd_worker::link`].
fn is_final(error: &CodedError) -> bool {
    matches!(
        error.code,
        ErrorCode::JobNotFound | ErrorCode::JobNotRunning | ErrorCode::ProtocolMismatch
    )
}
