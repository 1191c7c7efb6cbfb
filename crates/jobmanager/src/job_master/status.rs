//! What can be known about a job from outside: its state at each change, and all details on request.

use std::sync::Arc;

use streamd_coordinator::event::JobSpec;
use streamd_coordinator::failure::FailureRecord;
use streamd_coordinator::job::{CheckpointStatistics, JobMachine, RestoredFrom, WorkerView};
use streamd_coordinator::lifecycle::JobState;
use streamd_core::id::{Attempt, JobId, SubtaskId};
use streamd_core::protocol::{ExecutionState, SubtaskMetrics};
use streamd_core::time::WallTime;

/// The state of a job, as watchers see it.
#[derive(Debug, Clone)]
pub struct JobStatus {
    /// The job.
    pub job_id: JobId,
    /// Its name.
    pub name: Arc<str>,
    /// Its state.
    pub state: JobState,
    /// Whether the job manager has let go of it because it shuts down. Nothing follows.
    pub suspended: bool,
    /// When it was accepted.
    pub started_at: WallTime,
    /// When it ended.
    pub ended_at: Option<WallTime>,
    /// How often it was started again.
    pub restarts: u32,
    /// Its last failure.
    pub last_failure: Option<FailureRecord>,
}

impl JobStatus {
    /// The status of a job that has just been accepted.
    pub(crate) fn new(spec: &JobSpec, now: WallTime) -> Self {
        Self {
            job_id: spec.job_id,
            name: spec.graph.name.as_str().into(),
            state: JobState::Created,
            suspended: false,
            started_at: now,
            ended_at: None,
            restarts: 0,
            last_failure: None,
        }
    }

    /// Whether nothing follows.
    pub fn is_over(&self) -> bool {
        self.suspended || self.state.is_terminal()
    }
}

/// All there is to know about a job.
#[derive(Debug, Clone)]
pub struct JobDetails {
    /// Its state.
    pub status: JobStatus,
    /// What it was started as.
    pub spec: JobSpec,
    /// The current attempt.
    pub attempt: Attempt,
    /// Every subtask, by vertex and index.
    pub vertices: Vec<Vec<SubtaskView>>,
    /// The snapshot that the current attempt's state comes from.
    pub restored_from: Option<RestoredFrom>,
    /// How its checkpoints fared.
    pub checkpoints: CheckpointStatistics,
    /// Its last failures, first to last.
    pub failures: Vec<FailureRecord>,
    /// Its live workers.
    pub workers: Vec<WorkerView>,
}

/// A subtask of the current attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubtaskView {
    /// The state of its execution.
    pub state: ExecutionState,
    /// Its counters.
    pub metrics: SubtaskMetrics,
}

impl JobDetails {
    /// What a machine says about its job.
    pub(super) fn of(machine: &JobMachine, status: JobStatus) -> Self {
        let vertices = machine.spec().graph.vertices.iter().zip(0..);
        Self {
            spec: machine.spec().clone(),
            attempt: machine.attempt(),
            vertices: vertices
                .map(|(vertex, position)| subtasks(machine, position, vertex.parallelism))
                .collect(),
            restored_from: machine.restored_from(),
            checkpoints: machine.checkpoints(),
            failures: failures(machine, &status),
            workers: machine.workers(),
            status,
        }
    }
}

/// What the machine remembers, or why there is nothing yet that it could: the job is not recovered.
fn failures(machine: &JobMachine, status: &JobStatus) -> Vec<FailureRecord> {
    let remembered: Vec<_> = machine.failures().cloned().collect();
    match remembered.is_empty() {
        true => status.last_failure.iter().cloned().collect(),
        false => remembered,
    }
}

fn subtasks(machine: &JobMachine, vertex: u32, parallelism: u32) -> Vec<SubtaskView> {
    (0..parallelism)
        .map(|index| {
            let subtask = SubtaskId { vertex, index };
            SubtaskView {
                state: machine.execution(subtask),
                metrics: machine.metrics(subtask).unwrap_or_default(),
            }
        })
        .collect()
}
