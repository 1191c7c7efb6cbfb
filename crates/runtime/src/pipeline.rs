//! From the application to its subtasks: the steps as the application declared them, and the chains built from them.
//!
//! ```text
//!   steps       source ─▶ map ─▶ filter ─hash▶ reduce ─▶ sink
//!   vertices   [source ─▶ map ─▶ filter]      [reduce ─▶ sink]      consecutive forward edges are chained
//!   subtasks    ×2                             ×3                    built here, wired by the worker
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::{
    CheckpointSettings, Guarantee, JobEdge, JobGraph, JobVertex, Operator as OperatorDescription, OperatorKind,
    PLAN_VERSION, PartitionerKind, RestartStrategy, StateDescriptor,
};
use streamd_core::id::{OperatorId, SubtaskId};
use streamd_core::snapshot::ListState;
use streamd_exchange::channel::ChannelSender;
use streamd_exchange::gate::InputGate;

use crate::chain::{AnyLink, OperatorIdentity, Outputs};
use crate::error::TaskError;
use crate::head::{Head, InputTask, SourceTask};
use crate::side_output::SideLink;
use crate::subtask::{Subtask, SubtaskReporter};

/// A step of the application.
pub struct Step {
    /// The name, for people.
    pub name: String,
    /// The uid, if given.
    pub uid: Option<String>,
    /// What it is.
    pub kind: OperatorKind,
    /// How many subtasks; `None`: the application's default.
    pub parallelism: Option<u32>,
    /// The number of key groups, if set.
    pub max_parallelism: Option<u32>,
    /// Whether it may share a subtask with the step before it.
    pub chained: bool,
    /// The slot sharing group.
    pub slot_sharing_group: String,
    /// The state that it keeps.
    pub states: Vec<StateDescriptor>,
    /// What it promises, where it is a source or sink.
    pub guarantee: Option<Guarantee>,
    /// Makes the step for a subtask.
    pub factory: StepFactory,
    /// Where its records come from.
    pub inputs: Vec<StepInput>,
}

/// Makes a step for each subtask, and links it to what follows.
pub enum StepFactory {
    /// A source.
    Source {
        /// Makes the head of a chain.
        make: MakeSource,
        /// Finds the splits of a fresh start, for a parallelism.
        splits: FindSplits,
    },
    /// Anything that takes records.
    Operator {
        /// Makes a link of a chain.
        make: MakeLink,
        /// Makes a link the first of a chain.
        head: fn(AnyLink) -> Result<Box<dyn InputTask>, TaskError>,
    },
}

/// Makes a source, linked to its consumers.
pub type MakeSource = Box<dyn FnMut(OperatorIdentity, Vec<AnyLink>) -> Result<Box<dyn SourceTask>, TaskError> + Send>;

/// Finds the splits of a source.
pub type FindSplits = Box<dyn FnMut(u32) -> Result<ListState, CodedError> + Send>;

/// Makes an operator, linked to its consumers.
pub type MakeLink = Box<dyn FnMut(OperatorIdentity, Outputs) -> Result<AnyLink, TaskError> + Send>;

/// Links the consumers of a side output to it.
pub type MakeSideLink = fn(&str, Vec<AnyLink>) -> Result<Box<dyn SideLink>, TaskError>;

/// Makes the exit of an edge, given what its partitioner became, its channels, and the number of key groups of the consuming
/// vertex.
pub type MakeExit = Box<dyn FnMut(PartitionerKind, Vec<ChannelSender>, u32) -> Result<AnyLink, TaskError> + Send>;

/// An edge to a step.
pub struct StepInput {
    /// The position of the step that emits.
    pub from: usize,
    /// The side output that the records come from; `None`: the main one.
    pub side: Option<SideInput>,
    /// How records are partitioned; `None`: forward where the parallelism agrees, else rebalance.
    pub partitioner: Option<PartitionerKind>,
    /// Makes the exit for records that leave the subtask.
    pub exit: MakeExit,
}

/// Which side output of a step an edge begins at.
#[derive(Debug, Clone, Copy)]
pub struct SideInput {
    /// The name of its tag.
    pub id: &'static str,
    /// Links its consumers.
    pub link: MakeSideLink,
}

/// Settings of the whole job.
#[derive(Debug, Clone, Default)]
pub struct JobSettings {
    /// The job's name.
    pub name: String,
    /// The parallelism of steps that set none.
    pub parallelism: u32,
    /// The number of key groups of steps that set none.
    pub max_parallelism: Option<u32>,
    /// Whether steps are chained at all.
    pub chaining: bool,
    /// Checkpointing as set in code.
    pub checkpointing: CheckpointSettings,
    /// The restart strategy set in code.
    pub restart_strategy: Option<RestartStrategy>,
}

