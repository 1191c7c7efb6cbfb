//! A worker process of the simulation: the real worker, its slots and writers, and its link to the job master.

use std::sync::Arc;

use streamd_core::id::{JobId, TaskManagerId, WorkerId};
use streamd_core::protocol::{WorkerCommand, WorkerEvent};
use streamd_core::time::Clock;
use streamd_jobmanager::job_master::JobMasterHandle;
use streamd_runtime::pipeline::Pipeline;
use streamd_worker::course::Course;
use streamd_worker::worker::{Worker, WorkerIdentity, WorkerLink};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::task::JoinHandle;

use crate::channels::Network;
use crate::host::{SimulatedHost, SlotAtWork};
use crate::links::Lane;

/// What a link holds: more than a worker says in one step, for a slot that had to wait here would wait for ever.
const LINK_MESSAGES: usize = 1 << 14;

/// A worker process.
pub(crate) struct Process {
    pub(crate) worker: WorkerId,
    pub(crate) task_manager: TaskManagerId,
    pub(crate) slots: Vec<SlotAtWork>,
    /// Writers, and when each begins.
    pub(crate) writers: Vec<(u64, Box<dyn FnOnce() + Send>)>,
    pub(crate) up: Lane<WorkerEvent>,
    pub(crate) down: Lane<WorkerCommand>,
    pub(crate) link: Option<Link>,
    /// The greatest epoch of a job manager that it followed.
    pub(crate) epoch: u64,
    /// Since when it looks for a job manager.
    pub(crate) seeks_since: Option<u64>,
    pub(crate) host: SimulatedHost,
    /// What it would say on its next link; `None`: it has not begun.
    course: Option<Course>,
    commands: Option<mpsc::Sender<WorkerCommand>>,
    events: mpsc::Receiver<WorkerEvent>,
    task: JoinHandle<()>,
}

/// The far end of its link.
pub(crate) struct Link {
    /// The number of the job manager.
    pub(crate) manager: u32,
    pub(crate) job: JobMasterHandle,
    pub(crate) commands: mpsc::Receiver<WorkerCommand>,
}

/// Where a process begins.
pub(crate) struct Birth<'a> {
    pub(crate) worker: WorkerId,
    pub(crate) task_manager: TaskManagerId,
    pub(crate) job_id: JobId,
    pub(crate) network: &'a Network,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) host: SimulatedHost,
}

impl Process {
    /// Starts a worker with this pipeline.
    pub(crate) fn start(machines: &Runtime, pipeline: Pipeline, birth: Birth<'_>) -> Self {
        let (commands, told) = mpsc::channel(LINK_MESSAGES);
        let (said, events) = mpsc::channel(LINK_MESSAGES);
        let identity = WorkerIdentity {
            job_id: birth.job_id,
            worker: birth.worker,
            task_manager: birth.task_manager.clone(),
            local_directory: std::env::temp_dir(),
            recovery_directory: None,
        };
        let worker = Worker::new(identity, pipeline, birth.clock)
            .with_peers(Arc::new(birth.network.of(birth.worker)))
            .on_host(Arc::new(birth.host.clone()));
        let link = WorkerLink {
            commands: told,
            events: said,
        };
        Self {
            worker: birth.worker,
            task_manager: birth.task_manager,
            slots: Vec::new(),
            writers: Vec::new(),
            up: Lane::new(),
            down: Lane::new(),
            link: None,
            epoch: 0,
            seeks_since: None,
            host: birth.host,
            course: None,
            commands: Some(commands),
            events,
            task: machines.spawn(worker.run(link)),
        }
    }

    /// What it has to say over its link, if anything.
    pub(crate) fn say(&mut self) -> Option<WorkerEvent> {
        self.link.as_ref()?;
        let event = self.events.try_recv().ok()?;
        if let Some(course) = &mut self.course {
            course.on_event(&event);
        }
        Some(event)
    }

    /// The first word on its next link, once it has begun.
    pub(crate) fn first_word(&mut self) -> Option<WorkerEvent> {
        if self.course.is_none()
            && let Ok(WorkerEvent::Registered(registration)) = self.events.try_recv()
        {
            self.course = Some(Course::new(registration));
        }
        self.course.as_ref().map(Course::first_word)
    }

    /// What the job master has for it. An error: its end of the link is closed.
    pub(crate) fn next_command(&mut self) -> Result<Option<WorkerCommand>, TryRecvError> {
        let Some(link) = &mut self.link else { return Ok(None) };
        match link.commands.try_recv() {
            Ok(command) => Ok(Some(command)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(closed) => Err(closed),
        }
    }

    /// Tells it something.
    pub(crate) fn tell(&mut self, command: WorkerCommand) {
        if let Some(course) = &mut self.course {
            course.on_command(&command);
        }
        if let Some(commands) = &self.commands {
            // A worker that ends takes nothing more.
            let _ending = commands.try_send(command);
        }
    }

    /// The link is no more, and what was under way on it is lost. Returns the far end.
    pub(crate) fn detach(&mut self) -> Option<Link> {
        self.up = Lane::new();
        self.down = Lane::new();
        self.link.take()
    }

    /// It ends: no job manager wants it, or it has found none for too long.
    pub(crate) fn send_home(&mut self) {
        self.commands = None;
    }

    /// Whether it is on its way to its end.
    pub(crate) fn is_sent_home(&self) -> bool {
        self.commands.is_none()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished() && self.up.is_empty()
    }

    /// Ends it, wherever it is.
    pub(crate) fn kill(self) {
        self.task.abort();
        // Slots and writers go as they are.
        drop((self.slots, self.writers));
    }
}
