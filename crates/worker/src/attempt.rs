//! One deployment of the job on this worker: its slots and channels, from DEPLOYING until everything is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use streamd_core::id::{Attempt, CheckpointId, SubtaskId};
use streamd_core::protocol::{Deployment, SlotDeployment, SubtaskDeployment, SubtaskMetrics, WorkerEvent};
use streamd_core::time::{Clock, EventTime};
use streamd_exchange::wake::Waker;
use streamd_runtime::alarm::Alarm;
use streamd_runtime::at_hand::AtHand;
use streamd_runtime::chain::OpenContext;
use streamd_runtime::completions::Completions;
use streamd_runtime::counters::SubtaskCounters;
use streamd_runtime::error::TaskError;
use streamd_runtime::late::LateCounter;
use streamd_runtime::pipeline::{Pipeline, Wiring};
use streamd_runtime::slot::{Slot, SlotCommand};
use streamd_runtime::watermark::AlignmentGroups;
use streamd_snapshot::LocalCopies;
use streamd_state::BackendChoice;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::host::{Host, PeerChannels, Peers, SlotEnd};
use crate::reporter::Reporter;
use crate::wiring::Channels;
use crate::worker::WorkerIdentity;

/// Commands that a slot may be behind by. Each checkpoint brings at most two, and the job master waits for their answers:
/// a slot that is further behind is stuck in user code.
const SLOT_COMMANDS: usize = 1024;

/// What an attempt needs from its worker.
pub struct Surroundings<'a> {
    /// Who the worker is.
    pub identity: &'a WorkerIdentity,
    /// Where its peers reach it; `None` where it has none.
    pub peers: Option<&'a dyn Peers>,
    /// Who runs what blocks.
    pub host: &'a Arc<dyn Host>,
    /// To the job master.
    pub events: &'a mpsc::Sender<WorkerEvent>,
    /// The time.
    pub clock: &'a Arc<dyn Clock>,
}

/// A deployment that runs.
pub struct RunningAttempt {
    attempt: Attempt,
    slots: Vec<RunningSlot>,
    counters: Vec<(SubtaskId, Arc<SubtaskCounters>)>,
    alignment: AlignmentGroups,
    network: Option<Box<dyn PeerChannels>>,
    writers: TaskTracker,
    copies: Option<LocalCopies>,
    host: Arc<dyn Host>,
}

struct RunningSlot {
    commands: SyncSender<SlotCommand>,
    waker: Waker,
    end: SlotEnd,
}

impl RunningAttempt {
    /// Builds and starts all slots. Errors if the pipeline does not fit the deployment, or a thread cannot be started.
    pub fn start(
        pipeline: &mut Pipeline,
        deployment: Deployment,
        around: &Surroundings<'_>,
    ) -> Result<Self, TaskError> {
        let attempt = deployment.attempt;
        let network = around.peers.map(|plane| {
            let peers: Vec<_> = deployment
                .placement
                .iter()
                .map(|peer| (peer.worker, peer.data_address.clone()))
                .collect();
            plane.for_attempt(deployment.job_id, attempt, around.identity.worker, &peers)
        });
        let writers = TaskTracker::new();
        let inlining = deployment.state_backend.inlining();
        let chosen = backend(&deployment, around.identity)?;
        let reporter = Reporter {
            job_id: deployment.job_id,
            attempt,
            events: around.events.clone(),
            host: Arc::clone(around.host),
            io: around.host.io(),
            inlining,
            copies: chosen.copies().cloned(),
            writers: writers.clone(),
        };
        let mut channels = Channels::connect(
            pipeline.graph(),
            &deployment,
            around.identity.worker,
            network.as_deref(),
        )?;
        let mut running = Self {
            attempt,
            slots: Vec::new(),
            counters: Vec::new(),
            alignment: AlignmentGroups::default(),
            network,
            writers,
            copies: chosen.copies().cloned(),
            host: Arc::clone(around.host),
        };
        let max_parallelism = deployment.max_parallelism;
        let alignment = running.alignment.clone();
        for (position, SlotDeployment { slot, subtasks }) in deployment.slots.into_iter().enumerate() {
            let mut built = Vec::new();
            let backend = chosen.slot();
            let (waker, parker) = channels.slot_wake(position);
            for SubtaskDeployment {
                subtask,
                key_groups,
                state,
            } in subtasks
            {
                let vertex = &pipeline.graph().vertices[subtask.vertex as usize];
                let context = OpenContext {
                    job_id: deployment.job_id,
                    attempt,
                    subtask,
                    parallelism: vertex.parallelism,
                    key_groups,
                    max_parallelism: max_parallelism
                        .get(subtask.vertex as usize)
                        .copied()
                        .unwrap_or_else(|| vertex.effective_max_parallelism()),
                    nonce: streamd_snapshot::random_nonce(),
                    state,
                    backend: backend.clone(),
                    io: around.host.io(),
                    clock: Arc::clone(around.clock),
                    at_hand: AtHand::default(),
                    alarm: Alarm::default(),
                    completions: Completions::waking(waker.clone()),
                    late_dropped: LateCounter::default(),
                    source: None,
                    alignment: alignment.clone(),
                };
                let (gate, outputs) = channels.take(subtask);
                let wiring = Wiring {
                    id: subtask,
                    gate,
                    outputs,
                    reporter: Box::new(reporter.clone()),
                };
                let subtask = pipeline.build(wiring, &max_parallelism)?;
                running.counters.push((subtask.id(), subtask.counters()));
                built.push((subtask, context));
            }
            let (commands, receiver) = sync_channel(SLOT_COMMANDS);
            let slot_loop = Slot::new(
                built,
                receiver,
                parker,
                Box::new(reporter.clone()),
                Arc::clone(around.clock),
            );
            let end = around.host.run_slot(slot, slot_loop);
            let end = end.map_err(|error| TaskError::external("a slot's thread cannot be started", &error))?;
            running.slots.push(RunningSlot { commands, waker, end });
        }
        Ok(running)
    }

