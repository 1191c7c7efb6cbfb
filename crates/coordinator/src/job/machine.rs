//! The machine itself: its parts, the way of an event through it, and what happens by itself as time passes.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;

use streamd_core::graph::ClaimMode;
use streamd_core::id::{Attempt, SubtaskId};
use streamd_core::protocol::{ExecutionState, Failure, SubtaskMetrics, WorkerCommand};
use streamd_core::time::{MonotonicTime, WallTime};

use crate::action::Action;
use crate::checkpoint::{CheckpointCoordinator, Discarded, Origin};
use crate::event::{Event, JobSpec, RestorePoint};
use crate::execution::ExecutionGraph;
use crate::failover::Failover;
use crate::failure::FailureRecord;
use crate::job::evacuation::Evacuation;
use crate::job::phase::{Course, Phase};
use crate::lifecycle::JobState;
use crate::operation::Operations;
use crate::placement::SharedSlots;
use crate::restore::ListOwners;
use crate::workers::Workers;

/// How many failures are remembered: as many as Flink shows.
const FAILURES_KEPT: usize = 16;

/// One job: what happens goes in, what is to be done comes out.
///
/// Whoever carries the actions out keeps three promises: they are carried out in order; every
/// [`Publish`](Action::Publish) is answered by one [`Published`](Event::Published), and every
/// [`Promote`](Action::Promote) by one [`Promoted`](Event::Promoted), in bounded time; and a
/// [`Tick`](Event::Tick) comes at the latest at [`next_deadline`](Self::next_deadline).
#[derive(Debug, Clone)]
pub struct JobMachine {
    pub(super) spec: JobSpec,
    pub(super) phase: Phase,
    pub(super) attempt: Attempt,
    pub(super) execution: ExecutionGraph,
    /// Which subtasks had which slot in the latest attempt that got any.
    pub(super) slots: SharedSlots,
    pub(super) workers: Workers,
    pub(super) failover: Failover,
    pub(super) checkpoints: CheckpointCoordinator,
    pub(super) operations: Operations,
    /// What the next attempt starts from.
    pub(super) restore: Option<RestorePoint>,
    /// How many elements of each list in that each subtask had; `None`: as many as are dealt out to it at a restore of the whole job.
    pub(super) owners: Option<ListOwners>,
    /// What the current attempt started from.
    pub(super) restored: Option<RestorePoint>,
    /// Whether the job is about to end by a stop whose savepoint is complete, as another job manager left it.
    pub(super) is_stopping: bool,
    /// Folders to delete once no subtask of the attempt can write into them any more.
    pub(super) deferred: Vec<Discarded>,
    pub(super) failures: VecDeque<FailureRecord>,
    pub(super) metrics: BTreeMap<SubtaskId, SubtaskMetrics>,
    /// Whether the attempt has completed a checkpoint.
    pub(super) has_progressed: bool,
    /// The move off task managers that are to be empty, until the next attempt.
    pub(super) evacuation: Option<Evacuation>,
    /// The actions of the event at hand.
    pub(super) out: Vec<Action>,
}

/// The time of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: MonotonicTime,
    pub(super) wall: WallTime,
}

impl JobMachine {
    /// A job that has not begun: CREATED until [`Event::Start`].
    pub fn new(spec: JobSpec) -> Self {
        let restored = spec.restore.as_ref().map(|point| point.metadata.checkpoint_id);
        let mut machine = Self {
            phase: Phase::Created,
            attempt: Attempt::NONE,
            execution: ExecutionGraph::new(&spec.graph),
            slots: SharedSlots::new(),
            workers: Workers::new(spec.first_worker),
            failover: Failover::new(spec.options.restart_strategy.clone(), spec.job_id),
            checkpoints: CheckpointCoordinator::new(spec.options.checkpointing.clone(), restored),
            operations: Operations::default(),
            restore: spec.restore.clone(),
            owners: None,
            restored: spec.restore.clone(),
            is_stopping: false,
            deferred: Vec::new(),
            failures: VecDeque::new(),
            metrics: BTreeMap::new(),
            has_progressed: false,
            evacuation: None,
            out: Vec::new(),
            spec,
        };
        if let Some(RestorePoint { metadata, uri }) = machine.claimed().cloned() {
            let id = metadata.checkpoint_id;
            machine.checkpoints.claim(id, uri, &metadata);
        }
        machine
    }

    /// The snapshot that the job started from, where it became the job's own.
    pub(super) fn claimed(&self) -> Option<&RestorePoint> {
        let claims = self.spec.options.claim_mode == ClaimMode::Claim;
        self.spec.restore.as_ref().filter(|_| claims)
    }

    /// What follows from an event, in the order in which it is to be done. A job that has ended absorbs everything.
    pub fn on_event(&mut self, now: MonotonicTime, wall: WallTime, event: Event) -> Vec<Action> {
        if self.state().is_terminal() {
            return Vec::new();
        }
        let at = Moment { now, wall };
        match event {
            Event::Start => self.on_start(at),
            Event::Reconcile { timeout_ms } => self.on_reconcile(at, timeout_ms),
            Event::SlotsAllocated(slots) => self.on_slots(at, &slots),
            Event::Worker(worker, event) => self.on_worker(at, worker, event),
            Event::WorkerLost(worker, failure) => self.on_worker_lost(at, worker, failure),
            Event::TaskManagerLost(task_manager) => self.on_task_manager_lost(at, &task_manager),
            Event::Published(checkpoint, result) => self.on_published(at, checkpoint, result),
            Event::Promoted(operation, result) => self.on_promoted(at, operation, result),
            Event::Evacuate(task_manager) => self.on_evacuate(at, task_manager),
            Event::Cancel => self.on_cancel(at),
            Event::Operation(request) => self.on_operation(at, request),
            Event::Tick => {}
        }
        while self.step(at) {}
        mem::take(&mut self.out)
    }

