//! Going on where another job manager left off: what it recorded, and the workers that it left running.
//!
//! ```text
//!   Reconciling ── all workers of the attempt are back ──▶ Starting ─▶ Running      (the same attempt)
//!        ├──────── one of its subtasks finished ─────────▶ Running(Finishing)
//!        ├──────── one has failed, is lost, or is late ──▶ Dropping ─▶ …            (the next attempt, from the last checkpoint)
//!        └──────── whatever of these, and the job is cancelled ──▶ Cancelling ─▶ …
//! ```

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::id::{Attempt, CheckpointId, SubtaskId, WorkerId};
use streamd_core::protocol::{ExecutionState, Failure, FaultDomain, WorkerReturn};
use streamd_core::time::MonotonicTime;

use crate::action::Action;
use crate::checkpoint::{CompletedCheckpoint, Discarded};
use crate::event::{JobSpec, RestorePoint, SlotId};
use crate::failure::FailureRecord;
use crate::job::machine::{JobMachine, Moment};
use crate::job::phase::{Course, Phase};
use crate::lifecycle::JobState;
use crate::operation::MAX_UNDER_WAY;

/// What is recorded of a job that another job manager ran.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// The last attempt that may have begun; [`Attempt::NONE`] if none did.
    pub attempt: Attempt,
    /// The last failures before that, first to last.
    pub failures: Vec<FailureRecord>,
    /// The greatest number that a snapshot of the job is known to have.
    pub last_snapshot: Option<CheckpointId>,
    /// The checkpoints that are complete, oldest first.
    pub completed: Vec<(CheckpointId, CompletedCheckpoint)>,
    /// What the next attempt starts from; `None`: as the job did.
    pub restore: Option<RestorePoint>,
    /// Whether that is the savepoint of a stop whose output may be committed already.
    pub is_stopping: bool,
    /// Folders that are no checkpoints and hold objects that complete ones refer to, with all objects that are there.
    pub partly_needed: Vec<(CheckpointId, String, BTreeSet<String>)>,
    /// Folders of checkpoints that were never completed.
    pub abandoned: Vec<Discarded>,
}

/// What the workers say that are back.
#[derive(Debug, Clone, Default)]
pub(super) struct Reunion {
    /// Who runs what; empty until the first is back.
    placement: BTreeMap<WorkerId, Vec<SubtaskId>>,
    slots: BTreeSet<SlotId>,
    last_snapshot: Option<CheckpointId>,
    open_snapshots: BTreeSet<CheckpointId>,
    is_drained: bool,
    /// Why the attempt cannot go on.
    failure: Option<Failure>,
}

impl JobMachine {
    /// A job that another job manager ran. CREATED until [`Event::Start`](crate::event::Event::Start), where nothing of it runs
    /// any more, or [`Event::Reconcile`](crate::event::Event::Reconcile).
    pub fn recovered(spec: JobSpec, recovery: Recovery) -> Self {
        let mut machine = Self::new(spec);
        machine.attempt = recovery.attempt;
        machine.failures = recovery.failures.into();
        let known = recovery.last_snapshot;
        let next = known.map_or(machine.checkpoints.next_id(), |known| machine.after(known));
        machine
            .checkpoints
            .recover(next, recovery.completed, recovery.partly_needed);
        machine.restore = recovery.restore.or(machine.restore);
        machine.restored = machine.restore.clone();
        machine.is_stopping = recovery.is_stopping;
        machine.deferred = recovery.abandoned;
        machine
    }

    /// A job that has ended, for those who ask after it.
    pub fn ended(spec: JobSpec, attempt: Attempt, state: JobState, failures: Vec<FailureRecord>) -> Self {
        assert!(state.is_terminal(), "invariant I15: a job ended as {}", state.name());
        let mut machine = Self::new(spec);
        machine.attempt = attempt;
        machine.phase = Phase::Ended(state);
        machine.failures = failures.into();
        machine.execution.settle(match state {
            JobState::Finished => ExecutionState::Finished,
            JobState::Canceled => ExecutionState::Canceled,
            JobState::Failed
            | JobState::Initializing
            | JobState::Created
            | JobState::Reconciling
            | JobState::Running
            | JobState::Restarting
            | JobState::Failing
            | JobState::Cancelling => ExecutionState::Failed,
        });
        machine
    }

