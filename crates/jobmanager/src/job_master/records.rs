//! What a job master records, and in which order with what it does.
//!
//! ```text
//!   attempt n decided ─▶ record of n ─▶ slots ─▶ deployment
//!   cancelled ─────────▶ record of that ─▶ the user is told; subtasks are cancelled meanwhile
//!   end decided ───────▶ record of the end ─▶ watchers are told ─▶ snapshots are deleted
//!   workers gone ──────▶ record of the suspension ─▶ the job manager ends
//! ```

use futures::future::BoxFuture;
use streamd_coordinator::job::JobMachine;
use streamd_coordinator::lifecycle::JobState;
use streamd_core::error::CodedError;
use streamd_core::id::Attempt;
use streamd_core::time::WallTime;
use streamd_snapshot::{JobResultRecord, RecordedFailure};
use tracing::{info, warn};

use super::handle::JobMasterHandle;
use super::launcher::LaunchRequest;
use super::onlooker::Onlooker;
use super::service::JobMaster;
use super::status::JobStatus;

/// A job that did not begin with this process.
pub(crate) struct Past {
    /// As it was left.
    pub(crate) machine: JobMachine,
    /// As watchers see it.
    pub(crate) status: JobStatus,
    /// How long its workers are waited for; `None`: it has none.
    pub(crate) reconcile_ms: Option<u64>,
    /// Whether it is recorded that it is being cancelled.
    pub(crate) is_cancelled: bool,
    /// Who holds the machine to its invariants, beside its own assertions.
    pub(crate) onlooker: Option<Onlooker>,
}

/// What is to be done outside of the machine, one after the other.
pub(super) enum Request {
    /// Slots and worker processes.
    Launch(LaunchRequest),
    /// Record an attempt, then ask for its slots.
    BeginAttempt { attempt: Attempt, slots: u32 },
    /// Record that the job is being cancelled, after this savepoint if there is one, then tell the user.
    RecordCancellation { savepoint: Option<String> },
    /// Record the end of the job, then tell of it.
    RecordEnd,
    /// Record that nothing of the job runs any more.
    RecordSuspension,
}

/// What has been done.
pub(super) enum Done {
    Launched,
    AttemptRecorded {
        attempt: Attempt,
        slots: u32,
        result: Result<(), CodedError>,
    },
    CancellationRecorded(Result<(), CodedError>),
    EndRecorded(Result<(), CodedError>),
    SuspensionRecorded,
}

/// An end that is decided, but not recorded yet.
pub(super) struct Ending {
    pub(super) from: JobState,
    pub(super) to: JobState,
    pub(super) ended_at: WallTime,
}

/// Whether the suspension of the job was recorded, or at least tried to be.
#[derive(Default)]
pub(super) struct Suspension {
    is_begun: bool,
}

impl Suspension {
    /// Whether this is the moment to record it, which comes once.
    pub(super) fn is_to_be_recorded(&mut self, is_suspended: bool) -> bool {
        is_suspended && !std::mem::replace(&mut self.is_begun, is_suspended)
    }
}

impl JobMaster {
    pub(super) fn launch(&mut self, request: LaunchRequest) {
        self.requests.push_back(Request::Launch(request));
    }

    pub(super) fn request_slots(&mut self, count: u32) {
        let attempt = self.machine.attempt_of_slots();
        self.requests.push_back(match self.journal {
            Some(_) => Request::BeginAttempt { attempt, slots: count },
            None => Request::Launch(LaunchRequest::RequestSlots { count }),
        });
    }

    pub(super) fn carry_out(&self, handle: JobMasterHandle, request: Request) -> BoxFuture<'static, Done> {
        match (request, self.journal.clone()) {
            (Request::Launch(request), _) => {
                let launching = self.launcher.launch(handle, request);
                Box::pin(async move {
                    launching.await;
                    Done::Launched
                })
            }
            (Request::BeginAttempt { attempt, slots }, Some(journal)) => {
                let failures = self.failures();
                Box::pin(async move {
                    Done::AttemptRecorded {
                        attempt,
                        slots,
                        result: journal.begin_attempt(attempt, failures).await,
                    }
                })
            }
            (Request::RecordCancellation { savepoint }, Some(journal)) => {
                Box::pin(async move { Done::CancellationRecorded(journal.cancel(savepoint).await) })
            }
            (Request::RecordEnd, Some(journal)) => {
                let result = self.result();
                Box::pin(async move { Done::EndRecorded(journal.end(result).await) })
            }
            (Request::RecordSuspension, Some(journal)) => Box::pin(async move {
                if let Err(error) = journal.suspend().await {
                    warn!(%error, "the next job manager waits for workers that are gone");
                }
                Done::SuspensionRecorded
            }),
            (
                Request::BeginAttempt { .. }
                | Request::RecordCancellation { .. }
                | Request::RecordEnd
                | Request::RecordSuspension,
                None,
            ) => Box::pin(std::future::ready(Done::Launched)),
        }
    }

    /// The last failures of the job, first to last.
    fn failures(&self) -> Vec<RecordedFailure> {
        let failures = self.machine.failures().map(|record| RecordedFailure {
            failure: record.failure.clone(),
            attempt: record.attempt,
            at: record.at,
            restart_delay_ms: record.restart_delay_ms,
        });
        failures.collect()
    }

    /// How the job has ended.
    fn result(&self) -> JobResultRecord {
        JobResultRecord {
            version: JobResultRecord::VERSION,
            job_id: self.job_id,
            state: self.machine.state().name().to_owned(),
            ended_at: self
                .ending
                .as_ref()
                .map_or_else(|| self.clock.wall(), |ending| ending.ended_at),
            attempt: self.machine.attempt(),
            failures: self.failures(),
            leader_epoch: self.machine.spec().options.leader_epoch,
        }
    }

    pub(super) fn on_done(&mut self, done: Done) {
        self.launching = None;
        match done {
            Done::Launched | Done::SuspensionRecorded => {}
            Done::AttemptRecorded {
                attempt,
                slots: count,
                result,
            } => {
                let is_wanted = self.machine.attempt_of_slots() == attempt
                    && self.machine.state() == JobState::Running
                    && !self.is_suspended();
                match result {
                    _any if !is_wanted => {}
                    // Before whatever was asked for since.
                    Ok(()) => {
                        let request = LaunchRequest::RequestSlots { count };
                        self.requests.push_front(Request::Launch(request));
                    }
                    Err(_told) => self.requests.push_back(Request::BeginAttempt { attempt, slots: count }),
                }
            }
            Done::CancellationRecorded(result) => self.on_cancellation_recorded(result),
            Done::EndRecorded(Ok(())) => {
                if let Some(Ending { from, to, .. }) = self.ending.take() {
                    info!(from = from.name(), to = to.name(), "end of job recorded");
                    self.tell_state(to);
                }
                for action in std::mem::take(&mut self.held) {
                    self.perform(action);
                }
            }
            // The store comes back; until then the job looks as it did before, and nothing of it is deleted.
            Done::EndRecorded(Err(_told)) => self.requests.push_back(Request::RecordEnd),
        }
    }
}
