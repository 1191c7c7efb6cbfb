//! Messages between workers and the job master: they go on their way, and arrive.

use streamd_core::id::WorkerId;
use streamd_core::protocol::{WorkerCommand, WorkerEvent};

use super::words::{Said, Told};
use super::{Cluster, Farewell};
use crate::crash::CrashSide;
use crate::job_manager::JobManager;
use crate::process::Process;
use crate::sabotage::Sabotage;

impl Cluster<'_> {
    pub(super) fn move_words_of_workers(&mut self) -> bool {
        let mut any = false;
        let ids: Vec<WorkerId> = self.processes.keys().copied().collect();
        for id in ids {
            any |= self.collect(id);
            if !self.parted.contains(&id) {
                any |= self.hear(id);
                any |= self.tell(id);
            }
            if self.processes.get(&id).is_some_and(Process::has_ended) {
                any = true;
                self.kill(id, "ended");
            }
        }
        any
    }

    /// What either end of a link has said goes on its way.
    fn collect(&mut self, id: WorkerId) -> bool {
        let mut any = false;
        while let Some(event) = self.processes.get_mut(&id).and_then(Process::say) {
            any = true;
            self.send_up(id, event);
        }
        while let Some(process) = self.processes.get_mut(&id) {
            match process.next_command() {
                Ok(Some(command)) => {
                    any = true;
                    self.send_down(id, command);
                }
                Ok(None) => break,
                // What is under way still arrives.
                Err(_closed) if !process.down.is_empty() => break,
                Err(_closed) => {
                    any = true;
                    self.worker_leaves(id, "its link is closed");
                }
            }
        }
        any
    }

    fn send_up(&mut self, id: WorkerId, event: WorkerEvent) {
        let side = self.crash_at_message();
        let now = self.now();
        if let Some(process) = self.processes.get_mut(&id).filter(|_| side != Some(CrashSide::Before)) {
            process.up.send(now, &mut self.dice, event);
            if side.is_some() {
                process.up.hurry(now);
                self.hear(id);
            }
        }
        if side.is_some() {
            self.kill(id, "crashed");
        }
    }

    fn send_down(&mut self, id: WorkerId, command: WorkerCommand) {
        let side = self.crash_at_message();
        let now = self.now();
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let manager = process.link.as_ref().map(|link| link.manager);
        if side != Some(CrashSide::Before) {
            self.watch.told(now, id, &command);
            process.down.send(now, &mut self.dice, command);
            if side.is_some() {
                process.down.hurry(now);
                self.tell(id);
            }
        }
        if let Some(manager) = manager.filter(|_| side.is_some()) {
            self.kill_manager(manager, "crashed");
        }
    }

    /// The job master hears what has arrived of a worker's words, unless its process is stopped.
    fn hear(&mut self, id: WorkerId) -> bool {
        let now = self.now();
        let mut any = false;
        while let Some(process) = self.processes.get_mut(&id)
            && let Some(link) = &process.link
            && self.managers.get(&link.manager).is_some_and(JobManager::is_serving)
            && let Some(event) = process.up.take(now)
        {
            any = true;
            let (manager, job) = (link.manager, link.job.clone());
            self.trace.line(now, format_args!("{id} says {}", Said(&event)));
            self.watch.said(&event);
            self.ask(manager, async |_| job.worker_event(id, event).await);
        }
        any
    }

    /// The worker hears what has arrived of the job master's words.
    fn tell(&mut self, id: WorkerId) -> bool {
        let now = self.now();
        let mut any = false;
        while let Some(process) = self.processes.get_mut(&id)
            && let Some(command) = process.down.take(now)
        {
            any = true;
            self.trace.line(now, format_args!("{id} is told {}", Told(&command)));
            if self.sabotage != Some(Sabotage::Lingers) || command != WorkerCommand::Shutdown {
                process.tell(command);
            }
        }
        any
    }

    // ---- ends of links

    pub(super) fn bid_farewell(&mut self, millis: u64, manager: u32, who: Farewell) {
        self.farewells.push((self.now() + millis, manager, who));
    }

    /// Job managers see links closed at their end.
    pub(super) fn deliver_farewells(&mut self) -> bool {
        let now = self.now();
        let mut any = false;
        let mut position = 0;
        while let Some((at, manager, _)) = self.farewells.get(position) {
            let (at, manager) = (*at, *manager);
            let far_end = self.managers.get(&manager);
            if far_end.is_some_and(JobManager::is_stopped) || at > now {
                position += 1;
                continue;
            }
            any = true;
            let (_, _, who) = self.farewells.remove(position);
            self.ask(manager, async |_| match who {
                Farewell::Worker(job, worker) => job.worker_link_closed(worker).await,
                Farewell::TaskManager(link) => link.broken().await,
            });
        }
        any
    }

    pub(super) fn next_farewell(&self) -> Option<u64> {
        let heard = self.farewells.iter().filter(|(_, manager, _)| {
            let far_end = self.managers.get(manager);
            far_end.is_none_or(|manager| !manager.is_stopped())
        });
        heard.map(|(at, _, _)| *at).min()
    }
}
