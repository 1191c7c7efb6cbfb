//! A machine under test with a small job, a clock, and an onlooker that checks every step.

use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_coordinator::action::Action;
use streamd_coordinator::event::{CheckpointOptions, Event, JobOptions, JobSpec, RestorePoint};
use streamd_coordinator::invariant::Audit;
use streamd_coordinator::job::{JobMachine, Recovery};
use streamd_core::barrier::SnapshotKind;
use streamd_core::graph::{
    CheckpointSettings, CheckpointingMode, ClaimMode, ExternalizedCheckpointRetention, JobEdge, JobGraph, JobVertex,
    Operator, OperatorKind, PLAN_VERSION, PartitionerKind, RestartStrategy,
};
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::key_group::KEY_HASH_VERSION;
use streamd_core::protocol::{WorkerCommand, WorkerRegistration};
use streamd_core::row::DataType;
use streamd_core::snapshot::{ListState, METADATA_VERSION, OperatorState, SnapshotMetadata};
use streamd_core::time::{MonotonicTime, WallTime};

pub const JOB: JobId = JobId::from_bytes([0xab; 16]);
pub const SPLITS: &str = "splits";

pub fn source_id() -> OperatorId {
    OperatorId::from_uid("source")
}

fn vertex(uid: &str, kind: OperatorKind, parallelism: u32) -> JobVertex {
    let initial_splits = (kind == OperatorKind::Source).then(|| splits((0..parallelism).map(|split| (split, 0))));
    JobVertex {
        id: OperatorId::from_uid(uid),
        name: uid.to_owned(),
        parallelism,
        max_parallelism: None,
        slot_sharing_group: "default".to_owned(),
        operators: vec![Operator {
            id: OperatorId::from_uid(uid),
            uid: Some(uid.to_owned()),
            name: uid.to_owned(),
            kind,
            states: Vec::new(),
            initial_splits,
            guarantee: None,
        }],
    }
}

/// The splits of the source: each a number and an offset.
pub fn splits(items: impl Iterator<Item = (u32, u32)>) -> ListState {
    ListState {
        name: SPLITS.to_owned(),
        data_type: DataType::UInt64,
        items: items
            .map(|(split, offset)| [split.to_le_bytes(), offset.to_le_bytes()].concat())
            .collect(),
    }
}

pub fn read_split(item: &[u8]) -> (u32, u32) {
    let number = |range: std::ops::Range<usize>| u32::from_le_bytes(item[range].try_into().expect("four bytes"));
    (number(0..4), number(4..8))
}

/// source ══hash══▶ sink
pub fn graph(parallelism: u32) -> JobGraph {
    JobGraph {
        version: PLAN_VERSION,
        name: "job".to_owned(),
        vertices: vec![
            vertex("source", OperatorKind::Source, parallelism),
            vertex("sink", OperatorKind::Sink, parallelism),
        ],
        edges: vec![JobEdge {
            source: 0,
            target: 1,
            partitioner: PartitionerKind::Hash,
        }],
        checkpointing: CheckpointSettings::default(),
        restart_strategy: None,
    }
}

/// A job whose slots have nothing to do with each other: each is a region. Its source has this many splits.
pub fn without_exchange(spec: &mut JobSpec, count: u32) {
    let graph = Arc::make_mut(&mut spec.graph);
    graph.edges[0].partitioner = PartitionerKind::Forward;
    graph.vertices[0].operators[0].initial_splits = Some(splits((0..count).map(|split| (split, 0))));
}

/// Two subtasks of each vertex, a checkpoint every second that may take five, three restarts half a second apart.
pub fn spec() -> JobSpec {
    let graph = graph(2);
    JobSpec {
        job_id: JOB,
        fingerprint: "the fingerprint".to_owned(),
        max_parallelism: vec![128, 128],
        restore: None,
        options: JobOptions {
            checkpointing: CheckpointOptions {
                interval_ms: Some(1_000),
                mode: CheckpointingMode::ExactlyOnce,
                timeout_ms: 5_000,
                min_pause_ms: 0,
                max_concurrent: 1,
                tolerable_failed: 0,
                retention: ExternalizedCheckpointRetention::NoExternalizedCheckpoints,
                num_retained: 1,
                incremental: false,
                compression: streamd_core::barrier::Compression::None,
            },
            state_backend: streamd_core::backend::StateBackendOptions::default(),
            restart_strategy: RestartStrategy::FixedDelay {
                attempts: 3,
                delay_ms: 500,
            },
            checkpoint_directory: Some("s3://c".to_owned()),
            savepoint_directory: Some("s3://s".to_owned()),
            claim_mode: ClaimMode::NoClaim,
            leader_epoch: 1,
            slot_request_timeout_ms: 60_000,
            worker_start_timeout_ms: 30_000,
            cancel_timeout_ms: 10_000,
        },
        graph: Arc::new(graph),
        first_worker: WorkerId(1),
    }
}

