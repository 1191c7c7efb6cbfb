//! What a worker can say of itself when it comes back to its job: learnt from all that passes its link, in both directions.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::id::{Attempt, CheckpointId, SubtaskId};
use streamd_core::protocol::{
    Deployment, ExecutionState, SubtaskReport, WorkerCommand, WorkerEvent, WorkerPlacement, WorkerRegistration,
    WorkerReturn,
};

/// How far a worker has come. Commands of attempts that are past change nothing, as with the worker itself.
#[derive(Debug)]
pub struct Course {
    registration: WorkerRegistration,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    attempt: Attempt,
    placement: Vec<WorkerPlacement>,
    slots: Vec<u32>,
    subtasks: BTreeMap<SubtaskId, SubtaskReport>,
    last_snapshot: Option<CheckpointId>,
    open_snapshots: BTreeSet<CheckpointId>,
    is_drained: bool,
}

impl Course {
    /// A worker that has registered, and runs nothing.
    pub fn new(registration: WorkerRegistration) -> Self {
        Self {
            registration,
            running: None,
        }
    }

    /// The first word on the next link.
    pub fn first_word(&self) -> WorkerEvent {
        let registration = self.registration.clone();
        let Some(running) = &self.running else {
            return WorkerEvent::Registered(registration);
        };
        WorkerEvent::Returned(Box::new(WorkerReturn {
            registration,
            attempt: running.attempt,
            placement: running.placement.clone(),
            slots: running.slots.clone(),
            subtasks: running.subtasks.values().cloned().collect(),
            last_snapshot: running.last_snapshot,
            open_snapshots: running.open_snapshots.iter().copied().collect(),
            is_drained: running.is_drained,
        }))
    }

    /// The job master says something.
    pub fn on_command(&mut self, command: &WorkerCommand) {
        match command {
            WorkerCommand::Deploy(deployment) => self.on_deploy(deployment),
            WorkerCommand::TriggerCheckpoint { attempt, barrier } => {
                if let Some(running) = self.running(*attempt) {
                    running.last_snapshot = running.last_snapshot.max(Some(barrier.checkpoint));
                    running.open_snapshots.insert(barrier.checkpoint);
                }
            }
            WorkerCommand::NotifyCheckpointComplete { attempt, checkpoint }
            | WorkerCommand::NotifyCheckpointAborted { attempt, checkpoint } => {
                if let Some(running) = self.running(*attempt) {
                    running.open_snapshots.remove(checkpoint);
                }
            }
            WorkerCommand::Drain { attempt } => {
                if let Some(running) = self.running(*attempt) {
                    running.is_drained = true;
                }
            }
            WorkerCommand::AlignWatermarks { .. }
            | WorkerCommand::Finish { .. }
            | WorkerCommand::Cancel { .. }
            | WorkerCommand::Shutdown => {}
        }
    }

