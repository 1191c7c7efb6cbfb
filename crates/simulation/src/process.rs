//! A worker process of the simulation: the real worker, its slots and writers, and its link to the job master.

use std::sync::Arc;

use streamd_core::id::{JobId, TaskManagerId, WorkerId};
use streamd_core::protocol::{WorkerCommand, WorkerEvent};
use streamd_core::time::Clock;
use streamd_runtime::pipeline::Pipeline;
use streamd_worker::worker::{Worker, WorkerIdentity, WorkerLink};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
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
    pub(crate) epoch: u64,
    pub(crate) slots: Vec<SlotAtWork>,
    /// Writers, and when each begins.
    pub(crate) writers: Vec<(u64, Box<dyn FnOnce() + Send>)>,
    pub(crate) up: Lane<WorkerEvent>,
    pub(crate) down: Lane<WorkerCommand>,
    /// From the job master, once it has admitted the worker.
    pub(crate) master: Option<mpsc::Receiver<WorkerCommand>>,
    /// The link is closed: what is under way still arrives.
    pub(crate) hung_up: bool,
    pub(crate) host: SimulatedHost,
    commands: Option<mpsc::Sender<WorkerCommand>>,
    events: mpsc::Receiver<WorkerEvent>,
    task: JoinHandle<()>,
}

/// Where a process begins.
pub(crate) struct Birth<'a> {
    pub(crate) worker: WorkerId,
    pub(crate) task_manager: TaskManagerId,
    pub(crate) epoch: u64,
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
            .with_peers(Arc::new(birth.network.of(birth.epoch, birth.worker)))
            .on_host(Arc::new(birth.host.clone()));
        let link = WorkerLink {
            commands: told,
            events: said,
        };
        Self {
            worker: birth.worker,
            task_manager: birth.task_manager,
            epoch: birth.epoch,
            slots: Vec::new(),
            writers: Vec::new(),
            up: Lane::new(),
            down: Lane::new(),
            master: None,
            hung_up: false,
            host: birth.host,
            commands: Some(commands),
            events,
            task: machines.spawn(worker.run(link)),
        }
    }

    /// What it has to say, if anything.
    pub(crate) fn say(&mut self) -> Option<WorkerEvent> {
        self.events.try_recv().ok()
    }

    /// Tells it something.
    pub(crate) fn tell(&self, command: WorkerCommand) {
        if let Some(commands) = &self.commands {
            // A worker that ends takes nothing more.
            let _ending = commands.try_send(command);
        }
    }

    /// Lets it know that its link is closed: it ends then.
    pub(crate) fn hang_up(&mut self) {
        self.commands = None;
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