    pub(super) fn on_reconcile(&mut self, at: Moment, timeout_ms: u64) {
        if !matches!(self.phase, Phase::Created) {
            return;
        }
        if self.attempt == Attempt::NONE {
            self.begin_attempt(at);
            return;
        }
        let deadline = at.now.plus(timeout_ms);
        let phase = Phase::Reconciling {
            deadline,
            reunion: Reunion::default(),
            is_cancelled: false,
        };
        self.enter(phase, None);
    }

    /// A worker is back. One of another attempt, or that comes when the others are given up, is sent home.
    pub(super) fn on_returned(&mut self, worker: WorkerId, returned: &WorkerReturn) {
        let registration = &returned.registration;
        let is_ours = registration.job_id == self.spec.job_id
            && registration.worker == worker
            && registration.fingerprint == self.spec.fingerprint
            && returned.attempt == self.attempt;
        let Phase::Reconciling { reunion, .. } = &mut self.phase else {
            self.out.push(Action::StopWorker { worker });
            return;
        };
        if !is_ours {
            self.out.push(Action::StopWorker { worker });
            return;
        }
        reunion.take_in(worker, returned);
        if reunion.subtasks() != self.execution.len() {
            let message = format!("`{worker}` knows another graph than its job");
            reunion.failure = Some(Failure::new(FaultDomain::Internal, message));
        }
        self.workers.adopt(registration);
        for report in &returned.subtasks {
            self.execution.adopt(worker, report);
        }
    }

    /// Goes on once everybody is back, or without those who are not.
    pub(super) fn step_reconciling(&mut self, at: Moment) -> bool {
        let Phase::Reconciling {
            deadline,
            reunion,
            is_cancelled,
        } = &self.phase
        else {
            return false;
        };
        let is_cancelled = *is_cancelled;
        if let Some(cause) = self.obstacle(reunion, *deadline, at.now) {
            self.part(at, cause);
            return true;
        }
        let is_whole =
            !reunion.placement.is_empty() && reunion.placement.keys().all(|worker| self.workers.is_live(*worker));
        match is_cancelled {
            _any if !is_whole => {}
            true => self.cancel_reunion(at),
            false => self.reunite(),
        }
        is_whole
    }

    /// Why the attempt cannot go on.
    fn obstacle(&self, reunion: &Reunion, deadline: MonotonicTime, now: MonotonicTime) -> Option<Failure> {
        if let Some(failure) = &reunion.failure {
            return Some(failure.clone());
        }
        let stopped = self
            .execution
            .states()
            .find(|(_, state)| matches!(state, ExecutionState::Failed | ExecutionState::Canceled));
        if let Some((subtask, state)) = stopped {
            let message = format!("subtask `{subtask}` is {} since the job manager was lost", state.name());
            return Some(Failure::new(FaultDomain::External, message));
        }
        if reunion.is_drained {
            let message = "the job was being drained when its job manager was lost";
            return Some(Failure::new(FaultDomain::External, message));
        }
        (deadline <= now).then(|| {
            let all = reunion.placement.len();
            let back = reunion
                .placement
                .keys()
                .filter(|worker| self.workers.is_live(**worker))
                .count();
            let message = match all {
                0 => "no worker came back to the job after its job manager was lost".to_owned(),
                _known => format!("{back} of {all} workers came back to the job after its job manager was lost"),
            };
            Failure::new(FaultDomain::External, message)
        })
    }

    /// Everybody is back: the attempt goes on. What the other job manager had completed is told again, what it had not is given
    /// up.
    fn reunite(&mut self) {
        let Some(reunion) = self.end_reunion() else { return };
        self.enter(Phase::Starting, None);
        let slots = reunion.slots.into_iter().collect();
        self.out.push(Action::AdoptSlots { slots });
        let completed = self.restore.as_ref().map(|point| point.metadata.checkpoint_id);
        if let Some(completed) = completed {
            self.notify_complete(completed);
        }
        for open in reunion.open_snapshots {
            if Some(open) != completed {
                self.notify_aborted(open);
            }
        }
        let has_finished = self
            .execution
            .states()
            .any(|(_, state)| state == ExecutionState::Finished);
        if has_finished || self.is_stopping {
            // Subtasks finish on command only, which follows when everything is committed.
            self.enter(Phase::Running(Course::Processing), None);
            self.begin_finishing(None);
        }
    }

