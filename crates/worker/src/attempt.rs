//! One deployment of the job on this worker: its slots and channels, from DEPLOYING until everything is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use streamd_core::id::{Attempt, CheckpointId, SubtaskId};
use streamd_core::protocol::{
    Deployment, ExecutionState, Failure, FaultDomain, KeptSlot, SlotDeployment, SubtaskDeployment, SubtaskMetrics,
    WorkerEvent,
};
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
use streamd_runtime::subtask::Subtask;
use streamd_runtime::watermark::AlignmentGroups;
use streamd_snapshot::LocalCopies;
use streamd_state::{BackendChoice, SlotBackend};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::host::{Host, PeerChannels, Peers, SlotEnd};
use crate::reporter::Reporter;
use crate::standing::Standing;
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
    alignment: AlignmentGroups,
    backend: BackendChoice,
    writers: TaskTracker,
    host: Arc<dyn Host>,
}

struct RunningSlot {
    /// Its number at its task manager.
    number: u32,
    standing: Standing,
    counters: Vec<(SubtaskId, Arc<SubtaskCounters>)>,
    /// That of the attempt in which it began: a slot that is kept keeps its channels.
    network: Option<Arc<dyn PeerChannels>>,
    commands: SyncSender<SlotCommand>,
    waker: Waker,
    end: SlotEnd,
}

impl RunningAttempt {
    /// Builds and starts all slots that begin, beside those that are kept of the attempt before, if any are. Errors if the pipeline does
    /// not fit the deployment, or a thread cannot be started.
    pub fn start(
        pipeline: &mut Pipeline,
        deployment: Deployment,
        around: &Surroundings<'_>,
        before: Option<&Self>,
    ) -> Result<Self, TaskError> {
        let (job_id, attempt) = (deployment.job_id, deployment.attempt);
        let network = around.peers.map(|plane| {
            let peers: Vec<_> = deployment
                .placement
                .iter()
                .map(|peer| (peer.worker, peer.data_address.clone()))
                .collect();
            Arc::from(plane.for_attempt(job_id, attempt, around.identity.worker, &peers))
        });
        // Slots of one process share what it has: memory, and copies on the disk that the others may still need.
        let (backend, alignment, writers) = match before {
            Some(it) => (it.backend.clone(), it.alignment.clone(), it.writers.clone()),
            None => (
                backend(&deployment, around.identity)?,
                AlignmentGroups::default(),
                TaskTracker::new(),
            ),
        };
        let reporter = Reporter {
            job_id,
            standing: Standing::new(attempt),
            events: around.events.clone(),
            host: Arc::clone(around.host),
            io: around.host.io(),
            inlining: deployment.state_backend.inlining(),
            copies: backend.copies().cloned(),
            writers: writers.clone(),
        };
        let me = around.identity.worker;
        let mut building = Building {
            channels: Channels::connect(pipeline.graph(), &deployment, me, network.as_deref())?,
            pipeline,
            around,
            network,
            attempt,
            backend: backend.clone(),
            reporter,
            max_parallelism: deployment.max_parallelism,
            alignment: alignment.clone(),
        };
        let mut slots = Vec::new();
        for (position, slot) in deployment.slots.into_iter().enumerate() {
            slots.push(building.start_slot(position, slot)?);
        }
        Ok(Self {
            attempt,
            slots,
            alignment,
            backend,
            writers,
            host: Arc::clone(around.host),
        })
    }

    /// Which attempt it is.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Ends all slots but those that are kept, and waits until they are gone. Nothing where none is kept.
    pub async fn keep(mut self, kept: &[KeptSlot]) -> Option<Self> {
        let is_kept = |slot: &RunningSlot| kept.iter().any(|it| it.slot == slot.number);
        let (kept, others) = std::mem::take(&mut self.slots).into_iter().partition(is_kept);
        end(others).await;
        self.slots = kept;
        (!self.slots.is_empty()).then_some(self)
    }

    /// Takes over the slots that are kept. Returns what the job master is to be told of their subtasks.
    pub fn take_over(&mut self, before: Option<Self>, kept: &[KeptSlot]) -> Vec<WorkerEvent> {
        let attempt = self.attempt;
        let slots = before.map(|before| before.slots).unwrap_or_default();
        let is_gone = |it: &&KeptSlot| slots.iter().all(|slot| slot.number != it.slot);
        let gone = kept.iter().filter(is_gone).flat_map(|slot| &slot.subtasks);
        let gone = gone.map(|subtask| WorkerEvent::SubtaskState {
            attempt,
            subtask: *subtask,
            state: ExecutionState::Failed,
            failure: Some(Failure::new(
                FaultDomain::Internal,
                format!("subtask `{subtask}` was to go on, and does not run"),
            )),
        });
        let said: Vec<_> = gone
            .chain(slots.iter().flat_map(|slot| slot.standing.go_over(attempt)))
            .collect();
        self.slots.extend(slots);
        said
    }

