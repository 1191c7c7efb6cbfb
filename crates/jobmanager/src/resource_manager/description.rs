//! Applications that describe their jobs: each is handed to a task manager, and to another one if that is lost.

use std::collections::BTreeMap;

use bytes::Bytes;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::TaskManagerId;
use streamd_core::time::MonotonicTime;
use streamd_rpc::proto;
use streamd_rpc::proto::task_manager_command::Command;
use tokio::sync::oneshot;

use super::handle::Program;
use super::service::ResourceManager;

/// Milliseconds that a task manager gets beyond the time-out of a description, which it enforces itself.
const DESCRIBE_GRACE_MS: u64 = 5_000;

/// Task managers that one description is tried on. A program that takes two of them down is not given a third.
const DESCRIBE_TRIES: u32 = 2;

/// A description that a task manager works on.
pub(super) struct Description {
    program: Program,
    task_manager: TaskManagerId,
    tries: u32,
    deadline: MonotonicTime,
    reply: oneshot::Sender<Result<Bytes, CodedError>>,
}

/// The descriptions under way, by the number of their request.
pub(super) type Descriptions = BTreeMap<u64, Description>;

impl ResourceManager {
    pub(super) fn on_describe(&mut self, program: Program, reply: oneshot::Sender<Result<Bytes, CodedError>>) {
        let limit = self.options.describe_timeout_ms.saturating_add(DESCRIBE_GRACE_MS);
        let description = Description {
            program,
            task_manager: TaskManagerId(String::new()),
            tries: 0,
            deadline: self.clock.monotonic().plus(limit),
            reply,
        };
        self.describe(description);
    }

    /// Hands a description to the task manager that works on the fewest.
    fn describe(&mut self, mut description: Description) {
        let load = |id: &TaskManagerId| {
            self.descriptions
                .values()
                .filter(|other| other.task_manager == *id)
                .count()
        };
        let last_choice = |id: &TaskManagerId| (self.slots.is_drained(id), load(id));
        let Some(id) = self.task_managers.keys().min_by_key(|id| last_choice(id)).cloned() else {
            let _gone = description.reply.send(Err(no_task_manager()));
            return;
        };
        let number = self.next_number();
        let command = Command::Describe(proto::DescribeCommand {
            request_id: number,
            program: Some(description.program.clone()),
            timeout_ms: self.options.describe_timeout_ms,
        });
        description.task_manager = id.clone();
        description.tries += 1;
        self.descriptions.insert(number, description);
        self.command(&id, command);
    }

    pub(super) fn on_described(&mut self, id: &TaskManagerId, number: u64, outcome: Result<Bytes, CodedError>) {
        if self
            .descriptions
            .get(&number)
            .is_none_or(|description| description.task_manager != *id)
        {
            return;
        }
        if let Some(description) = self.descriptions.remove(&number) {
            let _gone = description.reply.send(outcome);
        }
    }

    pub(super) fn describe_elsewhere(&mut self, lost: &TaskManagerId) {
        let numbers: Vec<u64> = self
            .descriptions
            .iter()
            .filter(|(_, d)| d.task_manager == *lost)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            match self.descriptions.remove(&number) {
                Some(description) if description.tries < DESCRIBE_TRIES => self.describe(description),
                Some(description) => {
                    let message = format!(
                        "task manager `{lost}` was lost while it described application `{}`",
                        description.program.file_name
                    );
                    let _gone = description
                        .reply
                        .send(Err(CodedError::new(ErrorCode::DescribeFailed, message)));
                }
                None => {}
            }
        }
    }

    /// Gives up descriptions that take too long.
    pub(super) fn give_up_descriptions(&mut self, now: MonotonicTime) {
        let late: Vec<u64> = self
            .descriptions
            .iter()
            .filter(|(_, d)| d.deadline <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            if let Some(description) = self.descriptions.remove(&number) {
                let message = format!(
                    "task manager `{}` did not describe application `{}` in time",
                    description.task_manager, description.program.file_name
                );
                let _gone = description
                    .reply
                    .send(Err(CodedError::new(ErrorCode::DescribeTimeout, message)));
            }
        }
    }
}

fn no_task_manager() -> CodedError {
    CodedError::new(ErrorCode::NoTaskManager, "no task manager is registered")
        .with_hint("start one with `streamd taskmanager`")
}
