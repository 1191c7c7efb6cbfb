//! The execution graph: the state of every subtask in the current attempt, and the worker that runs it.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::graph::JobGraph;
use streamd_core::id::{SubtaskId, WorkerId};
use streamd_core::protocol::{ExecutionState, SubtaskReport};

use crate::placement::Placement;

/// Whether a subtask's execution may go from one state to another.
///
/// A subtask that has nothing to restore may skip INITIALIZING. CANCELED without CANCELING is no edge: a subtask that
/// stops without being told has failed.
pub fn can_transition(from: ExecutionState, to: ExecutionState) -> bool {
    use ExecutionState::{Canceled, Canceling, Created, Deploying, Failed, Finished, Initializing, Running, Scheduled};
    matches!(
        (from, to),
        (Created, Scheduled | Canceling)
            | (Scheduled, Deploying | Canceling | Failed)
            | (Deploying, Initializing | Running | Canceling | Failed)
            | (Initializing, Running | Canceling | Failed)
            | (Running, Finished | Canceling | Failed)
            | (Canceling, Canceled | Finished | Failed)
    )
}

#[derive(Debug, Clone, Copy)]
struct Execution {
    state: ExecutionState,
    worker: Option<WorkerId>,
    end_of_data: bool,
}

const CREATED: Execution = Execution {
    state: ExecutionState::Created,
    worker: None,
    end_of_data: false,
};

/// Every subtask of one attempt.
#[derive(Debug, Clone)]
pub struct ExecutionGraph {
    executions: BTreeMap<SubtaskId, Execution>,
}

impl ExecutionGraph {
    /// All subtasks of a graph, CREATED.
    pub fn new(graph: &JobGraph) -> Self {
        Self {
            executions: all_subtasks(graph).map(|subtask| (subtask, CREATED)).collect(),
        }
    }

    /// The state of a subtask; CREATED for one that the graph does not have.
    pub fn state(&self, subtask: SubtaskId) -> ExecutionState {
        self.executions
            .get(&subtask)
            .map_or(ExecutionState::Created, |execution| execution.state)
    }

