//! Profiles of workers that task managers take.

use std::collections::BTreeMap;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{TaskManagerId, WorkerId};
use streamd_core::time::MonotonicTime;
use streamd_rpc::proto;
use streamd_rpc::proto::task_manager_command::Command;
use tokio::sync::oneshot;

use super::service::ResourceManager;

/// Milliseconds that a task manager gets beyond the time of a profile: what was seen is read, which takes seconds on a machine that has
/// other things to do.
const READING_GRACE_MS: u64 = 300_000;

/// Which worker is looked at, and how.
#[derive(Debug, Clone)]
pub(crate) struct ProfileOrder {
    pub(crate) task_manager: TaskManagerId,
    pub(crate) worker: WorkerId,
    pub(crate) duration_ms: u64,
    /// How often a second.
    pub(crate) frequency: u32,
}

/// A profile that a task manager takes.
pub(super) struct Profile {
    task_manager: TaskManagerId,
    worker: WorkerId,
    deadline: MonotonicTime,
    reply: oneshot::Sender<Result<proto::Profile, CodedError>>,
}

/// The profiles under way, by the number of their request.
pub(super) type Profiles = BTreeMap<u64, Profile>;

impl ResourceManager {
    pub(super) fn on_profile(
        &mut self,
        order: ProfileOrder,
        reply: oneshot::Sender<Result<proto::Profile, CodedError>>,
    ) {
        if !self.task_managers.contains_key(&order.task_manager) {
            let _gone = reply.send(Err(lost(&order.task_manager, order.worker)));
            return;
        }
        let number = self.next_number();
        let limit = order.duration_ms.saturating_add(READING_GRACE_MS);
        let command = Command::ProfileWorker(proto::ProfileWorker {
            request_id: number,
            worker_id: order.worker.0,
            duration_ms: order.duration_ms,
            frequency: order.frequency,
        });
        self.command(&order.task_manager, command);
        let profile = Profile {
            task_manager: order.task_manager,
            worker: order.worker,
            deadline: self.clock.monotonic().plus(limit),
            reply,
        };
        self.profiles.insert(number, profile);
    }

    pub(super) fn on_profiled(&mut self, id: &TaskManagerId, number: u64, outcome: Result<proto::Profile, CodedError>) {
        if self.profiles.get(&number).is_some_and(|it| it.task_manager == *id)
            && let Some(profile) = self.profiles.remove(&number)
        {
            let _gone = profile.reply.send(outcome);
        }
    }

    /// A task manager is gone, and with it its workers.
    pub(super) fn end_profiles_of(&mut self, id: &TaskManagerId) {
        for (_, profile) in self.profiles.extract_if(.., |_, it| it.task_manager == *id) {
            let _gone = profile.reply.send(Err(lost(id, profile.worker)));
        }
    }

    /// Tells task managers that nobody waits for a profile any more.
    pub(super) fn stop_abandoned_profiles(&mut self) {
        let abandoned: Vec<(u64, Profile)> = self.profiles.extract_if(.., |_, it| it.reply.is_closed()).collect();
        for (number, profile) in abandoned {
            self.stop_profile(&profile.task_manager, number);
        }
    }

    /// Gives up profiles that take too long.
    pub(super) fn give_up_profiles(&mut self, now: MonotonicTime) {
        self.stop_abandoned_profiles();
        let late: Vec<(u64, Profile)> = self.profiles.extract_if(.., |_, it| it.deadline <= now).collect();
        for (number, profile) in late {
            self.stop_profile(&profile.task_manager, number);
            let message = format!(
                "task manager `{}` sent no profile of `{}` in time",
                profile.task_manager, profile.worker
            );
            let error = CodedError::new(ErrorCode::ProfileFailed, message);
            let _gone = profile
                .reply
                .send(Err(error.with_hint("look for less time, or less often")));
        }
    }

    fn stop_profile(&self, id: &TaskManagerId, number: u64) {
        self.command(id, Command::StopProfile(proto::StopProfile { request_id: number }));
    }
}

fn lost(id: &TaskManagerId, worker: WorkerId) -> CodedError {
    let message = format!("task manager `{id}` of `{worker}` is gone");
    CodedError::new(ErrorCode::ProfileFailed, message).with_hint("try again once the job runs elsewhere")
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
