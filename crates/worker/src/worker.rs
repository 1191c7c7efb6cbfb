//! The worker: takes commands from the link, runs one attempt at a time, reports.
//!
//! Owns the pipeline and the running attempt. Drained means: the attempt is closed, its threads are joined, its snapshot
//! writers have ended.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streamd_core::id::{Attempt, JobId, TaskManagerId, WorkerId};
use streamd_core::protocol::{Deployment, ExecutionState, Failure, WorkerCommand, WorkerEvent, WorkerRegistration};
use streamd_core::time::Clock;
use streamd_runtime::pipeline::Pipeline;
use streamd_runtime::slot::SlotCommand;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::attempt::{RunningAttempt, Surroundings};
use crate::host::{Host, Peers, Threads};

/// How often the counters of all subtasks go to the job master, unless they are wanted more often: often enough for a person who
/// watches.
const HEARTBEAT: Duration = Duration::from_millis(1000);

/// How long the last attempt may take to close when the worker ends: less than a task manager waits before it kills.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages that a link holds. Commands and reports are few; a full link makes slots wait, never the job master.
pub const LINK_MESSAGES: usize = 1024;

/// Who a worker is.
#[derive(Debug, Clone)]
pub struct WorkerIdentity {
    /// The job that it works for.
    pub job_id: JobId,
    /// Its number.
    pub worker: WorkerId,
    /// The task manager that started it.
    pub task_manager: TaskManagerId,
    /// Where the state of running jobs has its local files, if it has any. They go with their attempt.
    pub local_directory: PathBuf,
    /// Where files of running jobs stay for the next attempt, be it another process; `None` where none follows.
    pub recovery_directory: Option<PathBuf>,
}

/// The link to the job master, whatever carries it.
pub struct WorkerLink {
    /// From the job master. Its end is the end of the worker.
    pub commands: mpsc::Receiver<WorkerCommand>,
    /// To the job master.
    pub events: mpsc::Sender<WorkerEvent>,
}

/// The worker of one job in this process.
pub struct Worker {
    identity: WorkerIdentity,
    pipeline: Pipeline,
    peers: Option<Arc<dyn Peers>>,
    host: Option<Arc<dyn Host>>,
    heartbeat: Duration,
    clock: Arc<dyn Clock>,
    running: Option<RunningAttempt>,
}

impl Worker {
    /// A worker for this pipeline. It has no peers unless it is given [a way to reach them](Self::with_peers).
    pub fn new(identity: WorkerIdentity, pipeline: Pipeline, clock: Arc<dyn Clock>) -> Self {
        Self {
            identity,
            pipeline,
            peers: None,
            host: None,
            heartbeat: HEARTBEAT,
            clock,
            running: None,
        }
    }

    /// The same worker, with a way to reach the others of its job.
    #[must_use]
    pub fn with_peers(mut self, peers: Arc<dyn Peers>) -> Self {
        self.peers = Some(peers);
        self
    }

    /// The same worker, on something else than threads of this process.
    #[must_use]
    pub fn on_host(mut self, host: Arc<dyn Host>) -> Self {
        self.host = Some(host);
        self
    }

    /// The same worker, with a sign of life this often, or once a second where that is more often.
    #[must_use]
    pub fn beating_every(mut self, interval: Duration) -> Self {
        self.heartbeat = interval.clamp(Duration::from_millis(1), HEARTBEAT);
        self
    }

