//! The durable record of a submission: written before it is acknowledged, recognised when it is repeated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use streamd_coordinator::event::JobSpec;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{Attempt, JobId};
use streamd_core::time::WallTime;
use streamd_rpc::proto::{Application, SubmitJobRequest};
use streamd_snapshot::{Creation, JobRecord, SnapshotError, StartSnapshot};
use tracing::warn;

use super::registry::taken;
use super::submission::Dispatcher;
use crate::random;

/// A request as it is recorded. A field that is added needs a default for records without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordedSubmission {
    sha256: String,
    file_name: String,
    arguments: Vec<String>,
    /// As requested; 0: the configuration's default.
    parallelism: u32,
    /// As it was resolved.
    resolved_parallelism: u32,
    configuration: BTreeMap<String, String>,
    savepoint_path: String,
    allow_non_restored_state: bool,
    drop_states: Vec<String>,
    claim_mode: i32,
    resume_job: String,
}

impl RecordedSubmission {
    fn new(request: &SubmitJobRequest, resolved_parallelism: u32) -> Self {
        let application = request.application.clone().unwrap_or_default();
        Self {
            sha256: application.sha256,
            file_name: application.file_name,
            arguments: application.arguments,
            parallelism: application.parallelism,
            resolved_parallelism,
            configuration: application.configuration.into_iter().collect(),
            savepoint_path: request.savepoint_path.clone(),
            allow_non_restored_state: request.allow_non_restored_state,
            drop_states: request.drop_states.clone(),
            claim_mode: request.claim_mode,
            resume_job: request.resume_job.clone(),
        }
    }

    /// The request, as its client made it.
    pub(super) fn request(&self, job: JobId) -> SubmitJobRequest {
        SubmitJobRequest {
            application: Some(Application {
                sha256: self.sha256.clone(),
                file_name: self.file_name.clone(),
                arguments: self.arguments.clone(),
                parallelism: self.parallelism,
                configuration: self.configuration.clone().into_iter().collect(),
            }),
            job_id: job.to_string(),
            savepoint_path: self.savepoint_path.clone(),
            allow_non_restored_state: self.allow_non_restored_state,
            drop_states: self.drop_states.clone(),
            claim_mode: self.claim_mode,
            resume_job: self.resume_job.clone(),
        }
    }

    /// The application, as it was started.
    pub(super) fn application(&self, job: JobId) -> Application {
        let application = self.request(job).application.unwrap_or_default();
        Application {
            parallelism: self.resolved_parallelism,
            ..application
        }
    }
}

impl Dispatcher {
    /// Records a job, and with that claims its id. Returns when it was accepted. Errors if another job has it, or if nobody can say.
    pub(super) async fn record(
        &self,
        spec: &JobSpec,
        submission: &SubmitJobRequest,
        parallelism: u32,
        warnings: &[String],
    ) -> Result<WallTime, CodedError> {
        let job_id = spec.job_id;
        self.fence.check().await?;
        let record = JobRecord {
            version: JobRecord::VERSION,
            job_id,
            leader_epoch: self.options.leader_epoch,
            submitted_at: self.clock.wall(),
            submission: to_json(&RecordedSubmission::new(submission, parallelism)),
            graph: (*spec.graph).clone(),
            max_parallelism: spec.max_parallelism.clone(),
            restore: spec.restore.as_ref().map(|point| StartSnapshot {
                uri: point.uri.clone(),
                checkpoint_id: point.metadata.checkpoint_id,
                kind: point.metadata.kind,
            }),
            options: to_json(&spec.options),
            warnings: warnings.to_vec(),
            nonce: random::nonce(),
        };
        match self.jobs.create(&record).await {
            Ok(Creation::Created) => Ok(record.submitted_at),
            Ok(Creation::Taken) => self.recorded_before(record).await,
            Err(error) => Err(unrecorded(job_id, &error)),
        }
    }

    /// When this very job was recorded, where this leader did so before and could not find out that it had: the client was told to submit
    /// it again, and nothing of it has begun. Errors if another job has its id.
    async fn recorded_before(&self, record: JobRecord) -> Result<WallTime, CodedError> {
        let job_id = record.job_id;
        let found = self.jobs.find(job_id).await;
        let found = found.map_err(|error| unrecorded(job_id, &error))?;
        let not_begun =
            found.filter(|job| job.attempt == Attempt::NONE && job.result.is_none() && job.cancellation.is_none());
        let Some(known) = not_begun.map(|job| job.record) else {
            return Err(taken(job_id));
        };
        let again = JobRecord {
            submitted_at: known.submitted_at,
            nonce: known.nonce.clone(),
            ..record
        };
        if known == again {
            Ok(known.submitted_at)
        } else {
            Err(taken(job_id))
        }
    }

    /// Takes the record of a job back that never began, as its owner: whoever leads since then has begun it.
    pub(super) async fn unrecord(&self, job: JobId) {
        if self.fence.check().await.is_err() {
            return;
        }
        if let Err(error) = self.jobs.forget(job).await {
            let error = streamd_core::error::chain(&error);
            warn!(job_id = %job, error, "the record of a refused job stays, and the next job manager begins it");
        }
    }
}

fn to_json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("a record is plain data with text keys")
}

fn unrecorded(job: JobId, error: &SnapshotError) -> CodedError {
    let what = format!("job `{job}` cannot be recorded, and was not started");
    CodedError::caused(ErrorCode::JobNotRecorded, what, error)
        .with_hint("make `high-availability.storageDir` writable, then submit it again")
}