/// A job that can be described, and whose subtasks can be built.
pub struct Pipeline {
    graph: JobGraph,
    steps: Vec<Step>,
    identities: Vec<OperatorIdentity>,
    /// For each vertex the position of its first step.
    heads: Vec<usize>,
    /// For each step its consumers, in order of declaration.
    consumers: Vec<Vec<Consumer>>,
}

#[derive(Debug, Clone, Copy)]
struct Consumer {
    /// The consuming step, and which of its inputs.
    step: usize,
    input: usize,
    /// The edge of the job graph; `None`: the consumer is chained.
    edge: Option<usize>,
}

/// The surroundings of a subtask.
pub struct Wiring {
    /// Which subtask.
    pub id: SubtaskId,
    /// Its input; `None` for a source.
    pub gate: Option<InputGate>,
    /// For each outgoing edge (its position in the graph), the channels to the consumers that the subtask sends to.
    pub outputs: BTreeMap<usize, Vec<ChannelSender>>,
    /// Whom it tells.
    pub reporter: Box<dyn SubtaskReporter>,
}

impl Pipeline {
    /// Puts the steps together. Steps refer to earlier steps only.
    pub fn new(mut steps: Vec<Step>, settings: JobSettings) -> Self {
        let parallelism: Vec<u32> = steps
            .iter()
            .map(|step| step.parallelism.unwrap_or(settings.parallelism))
            .collect();
        let identities = identities(&steps);
        let mut consumers: Vec<Vec<Consumer>> = steps.iter().map(|_| Vec::new()).collect();
        let mut graph = JobGraph {
            version: PLAN_VERSION,
            name: settings.name.clone(),
            vertices: Vec::new(),
            edges: Vec::new(),
            checkpointing: settings.checkpointing.clone(),
            restart_strategy: settings.restart_strategy.clone(),
        };
        let mut heads = Vec::new();
        let mut vertex_of: Vec<usize> = Vec::new();
        for position in 0..steps.len() {
            let chained_to = chain_input(&steps, position, &parallelism, settings.chaining);
            let operator = describe(&mut steps[position], &identities[position]);
            match chained_to {
                Some(from) => {
                    let vertex = vertex_of[from];
                    vertex_of.push(vertex);
                    graph.vertices[vertex].operators.push(operator);
                    consumers[from].push(Consumer {
                        step: position,
                        input: 0,
                        edge: None,
                    });
                }
                None => {
                    let vertex = graph.vertices.len();
                    vertex_of.push(vertex);
                    heads.push(position);
                    let step = &steps[position];
                    graph.vertices.push(JobVertex {
                        id: identities[position].id,
                        name: String::new(),
                        parallelism: parallelism[position],
                        max_parallelism: step.max_parallelism.or(settings.max_parallelism),
                        slot_sharing_group: step.slot_sharing_group.clone(),
                        operators: vec![operator],
                    });
                    for (input, edge) in step.inputs.iter().enumerate() {
                        let forward = parallelism[edge.from] == parallelism[position];
                        let partitioner = edge.partitioner.unwrap_or(if forward {
                            PartitionerKind::Forward
                        } else {
                            PartitionerKind::Rebalance
                        });
                        consumers[edge.from].push(Consumer {
                            step: position,
                            input,
                            edge: Some(graph.edges.len()),
                        });
                        graph.edges.push(JobEdge {
                            source: vertex_of[edge.from] as u32,
                            target: vertex as u32,
                            partitioner,
                        });
                    }
                }
            }
        }
        for vertex in &mut graph.vertices {
            vertex.name = vertex.operators.iter().map(shown_name).collect::<Vec<_>>().join(" -> ");
        }
        Self {
            graph,
            steps,
            identities,
            heads,
            consumers,
        }
    }

    /// What the job is, as data.
    pub fn graph(&self) -> &JobGraph {
        &self.graph
    }

    /// What the job is, with the splits that its sources find now.
    pub fn describe(&mut self) -> Result<JobGraph, CodedError> {
        let mut graph = self.graph.clone();
        for (vertex, &head) in graph.vertices.iter_mut().zip(&self.heads) {
            if let StepFactory::Source { splits, .. } = &mut self.steps[head].factory {
                vertex.operators[0].initial_splits = Some(splits(vertex.parallelism)?);
            }
        }
        Ok(graph)
    }

    /// Builds one subtask. `max_parallelism` is the number of key groups of each vertex, as deployed.
    pub fn build(&mut self, mut wiring: Wiring, max_parallelism: &[u32]) -> Result<Subtask, TaskError> {
        let vertex = wiring.id.vertex as usize;
        let Some(&head) = self.heads.get(vertex) else {
            return Err(TaskError::internal(format!(
                "vertex {vertex} was deployed but the job has {}",
                self.heads.len()
            )));
        };
        let next = self.links_after(head, &mut wiring.outputs, max_parallelism)?;
        let identity = self.identities[head].clone();
        let head = match (&mut self.steps[head].factory, wiring.gate) {
            (StepFactory::Source { make, .. }, None) => Head::Source(make(identity, next.main)?),
            (StepFactory::Operator { make, head }, Some(gate)) => Head::Input(gate, head(make(identity, next)?)?),
            (StepFactory::Source { .. }, Some(_)) | (StepFactory::Operator { .. }, None) => {
                return Err(TaskError::internal(format!(
                    "vertex {vertex} was wired with the wrong inputs"
                )));
            }
        };
        Ok(Subtask::new(
            wiring.id,
            Arc::from(self.graph.vertices[vertex].name.as_str()),
            head,
            wiring.reporter,
        ))
    }