    /// When the machine wants an [`Event::Tick`] at the latest; `None` if only something else can move it on.
    pub fn next_deadline(&self) -> Option<MonotonicTime> {
        match &self.phase {
            Phase::Created | Phase::Settling | Phase::Starting | Phase::Ended(_) => None,
            Phase::Reconciling { deadline, .. }
            | Phase::WaitingForSlots { deadline }
            | Phase::WaitingForWorkers { deadline, .. } => Some(*deadline),
            Phase::Running(Course::Draining { operation }) => {
                let drain = self.operations.running(*operation).and_then(|drain| drain.deadline);
                self.checkpoints.deadline().into_iter().chain(drain).min()
            }
            Phase::Running(Course::Processing) => {
                let evacuation = self.evacuation_deadline();
                self.checkpoints.deadline().into_iter().chain(evacuation).min()
            }
            Phase::Running(_) => self.checkpoints.deadline(),
            Phase::BackingOff { until } => Some(*until),
            Phase::Dropping { deadline, .. } | Phase::Failing { deadline, .. } | Phase::Cancelling { deadline, .. } => {
                self.execution.any_in(ExecutionState::Canceling).then_some(*deadline)
            }
        }
    }

    /// One thing that is due by itself, if any is. Each leaves the condition false that it was due by, so this ends.
    fn step(&mut self, at: Moment) -> bool {
        match &self.phase {
            Phase::Created | Phase::Ended(_) => false,
            Phase::Reconciling { .. } => self.step_reconciling(at),
            Phase::WaitingForSlots { deadline } => *deadline <= at.now && self.give_up_slots(at),
            Phase::WaitingForWorkers { placement, deadline } => {
                if placement.workers().all(|worker| self.workers.is_registered(worker)) {
                    self.deploy();
                    true
                } else {
                    *deadline <= at.now && self.give_up_workers(at)
                }
            }
            Phase::Starting => self.execution.all_in(ExecutionState::Running) && self.on_all_running(at),
            Phase::Running(course) => match course {
                Course::Processing => self.on_data_ended(at) || self.step_snapshots(at) || self.step_evacuation(at),
                Course::Draining { operation } => {
                    let operation = *operation;
                    self.on_drained(at, operation) || self.step_snapshots(at)
                }
                Course::LastCheckpoint | Course::Stopping { .. } => self.step_snapshots(at),
                Course::Finishing { .. } => self.step_finishing() || self.step_snapshots(at),
            },
            Phase::Dropping { deadline, .. } | Phase::Failing { deadline, .. } | Phase::Cancelling { deadline, .. } => {
                let overdue = *deadline <= at.now;
                self.step_dropping(at, overdue)
            }
            Phase::BackingOff { until } => *until <= at.now && self.end_back_off(at),
            Phase::Settling => !self.is_unsettled() && self.begin_attempt(at),
        }
    }

    /// Goes to another phase, and tells of it if users see the difference.
    pub(super) fn enter(&mut self, phase: Phase, failure: Option<Failure>) {
        let (from, to) = (self.phase.job_state(), phase.job_state());
        self.phase = phase;
        if from != to {
            assert!(
                from.can_transition_to(to),
                "invariant I15: a job went from {} to {}",
                from.name(),
                to.name()
            );
            self.out.push(Action::StateChanged { from, to, failure });
        }
    }

    /// Says something to every worker that runs subtasks of this attempt.
    pub(super) fn broadcast(&mut self, command: &WorkerCommand) {
        for worker in self.execution.workers() {
            if self.workers.is_live(worker) {
                self.out.push(Action::Send {
                    worker,
                    command: command.clone(),
                });
            }
        }
    }

    /// Keeps a failure of the current attempt for those who ask.
    pub(super) fn remember(&mut self, at: Moment, failure: Failure, restart_delay_ms: Option<u64>) {
        if self.failures.len() == FAILURES_KEPT {
            self.failures.pop_front();
        }
        self.failures.push_back(FailureRecord {
            failure,
            attempt: self.attempt,
            at: at.wall,
            restart_delay_ms,
        });
    }

    /// What every snapshot of this attempt says of itself.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            job_id: self.spec.job_id,
            leader_epoch: self.spec.options.leader_epoch,
            attempt: self.attempt,
            graph: Arc::clone(&self.spec.graph),
            max_parallelism: self.spec.max_parallelism.clone(),
        }
    }

    /// Whether the job takes checkpoints.
    pub(super) fn takes_checkpoints(&self) -> bool {
        self.spec.options.checkpointing.interval_ms.is_some() && self.spec.options.checkpoint_directory.is_some()
    }

    /// The state of the job.
    pub fn state(&self) -> JobState {
        self.phase.job_state()
    }
}
