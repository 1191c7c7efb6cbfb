//! An onlooker that holds a job machine to its invariants.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::barrier::SnapshotKind;
use streamd_core::error::ErrorCode;
use streamd_core::graph::ClaimMode;
use streamd_core::id::{Attempt, CheckpointId, OperationId, TaskManagerId, WorkerId};
use streamd_core::protocol::{WorkerCommand, WorkerEvent};
use streamd_core::time::MonotonicTime;

use crate::action::Action;
use crate::event::{Event, JobSpec, OperationKind};
use crate::job::{JobMachine, Recovery};
use crate::lifecycle::JobState;
use crate::operation::OperationResult;

use super::owned::Owned;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {invariant} does not hold: {message}")]
pub struct Violation {
    /// Its name in the design.
    pub invariant: &'static str,
    /// What happened.
    pub message: String,
}

pub(super) type Checked = Result<(), Violation>;

pub(super) fn ensure(holds: bool, invariant: &'static str, message: impl FnOnce() -> String) -> Checked {
    if holds {
        return Ok(());
    }
    Err(Violation {
        invariant,
        message: message(),
    })
}

#[derive(Debug, Clone)]
struct Snapshot {
    kind: SnapshotKind,
    location: String,
    fate: Fate,
}

/// What an onlooker knows of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Triggered,
    Publishing,
    Complete,
    Unknown,
    Failed,
}

/// Sees every event and action of one job, in order.
#[derive(Debug, Clone)]
pub struct Audit {
    restored: Option<(CheckpointId, String)>,
    /// Whether the snapshot that the job started from is its own.
    claimed: bool,
    takes_checkpoints: bool,
    state: JobState,
    attempt: Attempt,
    ever: BTreeSet<WorkerId>,
    live: BTreeMap<WorkerId, TaskManagerId>,
    snapshots: BTreeMap<CheckpointId, Snapshot>,
    /// The greatest snapshot that an attempt must not fall behind: a completed checkpoint, or a committed savepoint.
    latest: Option<CheckpointId>,
    /// The greatest snapshot whose effects may be visible: its completion was told, or an attempt started from it.
    visible: Option<CheckpointId>,
    operations: BTreeMap<OperationId, (OperationKind, String)>,
    /// The savepoints that are made of complete snapshots, by operation.
    promotions: BTreeMap<OperationId, Promotion>,
    /// What each subtask had of the lists of a snapshot, and what it was last given of them.
    owned: Owned,
    /// Whether another job manager may have taken snapshots and started workers that were not seen.
    is_recovered: bool,
    notified_now: bool,
}

#[derive(Debug, Clone)]
struct Promotion {
    source: CheckpointId,
    location: String,
    fate: Fate,
}

impl Audit {
    /// An onlooker from the beginning of a job.
    pub fn new(spec: &JobSpec) -> Self {
        let restored = spec
            .restore
            .as_ref()
            .map(|point| (point.metadata.checkpoint_id, point.uri.clone()));
        Self {
            takes_checkpoints: spec.options.checkpointing.interval_ms.is_some()
                && spec.options.checkpoint_directory.is_some(),
            state: JobState::Created,
            attempt: Attempt::NONE,
            ever: BTreeSet::new(),
            live: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            latest: restored.as_ref().map(|(id, _)| *id),
            visible: None,
            restored,
            operations: BTreeMap::new(),
            promotions: BTreeMap::new(),
            claimed: spec.options.claim_mode == ClaimMode::Claim,
            owned: Owned::default(),
            is_recovered: false,
            notified_now: false,
        }
    }

    /// An onlooker of a job that another job manager ran before.
    pub fn recovered(spec: &JobSpec, recovery: &Recovery) -> Self {
        let completed = recovery.completed.iter().map(|(id, checkpoint)| {
            let snapshot = Snapshot {
                kind: SnapshotKind::Checkpoint,
                location: checkpoint.location.clone(),
                fate: Fate::Complete,
            };
            (*id, snapshot)
        });
        let restore = recovery.restore.as_ref().map(|point| point.metadata.checkpoint_id);
        let new = Self::new(spec);
        Self {
            attempt: recovery.attempt,
            snapshots: completed.collect(),
            latest: new.latest.max(restore),
            is_recovered: true,
            ..new
        }
    }

