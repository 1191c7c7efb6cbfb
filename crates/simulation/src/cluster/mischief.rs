//! What goes wrong: each act is chosen by the dice, among those that the profile allows.

use super::{Cluster, Happening};

/// The shortest pause between two acts, in milliseconds.
const SHORTEST_PAUSE_MS: u64 = 60;

/// The longest time for which a worker is parted from all others: long enough to be given up, sometimes.
const LONGEST_PARTITION_MS: u64 = 4_000;

/// The longest time for which a job manager is stopped: long enough that another one takes its place, mostly.
const LONGEST_STOP_MS: u64 = 6_000;

impl Cluster<'_> {
    /// One act, and the next one is put on the agenda.
    pub(super) fn mischief(&mut self) {
        let rates = self.profile.rates();
        if self.is_healed() || rates.pause_ms == 0 {
            return;
        }
        let pause = self.dice.between(SHORTEST_PAUSE_MS, rates.pause_ms);
        self.later(pause, Happening::Mischief);
        if self.dice.happens(150) {
            return self.ask_for_savepoint();
        }
        let total = rates.crashes + rates.network;
        match self.dice.below(total) < rates.crashes {
            true => self.crash_something(),
            false => self.disturb_the_network(),
        }
    }

    fn crash_something(&mut self) {
        match self.dice.below(100) {
            0..40 => {
                if let Some(worker) = self.any_worker() {
                    self.saw("a worker was killed");
                    self.kill(worker, "killed");
                }
            }
            40..52 => {
                if let Some(name) = self.any_task_manager() {
                    self.saw("a task manager was lost");
                    self.lose_task_manager(&name);
                    let pause = self.dice.between(100, 2_000);
                    self.later(pause, Happening::TaskManagerJoins);
                }
            }
            52..70 => {
                if let Some(manager) = self.any_manager() {
                    self.saw("a job manager was killed");
                    self.kill_manager(manager, "is killed");
                }
            }
            70..85 => {
                if let Some(manager) = self.any_manager() {
                    self.saw("a job manager was stopped");
                    let millis = self.dice.between(100, LONGEST_STOP_MS);
                    self.stop_manager(manager, millis);
                }
            }
            _ => self.cut_next_writer(),
        }
    }

    fn disturb_the_network(&mut self) {
        if self.dice.happens(150) {
            if let Some(name) = self.any_task_manager() {
                self.saw("the link of a task manager was broken");
                self.task_manager_leaves(&name, "its link breaks");
            }
            return;
        }
        let Some(worker) = self.any_worker() else { return };
        match self.dice.below(100) {
            0..50 => {
                self.saw("a worker was parted from the others");
                let millis = self.dice.between(30, LONGEST_PARTITION_MS);
                self.part(worker, millis);
            }
            50..75 => {
                self.saw("a link was broken");
                self.worker_leaves(worker, "its link breaks");
            }
            _ => {
                self.saw("channels were broken");
                self.break_channels(worker);
            }
        }
    }
}