    /// Which attempt it is.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Tells every slot.
    pub fn tell(&self, command: &SlotCommand) {
        for slot in &self.slots {
            match slot.commands.try_send(command.clone()) {
                // A slot that has ended has said so itself.
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(_)) => {
                    tracing::warn!(?command, "a slot does not take commands: user code blocks it")
                }
            }
            slot.waker.wake();
        }
    }

    /// A checkpoint is complete: whoever waits for that is told, and copies of those before it go.
    pub fn checkpoint_complete(&self, checkpoint: CheckpointId) {
        self.tell(&SlotCommand::Complete(checkpoint));
        self.on_copies(move |copies| copies.complete(checkpoint));
    }

    /// A checkpoint will never be complete.
    pub fn checkpoint_aborted(&self, checkpoint: CheckpointId) {
        self.tell(&SlotCommand::Aborted(checkpoint));
        self.on_copies(move |copies| copies.aborted(checkpoint));
    }

    /// Works on the local disk, beside the slots.
    fn on_copies(&self, work: impl FnOnce(LocalCopies) + Send + 'static) {
        if let Some(copies) = self.copies.clone() {
            self.host.run_writer(Box::new(move || work(copies)));
        }
    }

    /// The counters of all subtasks.
    pub fn metrics(&self) -> Vec<SubtaskMetrics> {
        self.counters
            .iter()
            .map(|(subtask, counters)| SubtaskMetrics {
                alignment: self.alignment.of_subtask(*subtask),
                ..counters.read(*subtask)
            })
            .collect()
    }

    /// How far the whole job has come in each watermark alignment group.
    pub fn align_watermarks(&self, groups: BTreeMap<String, EventTime>) {
        self.alignment.set_least(groups);
    }

    /// Ends all slots, and waits until they are gone.
    pub async fn close(self) {
        self.tell(&SlotCommand::Cancel);
        for RunningSlot { commands, waker, end } in self.slots {
            drop(commands);
            waker.wake();
            end.await;
        }
        self.writers.close();
        drop(self.network);
    }
}

/// The backend of a deployment, with what earlier attempts have left here of the state that it restores.
fn backend(deployment: &Deployment, identity: &WorkerIdentity) -> Result<BackendChoice, TaskError> {
    let directory = identity.local_directory.clone();
    let chosen = BackendChoice::new(deployment.state_backend.clone(), deployment.slots.len(), directory);
    let chosen = chosen.map_err(|error| TaskError::user("the job cannot run", &error))?;
    let subtasks = deployment.slots.iter().flat_map(|slot| &slot.subtasks);
    let handles = subtasks
        .flat_map(|subtask| subtask.state.values())
        .flat_map(|state| &state.keyed);
    let restored = handles.flat_map(|handle| &handle.objects);
    Ok(chosen.recovering_from(identity.recovery_directory.as_deref(), restored))
}