    /// The attempt is over; the next goes on from the last checkpoint at once. That is no failure of the job: no restart
    /// strategy is asked.
    pub(super) fn part(&mut self, at: Moment, cause: Failure) {
        if matches!(self.phase, Phase::Reconciling { is_cancelled: true, .. }) {
            return self.cancel_reunion(at);
        }
        if self.end_reunion().is_none() {
            return;
        }
        self.is_stopping = false;
        self.remember(at, cause.clone(), Some(0));
        let deadline = self.drop_subtasks(at, &BTreeSet::new());
        self.enter(Phase::Dropping { deadline, delay_ms: 0 }, Some(cause));
    }

    /// Nobody is waited for any more: those that are back let go of the job that is cancelled.
    fn cancel_reunion(&mut self, at: Moment) {
        if self.end_reunion().is_none() {
            return;
        }
        let deadline = self.drop_subtasks(at, &BTreeSet::new());
        let savepoint = None;
        self.enter(Phase::Cancelling { deadline, savepoint }, None);
    }

    /// Whether the workers of another job manager's attempt are still waited for.
    pub fn awaits_workers(&self) -> bool {
        matches!(self.phase, Phase::Reconciling { .. })
    }

    /// The first number that no snapshot can have, given the greatest that is known: the job manager may have given out as many
    /// more as may be under way at once, which nobody heard of.
    fn after(&self, known: CheckpointId) -> CheckpointId {
        let unheard_of = u64::from(self.spec.options.checkpointing.max_concurrent) + MAX_UNDER_WAY as u64;
        CheckpointId(known.0.saturating_add(1 + unheard_of))
    }

    /// Learns from the workers which numbers are taken, and whose files nobody will need. The phase stays to be left.
    fn end_reunion(&mut self) -> Option<Reunion> {
        let Phase::Reconciling { reunion, .. } = &mut self.phase else {
            return None;
        };
        let reunion = std::mem::take(reunion);
        if let Some(last) = reunion.last_snapshot {
            self.checkpoints.skip_to(self.after(last));
        }
        let completed = self.restore.as_ref().map(|point| point.metadata.checkpoint_id);
        if let Some(directory) = &self.spec.options.checkpoint_directory {
            let directory = directory.trim_end_matches('/');
            let open = reunion.open_snapshots.iter().filter(|open| Some(**open) > completed);
            for id in open {
                let abandoned = (*id, format!("{directory}/chk-{id}"));
                if !self.deferred.contains(&abandoned) {
                    self.deferred.push(abandoned);
                }
            }
        }
        Some(reunion)
    }
}

impl Reunion {
    fn take_in(&mut self, worker: WorkerId, returned: &WorkerReturn) {
        if self.placement.is_empty() {
            let placed = returned.placement.iter();
            self.placement = placed.map(|it| (it.worker, it.subtasks.clone())).collect();
        }
        let task_manager = &returned.registration.task_manager;
        self.slots.extend(returned.slots.iter().map(|slot| SlotId {
            task_manager: task_manager.clone(),
            slot: *slot,
        }));
        self.last_snapshot = self.last_snapshot.max(returned.last_snapshot);
        self.open_snapshots.extend(&returned.open_snapshots);
        self.is_drained |= returned.is_drained;
        let failed = returned.subtasks.iter().find_map(|report| report.failure.clone());
        self.failure = self.failure.take().or(failed);
        if !self.placement.contains_key(&worker) {
            let message = format!("`{worker}` does not run what the other workers of its job say");
            self.failure = Some(Failure::new(FaultDomain::Internal, message));
        }
    }

    fn subtasks(&self) -> usize {
        self.placement.values().map(Vec::len).sum()
    }
}
