//! The workers of a job as they come, report, and go.

use streamd_coordinator::event::Event;
use streamd_coordinator::lifecycle::JobState;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::WorkerId;
use streamd_core::protocol::{Failure, WorkerCommand, WorkerEvent, WorkerRegistration, WorkerReturn};
use tokio::sync::mpsc;
use tracing::debug;

use super::launcher::LaunchRequest;
use super::records::Request;
use super::service::JobMaster;
use super::workers::not_expected;

impl JobMaster {
    pub(super) fn on_attach(
        &mut self,
        registration: WorkerRegistration,
        commands: mpsc::Sender<WorkerCommand>,
    ) -> Result<(), CodedError> {
        self.workers.attach(&registration, commands)?;
        debug!(worker = %registration.worker, task_manager = %registration.task_manager, "worker attached");
        let worker = registration.worker;
        self.on_event(Event::Worker(worker, WorkerEvent::Registered(registration)));
        Ok(())
    }

    /// A worker is back that another job manager started.
    pub(super) fn on_return(
        &mut self,
        returned: WorkerReturn,
        commands: mpsc::Sender<WorkerCommand>,
    ) -> Result<(), CodedError> {
        let registration = &returned.registration;
        let (worker, task_manager) = (registration.worker, registration.task_manager.clone());
        match self.machine.state() {
            _any if self.machine.awaits_workers() && returned.attempt == self.machine.attempt() => {}
            JobState::Created | JobState::Initializing if !self.is_suspended() => return Err(self.recovering()),
            JobState::Initializing
            | JobState::Created
            | JobState::Reconciling
            | JobState::Running
            | JobState::Restarting
            | JobState::Failing
            | JobState::Failed
            | JobState::Cancelling
            | JobState::Canceled
            | JobState::Finished => return Err(not_expected(registration)),
        }
        debug!(%worker, %task_manager, attempt = %returned.attempt, "worker is back");
        self.workers.adopt(&returned, commands, self.clock.monotonic());
        self.remains.started(worker, task_manager.clone());
        let adopt = LaunchRequest::AdoptWorker { worker, task_manager };
        self.requests.push_back(Request::Launch(adopt));
        self.on_event(Event::Worker(worker, WorkerEvent::Returned(Box::new(returned))));
        Ok(())
    }

    fn recovering(&self) -> CodedError {
        let message = format!("job `{}` is still being recovered", self.job_id);
        CodedError::new(ErrorCode::JobRecovering, message).with_hint("try again in a moment")
    }

    pub(super) fn on_worker_event(&mut self, worker: WorkerId, event: WorkerEvent) {
        if self.workers.heard(worker, &event, self.clock.monotonic()) {
            self.on_event(Event::Worker(worker, event));
        }
    }

    pub(super) fn on_worker_lost(&mut self, worker: WorkerId, failure: Failure) {
        if self.workers.remove(worker) {
            debug!(%worker, reason = failure.message, "worker gone");
            self.on_event(Event::WorkerLost(worker, failure));
        }
    }

    /// The process would open another link, and end because that is refused: the job is told the true reason before.
    pub(super) fn on_worker_misbehaved(&mut self, worker: WorkerId, failure: Failure) {
        if self.workers.remove(worker) {
            self.give_up(worker, failure);
            self.handle_events();
        }
    }

    /// A worker that does not behave is lost to the job, and its process must not linger.
    pub(super) fn give_up(&mut self, worker: WorkerId, failure: Failure) {
        self.launch(LaunchRequest::StopWorker { worker });
        self.events.push_back(Event::WorkerLost(worker, failure));
    }
}
