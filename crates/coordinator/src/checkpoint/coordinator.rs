//! All snapshots of a job: those under way, those completed, and the number of the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;

use streamd_core::barrier::{AfterBarrier, Barrier, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::graph::CheckpointingMode;
use streamd_core::id::{CheckpointId, SubtaskId};
use streamd_core::snapshot::{SnapshotMetadata, SubtaskSnapshot};
use streamd_core::time::{MonotonicTime, WallTime};

use crate::event::CheckpointOptions;
use crate::restore::owners;

use super::metadata::Origin;
use super::pending::{PendingSnapshot, Purpose, Stage};
use super::schedule::Schedule;
use super::store::{CompletedCheckpoint, CompletedStore, Discarded, Objects, Swept};
use super::tolerance::Tolerance;

/// How many given-up snapshots are remembered, so that the files of a subtask that acknowledges late are deleted as well.
/// As many as Flink: a subtask is hardly ever more than a few checkpoints behind.
const REMEMBERED: usize = 16;

/// A snapshot to be taken.
#[derive(Debug)]
pub struct NewSnapshot {
    /// Why.
    pub purpose: Purpose,
    /// The URI of its folder.
    pub location: String,
    /// What the sources do after its barrier.
    pub sources: AfterBarrier,
    /// Milliseconds after which it is given up; `None`: the time-out of checkpoints.
    pub timeout_ms: Option<u64>,
}

/// What an acknowledgement led to.
#[derive(Debug)]
pub enum Acknowledgement {
    /// Nothing: the snapshot is unknown or complete, or the subtask had acknowledged before.
    Ignored,
    /// Nothing but files to delete: the snapshot was given up.
    Late(Discarded),
    /// Others are awaited.
    Awaiting,
    /// The part cannot be one of this subtask's.
    Foreign,
    /// Everything is there: publish this.
    Collected {
        /// What the snapshot says.
        metadata: Arc<SnapshotMetadata>,
        /// The URI of its folder.
        location: String,
    },
}

/// A snapshot that was given up while it was written.
#[derive(Debug, Clone)]
struct GivenUp {
    discarded: Discarded,
    /// The subtasks that may still write into its folder.
    writing: BTreeSet<SubtaskId>,
    /// Whether it was deleted again at the end of its attempt.
    is_swept: bool,
}

/// A checkpoint that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCheckpoint {
    /// Its number.
    pub id: CheckpointId,
    /// Why.
    pub cause: String,
    /// When, for people.
    pub at: WallTime,
}

/// The snapshots of one job over all of its attempts.
#[derive(Debug, Clone)]
pub struct CheckpointCoordinator {
    options: CheckpointOptions,
    next_id: CheckpointId,
    pending: BTreeMap<CheckpointId, PendingSnapshot>,
    store: CompletedStore,
    given_up: VecDeque<GivenUp>,
    /// The snapshot that the job started from, where it is the job's own now.
    claimed: Option<CheckpointId>,
    /// Checkpoints that savepoints are being made of, as often as they are.
    promoting: Vec<CheckpointId>,
    completed: u64,
    failed: u64,
    /// The checkpoint that failed last.
    pub last_failed: Option<FailedCheckpoint>,
    /// When periodic checkpoints are due.
    pub schedule: Schedule,
    /// How many may fail.
    pub tolerance: Tolerance,
}

impl CheckpointCoordinator {
    /// A coordinator whose first snapshot follows the restored one.
    pub fn new(options: CheckpointOptions, restored: Option<CheckpointId>) -> Self {
        Self {
            next_id: CheckpointId(restored.map_or(1, |id| id.0.saturating_add(1))),
            pending: BTreeMap::new(),
            store: CompletedStore::new(options.num_retained),
            given_up: VecDeque::new(),
            claimed: None,
            promoting: Vec::new(),
            completed: 0,
            failed: 0,
            last_failed: None,
            schedule: Schedule::new(&options),
            tolerance: Tolerance::new(options.tolerable_failed),
            options,
        }
    }

    /// Goes on where another job manager left off: with what it has completed, and with numbers that it cannot have given out.
    pub fn recover(
        &mut self,
        next: CheckpointId,
        completed: impl IntoIterator<Item = (CheckpointId, CompletedCheckpoint)>,
        partly_needed: impl IntoIterator<Item = (CheckpointId, String, BTreeSet<String>)>,
    ) {
        self.skip_to(next);
        for (id, checkpoint) in completed {
            self.store.add(id, checkpoint);
        }
        for (id, location, objects) in partly_needed {
            self.store.add_partly_needed(id, location, objects);
        }
    }

    /// The next snapshot has this number at least.
    pub fn skip_to(&mut self, next: CheckpointId) {
        self.next_id = self.next_id.max(next);
    }

    /// The number that the next snapshot will have.
    pub fn next_id(&self) -> CheckpointId {
        self.next_id
    }

