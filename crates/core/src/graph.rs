//! The job graph: what an application asks for, as data.
//!
//! ```text
//!   vertex 0 "Source: flights -> parse"  ══hash══▶  vertex 1 "statistics -> Sink: files"
//!        │ parallelism 2                                 │ parallelism 3
//!        └ operators, chained: each with its own id, uid and state
//! ```
//!
//! The same graph is built three times: when the application is *described*, and in every worker; [`JobGraph::fingerprint`]
//! proves that they agree.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::barrier::Compression;
use crate::evolution::Evolution;
use crate::id::OperatorId;
use crate::key_group::default_max_parallelism;
use crate::row::DataType;
use crate::snapshot::ListState;
use crate::state::State;

/// The version of the plan descriptor that this build writes.
pub const PLAN_VERSION: u32 = 1;

/// A job as the application described it: vertices (chains of operators), edges, and the settings made in code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobGraph {
    /// [`PLAN_VERSION`] of the build that wrote it.
    pub version: u32,
    /// The job's name, for people.
    pub name: String,
    /// The vertices in topological order: edges lead from lower positions to higher ones.
    pub vertices: Vec<JobVertex>,
    /// The exchanges between vertices.
    pub edges: Vec<JobEdge>,
    /// Checkpointing, as set in code. Takes precedence over the configuration.
    pub checkpointing: CheckpointSettings,
    /// The restart strategy set in code, if any. Takes precedence over the configuration.
    pub restart_strategy: Option<RestartStrategy>,
}

/// A chain of operators that runs as one subtask per parallel instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobVertex {
    /// The id of the first operator of the chain.
    pub id: OperatorId,
    /// The operators' names, joined with ` -> `.
    pub name: String,
    /// How many subtasks.
    pub parallelism: u32,
    /// The number of key groups set in code; `None` lets streamd choose, and adopt what a restored snapshot has.
    pub max_parallelism: Option<u32>,
    /// Subtasks of one group share slots: slot `i` holds subtask `i` of every vertex of the group.
    pub slot_sharing_group: String,
    /// The operators of the chain, first to last.
    pub operators: Vec<Operator>,
}

/// An operator: a step of the application with an identity and, perhaps, state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operator {
    /// From the uid, or generated from the graph.
    pub id: OperatorId,
    /// The uid given in code.
    pub uid: Option<String>,
    /// The name, for people.
    pub name: String,
    /// What it is in the graph.
    pub kind: OperatorKind,
    /// The state that it declared.
    pub states: Vec<StateDescriptor>,
    /// For a source: its splits at the start of a job that restores nothing.
    pub initial_splits: Option<ListState>,
    /// For sources and sinks: what they promise.
    pub guarantee: Option<Guarantee>,
}

/// What an operator is in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorKind {
    /// Reads records from outside.
    Source,
    /// Turns records into records.
    Transformation,
    /// Writes records outside.
    Sink,
}

/// The strongest promise that a source or sink keeps over failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// Records may be lost or doubled after a failure (a source that cannot be replayed).
    AtMostOnce,
    /// No record is lost; some may be seen twice after a failure.
    AtLeastOnce,
    /// Every record counts once.
    ExactlyOnce,
}

/// A named piece of state of an operator, with its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDescriptor {
    /// The name: with the operator's uid, the identity of the state.
    pub name: String,
    /// How it is organised and redistributed.
    pub kind: StateKind,
    /// The schema of one value: of the element for operator list state.
    pub value: DataType,
    /// What the types within the value say of their older versions.
    #[serde(default, skip_serializing_if = "Evolution::is_empty")]
    pub evolution: Evolution,
}

impl StateDescriptor {
    /// A list of elements of this type.
    pub fn list<T: State>(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: StateKind::List,
            value: T::data_type(),
            evolution: Evolution::of::<T>(),
        }
    }

    /// A union list of elements of this type.
    pub fn union_list<T: State>(name: impl Into<String>) -> Self {
        Self {
            kind: StateKind::Union,
            ..Self::list::<T>(name)
        }
    }
}

/// How state is organised, and how it is dealt out when the parallelism changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// One value per key; a key lives in the subtask that owns its key group.
    Keyed {
        /// The schema of the key.
        key: DataType,
    },
    /// A list of elements per subtask; the concatenation of all lists is dealt out anew.
    List,
    /// A list of elements per subtask; every subtask gets the concatenation of all lists.
    Union,
    /// The entries of a map that is the same in every subtask; one writes them, and every subtask gets them. Described as
    /// [`Union`](Self::Union) by versions before 0.1.0.
    Broadcast,
}

/// An exchange of records from every subtask of one vertex to some of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEdge {
    /// Position of the producing vertex.
    pub source: u32,
    /// Position of the consuming vertex.
    pub target: u32,
    /// Which subtask a record goes to.
    pub partitioner: PartitionerKind,
}

