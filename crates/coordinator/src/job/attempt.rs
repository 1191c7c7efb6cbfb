//! The first half of an attempt: slots, workers, deployment.

use std::collections::BTreeMap;

use streamd_core::id::{TaskManagerId, WorkerId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::protocol::{
    Deployment, ExecutionState, Failure, FaultDomain, SlotDeployment, SubtaskDeployment, WorkerCommand,
    WorkerPlacement, WorkerRegistration,
};

use crate::action::Action;
use crate::event::SlotId;
use crate::execution::ExecutionGraph;
use crate::job::machine::{JobMachine, Moment};
use crate::job::phase::{Course, Phase};
use crate::job::regions::SLOTS_TIMEOUT_MS;
use crate::outline::difference;
use crate::placement::{Placement, share_slots, slots_needed};
use crate::restore::{StateAssignment, assign, assign_again};
use crate::workers::Start;

impl JobMachine {
    pub(super) fn on_start(&mut self, at: Moment) {
        if matches!(self.phase, Phase::Created) {
            self.discard_deferred();
            self.begin_attempt(at);
        }
    }

    /// A new attempt asks for slots: of the whole job, or of what does not survive.
    pub(super) fn begin_attempt(&mut self, at: Moment) -> bool {
        let mut timeout_ms = self.spec.options.slot_request_timeout_ms;
        if self.has_survivors() {
            timeout_ms = timeout_ms.min(SLOTS_TIMEOUT_MS);
            self.execution.renew();
        } else {
            self.attempt = self.attempt.next();
            self.execution = ExecutionGraph::new(&self.spec.graph);
            self.owners = None;
        }
        let execution = &mut self.execution;
        execution.transition_all(ExecutionState::Scheduled);
        self.metrics
            .retain(|subtask, _| execution.state(*subtask) == ExecutionState::Running);
        self.has_progressed = false;
        // Slots of task managers that are to be empty are not given out: the new attempt is elsewhere.
        self.evacuation = None;
        self.checkpoints.tolerance.reset();
        self.restored = self.restore.clone();
        let deadline = at.now.plus(timeout_ms);
        self.enter(Phase::WaitingForSlots { deadline }, None);
        self.out.push(Action::RequestSlots {
            count: slots_needed(&self.spec.graph),
        });
        true
    }

    /// The slots are there: each of their task managers needs a worker, and no other does.
    pub(super) fn on_slots(&mut self, at: Moment, slots: &[SlotId]) {
        if !matches!(self.phase, Phase::WaitingForSlots { .. }) {
            return;
        }
        let Some(shared) = share_slots(&self.spec.graph, slots, &self.slots) else {
            let message = format!("{} slots were granted, fewer than asked for", slots.len());
            self.fail_attempt(at, Failure::new(FaultDomain::Internal, message));
            return;
        };
        if self.has_survivors() && !self.keep_their_slots(&shared) {
            return self.restart_whole(at);
        }
        let mut worker_on: BTreeMap<TaskManagerId, WorkerId> = BTreeMap::new();
        for task_manager in shared.keys().map(|slot| &slot.task_manager) {
            if worker_on.contains_key(task_manager) {
                continue;
            }
            let (worker, start) = self.workers.find_or_create(task_manager);
            worker_on.insert(task_manager.clone(), worker);
            if start == Start::Needed {
                self.out.push(Action::StartWorker {
                    worker,
                    task_manager: task_manager.clone(),
                });
            }
        }
        self.slots = shared.clone();
        let placement = Placement::new(shared, &worker_on);
        let idle: Vec<WorkerId> = self
            .workers
            .live()
            .map(|(worker, _, _)| worker)
            .filter(|worker| !placement.uses(*worker))
            .collect();
        for worker in idle {
            self.stop_worker(worker);
        }
        let deadline = at.now.plus(self.spec.options.worker_start_timeout_ms);
        self.enter(Phase::WaitingForWorkers { placement, deadline }, None);
    }

    pub(super) fn give_up_slots(&mut self, at: Moment) -> bool {
        if self.has_survivors() {
            self.restart_whole(at);
            return true;
        }
        let message = format!(
            "NoResourceAvailable: could not acquire the minimum required resources: {} slots were not free within {} ms",
            slots_needed(&self.spec.graph),
            self.spec.options.slot_request_timeout_ms
        );
        self.fail_attempt(at, Failure::new(FaultDomain::External, message));
        true
    }

    /// Workers that did not come up are stopped, so that the next attempt starts others.
    pub(super) fn give_up_workers(&mut self, at: Moment) -> bool {
        let missing: Vec<WorkerId> = self
            .workers
            .live()
            .filter(|(_, _, process)| process.is_none())
            .map(|(worker, _, _)| worker)
            .collect();
        let names: Vec<String> = missing.iter().map(|worker| format!("`{worker}`")).collect();
        for worker in missing {
            self.stop_worker(worker);
        }
        let message = format!(
            "workers {} did not register within {} ms",
            names.join(", "),
            self.spec.options.worker_start_timeout_ms
        );
        self.fail_attempt(at, Failure::new(FaultDomain::External, message));
        true
    }

    /// Ends a worker process: kindly, where it can hear.
    pub(super) fn stop_worker(&mut self, worker: WorkerId) {
        if self.workers.is_registered(worker) {
            self.out.push(Action::Send {
                worker,
                command: WorkerCommand::Shutdown,
            });
        }
        if self.workers.remove(worker) {
            self.out.push(Action::StopWorker { worker });
        }
    }

    /// A worker has come up. One that built another graph would corrupt state: no restart can mend that.
    pub(super) fn on_registered(&mut self, at: Moment, worker: WorkerId, registration: &WorkerRegistration) {
        if registration.job_id != self.spec.job_id || registration.worker != worker {
            let message = format!(
                "`{worker}` registered for job {} as `{}` instead of for job {}",
                registration.job_id, registration.worker, self.spec.job_id
            );
            self.fail_for_good(at, Failure::new(FaultDomain::Internal, message));
            return;
        }
        if !self.workers.register(worker, registration) {
            return;
        }
        if registration.fingerprint != self.spec.fingerprint {
            let message = format!(
                "`{worker}` built a different job graph, so the application is not the same on every run [{}]: {}",
                streamd_core::error::ErrorCode::GraphMismatch,
                difference(&self.spec.graph, &registration.graph_outline)
            );
            self.fail_for_good(at, Failure::new(FaultDomain::User, message));
        }
    }

    /// All workers are there: each gets its subtasks with their state, and the addresses of all.
    pub(super) fn deploy(&mut self) {
        let placement = match std::mem::replace(&mut self.phase, Phase::Starting) {
            Phase::WaitingForWorkers { placement, .. } => placement,
            other => {
                self.phase = other;
                return;
            }
        };
        let mut state = self.state_of_attempt();
        if self.has_survivors() {
            self.attempt = self.attempt.next();
        }
        self.execution.deploy(&placement);
        let addresses: Vec<WorkerPlacement> = placement
            .workers()
            .map(|worker| WorkerPlacement {
                worker,
                data_address: self.workers.data_address(worker).unwrap_or_default().to_owned(),
                subtasks: placement.subtasks_of(worker),
            })
            .collect();
        for worker in placement.workers() {
            let deployment = Deployment {
                job_id: self.spec.job_id,
                attempt: self.attempt,
                slots: self.slot_deployments(&placement, worker, &mut state),
                kept: self.kept_slots(worker),
                placement: addresses.clone(),
                max_parallelism: self.spec.max_parallelism.clone(),
                restored: self.restore.as_ref().map(|point| point.metadata.checkpoint_id),
                state_backend: self.spec.options.state_backend.clone(),
            };
            self.out.push(Action::Send {
                worker,
                command: WorkerCommand::Deploy(Box::new(deployment)),
            });
        }
    }

    /// What each subtask starts from.
    fn state_of_attempt(&self) -> StateAssignment {
        let (graph, max_parallelism, restore) = (&self.spec.graph, &self.spec.max_parallelism, self.restore.as_ref());
        match self.owners.as_ref().filter(|_| self.has_survivors()) {
            Some(owners) => assign_again(graph, max_parallelism, restore, owners),
            None => assign(graph, max_parallelism, restore),
        }
    }

    /// The slots that begin on a worker.
    fn slot_deployments(
        &self,
        placement: &Placement,
        worker: WorkerId,
        state: &mut StateAssignment,
    ) -> Vec<SlotDeployment> {
        let graph = &self.spec.graph;
        let key_groups = |vertex: u32, index: u32| {
            let job_vertex = &graph.vertices[vertex as usize];
            let groups = self.spec.max_parallelism.get(vertex as usize).copied();
            let groups = groups.unwrap_or_else(|| job_vertex.effective_max_parallelism());
            KeyGroupRange::of_subtask(index, job_vertex.parallelism, groups)
        };
        let starts = |subtask| self.execution.state(subtask) == ExecutionState::Deploying;
        placement
            .slots_of(worker)
            .filter(|(_, subtasks)| subtasks.iter().all(|subtask| starts(*subtask)))
            .map(|(slot, subtasks)| SlotDeployment {
                slot,
                subtasks: subtasks
                    .iter()
                    .map(|subtask| SubtaskDeployment {
                        subtask: *subtask,
                        key_groups: key_groups(subtask.vertex, subtask.index),
                        state: state.remove(subtask).unwrap_or_default(),
                    })
                    .collect(),
            })
            .collect()
    }

    /// Every subtask runs: from now on there are snapshots, unless the job is to end with an older one.
    pub(super) fn on_all_running(&mut self, at: Moment) -> bool {
        if let Some(operation) = self.operations.ending_by_promotion() {
            self.enter(Phase::Running(Course::Stopping { operation }), None);
            return true;
        }
        if self.takes_checkpoints() {
            self.checkpoints.schedule.start(at.now);
        }
        self.enter(Phase::Running(Course::Processing), None);
        true
    }
}
