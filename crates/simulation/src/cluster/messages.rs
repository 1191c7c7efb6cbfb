//! Messages between workers and the job master: they go on their way, and arrive.

use streamd_core::id::WorkerId;
use streamd_core::protocol::WorkerEvent;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::Cluster;
use super::words::{Said, Told};
use crate::process::Process;

impl Cluster<'_> {
    pub(super) fn move_messages(&mut self) -> bool {
        let mut any = false;
        let ids: Vec<WorkerId> = self.processes.keys().copied().collect();
        for id in ids {
            any |= self.collect(id);
            if !self.parted.contains(&id) {
                any |= self.deliver(id);
            }
            any |= self.bury(id);
        }
        any
    }

    /// What either end of a link has said goes on its way.
    fn collect(&mut self, id: WorkerId) -> bool {
        let now = self.now();
        let Some(process) = self.processes.get_mut(&id) else {
            return false;
        };
        let mut any = false;
        while let Some(event) = process.say() {
            any = true;
            process.up.send(now, &mut self.dice, event);
        }
        while let Some(master) = &mut process.master {
            match master.try_recv() {
                Ok(command) => {
                    any = true;
                    self.watch.told(now, id, &command);
                    process.down.send(now, &mut self.dice, command);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    process.master = None;
                    process.hung_up = true;
                }
            }
        }
        any
    }

    fn deliver(&mut self, id: WorkerId) -> bool {
        let now = self.now();
        let mut any = false;
        while let Some(event) = self.processes.get_mut(&id).and_then(|process| process.up.take(now)) {
            any = true;
            self.hear(id, event);
        }
        let Some(process) = self.processes.get_mut(&id) else {
            return any;
        };
        while let Some(command) = process.down.take(now) {
            any = true;
            self.trace.line(now, format_args!("{id} is told {}", Told(&command)));
            process.tell(command);
        }
        if process.hung_up && process.down.is_empty() {
            process.hang_up();
        }
        any
    }

    /// The job master hears what a worker says, if it is the one that started it.
    fn hear(&mut self, id: WorkerId, event: WorkerEvent) {
        let now = self.now();
        self.trace.line(now, format_args!("{id} says {}", Said(&event)));
        self.watch.said(&event);
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let Some(manager) = self.manager.as_ref().filter(|manager| manager.epoch == process.epoch) else {
            process.hung_up = true;
            return;
        };
        self.store.set_control(true);
        match event {
            WorkerEvent::Registered(registration) => {
                let (commands, master) = mpsc::channel(1 << 12);
                let attached = manager.with(async |job| job.attach_worker(registration, commands).await);
                match attached {
                    Ok(()) => process.master = Some(master),
                    Err(_refused) => process.hung_up = true,
                }
            }
            event if process.master.is_some() => manager.with(async |job| job.worker_event(id, event).await),
            _of_a_closed_link => {}
        }
        self.store.set_control(false);
    }

    /// A process that has ended is reaped by its task manager.
    fn bury(&mut self, id: WorkerId) -> bool {
        if !self.processes.get(&id).is_some_and(Process::has_ended) {
            return false;
        }
        self.kill(id, "ended");
        true
    }
}