/// Which of the consuming subtasks a record goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PartitionerKind {
    /// To the subtask with the same index. Both vertices have the same parallelism.
    Forward,
    /// To the subtask that owns the key group of the record's key.
    Hash,
    /// To all subtasks in turn.
    Rebalance,
    /// To every subtask.
    Broadcast,
    /// To subtask 0.
    Global,
    /// To the subtasks of the consumer's share in turn: each producer has a few consumers, or each consumer a few producers.
    Rescale,
    /// To any subtask, by chance.
    Shuffle,
    /// To the subtask that a function of the application says.
    Custom,
}

impl PartitionerKind {
    /// The consuming subtasks that producer `index` of `sources` has a channel to, of `targets` altogether.
    pub fn targets_of(self, index: u32, sources: u32, targets: u32) -> std::ops::Range<u32> {
        match self {
            Self::Forward => index..index + 1,
            // All of them for `Global` too: watermarks, barriers and the end go to those as well that get no records.
            Self::Hash | Self::Rebalance | Self::Broadcast | Self::Shuffle | Self::Custom | Self::Global => 0..targets,
            Self::Rescale => {
                // In wide numbers: the product of two parallelisms need not fit.
                let share = |index: u32| (u64::from(index) * u64::from(targets) / u64::from(sources.max(1))) as u32;
                share(index)..share(index + 1).max(share(index) + 1)
            }
        }
    }
}

/// Checkpointing of a job. A field that is `None` was not set in code: the configuration decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointSettings {
    /// Milliseconds from one periodic checkpoint to the next; `None` and unset in the configuration: checkpointing is disabled.
    pub interval_ms: Option<u64>,
    /// Exactly-once or at-least-once.
    pub mode: Option<CheckpointingMode>,
    /// Milliseconds after which a checkpoint that is not complete is given up.
    pub timeout_ms: Option<u64>,
    /// Milliseconds between the completion of one periodic checkpoint and the start of the next.
    pub min_pause_ms: Option<u64>,
    /// How many checkpoints may be under way at once.
    pub max_concurrent: Option<u32>,
    /// How many checkpoints in a row may fail before the job does.
    pub tolerable_failed: Option<u32>,
    /// What becomes of the last checkpoint when the job ends.
    pub retention: Option<ExternalizedCheckpointRetention>,
    /// Whether a checkpoint refers to the last one for what has not changed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incremental: Option<bool>,
    /// How keyed state is compressed in checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
}

impl CheckpointSettings {
    /// These settings; where they say nothing, the others.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        Self {
            interval_ms: self.interval_ms.or(others.interval_ms),
            mode: self.mode.or(others.mode),
            timeout_ms: self.timeout_ms.or(others.timeout_ms),
            min_pause_ms: self.min_pause_ms.or(others.min_pause_ms),
            max_concurrent: self.max_concurrent.or(others.max_concurrent),
            tolerable_failed: self.tolerable_failed.or(others.tolerable_failed),
            retention: self.retention.or(others.retention),
            incremental: self.incremental.or(others.incremental),
            compression: self.compression.or(others.compression),
        }
    }
}

/// How strictly barriers are aligned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CheckpointingMode {
    /// Every record is in the state of a checkpoint exactly once.
    #[default]
    ExactlyOnce,
    /// Barriers do not hold back records; some may count twice after a failure.
    AtLeastOnce,
}

/// What becomes of the last completed checkpoint when the job is cancelled. Kept when it fails in both externalized modes;
/// deleted when it finishes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExternalizedCheckpointRetention {
    /// Deleted however the job ends.
    #[default]
    NoExternalizedCheckpoints,
    /// Deleted when the job is cancelled, kept when it fails.
    DeleteOnCancellation,
    /// Kept when the job is cancelled or fails.
    RetainOnCancellation,
}

/// Whose the snapshot is that a job starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClaimMode {
    /// The user's: it is never touched and never deleted.
    #[default]
    NoClaim,
    /// The job's from now on: it counts as one of its checkpoints, and is deleted as one.
    Claim,
}

/// What to do when a job fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum RestartStrategy {
    /// The first failure is the end.
    None,
    /// A fixed number of restarts over the life of the job, a fixed time apart.
    FixedDelay {
        /// Restarts before the job fails.
        attempts: u32,
        /// Milliseconds before each.
        delay_ms: u64,
    },
    /// Restarts for as long as failures are rare.
    FailureRate {
        /// Failures within the interval that are still followed by a restart.
        max_failures: u32,
        /// How many milliseconds failures are counted over.
        interval_ms: u64,
        /// Milliseconds before each restart.
        delay_ms: u64,
    },
    /// Restarts ever further apart. The first failure after a quiet time that is no more than the loss of a process is
    /// followed by a restart at once.
    ExponentialDelay {
        /// Milliseconds before the first restart.
        initial_backoff_ms: u64,
        /// The most milliseconds before a restart.
        max_backoff_ms: u64,
        /// Growth from one restart to the next, in percent (150 is half as much again).
        multiplier_percent: u32,
        /// Milliseconds without failure after which the delay is the initial one again.
        reset_after_ms: u64,
        /// By how many percent each delay is longer or shorter than that, so that jobs that failed together do not all come back
        /// together.
        #[serde(default = "default_jitter_percent")]
        jitter_percent: u32,
        /// Restarts without such a quiet time in between before the job fails; `None`: any number.
        #[serde(default)]
        attempts: Option<u32>,
    },
}

