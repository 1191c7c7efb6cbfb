//! One registered task manager.

use std::collections::BTreeMap;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, TaskManagerId, WorkerId};
use streamd_core::time::MonotonicTime;
use streamd_rpc::proto;
use streamd_rpc::proto::task_manager_command::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::handle::Session;
use crate::job_master::JobMasterHandle;

/// Commands that wait for a task manager's link. A job asks a task manager for one worker per attempt; hundreds waiting mean that
/// the link is stuck.
pub(crate) const COMMAND_QUEUE: usize = 256;

/// The most slots that are believed. A machine with more cores does not exist.
const MAX_SLOTS: u32 = 65_536;

/// The longest name and host that are believed.
const MAX_NAME_BYTES: usize = 256;

/// A registered task manager.
pub(super) struct TaskManager {
    pub(super) session: Session,
    pub(super) registration: proto::TaskManagerRegistration,
    pub(super) last_heard: MonotonicTime,
    /// Its workers, each with its job.
    pub(super) workers: BTreeMap<WorkerId, JobMasterHandle>,
    /// The workers that it came back with and that no job has taken yet.
    pub(super) strays: BTreeMap<WorkerId, JobId>,
    /// Whether it waits for its jobs to move, to end then.
    pub(super) is_leaving: bool,
    commands: mpsc::Sender<proto::TaskManagerCommand>,
}

impl TaskManager {
    /// Checks a registration.
    pub(super) fn new(
        number: u64,
        registration: proto::TaskManagerRegistration,
        commands: mpsc::Sender<proto::TaskManagerCommand>,
        now: MonotonicTime,
    ) -> Result<Self, CodedError> {
        let refused = |reason: &str| Err(CodedError::new(ErrorCode::ProtocolMismatch, reason));
        let is_name = |name: &str| !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control);
        if !is_name(&registration.task_manager_id) || !is_name(&registration.host) {
            return refused("the task manager's name or host is malformed");
        }
        if registration.slots == 0 || registration.slots > MAX_SLOTS {
            return refused("the task manager's number of slots is not between 1 and 65536");
        }
        Ok(Self {
            session: Session {
                number,
                closed: CancellationToken::new(),
            },
            registration,
            last_heard: now,
            workers: BTreeMap::new(),
            strays: BTreeMap::new(),
            is_leaving: false,
            commands,
        })
    }

    /// Hands over a command without waiting. `false` if the link is stuck or closed.
    pub(super) fn send(&self, command: Command) -> bool {
        let command = proto::TaskManagerCommand { command: Some(command) };
        self.commands.try_send(command).is_ok()
    }

    /// Whether its link has ended, which may not have been reported yet.
    pub(super) fn is_gone(&self) -> bool {
        self.commands.is_closed()
    }

    /// The workers that it comes back with, each with its job. One that is malformed is none.
    pub(super) fn returned_workers(&self) -> Vec<(WorkerId, JobId)> {
        let workers = self.registration.workers.iter();
        workers
            .filter_map(|worker| Some((WorkerId(worker.worker_id), worker.job_id.parse().ok()?)))
            .collect()
    }

    /// What it said of itself.
    pub(super) fn view(&self) -> proto::TaskManager {
        proto::TaskManager {
            id: self.registration.task_manager_id.clone(),
            host: self.registration.host.clone(),
            slots: self.registration.slots,
            process_id: self.registration.process_id,
            stopping: self.is_leaving,
            ..proto::TaskManager::default()
        }
    }

    /// Its name.
    pub(super) fn id(&self) -> TaskManagerId {
        TaskManagerId(self.registration.task_manager_id.clone())
    }
}
