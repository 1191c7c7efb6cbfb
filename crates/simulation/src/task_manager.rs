//! A task manager of the simulation: what it says and hears is real, its machine is not.

use streamd_jobmanager::unlinked::TaskManagerLink;
use streamd_jobmanager::unlinked::proto::TaskManagerCommand;
use streamd_jobmanager::unlinked::proto::task_manager_command::Command;
use streamd_jobmanager::unlinked::proto::task_manager_event::Event;
use tokio::sync::mpsc;

use crate::links::Lane;

/// One task manager.
pub(crate) struct TaskManager {
    /// Its link to the job manager of this number.
    pub(crate) link: Option<(u32, TaskManagerLink)>,
    /// The greatest epoch of a job manager that it followed.
    pub(crate) epoch: u64,
    pub(crate) up: Lane<Event>,
    pub(crate) down: Lane<Command>,
    commands: Option<mpsc::Receiver<TaskManagerCommand>>,
}

impl TaskManager {
    pub(crate) fn new() -> Self {
        Self {
            link: None,
            epoch: 0,
            up: Lane::new(),
            down: Lane::new(),
            commands: None,
        }
    }

    /// From now on it is linked to this job manager.
    pub(crate) fn attach(
        &mut self,
        (manager, epoch): (u32, u64),
        link: TaskManagerLink,
        commands: mpsc::Receiver<TaskManagerCommand>,
    ) {
        self.link = Some((manager, link));
        self.epoch = epoch;
        self.commands = Some(commands);
    }

    /// The link is no more, and what was under way on it is lost. Returns the far end.
    pub(crate) fn detach(&mut self) -> Option<(u32, TaskManagerLink)> {
        self.up = Lane::new();
        self.down = Lane::new();
        self.commands = None;
        self.link.take()
    }

    /// The next command that the job manager has for it.
    pub(crate) fn next_command(&mut self) -> Option<Command> {
        self.commands.as_mut()?.try_recv().ok()?.command
    }

    /// Whether the job manager has given it up.
    pub(crate) fn is_given_up(&self) -> bool {
        self.link.as_ref().is_some_and(|(_, link)| link.is_closed())
    }
}
