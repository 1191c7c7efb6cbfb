//! What a job master and a worker say to each other. The link may be gRPC or a queue inside one process; the words are these.
//!
//! Every message carries the [`Attempt`]: either side ignores words of an older one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backend::StateBackendOptions;
use crate::barrier::Barrier;
use crate::id::{Attempt, CheckpointId, JobId, OperatorId, SubtaskId, TaskManagerId, WorkerId};
use crate::key_group::KeyGroupRange;
use crate::snapshot::{OperatorSubtaskState, SubtaskSnapshot};
use crate::time::EventTime;

/// From the job master to a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerCommand {
    /// Build and start these subtasks. A worker that still runs an older attempt drops it first, but for the slots that it keeps.
    Deploy(Box<Deployment>),
    /// Sources: emit this barrier.
    TriggerCheckpoint {
        /// The attempt that it is for.
        attempt: Attempt,
        /// The barrier.
        barrier: Barrier,
    },
    /// The checkpoint is complete and published: sinks commit.
    NotifyCheckpointComplete {
        /// The attempt that it is for.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// The checkpoint is given up. Sources that halted behind its barrier read on.
    NotifyCheckpointAborted {
        /// The attempt that it is for.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Sources: end now as if the input had ended (`stop --drain`).
    Drain {
        /// The attempt that it is for.
        attempt: Attempt,
    },
    /// How far the whole job has come in each watermark alignment group: whoever is too far ahead waits.
    AlignWatermarks {
        /// The attempt that it is for.
        attempt: Attempt,
        /// The least of all subtasks.
        groups: BTreeMap<String, EventTime>,
    },
    /// Everything is committed: subtasks close and report FINISHED.
    Finish {
        /// The attempt that it is for.
        attempt: Attempt,
    },
    /// Drop subtasks at once and report them CANCELED. The process stays for the next attempt.
    Cancel {
        /// The attempt that it is for.
        attempt: Attempt,
        /// The slots whose subtasks are not dropped: they go on while the others are restarted.
        kept: Vec<u32>,
    },
    /// The job needs this worker no more: exit.
    Shutdown,
}

/// From a worker to the job master.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEvent {
    /// The first word on a link of a worker that nothing was deployed to yet.
    Registered(WorkerRegistration),
    /// The first word on a later link, of a worker that runs an attempt: its job manager died, or another one leads now.
    Returned(Box<WorkerReturn>),
    /// A subtask changed its state.
    SubtaskState {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// The subtask.
        subtask: SubtaskId,
        /// Its new state.
        state: ExecutionState,
        /// Why, where the state is [`ExecutionState::Failed`].
        failure: Option<Failure>,
    },
    /// A subtask's part of a checkpoint is durable.
    Acknowledge {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The subtask.
        subtask: SubtaskId,
        /// Its state.
        snapshot: SubtaskSnapshot,
    },
    /// A subtask cannot take part in a checkpoint; the job goes on.
    Decline {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The subtask.
        subtask: SubtaskId,
        /// Why.
        reason: String,
    },
    /// A subtask has seen the end of all of its input and emitted everything; it still takes part in checkpoints.
    EndOfData {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// The subtask.
        subtask: SubtaskId,
    },
    /// Sign of life, with the counters of every subtask.
    Heartbeat {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Counters since the start of the attempt.
        subtasks: Vec<SubtaskMetrics>,
    },
}

/// Who a worker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRegistration {
    /// The job that it was started for.
    pub job_id: JobId,
    /// The number that it was started with.
    pub worker: WorkerId,
    /// The task manager that started it.
    pub task_manager: TaskManagerId,
    /// `host:port` where its peers reach it.
    pub data_address: String,
    /// The fingerprint of the graph that it built.
    pub fingerprint: String,
    /// A readable form of that graph, one operator a line, for the message that refuses a different one.
    pub graph_outline: String,
    /// Its process id.
    pub process_id: u32,
}

/// What a worker runs that comes back to its job after its link was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerReturn {
    /// Who it is.
    pub registration: WorkerRegistration,
    /// The attempt that it runs.
    pub attempt: Attempt,
    /// Where every subtask of the attempt runs, this worker's included.
    pub placement: Vec<WorkerPlacement>,
    /// The numbers of the slots that it holds at its task manager.
    pub slots: Vec<u32>,
    /// Its subtasks.
    pub subtasks: Vec<SubtaskReport>,
    /// The latest snapshot that it was told to take.
    pub last_snapshot: Option<CheckpointId>,
    /// Snapshots that it was told to take, and of whose outcome it was not told.
    pub open_snapshots: Vec<CheckpointId>,
    /// Whether its sources were told to end.
    pub is_drained: bool,
}

/// How a subtask is that a worker comes back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubtaskReport {
    /// Which.
    pub subtask: SubtaskId,
    /// The state of its execution.
    pub state: ExecutionState,
    /// Why, where the state is [`ExecutionState::Failed`].
    pub failure: Option<Failure>,
    /// Whether it has seen the end of its input.
    pub end_of_data: bool,
}

