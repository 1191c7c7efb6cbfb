//! Crash points: the process that does the n-th thing of a kind dies there.

use streamd_core::id::TaskManagerId;

use super::{Cluster, Happening};
use crate::crash::{CRASHED, CrashKind, CrashSide};
use crate::store::Actor;

impl Cluster<'_> {
    /// Somebody is about to say something. Whether, and on which side of it, it dies.
    pub(super) fn crash_at_message(&mut self) -> Option<CrashSide> {
        let number = self.messages;
        self.messages += 1;
        let point = self.crash.filter(|point| point.kind == CrashKind::Message)?;
        (point.index == number).then(|| {
            self.saw(CRASHED);
            point.side
        })
    }

    /// A process that has come to its crash point in the store is gone.
    pub(super) fn bury_whoever_crashed(&mut self) {
        match self.store.take_crashed() {
            Some(Actor::Manager(number)) => {
                self.saw(CRASHED);
                self.kill_manager(number, "crashed");
            }
            Some(Actor::Worker(worker)) => {
                self.saw(CRASHED);
                self.kill(worker, "crashed");
            }
            Some(Actor::Nobody) | None => {}
        }
    }

    /// A task manager dies at its crash point.
    pub(super) fn crash_task_manager(&mut self, name: &TaskManagerId) {
        self.lose_task_manager(name);
        self.later(200, Happening::TaskManagerJoins);
    }
}
