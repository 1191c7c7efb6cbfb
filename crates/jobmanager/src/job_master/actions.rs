//! Carrying out what the machine decides.

use std::time::Duration;

use streamd_coordinator::action::{Action, CompletedOperation};
use streamd_coordinator::lifecycle::JobState;
use streamd_core::error::CodedError;
use streamd_core::id::OperationId;
use streamd_core::protocol::Failure;
use tracing::{info, warn};

use super::effects::{Deletion, Extent, Promotion, Publication};
use super::launcher::LaunchRequest;
use super::records::{Ending, Request};
use super::service::JobMaster;

impl JobMaster {
    pub(super) fn perform(&mut self, action: Action) {
        if self.ending.is_some() && matches!(action, Action::CompleteOperation { .. }) {
            return self.held.push(action);
        }
        match action {
            Action::RequestSlots { count } => self.request_slots(count),
            Action::AdoptSlots { slots } => self.launch(LaunchRequest::AdoptSlots { slots }),
            Action::ReleaseSlots => self.launch(LaunchRequest::ReleaseSlots),
            Action::StartWorker { worker, task_manager } => {
                self.workers.start(worker, task_manager.clone());
                self.remains.started(worker, task_manager.clone());
                self.launch(LaunchRequest::StartWorker { worker, task_manager });
            }
            Action::StopWorker { worker } => {
                self.workers.stop(worker);
                self.launch(LaunchRequest::StopWorker { worker });
            }
            Action::Send { worker, command } => {
                if let Err(failure) = self.workers.send(worker, command, self.clock.monotonic()) {
                    self.workers.remove(worker);
                    self.give_up(worker, failure);
                }
            }
            Action::Publish {
                checkpoint,
                metadata,
                location,
            } => {
                let is_committed = self.operations.is_committed(&location);
                let publication = Publication {
                    checkpoint,
                    metadata: *metadata,
                    location,
                    commits: self.journal.clone().filter(|_| is_committed),
                };
                self.effects.publish(publication, self.mailbox.clone());
            }
            Action::Discard { checkpoint, location } => self.delete(Deletion {
                checkpoint,
                location,
                extent: Extent::Folder,
            }),
            Action::Unpublish {
                checkpoint,
                location,
                unneeded,
            } => self.delete(Deletion {
                checkpoint,
                location,
                extent: Extent::Partly(unneeded),
            }),
            Action::DiscardClaimed { checkpoint, location } => self.delete(Deletion {
                checkpoint,
                location,
                extent: Extent::Claimed,
            }),
            Action::Promote {
                operation,
                source,
                location,
                timeout_ms,
            } => {
                let promotion = Promotion {
                    operation,
                    source,
                    location,
                    timeout: Duration::from_millis(timeout_ms),
                };
                self.effects.promote(promotion, self.mailbox.clone());
            }
            Action::CompleteOperation { id, result } => self.complete_operation(id, result),
            Action::StateChanged { from, to, failure } => self.change_state(from, to, failure),
        }
    }

    /// What a job leaves at its end, which has been told by now, is deleted once nothing of it runs.
    fn delete(&mut self, deletion: Deletion) {
        match self.machine.state().is_terminal() {
            true => self.remains.delete(deletion),
            false => self.effects.delete(deletion),
        }
    }

    fn complete_operation(&mut self, id: OperationId, result: Result<CompletedOperation, CodedError>) {
        match &result {
            Ok(completed) => info!(operation = %id, savepoint = completed.savepoint_path, "operation completed"),
            Err(error) => warn!(operation = %id, %error, "operation failed"),
        }
        self.operations.complete(id, result);
    }

    fn change_state(&mut self, from: JobState, to: JobState, failure: Option<Failure>) {
        match &failure {
            Some(failure) => info!(
                from = from.name(),
                to = to.name(),
                reason = failure.message,
                "job state changed"
            ),
            None => info!(from = from.name(), to = to.name(), "job state changed"),
        }
        if to == JobState::Cancelling {
            self.record_cancellation();
        }
        if to.is_terminal() && self.journal.is_some() {
            let ended_at = self.clock.wall();
            self.ending = Some(Ending { from, to, ended_at });
            return self.requests.push_back(Request::RecordEnd);
        }
        self.tell_state(to);
    }

    /// Tells watchers of the machine's state.
    pub(super) fn tell_state(&mut self, to: JobState) {
        if to.is_terminal() {
            self.launch(LaunchRequest::Forget);
        }
        let ended_at = to.is_terminal().then(|| self.clock.wall());
        let restarts = self.machine.restarts();
        let last_failure = self.machine.failures().next_back().cloned();
        self.status.send_modify(|status| {
            status.state = to;
            status.ended_at = ended_at;
            status.restarts = restarts;
            status.last_failure = last_failure;
        });
    }
}
