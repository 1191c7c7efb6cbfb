//! The channels of a deployment: by pointer between subtasks of this worker, through the data plane to all others.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::graph::{JobEdge, JobGraph};
use streamd_core::id::{SubtaskId, WorkerId};
use streamd_core::protocol::Deployment;
use streamd_exchange::channel::{ChannelReceiver, ChannelSender, local_channel};
use streamd_exchange::gate::InputGate;
use streamd_exchange::network::ChannelKey;
use streamd_exchange::wake::{Parker, Waker};
use streamd_runtime::error::TaskError;

use crate::host::PeerChannels;

/// Batches that a channel inside the process holds: enough that a producer on another thread need not wait for each one,
/// few enough that they stay in the cache on their way.
const LOCAL_CHANNEL_BATCHES: usize = 8;

/// All channels of the subtasks that this worker runs, until they are taken.
pub(crate) struct Channels {
    inputs: BTreeMap<SubtaskId, Vec<ChannelReceiver>>,
    outputs: BTreeMap<SubtaskId, BTreeMap<usize, Vec<ChannelSender>>>,
    wakes: Vec<(Waker, Option<Parker>)>,
}

impl Channels {
    pub(crate) fn connect(
        graph: &JobGraph,
        deployment: &Deployment,
        me: WorkerId,
        network: Option<&dyn PeerChannels>,
    ) -> Result<Self, TaskError> {
        let mut connecting = Connecting {
            worker_of: BTreeMap::new(),
            slot_of: BTreeMap::new(),
            kept: deployment
                .kept
                .iter()
                .flat_map(|slot| &slot.subtasks)
                .copied()
                .collect(),
            me,
            network,
            channels: Self {
                inputs: BTreeMap::new(),
                outputs: BTreeMap::new(),
                wakes: Vec::new(),
            },
        };
        for peer in &deployment.placement {
            connecting
                .worker_of
                .extend(peer.subtasks.iter().map(|subtask| (*subtask, peer.worker)));
        }
        for (position, slot) in deployment.slots.iter().enumerate() {
            connecting
                .slot_of
                .extend(slot.subtasks.iter().map(|subtask| (subtask.subtask, position)));
            let (waker, parker) = Waker::new();
            connecting.channels.wakes.push((waker, Some(parker)));
        }
        for (position, edge) in graph.edges.iter().enumerate() {
            connecting.connect_edge(graph, position, edge)?;
        }
        Ok(connecting.channels)
    }

    /// The input and the outputs of a subtask.
    pub(crate) fn take(&mut self, subtask: SubtaskId) -> (Option<InputGate>, BTreeMap<usize, Vec<ChannelSender>>) {
        (
            self.inputs.remove(&subtask).map(InputGate::new),
            self.outputs.remove(&subtask).unwrap_or_default(),
        )
    }

    /// How to wake the slot at this position of the deployment, and what it sleeps on. Once for each slot.
    pub(crate) fn slot_wake(&mut self, position: usize) -> (Waker, Parker) {
        let (waker, parker) = &mut self.wakes[position];
        (waker.clone(), parker.take().expect("each slot is started once"))
    }
}

struct Connecting<'a> {
    worker_of: BTreeMap<SubtaskId, WorkerId>,
    slot_of: BTreeMap<SubtaskId, usize>,
    /// What runs here already, with its channels: none leads from there to what begins.
    kept: BTreeSet<SubtaskId>,
    me: WorkerId,
    network: Option<&'a dyn PeerChannels>,
    channels: Channels,
}

impl Connecting<'_> {
    fn connect_edge(&mut self, graph: &JobGraph, position: usize, edge: &JobEdge) -> Result<(), TaskError> {
        let consumers = graph.vertices[edge.target as usize].parallelism;
        let producers = graph.vertices[edge.source as usize].parallelism;
        for producer in 0..producers {
            let from = SubtaskId {
                vertex: edge.source,
                index: producer,
            };
            for consumer in edge.partitioner.targets_of(producer, producers, consumers) {
                let to = SubtaskId {
                    vertex: edge.target,
                    index: consumer,
                };
                self.connect_channel(position, from, to)?;
            }
        }
        Ok(())
    }

    fn connect_channel(&mut self, edge: usize, from: SubtaskId, to: SubtaskId) -> Result<(), TaskError> {
        let key = ChannelKey {
            edge: edge as u32,
            source: from.index,
            target: to.index,
        };
        if self.kept.contains(&from) || self.kept.contains(&to) {
            return Ok(());
        }
        let (producer, consumer) = (self.worker_of(from)?, self.worker_of(to)?);
        if producer == self.me && consumer == self.me {
            let (sender, receiver) = local_channel(LOCAL_CHANNEL_BATCHES, self.waker_of(to)?, self.waker_of(from)?);
            self.add_output(edge, from, sender);
            self.add_input(to, receiver);
        } else if producer == self.me {
            let sender = self.network()?.sender(consumer, key, self.waker_of(from)?);
            self.add_output(edge, from, sender);
        } else if consumer == self.me {
            let receiver = self.network()?.receiver(producer, key, self.waker_of(to)?);
            self.add_input(to, receiver);
        }
        Ok(())
    }

    fn add_output(&mut self, edge: usize, from: SubtaskId, sender: ChannelSender) {
        self.channels
            .outputs
            .entry(from)
            .or_default()
            .entry(edge)
            .or_default()
            .push(sender);
    }

    fn add_input(&mut self, to: SubtaskId, receiver: ChannelReceiver) {
        self.channels.inputs.entry(to).or_default().push(receiver);
    }

    fn worker_of(&self, subtask: SubtaskId) -> Result<WorkerId, TaskError> {
        self.worker_of
            .get(&subtask)
            .copied()
            .ok_or_else(|| TaskError::internal(format!("subtask {subtask} was placed nowhere")))
    }

    fn waker_of(&self, subtask: SubtaskId) -> Result<Waker, TaskError> {
        let slot = self.slot_of.get(&subtask);
        let slot =
            slot.ok_or_else(|| TaskError::internal(format!("subtask {subtask} was placed here but in no slot")))?;
        Ok(self.channels.wakes[*slot].0.clone())
    }

    fn network(&self) -> Result<&dyn PeerChannels, TaskError> {
        self.network
            .ok_or_else(|| TaskError::internal("the job has several workers but this one has no data plane"))
    }
}