    /// Every subtask with its state, in order.
    pub fn states(&self) -> impl Iterator<Item = (SubtaskId, ExecutionState)> + '_ {
        self.executions
            .iter()
            .map(|(subtask, execution)| (*subtask, execution.state))
    }

    /// Every subtask, in order.
    pub fn subtasks(&self) -> impl Iterator<Item = SubtaskId> + '_ {
        self.executions.keys().copied()
    }

    /// How many subtasks there are.
    pub fn len(&self) -> usize {
        self.executions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.executions.is_empty()
    }

    /// Changes a subtask's state. Returns whether that was a legal change; otherwise nothing happens.
    pub fn transition(&mut self, subtask: SubtaskId, to: ExecutionState) -> bool {
        match self.executions.get_mut(&subtask) {
            Some(execution) if can_transition(execution.state, to) => {
                execution.state = to;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Changes every subtask that may change so.
    pub fn transition_all(&mut self, to: ExecutionState) {
        for execution in self.executions.values_mut() {
            if can_transition(execution.state, to) {
                execution.state = to;
            }
        }
    }

    /// Begins all over again with every subtask that does not run: CREATED.
    pub fn renew(&mut self) {
        let stopped = self.executions.values_mut();
        for execution in stopped.filter(|execution| execution.state != ExecutionState::Running) {
            *execution = CREATED;
        }
    }

    /// Hands every subtask that is SCHEDULED to its worker: DEPLOYING.
    pub fn deploy(&mut self, placement: &Placement) {
        for (subtask, worker) in placement.workers_of_subtasks() {
            if self.transition(subtask, ExecutionState::Deploying)
                && let Some(execution) = self.executions.get_mut(&subtask)
            {
                execution.worker = Some(worker);
            }
        }
    }

    /// The job ended before this graph was made: every subtask ended so.
    pub fn settle(&mut self, state: ExecutionState) {
        for execution in self.executions.values_mut() {
            execution.state = state;
        }
    }

    /// A worker has come back with a subtask that it runs.
    pub fn adopt(&mut self, worker: WorkerId, report: &SubtaskReport) {
        if let Some(execution) = self.executions.get_mut(&report.subtask) {
            *execution = Execution {
                state: report.state,
                worker: Some(worker),
                end_of_data: report.end_of_data,
            };
        }
    }

    /// Tells every subtask that has not ended to stop, but for the survivors. Those that no worker has are gone at once.
    pub fn cancel(&mut self, survivors: &BTreeSet<SubtaskId>) {
        for (subtask, execution) in &mut self.executions {
            if !survivors.contains(subtask) && can_transition(execution.state, ExecutionState::Canceling) {
                execution.state = match execution.worker {
                    Some(_) => ExecutionState::Canceling,
                    None => ExecutionState::Canceled,
                };
            }
        }
    }

    /// Fails what a worker still runs. Returns whether that was anything.
    pub fn fail_worker(&mut self, worker: WorkerId) -> bool {
        let mut any = false;
        for execution in self.executions.values_mut() {
            if execution.worker == Some(worker) && can_transition(execution.state, ExecutionState::Failed) {
                execution.state = ExecutionState::Failed;
                any = true;
            }
        }
        any
    }

    /// Whether this worker runs this subtask.
    pub fn runs(&self, worker: WorkerId, subtask: SubtaskId) -> bool {
        self.executions
            .get(&subtask)
            .is_some_and(|execution| execution.worker == Some(worker))
    }

    /// The workers that run subtasks of this attempt, ended ones included.
    pub fn workers(&self) -> BTreeSet<WorkerId> {
        self.executions
            .values()
            .filter_map(|execution| execution.worker)
            .collect()
    }

    /// The workers that still run something.
    pub fn busy_workers(&self) -> BTreeSet<WorkerId> {
        self.executions
            .values()
            .filter(|execution| !execution.state.is_terminal())
            .filter_map(|execution| execution.worker)
            .collect()
    }

    /// Whether every subtask is in this state.
    pub fn all_in(&self, state: ExecutionState) -> bool {
        self.executions.values().all(|execution| execution.state == state)
    }

    /// Whether any subtask is in this state.
    pub fn any_in(&self, state: ExecutionState) -> bool {
        self.executions.values().any(|execution| execution.state == state)
    }

    /// Every subtask in this state.
    pub fn all_that_are(&self, state: ExecutionState) -> BTreeSet<SubtaskId> {
        let found = self.states().filter(|(_, of)| *of == state);
        found.map(|(subtask, _)| subtask).collect()
    }

    /// Notes that a subtask has seen the end of its input.
    pub fn end_of_data(&mut self, subtask: SubtaskId) {
        if let Some(execution) = self.executions.get_mut(&subtask) {
            execution.end_of_data = true;
        }
    }

    /// Whether every subtask has seen the end of its input.
    pub fn all_data_ended(&self) -> bool {
        self.executions.values().all(|execution| execution.end_of_data)
    }
}

/// Every subtask of a graph, in order.
pub fn all_subtasks(graph: &JobGraph) -> impl Iterator<Item = SubtaskId> + '_ {
    (0u32..)
        .zip(&graph.vertices)
        .flat_map(|(vertex, job_vertex)| (0..job_vertex.parallelism).map(move |index| SubtaskId { vertex, index }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ExecutionState; 9] = [
        ExecutionState::Created,
        ExecutionState::Scheduled,
        ExecutionState::Deploying,
        ExecutionState::Initializing,
        ExecutionState::Running,
        ExecutionState::Finished,
        ExecutionState::Canceling,
        ExecutionState::Canceled,
        ExecutionState::Failed,
    ];

    #[test]
    fn the_matrix_of_execution_states_is_as_drawn() {
        let drawn = [
            (ExecutionState::Created, "SCHEDULED CANCELING"),
            (ExecutionState::Scheduled, "DEPLOYING CANCELING FAILED"),
            (ExecutionState::Deploying, "INITIALIZING RUNNING CANCELING FAILED"),
            (ExecutionState::Initializing, "RUNNING CANCELING FAILED"),
            (ExecutionState::Running, "FINISHED CANCELING FAILED"),
            (ExecutionState::Canceling, "CANCELED FINISHED FAILED"),
            (ExecutionState::Finished, ""),
            (ExecutionState::Canceled, ""),
            (ExecutionState::Failed, ""),
        ];
        for (from, targets) in drawn {
            for to in ALL {
                let expected = targets.split(' ').any(|name| name == to.name());
                assert_eq!(can_transition(from, to), expected, "{} -> {}", from.name(), to.name());
            }
            assert_eq!(from.is_terminal(), targets.is_empty());
        }
    }

    #[test]
    fn a_subtask_that_may_not_change_so_stays_as_it_is() {
        let mut graph = JobGraph::new("job");
        assert!(ExecutionGraph::new(&graph).is_empty());
        graph.vertices = vec![streamd_core::graph::JobVertex {
            id: streamd_core::id::OperatorId::from_uid("source"),
            name: String::new(),
            parallelism: 1,
            max_parallelism: None,
            slot_sharing_group: String::new(),
            operators: Vec::new(),
        }];
        let mut execution = ExecutionGraph::new(&graph);
        assert!(!execution.is_empty());
        let subtask = SubtaskId { vertex: 0, index: 0 };
        assert!(!execution.transition(subtask, ExecutionState::Finished));
        assert_eq!(execution.state(subtask), ExecutionState::Created);
        assert!(execution.transition(subtask, ExecutionState::Scheduled));
        assert_eq!(execution.state(subtask), ExecutionState::Scheduled);
    }
}
