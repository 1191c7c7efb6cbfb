//! What slots and subtasks tell the job master: states, acknowledgements, the end of data.

use std::sync::Arc;

use streamd_core::backend::Inlining;
use streamd_core::barrier::Barrier;
use streamd_core::id::{JobId, SubtaskId};
use streamd_core::protocol::{ExecutionState, WorkerEvent};
use streamd_runtime::chain::OperatorSnapshot;
use streamd_runtime::error::TaskError;
use streamd_runtime::slot::SlotReporter;
use streamd_runtime::snapshot::{Cut, write_cut};
use streamd_runtime::subtask::SubtaskReporter;
use streamd_snapshot::LocalCopies;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::host::Host;
use crate::standing::Standing;

/// Reports for one slot.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub(crate) job_id: JobId,
    /// Which attempt it belongs to.
    pub(crate) standing: Standing,
    pub(crate) events: mpsc::Sender<WorkerEvent>,
    pub(crate) io: Handle,
    /// Who runs the writers of snapshots.
    pub(crate) host: Arc<dyn Host>,
    /// Which state objects of a checkpoint travel inside of its metadata.
    pub(crate) inlining: Inlining,
    /// What stays on the local disk of checkpoints, if anything does.
    pub(crate) copies: Option<LocalCopies>,
    /// Snapshots being written. At most one for each subtask and concurrent checkpoint.
    pub(crate) writers: TaskTracker,
}

impl Reporter {
    /// Blocks while the link is slow: only slot threads and snapshot writers call it.
    fn tell(&self, event: WorkerEvent) {
        // A closed link ends the worker; there is nobody left to tell.
        let _ = self.events.blocking_send(event);
    }
}

impl SlotReporter for Reporter {
    fn on_state(&self, subtask: SubtaskId, state: ExecutionState, error: Option<TaskError>) {
        let attempt = self.standing.attempt();
        match &error {
            Some(error) => {
                tracing::error!(%subtask, %attempt, to = state.name(), %error, "subtask failed")
            }
            None => tracing::debug!(%subtask, %attempt, to = state.name(), "subtask changed state"),
        }
        self.tell(self.standing.state(subtask, state, error.map(Into::into)));
    }
}

impl SubtaskReporter for Reporter {
    fn on_cut(&self, subtask: SubtaskId, barrier: &Barrier, operators: Vec<OperatorSnapshot>) {
        let cut = Cut {
            job_id: self.job_id,
            attempt: self.standing.attempt(),
            subtask,
            options: Arc::clone(&barrier.options),
            inlining: self.inlining,
            copies: self.copies.as_ref().map(|copies| copies.of(barrier.checkpoint)),
            operators,
        };
        let (reporter, checkpoint, io) = (self.clone(), barrier.checkpoint, self.io.clone());
        let tracked = self.writers.token();
        let write = move || {
            let event = match write_cut(cut, &io) {
                Ok(snapshot) => WorkerEvent::Acknowledge {
                    attempt: reporter.standing.attempt(),
                    checkpoint,
                    subtask,
                    snapshot,
                },
                Err(error) => {
                    // On one line: what the user reads is what the job manager makes of it.
                    let reason = error.to_coded().on_one_line();
                    tracing::warn!(%checkpoint, %subtask, %reason, "snapshot declined");
                    WorkerEvent::Decline {
                        attempt: reporter.standing.attempt(),
                        checkpoint,
                        subtask,
                        reason,
                    }
                }
            };
            reporter.tell(event);
            drop(tracked);
        };
        self.host.run_writer(Box::new(write));
    }

    fn on_end_of_data(&self, subtask: SubtaskId) {
        self.tell(self.standing.end_of_data(subtask));
    }
}