    /// Tells every slot.
    pub fn tell(&self, command: &SlotCommand) {
        self.tell_others(command, &[]);
    }

    /// Tells every slot but some.
    pub fn tell_others(&self, command: &SlotCommand, but: &[u32]) {
        for slot in self.slots.iter().filter(|slot| !but.contains(&slot.number)) {
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
        if let Some(copies) = self.backend.copies().cloned() {
            self.host.run_writer(Box::new(move || work(copies)));
        }
    }

    /// The counters of all subtasks.
    pub fn metrics(&self) -> Vec<SubtaskMetrics> {
        self.slots
            .iter()
            .flat_map(|slot| &slot.counters)
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
        end(self.slots).await;
        self.writers.close();
    }
}

async fn end(slots: Vec<RunningSlot>) {
    for RunningSlot { commands, waker, .. } in &slots {
        // One that is full, or has ended, hears that nobody commands it any more.
        let _told = commands.try_send(SlotCommand::Cancel);
        waker.wake();
    }
    for RunningSlot {
        commands,
        waker,
        end,
        network,
        ..
    } in slots
    {
        drop(commands);
        waker.wake();
        end.await;
        drop(network);
    }
}

/// What the slots of an attempt are built from.
struct Building<'a> {
    pipeline: &'a mut Pipeline,
    around: &'a Surroundings<'a>,
    channels: Channels,
    network: Option<Arc<dyn PeerChannels>>,
    attempt: Attempt,
    backend: BackendChoice,
    reporter: Reporter,
    /// The number of key groups of each vertex.
    max_parallelism: Vec<u32>,
    alignment: AlignmentGroups,
}

impl Building<'_> {
    fn start_slot(&mut self, position: usize, deployment: SlotDeployment) -> Result<RunningSlot, TaskError> {
        let backend = self.backend.slot();
        let (waker, parker) = self.channels.slot_wake(position);
        let standing = Standing::new(self.attempt);
        self.reporter.standing = standing.clone();
        let (mut subtasks, mut counters) = (Vec::new(), Vec::new());
        for deployment in deployment.subtasks {
            let subtask = self.subtask(deployment.subtask)?;
            counters.push((deployment.subtask, subtask.counters()));
            subtasks.push((subtask, self.context(deployment, backend.clone(), &waker)));
        }
        let (commands, receiver) = sync_channel(SLOT_COMMANDS);
        let (reporter, clock) = (Box::new(self.reporter.clone()), Arc::clone(self.around.clock));
        let slot = Slot::new(subtasks, receiver, parker, reporter, clock);
        let end = self.around.host.run_slot(deployment.slot, slot);
        let end = end.map_err(|error| TaskError::external("a slot's thread cannot be started", &error))?;
        Ok(RunningSlot {
            number: deployment.slot,
            standing,
            counters,
            network: self.network.clone(),
            commands,
            waker,
            end,
        })
    }

    fn subtask(&mut self, id: SubtaskId) -> Result<Subtask, TaskError> {
        let (gate, outputs) = self.channels.take(id);
        let wiring = Wiring {
            id,
            gate,
            outputs,
            reporter: Box::new(self.reporter.clone()),
        };
        self.pipeline.build(wiring, &self.max_parallelism)
    }

    fn context(&self, deployment: SubtaskDeployment, backend: SlotBackend, waker: &Waker) -> OpenContext {
        let vertex = deployment.subtask.vertex as usize;
        let known = &self.pipeline.graph().vertices[vertex];
        OpenContext {
            job_id: self.reporter.job_id,
            attempt: self.attempt,
            subtask: deployment.subtask,
            parallelism: known.parallelism,
            key_groups: deployment.key_groups,
            max_parallelism: self
                .max_parallelism
                .get(vertex)
                .copied()
                .unwrap_or_else(|| known.effective_max_parallelism()),
            nonce: streamd_snapshot::random_nonce(),
            state: deployment.state,
            backend,
            restored_at_once: self.around.host.restored_at_once(),
            io: self.around.host.io(),
            clock: Arc::clone(self.around.clock),
            at_hand: AtHand::default(),
            alarm: Alarm::default(),
            completions: Completions::waking(waker.clone()),
            late_dropped: LateCounter::default(),
            source: None,
            alignment: self.alignment.clone(),
        }
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