    /// Begins a snapshot: all of `subtasks` have to acknowledge it before its time is up.
    pub fn trigger(
        &mut self,
        (now, wall): (MonotonicTime, WallTime),
        new: NewSnapshot,
        subtasks: impl Iterator<Item = SubtaskId>,
    ) -> Barrier {
        let NewSnapshot {
            purpose,
            location,
            sources,
            timeout_ms,
        } = new;
        let id = self.next_id;
        self.next_id = CheckpointId(id.0.checked_add(1).expect("a job takes fewer than 2^64 snapshots"));
        // What the snapshot may build upon stays for as long as it is under way (see `sweep`).
        let base = self.store.latest().map(|(id, _)| id);
        let increment = match (purpose.kind(), self.options.incremental) {
            (SnapshotKind::Savepoint, _) | (SnapshotKind::Checkpoint, false) => Increment::Off,
            // What another job wrote lies in that job's folder: this one's checkpoints never refer into it.
            (SnapshotKind::Checkpoint, true) => base
                .filter(|base| self.claimed != Some(*base))
                .map_or(Increment::First, Increment::Since),
        };
        let options = SnapshotOptions {
            kind: purpose.kind(),
            location: location.clone(),
            sources,
            aligned: self.options.mode == CheckpointingMode::ExactlyOnce,
            increment,
            compression: self.options.compression,
        };
        let pending = PendingSnapshot {
            purpose,
            location,
            triggered: now,
            triggered_at: wall,
            base,
            stage: Stage::Collecting {
                deadline: now.plus(timeout_ms.unwrap_or(self.options.timeout_ms)),
                awaiting: subtasks.collect(),
                collected: BTreeMap::new(),
            },
        };
        let taken = self.pending.insert(id, pending);
        assert!(taken.is_none(), "invariant I11: snapshot id {id} was given out twice");
        Barrier {
            checkpoint: id,
            options: Arc::new(options),
        }
    }

    /// A subtask's part is durable.
    pub fn acknowledge(
        &mut self,
        id: CheckpointId,
        subtask: SubtaskId,
        snapshot: SubtaskSnapshot,
        origin: &Origin,
    ) -> Acknowledgement {
        let Some(pending) = self.pending.get_mut(&id) else {
            let late = self.given_up.iter_mut().find(|given_up| given_up.discarded.0 == id);
            return late.map_or(Acknowledgement::Ignored, |given_up| {
                given_up.writing.remove(&subtask);
                Acknowledgement::Late(given_up.discarded.clone())
            });
        };
        let Stage::Collecting {
            awaiting, collected, ..
        } = &mut pending.stage
        else {
            return Acknowledgement::Ignored;
        };
        if !awaiting.contains(&subtask) {
            return Acknowledgement::Ignored;
        }
        if !origin.accepts(subtask, &snapshot) {
            return Acknowledgement::Foreign;
        }
        awaiting.remove(&subtask);
        collected.insert(subtask, snapshot);
        if !awaiting.is_empty() {
            return Acknowledgement::Awaiting;
        }
        let bytes = pending.bytes();
        let Stage::Collecting { collected, .. } = &mut pending.stage else {
            return Acknowledgement::Ignored;
        };
        let collected = mem::take(collected);
        let metadata = Arc::new(origin.metadata(id, pending, &collected));
        pending.stage = Stage::Publishing {
            metadata: Arc::clone(&metadata),
            owners: owners(&collected),
            subtasks: collected.len(),
            bytes,
        };
        Acknowledgement::Collected {
            metadata,
            location: pending.location.clone(),
        }
    }

    /// Ends a snapshot that subtasks still write, if it is such a one.
    pub fn give_up(&mut self, id: CheckpointId) -> Option<PendingSnapshot> {
        if self.pending.get(&id)?.is_publishing() {
            return None;
        }
        let pending = self.pending.remove(&id)?;
        self.count_failed(&pending);
        let Stage::Collecting { awaiting, .. } = &pending.stage else {
            return Some(pending);
        };
        self.given_up.push_back(GivenUp {
            discarded: (id, pending.location.clone()),
            writing: awaiting.clone(),
            is_swept: false,
        });
        if self.given_up.len() > REMEMBERED {
            self.given_up.pop_front();
        }
        Some(pending)
    }

    /// A subtask has given a snapshot up by itself: it writes nothing more.
    pub fn declined(&mut self, id: CheckpointId, subtask: SubtaskId) {
        if let Some(given_up) = self.given_up.iter_mut().find(|given_up| given_up.discarded.0 == id) {
            given_up.writing.remove(&subtask);
        }
    }

    /// A subtask of an attempt that is over acknowledges a snapshot: if it was given up, what was written has to be deleted.
    pub fn acknowledged_too_late(&mut self, id: CheckpointId, subtask: SubtaskId) -> Option<Discarded> {
        let given_up = self.given_up.iter_mut().find(|given_up| given_up.discarded.0 == id)?;
        let was_writing = given_up.writing.remove(&subtask);
        was_writing.then(|| given_up.discarded.clone())
    }

