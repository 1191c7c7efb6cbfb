//! Savepoints and stops, as clients ask for them: begun once, recorded, and answered for as long as the record is kept.
//!
//! ```text
//!   request ─▶ record of the beginning ─▶ job master ─▶ … ─▶ record of the end
//!                    └──── found again by a later job manager: the place it names tells what became of it
//! ```

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use streamd_coordinator::action::CompletedOperation;
use streamd_coordinator::event::{OperationKind, OperationRequest};
use streamd_coordinator::job::{OperationProgress, OperationStage, OperationStatus};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, OperationId};
use streamd_core::time::WallTime;
use streamd_rpc::proto;
use streamd_snapshot::{
    Location, OperationBegun, OperationCatalogue, OperationEnded, OperationOutcome, OperationVerb, RecordedOperation,
    SnapshotError, layout,
};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::submission::Dispatcher;
use crate::job_master::JobMasterHandle;
use crate::random;

/// The longest that one call waits for an operation: below the deadline that clients give a call.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The pauses before the record of an end is written again. Without it, the next job manager finds out.
const RECORD_PAUSES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// Savepoints that are looked at at once to see whether they are still there.
const LOOKS_IN_FLIGHT: usize = 16;

/// Operations that are remembered over all job managers: a savepoint an hour for six weeks.
pub(crate) const OPERATIONS_KEPT: usize = 1_000;

/// An operation, wherever it is known from.
pub(crate) struct KnownOperation {
    pub(crate) begun: OperationBegun,
    pub(crate) status: OperationStatus,
    pub(crate) ended_at: Option<WallTime>,
    /// Whether its savepoint was completed and is not there any more.
    pub(crate) missing: bool,
}

impl Dispatcher {
    /// Begins an operation. The same request twice begins one operation: what an earlier job manager began has an outcome, and whoever
    /// wants a job ended as it already ends, or has ended, is given the operation that does it. It goes on if the caller goes away: what
    /// is recorded is begun, and has an end.
    pub(crate) async fn start_operation(
        &self,
        request: proto::StartOperationRequest,
    ) -> Result<OperationId, CodedError> {
        let dispatcher = self.clone();
        self.to_its_end(async move { dispatcher.begin_operation(&request).await })
            .await
    }

    async fn begin_operation(&self, request: &proto::StartOperationRequest) -> Result<OperationId, CodedError> {
        let id = parse_operation_id(&request.operation_id)?;
        let job_id: JobId = parse(&request.job_id)?;
        let kind = kind_of(request)?;
        if let Some(known) = self.recorded(id).await? {
            check_same(&known.begun, job_id, kind)?;
            let is_settled = known.ended.is_some() || self.is_an_earlier_ones(&known.begun);
            if is_settled || self.registry.find(job_id).await.is_err() {
                return Ok(id);
            }
        }
        let job = self.registry.find(job_id).await?;
        let operation = operation_request(id, (job_id, kind), request)?;
        let begun = self.begun(&job, &operation).await?;
        if let Some(begun) = &begun {
            self.catalogue
                .begin(begun)
                .await
                .map_err(|error| unrecorded(id, &error))?;
        }
        if let Err(refusal) = job.start_operation(operation).await {
            let Some(begun) = begun else { return Err(refusal) };
            self.withdraw(&job, id).await;
            return self.ending_alike(&begun).await?.ok_or(refusal);
        }
        if let Some(status) = job.operation(id).await? {
            let catalogue = self.catalogue.clone();
            let clock = self.clock.clone();
            self.tasks.spawn(async move {
                if let Some(outcome) = ended(status).await {
                    record_end(&catalogue, OperationEnded::new(id, clock.wall(), outcome)).await;
                }
            });
        }
        Ok(id)
    }