    fn links_after(
        &mut self,
        step: usize,
        outputs: &mut BTreeMap<usize, Vec<ChannelSender>>,
        max_parallelism: &[u32],
    ) -> Result<Outputs, TaskError> {
        let mut main = Vec::new();
        let mut sides: BTreeMap<&'static str, (MakeSideLink, Vec<AnyLink>)> = BTreeMap::new();
        for consumer in self.consumers[step].clone() {
            let link = match consumer.edge {
                Some(edge) => {
                    let JobEdge {
                        target, partitioner, ..
                    } = self.graph.edges[edge];
                    let senders = outputs
                        .remove(&edge)
                        .ok_or_else(|| TaskError::internal(format!("edge {edge} was not wired")))?;
                    let key_groups = max_parallelism.get(target as usize).copied();
                    let key_groups =
                        key_groups.unwrap_or_else(|| self.graph.vertices[target as usize].effective_max_parallelism());
                    (self.steps[consumer.step].inputs[consumer.input].exit)(partitioner, senders, key_groups)?
                }
                None => {
                    let next = self.links_after(consumer.step, outputs, max_parallelism)?;
                    let identity = self.identities[consumer.step].clone();
                    match &mut self.steps[consumer.step].factory {
                        StepFactory::Operator { make, .. } => make(identity, next)?,
                        StepFactory::Source { .. } => {
                            return Err(TaskError::internal("a source cannot follow another step"));
                        }
                    }
                }
            };
            match self.steps[consumer.step].inputs[consumer.input].side {
                None => main.push(link),
                Some(SideInput { id, link: make }) => sides.entry(id).or_insert((make, Vec::new())).1.push(link),
            }
        }
        let sides = sides.into_iter().map(|(id, (make, links))| make(id, links));
        Ok(Outputs {
            main,
            sides: sides.collect::<Result<_, _>>()?,
        })
    }
}

/// The step that this one shares a subtask with, if it does. A forward edge that joins steps of different parallelism stays an edge, which
/// the job manager refuses: chained, one of the two would be ignored.
fn chain_input(steps: &[Step], position: usize, parallelism: &[u32], chaining: bool) -> Option<usize> {
    let step = &steps[position];
    let [input] = step.inputs.as_slice() else { return None };
    let forward = matches!(input.partitioner, None | Some(PartitionerKind::Forward));
    let same_place = parallelism[input.from] == parallelism[position]
        && step.slot_sharing_group == steps[input.from].slot_sharing_group
        && step.max_parallelism == steps[input.from].max_parallelism;
    (chaining && step.chained && forward && same_place).then_some(input.from)
}

fn describe(step: &mut Step, identity: &OperatorIdentity) -> OperatorDescription {
    OperatorDescription {
        id: identity.id,
        uid: step.uid.clone(),
        name: step.name.clone(),
        kind: step.kind,
        states: step.states.clone(),
        initial_splits: None,
        guarantee: step.guarantee,
    }
}

fn shown_name(operator: &OperatorDescription) -> String {
    match operator.kind {
        OperatorKind::Source => format!("Source: {}", operator.name),
        OperatorKind::Sink => format!("Sink: {}", operator.name),
        OperatorKind::Transformation => operator.name.clone(),
    }
}

/// The ids of all steps: of the uid, or of the step's place in the graph, so that the same program gets the same ids.
fn identities(steps: &[Step]) -> Vec<OperatorIdentity> {
    let mut identities: Vec<OperatorIdentity> = Vec::new();
    for (position, step) in steps.iter().enumerate() {
        let id = match &step.uid {
            Some(uid) => OperatorId::from_uid(uid),
            None => {
                let inputs: Vec<String> = step
                    .inputs
                    .iter()
                    .map(|input| identities[input.from].id.to_string())
                    .collect();
                OperatorId::from_uid(&format!("\u{0}generated/{position}/{}", inputs.join("+")))
            }
        };
        let label = step.uid.as_deref().unwrap_or(&step.name);
        identities.push(OperatorIdentity {
            id,
            label: Arc::from(label),
        });
    }
    identities
}

impl From<TaskError> for CodedError {
    fn from(error: TaskError) -> Self {
        Self::new(ErrorCode::InvalidJobGraph, error.to_string())
    }
}