    /// Registers, then serves the link until it closes or the job master sends the worker home.
    pub async fn run(mut self, link: WorkerLink) {
        let WorkerLink { mut commands, events } = link;
        if events.send(WorkerEvent::Registered(self.registration())).await.is_err() {
            return;
        }
        let mut heartbeat = tokio::time::interval(self.heartbeat);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                // In this order, so that a simulation goes the same way every time. Commands are few: heartbeats come to their turn.
                biased;
                command = commands.recv() => match command {
                    None | Some(WorkerCommand::Shutdown) => break,
                    Some(command) => self.on_command(command, &events).await,
                },
                _ = heartbeat.tick() => self.on_heartbeat(&events),
            }
        }
        // User code that does not return must not keep the process: its end takes the threads with it.
        if tokio::time::timeout(CLOSE_TIMEOUT, self.close_attempt()).await.is_err() {
            tracing::warn!(timeout = ?CLOSE_TIMEOUT, "user code does not return: the worker ends without it");
        }
    }

    fn registration(&self) -> WorkerRegistration {
        let graph = self.pipeline.graph();
        WorkerRegistration {
            job_id: self.identity.job_id,
            worker: self.identity.worker,
            task_manager: self.identity.task_manager.clone(),
            data_address: self.peers.as_ref().map(|peers| peers.address()).unwrap_or_default(),
            fingerprint: graph.fingerprint(),
            graph_outline: streamd_core::graph::graph_outline(graph),
            process_id: std::process::id(),
        }
    }

    async fn on_command(&mut self, command: WorkerCommand, events: &mpsc::Sender<WorkerEvent>) {
        match command {
            WorkerCommand::Deploy(deployment) => self.on_deploy(*deployment, events).await,
            WorkerCommand::TriggerCheckpoint { attempt, barrier } => self.tell(attempt, &SlotCommand::Trigger(barrier)),
            WorkerCommand::NotifyCheckpointComplete { attempt, checkpoint } => {
                if let Some(running) = self.running_as(attempt) {
                    running.checkpoint_complete(checkpoint);
                }
            }
            WorkerCommand::NotifyCheckpointAborted { attempt, checkpoint } => {
                if let Some(running) = self.running_as(attempt) {
                    running.checkpoint_aborted(checkpoint);
                }
            }
            WorkerCommand::Drain { attempt } => self.tell(attempt, &SlotCommand::Drain),
            WorkerCommand::AlignWatermarks { attempt, groups } => {
                if let Some(running) = self.running_as(attempt) {
                    running.align_watermarks(groups);
                }
            }
            WorkerCommand::Finish { attempt } => self.tell(attempt, &SlotCommand::Finish),
            WorkerCommand::Cancel { attempt, kept } => match self.running_as(attempt) {
                Some(running) => running.tell_others(&SlotCommand::Cancel, &kept),
                None => tracing::debug!(%attempt, "ignored that another attempt is cancelled"),
            },
            WorkerCommand::Shutdown => {}
        }
    }

    /// Passes a command on to the attempt that it is for; one for another attempt is out of date.
    fn tell(&self, attempt: Attempt, command: &SlotCommand) {
        match self.running_as(attempt) {
            Some(running) => running.tell(command),
            None => tracing::debug!(%attempt, ?command, "ignored a command of another attempt"),
        }
    }

    /// The attempt that runs, if it is this one.
    fn running_as(&self, attempt: Attempt) -> Option<&RunningAttempt> {
        self.running.as_ref().filter(|running| running.attempt() == attempt)
    }

    async fn on_deploy(&mut self, deployment: Deployment, events: &mpsc::Sender<WorkerEvent>) {
        let attempt = deployment.attempt;
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.attempt() >= attempt)
        {
            tracing::debug!(%attempt, "ignored a deployment that is not new");
            return;
        }
        let before = match self.running.take() {
            Some(running) => running.keep(&deployment.kept).await,
            None => None,
        };
        let kept = deployment.kept.clone();
        tracing::info!(job_id = %deployment.job_id, %attempt, slots = deployment.slots.len(), kept = kept.len(), restored = ?deployment.restored, "deploying");
        let subtasks: Vec<_> = deployment
            .slots
            .iter()
            .flat_map(|slot| &slot.subtasks)
            .map(|subtask| subtask.subtask)
            .chain(kept.iter().flat_map(|slot| slot.subtasks.iter().copied()))
            .collect();
        let threads = || Arc::new(Threads::new(Handle::current())) as Arc<dyn Host>;
        let host = self.host.get_or_insert_with(threads);
        let around = Surroundings {
            identity: &self.identity,
            peers: self.peers.as_deref(),
            host,
            events,
            clock: &self.clock,
        };
        match RunningAttempt::start(&mut self.pipeline, deployment, &around, before.as_ref()) {
            Ok(mut running) => {
                let said = running.take_over(before, &kept);
                self.running = Some(running);
                for event in said {
                    let _ = events.send(event).await;
                }
            }
            Err(error) => {
                if let Some(before) = before {
                    before.close().await;
                }
                tracing::error!(%attempt, %error, "the deployment failed");
                let failure = Failure::from(error);
                for subtask in subtasks {
                    let failure = Some(failure.clone());
                    let state = ExecutionState::Failed;
                    let _ = events
                        .send(WorkerEvent::SubtaskState {
                            attempt,
                            subtask,
                            state,
                            failure,
                        })
                        .await;
                }
            }
        }
    }

    fn on_heartbeat(&self, events: &mpsc::Sender<WorkerEvent>) {
        if let Some(running) = &self.running {
            // A full link drops a heartbeat rather than hold up commands: the next one says the same and more.
            let _ = events.try_send(WorkerEvent::Heartbeat {
                attempt: running.attempt(),
                subtasks: running.metrics(),
            });
        }
    }

    async fn close_attempt(&mut self) {
        if let Some(running) = self.running.take() {
            running.close().await;
        }
    }
}