    /// Looks at one event, what the machine made of it, and the machine after it.
    pub fn observe(&mut self, machine: &JobMachine, now: MonotonicTime, event: &Event, actions: &[Action]) -> Checked {
        ensure(!self.state.is_terminal() || actions.is_empty(), "I15", || {
            format!("a job that is {} does {actions:?}", self.state.name())
        })?;
        if self.state.is_terminal() {
            return ensure(machine.state() == self.state, "I15", || {
                format!("a job went from {} to {}", self.state.name(), machine.state().name())
            });
        }
        self.note(event);
        self.notified_now = false;
        self.owned.observe(event, actions)?;
        for action in actions {
            self.check(action, event)?;
        }
        ensure(machine.state() == self.state, "I15", || {
            format!("the job is {}, and nobody was told", machine.state().name())
        })?;
        ensure(
            machine.next_deadline().is_none_or(|deadline| deadline > now),
            "I20",
            || {
                format!(
                    "the next deadline {:?} is not after now, {now:?}",
                    machine.next_deadline()
                )
            },
        )
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Published(id, result) => {
                if let Some(snapshot) = self.snapshots.get_mut(id).filter(|it| it.fate == Fate::Publishing) {
                    snapshot.fate = match result {
                        Ok(_) => Fate::Complete,
                        Err(error) if error.outcome_unknown => Fate::Unknown,
                        Err(_) => Fate::Failed,
                    };
                    if result.is_ok() && snapshot.kind == SnapshotKind::Checkpoint {
                        self.latest = self.latest.max(Some(*id));
                    }
                }
            }
            Event::Promoted(id, result) => {
                if let Some(promotion) = self.promotions.get_mut(id).filter(|it| it.fate == Fate::Publishing) {
                    promotion.fate = match result {
                        Ok(_) => Fate::Complete,
                        Err(error) if error.outcome_unknown => Fate::Unknown,
                        Err(_) => Fate::Failed,
                    };
                }
            }
            Event::Operation(request) => {
                self.operations
                    .entry(request.id)
                    .or_insert((request.kind, request.folder.clone()));
            }
            Event::WorkerLost(worker, _) => {
                self.live.remove(worker);
            }
            Event::TaskManagerLost(lost) => self.live.retain(|_, task_manager| task_manager != lost),
            Event::Worker(worker, WorkerEvent::Returned(returned)) => {
                self.live.insert(*worker, returned.registration.task_manager.clone());
            }
            Event::Start
            | Event::Reconcile { .. }
            | Event::SlotsAllocated(_)
            | Event::Worker(..)
            | Event::Evacuate(_)
            | Event::Cancel
            | Event::Tick => {}
        }
    }

    fn check(&mut self, action: &Action, event: &Event) -> Checked {
        match action {
            Action::RequestSlots { .. } | Action::AdoptSlots { .. } | Action::ReleaseSlots => Ok(()),
            Action::StartWorker { worker, task_manager } => {
                self.live.insert(*worker, task_manager.clone());
                ensure(self.ever.insert(*worker), "I7", || {
                    format!("`{worker}` was given out twice")
                })
            }
            Action::StopWorker { worker } => ensure(self.live.remove(worker).is_some(), "I7", || {
                format!("`{worker}` is stopped, and does not live")
            }),
            Action::Send { worker, command } => {
                ensure(self.live.contains_key(worker), "I7", || {
                    format!("{command:?} goes to `{worker}`, which is gone")
                })?;
                self.check_command(command)
            }
            Action::Publish { checkpoint, .. } => self.check_publish(*checkpoint),
            Action::Discard { checkpoint, location }
            | Action::Unpublish {
                checkpoint, location, ..
            } => self.check_discard(*checkpoint, location),
            Action::DiscardClaimed { checkpoint, location } => self.check_discard_claimed(*checkpoint, location),
            Action::Promote {
                operation,
                source,
                location,
                ..
            } => self.check_promote(*operation, source.metadata.checkpoint_id, location),
            Action::CompleteOperation { id, result } => {
                let asked_again = matches!(event, Event::Operation(request) if request.id == *id);
                self.check_operation(*id, result, asked_again)
            }
            Action::StateChanged { from, to, .. } => {
                ensure(*from == self.state && from.can_transition_to(*to), "I15", || {
                    format!(
                        "a job that is {} goes from {} to {}",
                        self.state.name(),
                        from.name(),
                        to.name()
                    )
                })?;
                self.state = *to;
                let promoting = self.promotions.values().any(|it| it.fate == Fate::Publishing);
                ensure(!to.is_terminal() || !promoting, "I18", || {
                    format!("the job is {}, and a savepoint is still being made", to.name())
                })?;
                ensure(!to.is_terminal() || self.live.is_empty(), "I21", || {
                    format!("the job is {}, and {:?} live on", to.name(), self.live.keys())
                })
            }
        }
    }

    fn check_command(&mut self, command: &WorkerCommand) -> Checked {
        let attempt = match command {
            WorkerCommand::Deploy(deployment) => {
                ensure(deployment.restored == self.latest, "I12", || {
                    format!(
                        "attempt {} restores {:?} instead of {:?}",
                        deployment.attempt, deployment.restored, self.latest
                    )
                })?;
                self.visible = self.visible.max(deployment.restored);
                deployment.attempt
            }
            WorkerCommand::TriggerCheckpoint { attempt, barrier } => {
                let id = barrier.checkpoint;
                let greatest = self.snapshots.last_key_value().map(|(id, _)| *id);
                let greatest = greatest.max(self.restored.as_ref().map(|(id, _)| *id));
                // The same snapshot goes to every worker.
                let again = self.snapshots.get(&id).is_some_and(|it| it.fate == Fate::Triggered);
                ensure(again || greatest < Some(id), "I11", || {
                    format!("snapshot {id} is triggered after snapshot {greatest:?}")
                })?;
                self.snapshots.entry(id).or_insert(Snapshot {
                    kind: barrier.options.kind,
                    location: barrier.options.location.clone(),
                    fate: Fate::Triggered,
                });
                *attempt
            }
            WorkerCommand::NotifyCheckpointComplete { attempt, checkpoint } => {
                self.check_notified(*checkpoint)?;
                self.visible = self.visible.max(Some(*checkpoint));
                *attempt
            }
            WorkerCommand::NotifyCheckpointAborted { attempt, checkpoint } => {
                let complete = self
                    .snapshots
                    .get(checkpoint)
                    .is_some_and(|it| it.fate == Fate::Complete);
                ensure(!complete, "I17", || {
                    format!("complete snapshot {checkpoint} is aborted")
                })?;
                *attempt
            }
            WorkerCommand::Finish { attempt } => {
                ensure(self.notified_now || !self.takes_checkpoints, "I17", || {
                    "subtasks finish, and nothing tells their sinks to commit".to_owned()
                })?;
                *attempt
            }
            WorkerCommand::Drain { attempt }
            | WorkerCommand::Cancel { attempt, .. }
            | WorkerCommand::AlignWatermarks { attempt, .. } => *attempt,
            WorkerCommand::Shutdown => self.attempt,
        };
        ensure(attempt >= self.attempt, "I7", || {
            format!("attempt {attempt} is spoken to after attempt {}", self.attempt)
        })?;
        self.attempt = attempt;
        Ok(())
    }

    fn check_notified(&mut self, id: CheckpointId) -> Checked {
        let snapshot = self.snapshots.get(&id).filter(|it| it.fate == Fate::Complete);
        let Some(snapshot) = snapshot else {
            return ensure(false, "I17", || {
                format!("snapshot {id} is committed before it is published")
            });
        };
        if snapshot.kind == SnapshotKind::Savepoint {
            let stops = self.operations.values().any(|(kind, folder)| {
                matches!(kind, OperationKind::Stop | OperationKind::Drain) && snapshot.location.ends_with(folder)
            });
            ensure(stops, "I16", || {
                format!("savepoint {id} is committed, and the job goes on")
            })?;
            self.latest = self.latest.max(Some(id));
        }
        self.notified_now = true;
        Ok(())
    }

    fn check_publish(&mut self, id: CheckpointId) -> Checked {
        match self.snapshots.get_mut(&id).filter(|it| it.fate == Fate::Triggered) {
            Some(snapshot) => {
                snapshot.fate = Fate::Publishing;
                Ok(())
            }
            None => ensure(false, "I11", || {
                format!("snapshot {id} is published twice, or was never triggered")
            }),
        }
    }

    /// A savepoint is made only of what the next attempt would start from.
    fn check_promote(&mut self, operation: OperationId, source: CheckpointId, location: &str) -> Checked {
        ensure(Some(source) == self.latest, "I12", || {
            format!("snapshot {source} is made a savepoint instead of {:?}", self.latest)
        })?;
        let promotion = Promotion {
            source,
            location: location.to_owned(),
            fate: Fate::Publishing,
        };
        let known = self.promotions.insert(operation, promotion);
        ensure(known.is_none(), "I14", || {
            format!("operation {operation} is carried out twice")
        })
    }

    fn check_unused(&self, id: CheckpointId, location: &str) -> Checked {
        let promoting = self
            .promotions
            .values()
            .any(|it| it.source == id && it.fate == Fate::Publishing);
        ensure(!promoting, "I9", || {
            format!("`{location}` is deleted while a savepoint is made of it")
        })?;
        ensure(self.latest != Some(id) || self.state.is_terminal(), "I9", || {
            format!("checkpoint `{location}` is deleted, and is the latest")
        })
    }

    fn check_discard_claimed(&self, id: CheckpointId, location: &str) -> Checked {
        let restored = self.restored.as_ref().is_some_and(|(_, uri)| uri == location);
        ensure(restored && self.claimed, "I16", || {
            format!("`{location}` is deleted, and was not given to the job")
        })?;
        self.check_unused(id, location)
    }

    fn check_discard(&mut self, id: CheckpointId, location: &str) -> Checked {
        if let Some(promotion) = self.promotions.values_mut().find(|it| it.location == location) {
            let fate = promotion.fate;
            return ensure(fate == Fate::Failed, "I16", || {
                format!("savepoint `{location}` is deleted, and is {fate:?}")
            });
        }
        let restored = self.restored.as_ref().is_some_and(|(_, uri)| uri == location);
        ensure(!restored, "I9", || {
            format!("`{location}`, which the job was restored from, is deleted")
        })?;
        let Some(snapshot) = self.snapshots.get_mut(&id) else {
            return ensure(self.is_recovered, "I9", || {
                format!("`{location}` is deleted, and is none of this job")
            });
        };
        let (kind, fate) = (snapshot.kind, snapshot.fate);
        ensure(
            kind == SnapshotKind::Checkpoint || fate != Fate::Complete,
            "I16",
            || format!("complete savepoint `{location}` is deleted"),
        )?;
        ensure(!matches!(fate, Fate::Publishing | Fate::Unknown), "I9", || {
            format!("`{location}` is deleted, and may be published")
        })?;
        if fate == Fate::Triggered {
            snapshot.fate = Fate::Failed;
        }
        self.check_unused(id, location)
    }

    /// I18: a stop is all or nothing, or says in between which savepoint is complete.
    fn check_operation(&mut self, id: OperationId, result: &OperationResult, asked_again: bool) -> Checked {
        let Some((kind, folder)) = self.operations.get(&id) else {
            return ensure(asked_again, "I14", || {
                format!("operation {id} is answered, and was not asked")
            });
        };
        let snapshot = self
            .snapshots
            .values()
            .find(|it| it.location.ends_with(folder.as_str()));
        let promoted = self.promotions.get(&id).is_some_and(|it| it.fate == Fate::Complete);
        let complete = promoted || snapshot.is_some_and(|it| it.fate == Fate::Complete);
        match result {
            Ok(completed) => {
                ensure(complete, "I18", || {
                    format!("`{}` is handed out, and not complete", completed.savepoint_path)
                })?;
                let wanted = match kind {
                    OperationKind::Savepoint => None,
                    OperationKind::CancelWithSavepoint => Some(JobState::Canceled),
                    OperationKind::Stop | OperationKind::Drain => Some(JobState::Finished),
                };
                let left = completed.promoted.filter(|_| wanted.is_some());
                ensure(left.is_none() || self.visible <= left, "I17", || {
                    format!("snapshot {:?} is committed, and the job leaves {left:?}", self.visible)
                })?;
                ensure(wanted.is_none_or(|wanted| wanted == self.state), "I18", || {
                    format!("{kind:?} has succeeded, and the job is {}", self.state.name())
                })
            }
            Err(error) => ensure(complete == (error.code == ErrorCode::StopFailed), "I18", || {
                format!("{kind:?} failed with {}, and its savepoint is {snapshot:?}", error.code)
            }),
        }
    }
}
