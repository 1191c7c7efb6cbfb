//! Task managers and processes: how they begin and how they end.

use std::sync::Arc;

use streamd_core::id::{TaskManagerId, WorkerId};
use streamd_core::time::Clock;

use super::{Cluster, Happening, SLOTS};
use crate::host::SimulatedHost;
use crate::process::{Birth, Process};

impl Cluster<'_> {
    pub(super) fn start_worker(&mut self, epoch: u64, worker: WorkerId, task_manager: TaskManagerId) {
        if self.stillborn.contains(&worker) {
            return;
        }
        if epoch != self.epoch || !self.task_managers.contains_key(&task_manager) {
            return self.later(
                5,
                Happening::WorkerLost(epoch, worker, "could not be started".to_owned()),
            );
        }
        let pipeline = match (self.application)(&self.outside) {
            Ok(pipeline) => pipeline,
            Err(error) => return self.violated(format_args!("I25: the application cannot be built again: {error}")),
        };
        let birth = Birth {
            worker,
            task_manager,
            epoch,
            job_id: self.job_id,
            network: &self.network,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            host: SimulatedHost::new(self.io.handle().clone()),
        };
        let process = Process::start(&self.machines, pipeline, birth);
        self.processes.insert(worker, process);
    }

    /// A process is gone, with all that it did. Its task manager tells of it a little later.
    pub(super) fn kill(&mut self, worker: WorkerId, why: &str) {
        let Some(process) = self.processes.remove(&worker) else {
            return;
        };
        self.line(format_args!("{worker} {why}"));
        let epoch = process.epoch;
        process.kill();
        self.network.cut(worker);
        self.parted.remove(&worker);
        let pause = self.dice.between(1, 40);
        self.later(pause, Happening::WorkerLost(epoch, worker, why.to_owned()));
    }

    pub(super) fn lose_task_manager(&mut self, name: &TaskManagerId) {
        self.line(format_args!("{} is lost", name.0));
        self.task_managers.remove(name);
        self.slots.remove(name);
        let of = |process: &&Process| process.task_manager == *name;
        let workers: Vec<WorkerId> = self
            .processes
            .values()
            .filter(of)
            .map(|process| process.worker)
            .collect();
        for worker in workers {
            self.kill(worker, "died with its machine");
        }
        let (epoch, pause) = (self.epoch, self.dice.between(1, 300));
        self.later(pause, Happening::TaskManagerLost(epoch, name.clone()));
    }

    pub(super) fn task_manager_joins(&mut self) {
        self.born += 1;
        let name = TaskManagerId(format!("tm-{}", self.born));
        self.task_managers.insert(name.clone(), SLOTS);
        let granted = self.slots.register(name, SLOTS);
        self.granted(granted);
    }

    pub(super) fn task_managers(&self) -> impl Iterator<Item = &TaskManagerId> {
        self.task_managers.keys()
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

    pub(super) fn break_link(&mut self, worker: WorkerId) {
        self.line(format_args!("the link of {worker} breaks"));
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        process.master = None;
        process.hung_up = true;
        let epoch = process.epoch;
        self.tell(epoch, async |job| job.worker_link_closed(worker).await);
    }

    pub(super) fn break_channels(&mut self, worker: WorkerId) {
        self.line(format_args!("the channels of {worker} break"));
        self.network.sever(worker);
    }

    pub(super) fn cut_next_writer(&mut self) {
        self.saw("a writer was cut off");
        self.cut_next_writer = true;
    }
}