/// What one worker has to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// The job.
    pub job_id: JobId,
    /// The attempt.
    pub attempt: Attempt,
    /// The slots that begin, each with its subtasks.
    pub slots: Vec<SlotDeployment>,
    /// The slots that go on from the attempt before. All others end.
    pub kept: Vec<KeptSlot>,
    /// Where every subtask of the job runs, this worker's included.
    pub placement: Vec<WorkerPlacement>,
    /// The number of key groups of each vertex of the graph, by position.
    pub max_parallelism: Vec<u32>,
    /// The checkpoint that is restored; `None` at a fresh start.
    pub restored: Option<CheckpointId>,
    /// Where keyed state lives.
    pub state_backend: StateBackendOptions,
}

/// The subtasks that share a slot: they run on one thread.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotDeployment {
    /// The number of the slot at its task manager.
    pub slot: u32,
    /// Its subtasks, in order of vertex.
    pub subtasks: Vec<SubtaskDeployment>,
}

/// A slot whose subtasks run on in the next attempt, with the state that they have. A worker that does not run them any more reports them
/// FAILED; of those that it runs, it says again how each has ended, and whether its data has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSlot {
    /// The number of the slot at its task manager.
    pub slot: u32,
    /// Its subtasks, in order of vertex.
    pub subtasks: Vec<SubtaskId>,
}

/// One subtask with the state that it starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct SubtaskDeployment {
    /// Which.
    pub subtask: SubtaskId,
    /// The key groups that it owns.
    pub key_groups: KeyGroupRange,
    /// By operator: keyed state handles that overlap the range (absolute URIs), and its share of the lists.
    pub state: BTreeMap<OperatorId, OperatorSubtaskState>,
}

/// Where a worker is and which subtasks it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerPlacement {
    /// The worker.
    pub worker: WorkerId,
    /// `host:port` of its data plane.
    pub data_address: String,
    /// Its subtasks.
    pub subtasks: Vec<SubtaskId>,
}

/// The states of a subtask's execution, Flink's.
///
/// ```text
///   CREATED ─▶ SCHEDULED ─▶ DEPLOYING ─▶ INITIALIZING ─▶ RUNNING ─▶ FINISHED
///       └────────────┴───────────┴─────────────┴────────────┴─▶ CANCELING ─▶ CANCELED
///                    └───────────┴─────────────┴────────────┴─────────▶ FAILED
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExecutionState {
    /// Known, nothing done yet.
    Created,
    /// Waits for a slot.
    Scheduled,
    /// Has a slot; on its way to the worker.
    Deploying,
    /// The worker builds it and restores its state.
    Initializing,
    /// Processes records.
    Running,
    /// Has processed everything and committed it.
    Finished,
    /// Is told to stop.
    Canceling,
    /// Has stopped on request.
    Canceled,
    /// Has stopped by an error.
    Failed,
}

impl ExecutionState {
    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Canceled | Self::Failed)
    }

    /// Flink's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Scheduled => "SCHEDULED",
            Self::Deploying => "DEPLOYING",
            Self::Initializing => "INITIALIZING",
            Self::Running => "RUNNING",
            Self::Finished => "FINISHED",
            Self::Canceling => "CANCELING",
            Self::Canceled => "CANCELED",
            Self::Failed => "FAILED",
        }
    }
}

/// Why a subtask, worker or job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose fault it is.
    pub domain: FaultDomain,
    /// Whether a restart can help.
    #[serde(default, skip_serializing_if = "FailureKind::is_recoverable")]
    pub kind: FailureKind,
    /// What happened, with its chain of causes, on one line.
    pub message: String,
}

impl Failure {
    /// A failure that a restart may mend.
    pub fn new(domain: FaultDomain, message: impl Into<String>) -> Self {
        Self {
            domain,
            kind: FailureKind::Recoverable,
            message: message.into(),
        }
    }
}

/// Whether another attempt can end otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It can: the restart strategy decides.
    #[default]
    Recoverable,
    /// The snapshot that state is restored from is damaged: every attempt would read the same bytes.
    DamagedSnapshot,
    /// Output that was prepared and promised cannot be committed any more: every attempt would be told the same.
    OutputLost,
}

impl FailureKind {
    fn is_recoverable(&self) -> bool {
        *self == Self::Recoverable
    }
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultDomain {
    /// The application's code or the data it reads.
    User,
    /// The world around: a process killed, a disk full, a connection lost.
    External,
    /// streamd itself: a bug worth reporting.
    Internal,
}

/// Counters of one subtask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubtaskMetrics {
    /// Position of the vertex.
    pub vertex: u32,
    /// Index of the subtask.
    pub index: u32,
    /// Records that came in (for a source: that it read).
    pub records_in: u64,
    /// Nanoseconds spent processing.
    pub busy_ns: u64,
    /// Nanoseconds in which there was input but no room for output.
    pub backpressured_ns: u64,
    /// Records that came too late for their windows, and went nowhere.
    pub late_dropped: u64,
    /// How far its event time has come, in milliseconds since 1970; `None` where it has none.
    pub watermark: Option<i64>,
    /// How far its streams have come in each watermark alignment group that they are in.
    pub alignment: BTreeMap<String, EventTime>,
}