    /// The record of an operation that is to begin; `None` where no place for its savepoint is known, which is refused.
    async fn begun(
        &self,
        job: &JobMasterHandle,
        operation: &OperationRequest,
    ) -> Result<Option<OperationBegun>, CodedError> {
        let configured = job.details().await?.spec.options.savepoint_directory;
        let Some(directory) = operation.target.clone().or(configured) else {
            return Ok(None);
        };
        Ok(Some(OperationBegun {
            version: OperationBegun::VERSION,
            operation_id: operation.id,
            job_id: job.job_id(),
            job_name: job.name().to_owned(),
            kind: verb_of(operation.kind),
            location: format!(
                "{}/{}",
                directory.strip_suffix('/').unwrap_or(&directory),
                operation.folder
            ),
            requested_at: self.clock.wall(),
        }))
    }

    /// A refused operation never began. One that was repeated and refused now may have begun before.
    async fn withdraw(&self, job: &JobMasterHandle, id: OperationId) {
        if matches!(job.operation(id).await, Ok(Some(status)) if in_progress(&status)) {
            return;
        }
        if let Err(error) = self.catalogue.withdraw(id).await {
            let error = streamd_core::error::chain(&error);
            warn!(operation = %id, error, "the record of a refused operation stays");
        }
    }

    /// Whether an earlier job manager began it.
    fn is_an_earlier_ones(&self, begun: &OperationBegun) -> bool {
        begun.requested_at < self.started_at
    }

