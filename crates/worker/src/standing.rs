//! What a slot goes by, and what it has said that stays true.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use streamd_core::id::{Attempt, SubtaskId};
use streamd_core::protocol::{ExecutionState, Failure, WorkerEvent};

/// The attempt that the subtasks of a slot speak for: a slot that is kept goes over to the next one. A cheap clone.
///
/// What was said for the attempt before counts for nothing from then on, so how a subtask has ended, and that its data has, is remembered
/// and [said again](Self::go_over). What is said meanwhile is said for one attempt or the other, and is remembered before it is.
#[derive(Debug, Clone)]
pub(crate) struct Standing(Arc<Mutex<Said>>);

#[derive(Debug)]
struct Said {
    attempt: Attempt,
    ended: BTreeMap<SubtaskId, (ExecutionState, Option<Failure>)>,
    data_ended: Vec<SubtaskId>,
}

impl Standing {
    pub(crate) fn new(attempt: Attempt) -> Self {
        Self(Arc::new(Mutex::new(Said {
            attempt,
            ended: BTreeMap::new(),
            data_ended: Vec::new(),
        })))
    }

    pub(crate) fn attempt(&self) -> Attempt {
        self.lock().attempt
    }

    /// A subtask has a new state.
    pub(crate) fn state(&self, subtask: SubtaskId, state: ExecutionState, failure: Option<Failure>) -> WorkerEvent {
        let mut said = self.lock();
        if state.is_terminal() {
            said.ended.insert(subtask, (state, failure.clone()));
        }
        WorkerEvent::SubtaskState {
            attempt: said.attempt,
            subtask,
            state,
            failure,
        }
    }

    /// The data of a subtask has ended.
    pub(crate) fn end_of_data(&self, subtask: SubtaskId) -> WorkerEvent {
        let mut said = self.lock();
        said.data_ended.push(subtask);
        let attempt = said.attempt;
        WorkerEvent::EndOfData { attempt, subtask }
    }

    /// From now on the slot belongs to another attempt. Returns what is to be said again.
    pub(crate) fn go_over(&self, attempt: Attempt) -> Vec<WorkerEvent> {
        let mut said = self.lock();
        said.attempt = attempt;
        let ended = said
            .ended
            .iter()
            .map(|(subtask, (state, failure))| WorkerEvent::SubtaskState {
                attempt,
                subtask: *subtask,
                state: *state,
                failure: failure.clone(),
            });
        let data_ended = said.data_ended.iter().map(|subtask| WorkerEvent::EndOfData {
            attempt,
            subtask: *subtask,
        });
        data_ended.chain(ended).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBTASK: SubtaskId = SubtaskId { vertex: 1, index: 0 };

    #[test]
    fn what_stays_true_is_said_again_for_the_next_attempt() {
        let standing = Standing::new(Attempt(1));
        assert_eq!(standing.go_over(Attempt(2)), []);
        standing.state(SUBTASK, ExecutionState::Running, None);
        standing.end_of_data(SUBTASK);
        let ended = |attempt| WorkerEvent::EndOfData {
            attempt,
            subtask: SUBTASK,
        };
        assert_eq!(standing.go_over(Attempt(3)), [ended(Attempt(3))]);
        let WorkerEvent::SubtaskState { attempt, .. } = standing.state(SUBTASK, ExecutionState::Canceled, None) else {
            panic!("a state is a state");
        };
        assert_eq!(attempt, Attempt(3));
        let canceled = WorkerEvent::SubtaskState {
            attempt: Attempt(4),
            subtask: SUBTASK,
            state: ExecutionState::Canceled,
            failure: None,
        };
        assert_eq!(standing.go_over(Attempt(4)), [ended(Attempt(4)), canceled]);
    }
}