/// A savepoint `id` of an earlier life of the job.
pub fn restore_point(id: u64, offsets: [u32; 2]) -> RestorePoint {
    let list = splits((0..).zip(offsets));
    let metadata = SnapshotMetadata {
        version: METADATA_VERSION,
        key_hash_version: KEY_HASH_VERSION,
        kind: SnapshotKind::Savepoint,
        job_id: JobId::from_bytes([1; 16]),
        checkpoint_id: CheckpointId(id),
        triggered_at: WallTime(0),
        leader_epoch: 1,
        attempt: Attempt(1),
        nonce: String::new(),
        graph: graph(2),
        operators: vec![OperatorState {
            id: source_id(),
            uid: Some("source".to_owned()),
            name: "source".to_owned(),
            parallelism: 2,
            max_parallelism: 128,
            keyed: Vec::new(),
            lists: vec![list],
        }],
    };
    RestorePoint {
        metadata: Arc::new(metadata),
        uri: "s3://old/sp".to_owned(),
    }
}

/// A machine and what an onlooker knows of its workers.
pub struct Bench {
    pub machine: JobMachine,
    pub now: u64,
    /// What a clock on the wall shows at a time.
    pub wall: fn(u64) -> i64,
    pub attempt: Attempt,
    /// By live worker: its task manager, and its subtasks in the current attempt.
    pub workers: BTreeMap<WorkerId, (TaskManagerId, Vec<SubtaskId>)>,
    audit: Audit,
}

impl Bench {
    pub fn new(spec: JobSpec) -> Self {
        Self {
            audit: Audit::new(&spec),
            machine: JobMachine::new(spec),
            now: 0,
            wall: |now| now as i64,
            attempt: Attempt::NONE,
            workers: BTreeMap::new(),
        }
    }

    /// A job that another job manager ran before.
    pub fn recovered(spec: JobSpec, recovery: Recovery) -> Self {
        Self {
            audit: Audit::recovered(&spec, &recovery),
            attempt: recovery.attempt,
            machine: JobMachine::recovered(spec, recovery),
            now: 0,
            wall: |now| now as i64,
            workers: BTreeMap::new(),
        }
    }

    /// One event, checked by the onlooker.
    pub fn event(&mut self, event: Event) -> Vec<Action> {
        let now = MonotonicTime(self.now);
        let actions = self
            .machine
            .on_event(now, WallTime((self.wall)(self.now)), event.clone());
        if let Err(violation) = self.audit.observe(&self.machine, now, &event, &actions) {
            panic!("{violation}\n  after {event:?}\n  which led to {actions:#?}");
        }
        match &event {
            Event::WorkerLost(worker, _) => {
                self.workers.remove(worker);
            }
            Event::TaskManagerLost(lost) => self.workers.retain(|_, (task_manager, _)| task_manager != lost),
            _ => {}
        }
        for action in &actions {
            self.note(action);
        }
        actions
    }

    fn note(&mut self, action: &Action) {
        match action {
            Action::StartWorker { worker, task_manager } => {
                self.workers.insert(*worker, (task_manager.clone(), Vec::new()));
            }
            Action::StopWorker { worker } => {
                self.workers.remove(worker);
            }
            Action::Send {
                worker,
                command: WorkerCommand::Deploy(deployment),
            } => {
                self.attempt = deployment.attempt;
                let begun = deployment.slots.iter().flat_map(|slot| &slot.subtasks);
                let kept = deployment.kept.iter().flat_map(|slot| slot.subtasks.clone());
                let subtasks = begun.map(|it| it.subtask).chain(kept).collect();
                if let Some((_, deployed)) = self.workers.get_mut(worker) {
                    *deployed = subtasks;
                }
            }
            _ => {}
        }
    }

    pub fn registration(&self, worker: WorkerId) -> WorkerRegistration {
        let spec = self.machine.spec();
        WorkerRegistration {
            job_id: spec.job_id,
            worker,
            task_manager: self
                .workers
                .get(&worker)
                .map_or(TaskManagerId("?".to_owned()), |(id, _)| id.clone()),
            data_address: format!("host:{}", worker.0),
            fingerprint: spec.fingerprint.clone(),
            graph_outline: String::new(),
            process_id: 1_000 + worker.0 as u32,
        }
    }

    /// Every subtask with its worker.
    pub fn deployed(&self) -> Vec<(WorkerId, SubtaskId)> {
        self.workers
            .iter()
            .flat_map(|(worker, (_, subtasks))| subtasks.iter().map(move |subtask| (*worker, *subtask)))
            .collect()
    }
}
