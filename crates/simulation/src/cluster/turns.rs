//! Turns: slots and writers run one at a time, when the dice say so.

use streamd_core::id::WorkerId;

use super::Cluster;
use crate::process::Process;
use crate::store::Actor;

impl Cluster<'_> {
    pub(super) fn give_turns(&mut self) -> bool {
        let now = self.now();
        let mut any = false;
        for process in self.processes.values_mut() {
            self.store.acts(Actor::Worker(process.worker));
            process.slots.extend(process.host.take_slots());
            for writer in process.host.take_writers() {
                let pause = match self.dice.happens(50) {
                    true => self.dice.between(500, 3_000),
                    false => self.dice.between(1, 60),
                };
                process.writers.push((now + pause, writer));
            }
            for slot in &mut process.slots {
                if self.store.has_crashed() {
                    break;
                }
                if slot.is_awake(now) {
                    any = true;
                    if self.dice.happens(700) {
                        slot.turn(now);
                        if slot.is_over() {
                            self.trace
                                .line(now, format_args!("{} slot {} is over", process.worker, slot.number));
                        }
                    }
                }
            }
            process.slots.retain(|slot| !slot.is_over());
        }
        any |= self.run_writers(now);
        self.store.acts(Actor::Nobody);
        self.bury_whoever_crashed();
        any
    }

    fn run_writers(&mut self, now: u64) -> bool {
        let mut any = false;
        let ids: Vec<WorkerId> = self.processes.keys().copied().collect();
        for id in ids {
            let due = |process: &Process| process.writers.iter().position(|(at, _)| *at <= now);
            while !self.store.has_crashed()
                && let Some(process) = self.processes.get_mut(&id)
                && let Some(position) = due(process)
            {
                any = true;
                let (_, write) = process.writers.remove(position);
                let cut = std::mem::take(&mut self.cut_next_writer).then(|| self.dice.below(2) as u32);
                self.store.acts(Actor::Worker(id));
                self.store.cut_after(cut);
                write();
                self.store.cut_after(None);
                if let Some(operations) = cut {
                    self.line(format_args!(
                        "a writer of {id} was cut off after {operations} operations"
                    ));
                    // Either it can still say so, or it goes with its connection.
                    if self.dice.happens(400) {
                        self.kill(id, "killed while it wrote");
                    }
                }
            }
        }
        any
    }
}