    fn on_deploy(&mut self, deployment: &Deployment) {
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.attempt >= deployment.attempt)
        {
            return;
        }
        let before = self.running.take().filter(|_| !deployment.kept.is_empty());
        let begins = |subtask| SubtaskReport {
            subtask,
            state: ExecutionState::Deploying,
            failure: None,
            end_of_data: false,
        };
        let kept = deployment.kept.iter().flat_map(|slot| &slot.subtasks);
        let kept = kept.map(|subtask| {
            let known = before.as_ref().and_then(|it| it.subtasks.get(subtask));
            (*subtask, known.cloned().unwrap_or_else(|| begins(*subtask)))
        });
        let subtasks = deployment.slots.iter().flat_map(|slot| &slot.subtasks);
        let reports = subtasks.map(|deployed| (deployed.subtask, begins(deployed.subtask)));
        let slots = deployment.slots.iter().map(|slot| slot.slot);
        self.running = Some(Running {
            attempt: deployment.attempt,
            placement: deployment.placement.clone(),
            slots: slots.chain(deployment.kept.iter().map(|slot| slot.slot)).collect(),
            subtasks: reports.chain(kept).collect(),
            // What goes on has seen the snapshots of the attempt before.
            last_snapshot: before.as_ref().and_then(|it| it.last_snapshot).max(deployment.restored),
            open_snapshots: before.as_ref().map(|it| it.open_snapshots.clone()).unwrap_or_default(),
            is_drained: false,
        });
    }

    /// The worker says something.
    pub fn on_event(&mut self, event: &WorkerEvent) {
        match event {
            WorkerEvent::SubtaskState {
                attempt,
                subtask,
                state,
                failure,
            } => {
                if let Some(report) = self.report(*attempt, *subtask) {
                    report.state = *state;
                    report.failure.clone_from(failure);
                }
            }
            WorkerEvent::EndOfData { attempt, subtask } => {
                if let Some(report) = self.report(*attempt, *subtask) {
                    report.end_of_data = true;
                }
            }
            WorkerEvent::Registered(_)
            | WorkerEvent::Returned(_)
            | WorkerEvent::Acknowledge { .. }
            | WorkerEvent::Decline { .. }
            | WorkerEvent::Heartbeat { .. } => {}
        }
    }

    fn running(&mut self, attempt: Attempt) -> Option<&mut Running> {
        self.running.as_mut().filter(|running| running.attempt == attempt)
    }

    fn report(&mut self, attempt: Attempt, subtask: SubtaskId) -> Option<&mut SubtaskReport> {
        self.running(attempt)?.subtasks.get_mut(&subtask)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use streamd_core::backend::StateBackendOptions;
    use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
    use streamd_core::id::{JobId, TaskManagerId, WorkerId};
    use streamd_core::key_group::KeyGroupRange;
    use streamd_core::protocol::{KeptSlot, SlotDeployment, SubtaskDeployment};

    use super::*;

    const SUBTASK: SubtaskId = SubtaskId { vertex: 0, index: 1 };

    fn course() -> Course {
        Course::new(WorkerRegistration {
            job_id: JobId::from_bytes([1; 16]),
            worker: WorkerId(7),
            task_manager: TaskManagerId("tm".to_owned()),
            data_address: "127.0.0.1:1".to_owned(),
            fingerprint: "f".to_owned(),
            graph_outline: String::new(),
            process_id: 1,
        })
    }

    fn deploy(attempt: u32) -> WorkerCommand {
        WorkerCommand::Deploy(Box::new(Deployment {
            job_id: JobId::from_bytes([1; 16]),
            attempt: Attempt(attempt),
            slots: vec![SlotDeployment {
                slot: 3,
                subtasks: vec![SubtaskDeployment {
                    subtask: SUBTASK,
                    key_groups: KeyGroupRange::all(1),
                    state: BTreeMap::new(),
                }],
            }],
            kept: Vec::new(),
            placement: Vec::new(),
            max_parallelism: Vec::new(),
            restored: Some(CheckpointId(4)),
            state_backend: StateBackendOptions::default(),
        }))
    }

    fn trigger(attempt: u32, checkpoint: u64) -> WorkerCommand {
        WorkerCommand::TriggerCheckpoint {
            attempt: Attempt(attempt),
            barrier: Barrier {
                checkpoint: CheckpointId(checkpoint),
                options: Arc::new(SnapshotOptions {
                    kind: SnapshotKind::Checkpoint,
                    location: String::new(),
                    sources: AfterBarrier::Continue,
                    aligned: true,
                    increment: Increment::Off,
                    compression: Compression::None,
                }),
            },
        }
    }

    fn returned(course: &Course) -> WorkerReturn {
        match course.first_word() {
            WorkerEvent::Returned(returned) => *returned,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_worker_without_a_deployment_comes_back_as_new() {
        assert!(matches!(course().first_word(), WorkerEvent::Registered(_)));
    }

    #[test]
    fn a_worker_comes_back_with_what_it_runs_and_what_it_was_not_told() {
        let mut course = course();
        course.on_command(&deploy(2));
        assert_eq!(returned(&course).last_snapshot, Some(CheckpointId(4)));
        for id in [5, 6, 7] {
            course.on_command(&trigger(2, id));
        }
        // Leftovers of the attempt before say nothing.
        course.on_command(&trigger(1, 9));
        course.on_command(&WorkerCommand::NotifyCheckpointComplete {
            attempt: Attempt(2),
            checkpoint: CheckpointId(5),
        });
        course.on_command(&WorkerCommand::NotifyCheckpointAborted {
            attempt: Attempt(2),
            checkpoint: CheckpointId(6),
        });
        course.on_event(&WorkerEvent::SubtaskState {
            attempt: Attempt(2),
            subtask: SUBTASK,
            state: ExecutionState::Running,
            failure: None,
        });
        course.on_event(&WorkerEvent::EndOfData {
            attempt: Attempt(2),
            subtask: SUBTASK,
        });
        let returned = returned(&course);
        assert_eq!(
            (returned.attempt, returned.slots.as_slice()),
            (Attempt(2), [3].as_slice())
        );
        assert_eq!(returned.last_snapshot, Some(CheckpointId(7)));
        assert_eq!(returned.open_snapshots, [CheckpointId(7)]);
        assert_eq!(returned.subtasks[0].state, ExecutionState::Running);
        assert!(returned.subtasks[0].end_of_data && !returned.is_drained);
    }

    #[test]
    fn a_worker_that_keeps_a_slot_knows_on_of_it_what_it_knew() {
        let mut course = course();
        course.on_command(&deploy(2));
        course.on_command(&trigger(2, 5));
        course.on_event(&WorkerEvent::SubtaskState {
            attempt: Attempt(2),
            subtask: SUBTASK,
            state: ExecutionState::Running,
            failure: None,
        });
        let WorkerCommand::Deploy(mut next) = deploy(3) else {
            panic!("a deployment is a deployment");
        };
        next.slots.clear();
        next.kept = vec![KeptSlot {
            slot: 3,
            subtasks: vec![SUBTASK],
        }];
        course.on_command(&WorkerCommand::Deploy(next));
        // What it says of the attempt before comes too late, and is said again.
        let failed = |attempt| WorkerEvent::SubtaskState {
            attempt: Attempt(attempt),
            subtask: SUBTASK,
            state: ExecutionState::Failed,
            failure: None,
        };
        course.on_event(&failed(2));
        let kept = returned(&course);
        assert_eq!((kept.attempt, kept.slots), (Attempt(3), vec![3]));
        assert_eq!(kept.subtasks[0].state, ExecutionState::Running);
        assert_eq!(kept.last_snapshot, Some(CheckpointId(5)));
        assert_eq!(kept.open_snapshots, [CheckpointId(5)]);
        course.on_event(&failed(3));
        assert_eq!(returned(&course).subtasks[0].state, ExecutionState::Failed);
    }

    #[test]
    fn the_next_attempt_replaces_the_one_before() {
        let mut course = course();
        course.on_command(&deploy(2));
        course.on_command(&WorkerCommand::Drain { attempt: Attempt(2) });
        assert!(returned(&course).is_drained);
        course.on_command(&deploy(3));
        course.on_command(&deploy(2));
        let returned = returned(&course);
        assert_eq!((returned.attempt, returned.is_drained), (Attempt(3), false));
    }
}