    /// The operation that ends the job, or has ended it, in the way and in the directory of one that is refused.
    async fn ending_alike(&self, refused: &OperationBegun) -> Result<Option<OperationId>, CodedError> {
        if refused.kind == OperationVerb::Savepoint {
            return Ok(None);
        }
        let request = |begun: &OperationBegun| {
            let directory = begun
                .location
                .rsplit_once('/')
                .map(|(directory, _)| directory.to_owned());
            (begun.job_id, begun.kind, directory)
        };
        let mut recorded = self.catalogue.list().await.map_err(|error| unreadable(&error))?;
        recorded.retain(|it| request(&it.begun) == request(refused));
        for recorded in recorded {
            let (job_id, id) = (recorded.begun.job_id, recorded.begun.operation_id);
            // One that no job master has heard of may be refused as well.
            let is_heard_of = recorded.ended.is_some()
                || self.is_an_earlier_ones(&recorded.begun)
                || self.live(Some(job_id), id).await?.is_some();
            if is_heard_of && !matches!(self.known(recorded).await?.status, OperationStatus::Ended(Err(_))) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The operation once it has ended, or as it is after the time-out.
    pub(crate) async fn wait_operation(
        &self,
        request: &proto::WaitOperationRequest,
    ) -> Result<OperationStatus, CodedError> {
        let id = parse_operation_id(&request.operation_id)?;
        let job_id = match request.job_id.as_str() {
            "" => self.recorded(id).await?.map(|known| known.begun.job_id),
            job => Some(parse(job)?),
        };
        let limit = Duration::from_millis(request.timeout_ms).min(LONGEST_WAIT);
        if let Some(mut status) = self.live(job_id, id).await? {
            let ended = status.wait_for(|status| matches!(status, OperationStatus::Ended(_)));
            // Late or no longer told: either way the answer is how far it is.
            let _late = tokio::time::timeout(limit, ended).await.map(|ended| ended.map(drop));
            return Ok(status.borrow().clone());
        }
        let KnownOperation { begun, status, .. } = self.operation(id).await?;
        match (&status, self.registry.find(begun.job_id).await) {
            (
                OperationStatus::InProgress(OperationProgress {
                    stage: OperationStage::Ending,
                    ..
                }),
                Ok(job),
            ) => {
                // Late: then the answer is that it still ends.
                let _late = tokio::time::timeout(limit, job.over()).await;
                Ok(self.operation(id).await?.status)
            }
            _settled => Ok(status),
        }
    }

    /// An operation, whichever job manager began it.
    pub(crate) async fn operation(&self, id: OperationId) -> Result<KnownOperation, CodedError> {
        let recorded = self.recorded(id).await?.ok_or_else(|| {
            CodedError::new(ErrorCode::OperationNotFound, format!("there is no operation `{id}`"))
                .with_hint("`streamctl savepoint list` shows all that are recorded; a request that was refused is not")
        })?;
        self.known(recorded).await
    }

    /// Every operation that is recorded, or those of the job with this name or id, the newest first.
    pub(crate) async fn operations(&self, job: &str) -> Result<Vec<KnownOperation>, CodedError> {
        let recorded = self.catalogue.list().await.map_err(|error| unreadable(&error))?;
        let wanted = recorded.into_iter().filter(|it| {
            job.is_empty() || it.begun.job_name == job || it.begun.job_id.to_string() == job.to_ascii_lowercase()
        });
        futures::stream::iter(wanted.take(OPERATIONS_KEPT).collect::<Vec<_>>())
            .map(|recorded| async {
                let mut known = self.known(recorded).await?;
                if let OperationStatus::Ended(Ok(completed)) = &known.status {
                    known.missing = !is_there(&completed.savepoint_path).await?;
                }
                Ok(known)
            })
            .buffered(LOOKS_IN_FLIGHT)
            .try_collect()
            .await
    }

    async fn recorded(&self, id: OperationId) -> Result<Option<RecordedOperation>, CodedError> {
        self.catalogue.find(id).await.map_err(|error| unreadable(&error))
    }

    /// The operation in the memory of its job master.
    async fn live(
        &self,
        job: Option<JobId>,
        id: OperationId,
    ) -> Result<Option<watch::Receiver<OperationStatus>>, CodedError> {
        let Some(job) = job else { return Ok(None) };
        match self.registry.find(job).await {
            Ok(job) => job.operation(id).await,
            Err(error) if error.code == ErrorCode::JobNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn known(&self, recorded: RecordedOperation) -> Result<KnownOperation, CodedError> {
        let RecordedOperation { begun, ended } = recorded;
        let known = |begun, status, ended_at| KnownOperation {
            begun,
            status,
            ended_at,
            missing: false,
        };
        if let Some(ended) = ended {
            return Ok(known(begun, status_of(ended.outcome), Some(ended.ended_at)));
        }
        let live = self.live(Some(begun.job_id), begun.operation_id).await?;
        let status = match live {
            Some(status) => status.borrow().clone(),
            // Begun a moment ago by this very job manager: its job master is about to hear of it.
            None if !self.is_an_earlier_ones(&begun) => OperationStatus::InProgress(OperationProgress {
                stage: OperationStage::Writing,
                acknowledged: 0,
                subtasks: 0,
                bytes: 0,
            }),
            None => return self.left_behind(begun).await,
        };
        let ended_at = matches!(status, OperationStatus::Ended(_)).then(|| self.clock.wall());
        Ok(known(begun, status, ended_at))
    }
}

/// Waits for the end of an operation. `None` where this job manager will not see it.
async fn ended(mut status: watch::Receiver<OperationStatus>) -> Option<OperationOutcome> {
    let ended = status
        .wait_for(|status| matches!(status, OperationStatus::Ended(_)))
        .await
        .ok()?
        .clone();
    match ended {
        OperationStatus::Ended(Ok(completed)) => Some(OperationOutcome::Completed {
            savepoint_path: completed.savepoint_path,
            bytes: completed.bytes,
            duration_ms: completed.duration_ms,
            promoted: completed.promoted,
        }),
        // Suspended with its job: the savepoint may yet be complete, and the next job manager will see.
        OperationStatus::Ended(Err(error)) if error.code == ErrorCode::ClusterShuttingDown => None,
        OperationStatus::Ended(Err(error)) => Some(OperationOutcome::Failed { error }),
        OperationStatus::InProgress(_) => None,
    }
}

pub(super) async fn record_end(catalogue: &OperationCatalogue, ended: OperationEnded) {
    let id = ended.operation_id;
    for pause in RECORD_PAUSES {
        match catalogue.end(&ended).await {
            Ok(()) => return,
            Err(error) => {
                debug!(operation = %id, error = streamd_core::error::chain(&error), "the end of an operation is not recorded yet");
                tokio::time::sleep(pause).await;
            }
        }
    }
    if let Err(error) = catalogue.end(&ended).await {
        let error = streamd_core::error::chain(&error);
        warn!(operation = %id, error, "the end of an operation is not recorded");
    }
}

pub(super) fn status_of(outcome: OperationOutcome) -> OperationStatus {
    OperationStatus::Ended(match outcome {
        OperationOutcome::Completed {
            savepoint_path,
            bytes,
            duration_ms,
            promoted,
        } => Ok(CompletedOperation {
            savepoint_path,
            bytes,
            duration_ms,
            promoted,
        }),
        OperationOutcome::Failed { error } => Err(error),
    })
}

fn in_progress(status: &watch::Receiver<OperationStatus>) -> bool {
    matches!(&*status.borrow(), OperationStatus::InProgress(_))
}

async fn is_there(savepoint: &str) -> Result<bool, CodedError> {
    let metadata = Location::open(savepoint).and_then(|folder| folder.child(layout::METADATA));
    let metadata = metadata.map_err(|error| error.to_coded())?;
    metadata.exists().await.map_err(|error| error.to_coded())
}

/// A request id stands for one request.
fn check_same(begun: &OperationBegun, job: JobId, kind: OperationKind) -> Result<(), CodedError> {
    if begun.job_id == job && begun.kind == verb_of(kind) {
        return Ok(());
    }
    let message = format!("operation id `{}` is taken by another request", begun.operation_id);
    Err(CodedError::new(ErrorCode::InvalidArgument, message).with_hint("leave --request-id out, or choose another"))
}

fn unrecorded(id: OperationId, error: &SnapshotError) -> CodedError {
    let what = format!("operation `{id}` cannot be recorded, and was not begun");
    CodedError::caused(ErrorCode::OperationNotRecorded, what, error)
        .with_hint("see the cause, mend `high-availability.storageDir` or make room there, then try again")
}

fn unreadable(error: &SnapshotError) -> CodedError {
    CodedError::caused(
        ErrorCode::OperationNotRecorded,
        "the records of operations cannot be read",
        error,
    )
    .with_hint("look at the object that the message names, in `high-availability.storageDir`")
}

fn verb_of(kind: OperationKind) -> OperationVerb {
    match kind {
        OperationKind::Savepoint => OperationVerb::Savepoint,
        OperationKind::CancelWithSavepoint => OperationVerb::Cancel,
        OperationKind::Stop => OperationVerb::Stop,
        OperationKind::Drain => OperationVerb::Drain,
    }
}

fn kind_of(request: &proto::StartOperationRequest) -> Result<OperationKind, CodedError> {
    match request.kind() {
        proto::OperationKind::Savepoint => Ok(OperationKind::Savepoint),
        proto::OperationKind::CancelWithSavepoint => Ok(OperationKind::CancelWithSavepoint),
        proto::OperationKind::Stop => Ok(OperationKind::Stop),
        proto::OperationKind::Drain => Ok(OperationKind::Drain),
        proto::OperationKind::Unspecified => Err(CodedError::new(
            ErrorCode::InvalidArgument,
            "the request names no kind of operation",
        )),
    }
}

/// Reads a request for an operation on a job. Errors name the field.
fn operation_request(
    id: OperationId,
    (job, kind): (JobId, OperationKind),
    request: &proto::StartOperationRequest,
) -> Result<OperationRequest, CodedError> {
    let target = match request.target_directory.as_str() {
        "" => None,
        path => Some(absolute(path)?),
    };
    Ok(OperationRequest {
        id,
        kind,
        target,
        folder: layout::savepoint_name(job, &random::savepoint_digits()),
        timeout_ms: (request.timeout_ms > 0).then_some(request.timeout_ms),
    })
}

/// The URI of an absolute path or URI. Relative paths are refused: the job manager's working directory is not the client's.
pub(crate) fn absolute(path: &str) -> Result<String, CodedError> {
    Location::open(path)
        .map(|location| location.uri())
        .map_err(|error| error.to_coded())
}

pub(crate) fn parse_operation_id(text: &str) -> Result<OperationId, CodedError> {
    parse(text)
}

fn parse<T: std::str::FromStr<Err = streamd_core::id::ParseIdError>>(text: &str) -> Result<T, CodedError> {
    text.parse()
        .map_err(|error: T::Err| CodedError::caused(ErrorCode::InvalidArgument, "malformed request", &error))
}
