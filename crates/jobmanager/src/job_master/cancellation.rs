//! The user's wish to have the job gone. It is acted upon at once, and acknowledged once it is recorded: whoever leads next goes on
//! with it then.

use streamd_coordinator::event::Event;
use streamd_coordinator::lifecycle::JobState;
use streamd_core::error::{CodedError, ErrorCode};
use tokio::sync::oneshot;

use super::records::Request;
use super::service::JobMaster;

/// Whoever asked for a cancellation, and waits to hear that it is recorded.
type Waiting = Vec<oneshot::Sender<Result<(), CodedError>>>;

/// How far the record of a cancellation is.
#[derive(Default)]
pub(super) enum Cancellation {
    /// There is none: nobody wants it, or it could not be written.
    #[default]
    Unrecorded,
    /// It is being written.
    UnderWay(Waiting),
    /// It is there.
    Recorded,
}

impl JobMaster {
    pub(super) fn on_cancel(&mut self, reply: oneshot::Sender<Result<(), CodedError>>) {
        let is_wanted = match self.machine.state() {
            JobState::Failed | JobState::Finished => Err(self.terminated()),
            JobState::Canceled if self.ending.is_none() => Ok(false),
            _goes_on if self.is_suspended() => Err(self.suspended()),
            _goes_on => Ok(true),
        };
        if is_wanted == Ok(true) {
            self.on_event(Event::Cancel);
            self.record_cancellation();
        }
        match &mut self.cancellation {
            Cancellation::UnderWay(waiting) if is_wanted == Ok(true) => waiting.push(reply),
            Cancellation::Unrecorded | Cancellation::UnderWay(_) | Cancellation::Recorded => {
                // Whoever asked may have gone away; the answer is then nobody's.
                let _gone = reply.send(is_wanted.map(drop));
            }
        }
    }

    /// Has the cancellation recorded before whatever else waits, unless it is.
    pub(super) fn record_cancellation(&mut self) {
        if matches!(self.cancellation, Cancellation::Unrecorded) && self.journal.is_some() {
            self.cancellation = Cancellation::UnderWay(Vec::new());
            let savepoint = self.machine.cancelled_with().map(str::to_owned);
            self.requests.push_front(Request::RecordCancellation { savepoint });
        }
    }

    /// Tells whoever asked. A job whose cancellation cannot be recorded is cancelled all the same.
    pub(super) fn on_cancellation_recorded(&mut self, result: Result<(), CodedError>) {
        let (stage, answer) = match result {
            Ok(()) => (Cancellation::Recorded, Ok(())),
            Err(error) => (Cancellation::Unrecorded, Err(self.unrecorded(&error))),
        };
        if let Cancellation::UnderWay(waiting) = std::mem::replace(&mut self.cancellation, stage) {
            for reply in waiting {
                let _gone = reply.send(answer.clone());
            }
        }
    }

    fn unrecorded(&self, error: &CodedError) -> CodedError {
        let message = format!(
            "job `{}` is being cancelled, but that cannot be recorded: {}",
            self.job_id, error.message
        );
        CodedError::new(ErrorCode::OperationNotRecorded, message).with_hint(
            "cancel it again once `high-availability.storageDir` takes records: should the job manager die before the job has \
             ended, the next one goes on with it",
        )
    }

    fn suspended(&self) -> CodedError {
        let message = format!("the job manager shuts down, and has suspended job `{}`", self.job_id);
        CodedError::new(ErrorCode::ClusterShuttingDown, message).with_hint("cancel it once the next job manager leads")
    }
}
