//! Programs on task managers that stand by: when one that runs a job is lost, another starts its worker without having to fetch
//! a program first, which takes longer than the rest of the recovery.

use std::collections::BTreeSet;

use streamd_core::id::{JobId, TaskManagerId};
use streamd_rpc::proto;
use streamd_rpc::proto::task_manager_command::Command;

use super::service::ResourceManager;

/// Task managers that get a program without running it: as many as may be lost at the same time with another at hand. Not all of
/// them, so that a submission to a large cluster does not have the job manager send as many copies.
const STANDBYS: usize = 2;

impl ResourceManager {
    /// A worker of a job is being started. The first time, some task managers with room that the job does not use get its program.
    pub(super) fn prepare_standbys(&mut self, job: JobId, sha256: &str) {
        if self.programs.insert(job, sha256.to_owned()).is_some() {
            return;
        }
        let has_room = |id: &&TaskManagerId| self.slots.free_of(id) > 0 && !self.slots.jobs_on(id).contains_key(&job);
        let standbys = self.task_managers.keys().filter(has_room).take(STANDBYS);
        for id in standbys.cloned().collect::<Vec<_>>() {
            self.command(&id, fetch(sha256));
        }
    }

    /// A task manager has come, which may be the one to stand in next: it gets the programs of all jobs.
    pub(super) fn prepare_newcomer(&self, id: &TaskManagerId) {
        let programs: BTreeSet<&String> = self.programs.values().collect();
        for sha256 in programs {
            self.command(id, fetch(sha256));
        }
    }
}

fn fetch(sha256: &str) -> Command {
    Command::FetchProgram(proto::FetchProgram {
        sha256: sha256.to_owned(),
    })
}