/// Flink's default of `restart-strategy.exponential-delay.jitter-factor`.
fn default_jitter_percent() -> u32 {
    10
}

impl JobGraph {
    /// A job of this name, of which nothing is known yet: no vertices, no settings.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            version: PLAN_VERSION,
            name: name.into(),
            vertices: Vec::new(),
            edges: Vec::new(),
            checkpointing: CheckpointSettings::default(),
            restart_strategy: None,
        }
    }

    /// 32 hexadecimal digits that two graphs share exactly if every vertex, operator, state schema, edge and setting agrees.
    /// The splits that sources found are left out: they may change between two looks.
    pub fn fingerprint(&self) -> String {
        let mut graph = self.clone();
        for operator in graph.vertices.iter_mut().flat_map(|vertex| &mut vertex.operators) {
            operator.initial_splits = None;
        }
        let canonical = serde_json::to_vec(&graph).expect("a job graph holds nothing that JSON cannot");
        format!("{:032x}", xxh3_128(&canonical))
    }

    /// The slots that the job needs: for each slot sharing group, in order of first use, its largest parallelism.
    pub fn slots_by_group(&self) -> Vec<(String, u32)> {
        let mut groups: Vec<(String, u32)> = Vec::new();
        for vertex in &self.vertices {
            match groups.iter_mut().find(|(name, _)| *name == vertex.slot_sharing_group) {
                Some((_, slots)) => *slots = (*slots).max(vertex.parallelism),
                None => groups.push((vertex.slot_sharing_group.clone(), vertex.parallelism)),
            }
        }
        groups
    }

    /// Every operator with the vertex that runs it.
    pub fn operators(&self) -> impl Iterator<Item = (&JobVertex, &Operator)> {
        self.vertices
            .iter()
            .flat_map(|vertex| vertex.operators.iter().map(move |operator| (vertex, operator)))
    }

    /// The promise that the whole job keeps where checkpoints are taken in this mode: the weakest of its sources, its sinks and
    /// the mode.
    pub fn guarantee(&self, mode: CheckpointingMode) -> Guarantee {
        let of_mode = match mode {
            CheckpointingMode::ExactlyOnce => Guarantee::ExactlyOnce,
            CheckpointingMode::AtLeastOnce => Guarantee::AtLeastOnce,
        };
        let of_operators = self.operators().filter_map(|(_, operator)| operator.guarantee);
        of_operators.fold(of_mode, Guarantee::min)
    }
}

/// A readable form of a graph, one operator a line, so that two graphs can be compared line by line:
/// vertex, parallelism, the operator's label and id, and its states with their schemas.
///
/// Both sides of a deployment print it: the job master for what it expects, the worker for what it built.
pub fn graph_outline(graph: &JobGraph) -> String {
    let mut lines = Vec::new();
    for (position, vertex) in graph.vertices.iter().enumerate() {
        for operator in &vertex.operators {
            lines.push(format!(
                "vertex {position} `{}` x{} operator `{}` {}{}",
                vertex.name,
                vertex.parallelism,
                operator.label(),
                operator.id,
                outline_of_states(&operator.states)
            ));
        }
    }
    for edge in &graph.edges {
        lines.push(format!(
            "edge {} -> {} {:?}",
            edge.source, edge.target, edge.partitioner
        ));
    }
    lines.join("\n")
}

fn outline_of_states(states: &[StateDescriptor]) -> String {
    let mut text = String::new();
    for state in states {
        let schema = match &state.kind {
            StateKind::Keyed { key } => format!("{key:?} -> {:?}", state.value),
            StateKind::List => format!("list of {:?}", state.value),
            StateKind::Union => format!("union list of {:?}", state.value),
            StateKind::Broadcast => format!("broadcast {:?}", state.value),
        };
        text.push_str(&format!(" state `{}`: {schema}", state.name));
    }
    text
}

impl JobVertex {
    /// The number of key groups: set in code, or the default for the parallelism.
    pub fn effective_max_parallelism(&self) -> u32 {
        self.max_parallelism
            .unwrap_or_else(|| default_max_parallelism(self.parallelism))
    }
}

impl Operator {
    /// How messages call the operator: its uid where it has one, else its name.
    pub fn label(&self) -> &str {
        self.uid.as_deref().unwrap_or(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescaling_gives_every_consumer_a_producer_and_spreads_them_evenly() {
        for (sources, targets) in [(1, 1), (2, 4), (4, 2), (3, 5), (5, 3), (7, 1), (1, 7), (6, 6)] {
            let mut producers = vec![0u32; targets as usize];
            for index in 0..sources {
                let range = PartitionerKind::Rescale.targets_of(index, sources, targets);
                assert!(
                    !range.is_empty() && range.end <= targets,
                    "{sources} to {targets}: {range:?}"
                );
                range.for_each(|target| producers[target as usize] += 1);
            }
            let (least, most) = (producers.iter().min(), producers.iter().max());
            assert!(
                least >= Some(&1) && most <= Some(&sources.div_ceil(targets)),
                "{producers:?}"
            );
        }
    }
}