    /// The attempt is over: the snapshots that were given up while a subtask wrote that was never heard from again. It may have
    /// written into a folder that was deleted before, and be dead now. Each is told of once.
    pub fn unheard_of(&mut self) -> Vec<Discarded> {
        let unheard_of = |given_up: &&mut GivenUp| !given_up.writing.is_empty() && !given_up.is_swept;
        let sweep = |given_up: &mut GivenUp| {
            given_up.is_swept = true;
            given_up.discarded.clone()
        };
        self.given_up.iter_mut().filter(unheard_of).map(sweep).collect()
    }

    /// The snapshots that subtasks still write and for which `choose` says so.
    pub fn collecting(&self, choose: impl Fn(CheckpointId, &PendingSnapshot) -> bool) -> Vec<CheckpointId> {
        self.pending
            .iter()
            .filter(|(id, pending)| !pending.is_publishing() && choose(**id, pending))
            .map(|(id, _)| *id)
            .collect()
    }

    /// The snapshots whose time is up.
    pub fn expired(&self, now: MonotonicTime) -> Vec<CheckpointId> {
        self.collecting(|_, pending| pending.deadline().is_some_and(|deadline| deadline <= now))
    }

    /// Ends a snapshot whose publication has an outcome, if it is such a one.
    pub fn take_publishing(&mut self, id: CheckpointId) -> Option<PendingSnapshot> {
        if !self.pending.get(&id)?.is_publishing() {
            return None;
        }
        self.pending.remove(&id)
    }

    /// Whether the outcome of a publication is awaited.
    pub fn is_publishing(&self) -> bool {
        self.pending.values().any(PendingSnapshot::is_publishing)
    }

    /// Counts a snapshot that failed. Savepoints are no checkpoints: their failures are the operation's.
    pub fn count_failed(&mut self, pending: &PendingSnapshot) {
        if pending.purpose.kind() == SnapshotKind::Checkpoint {
            self.failed += 1;
        }
    }

    /// Records a completed checkpoint.
    pub fn complete(&mut self, id: CheckpointId, pending: &PendingSnapshot, bytes: u64, now: MonotonicTime) {
        self.completed += 1;
        self.tolerance.on_success(id);
        self.store.add(
            id,
            CompletedCheckpoint {
                location: pending.location.clone(),
                bytes,
                duration_ms: now.since(pending.triggered),
                objects: pending
                    .metadata()
                    .map(|metadata| Objects::of(metadata, &pending.location))
                    .unwrap_or_default(),
            },
        );
    }

    /// Takes out the subsumed checkpoints that nothing needs any more.
    pub fn sweep(&mut self) -> Swept {
        let bases = self.pending.values().filter_map(|pending| pending.base);
        let needed: BTreeSet<CheckpointId> = bases.chain(self.promoting.iter().copied()).collect();
        self.store.sweep(&needed)
    }

    /// A savepoint is being made of a checkpoint, which stays until [`promoted`](Self::promoted).
    pub fn promote(&mut self, source: CheckpointId) {
        self.promoting.push(source);
    }

    /// No savepoint is being made of the checkpoint any more.
    pub fn promoted(&mut self, source: CheckpointId) {
        if let Some(position) = self.promoting.iter().position(|id| *id == source) {
            self.promoting.swap_remove(position);
        }
    }

    /// Whether something is under way in the store that nobody can call back: a publication or a promotion.
    pub fn is_settling(&self) -> bool {
        self.is_publishing() || !self.promoting.is_empty()
    }

    /// Takes a snapshot over that the job started from: it is the job's oldest checkpoint now.
    pub fn claim(&mut self, id: CheckpointId, location: String, metadata: &SnapshotMetadata) {
        self.claimed = Some(id);
        let bytes = metadata.operators.iter().flat_map(|operator| &operator.keyed);
        self.store.add(
            id,
            CompletedCheckpoint {
                objects: Objects::of(metadata, &location),
                location,
                bytes: bytes.map(|handle| handle.bytes).sum(),
                duration_ms: 0,
            },
        );
    }

    /// The completed checkpoints.
    pub fn store(&mut self) -> &mut CompletedStore {
        &mut self.store
    }

    /// The latest completed checkpoint.
    pub fn latest(&self) -> Option<(CheckpointId, &CompletedCheckpoint)> {
        self.store.latest()
    }

    /// How many checkpoints, savepoints not counted, are under way.
    pub fn checkpoints_under_way(&self) -> usize {
        self.pending
            .values()
            .filter(|pending| pending.purpose.kind() == SnapshotKind::Checkpoint)
            .count()
    }

    /// How many snapshots are under way.
    pub fn under_way(&self) -> usize {
        self.pending.len()
    }

    /// How many checkpoints were completed, and how many failed.
    pub fn counts(&self) -> (u64, u64) {
        (self.completed, self.failed)
    }

    /// The snapshot under way with this id.
    pub fn pending(&self, id: CheckpointId) -> Option<&PendingSnapshot> {
        self.pending.get(&id)
    }

    /// When something is due next: a checkpoint, or the end of a snapshot's time.
    pub fn deadline(&self) -> Option<MonotonicTime> {
        let expiry = self.pending.values().filter_map(PendingSnapshot::deadline).min();
        let trigger = self.schedule.deadline(self.checkpoints_under_way());
        expiry.into_iter().chain(trigger).min()
    }
}
