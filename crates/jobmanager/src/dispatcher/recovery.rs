//! The jobs of earlier job managers: those that have ended are known again, the others go on.
//!
//! ```text
//!   records ─▶ ended? ─ yes ─▶ a job master that only answers
//!                └── no ─▶ completed checkpoints, latest restore point ─▶ record of the takeover ─▶ a job master that goes on
//!                               └── unreadable ─▶ INITIALIZING, told, tried again: never an older one, never afresh
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use streamd_coordinator::checkpoint::{CompletedCheckpoint, Objects};
use streamd_coordinator::event::{JobOptions, JobSpec, RestorePoint};
use streamd_coordinator::failure::FailureRecord;
use streamd_coordinator::job::{JobMachine, Recovery, RestoredFrom};
use streamd_coordinator::lifecycle::JobState;
use streamd_core::error::{CodedError, ErrorCode, Remedy};
use streamd_core::graph::ClaimMode;
use streamd_core::id::{CheckpointId, WorkerId};
use streamd_core::protocol::{Failure, FailureKind, FaultDomain};
use streamd_snapshot::{
    CompletionRecord, JobRecord, JobResultRecord, Location, RecordedFailure, SnapshotError, StoredJob, TakeoverRecord,
    layout, list_completed, read_snapshot,
};
use tracing::{info, warn};

use super::record::RecordedSubmission;
use super::registry::KnownJob;
use super::submission::{Dispatcher, Submitted};
use crate::job_master::{self, JobMasterHandle, JobStatus, Past};
use crate::pins::Pin;
use crate::spec::read_restore_point;

/// Jobs that are recovered at once.
const AT_ONCE: usize = 16;

/// The pause before a job that could not be read is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// How a job was left.
struct Left {
    recovery: Recovery,
    /// What it started from, where that is still to be read.
    start: Option<(RestorePoint, Pin)>,
}

impl Dispatcher {
    /// Makes every recorded job known, and has those go on that have not ended. Errors if the records themselves cannot be read:
    /// then nobody knows which jobs there are.
    pub(crate) async fn recover(&self) -> Result<(), CodedError> {
        let stored = self.jobs.list().await.map_err(|error| unreadable(&error))?;
        futures::stream::iter(stored)
            .for_each_concurrent(AT_ONCE, |job| async move {
                let id = job.record.job_id;
                if let Err(error) = self.recover_job(job).await {
                    warn!(job_id = %id, %error, "job cannot be made known");
                }
            })
            .await;
        Ok(())
    }

    async fn recover_job(&self, stored: StoredJob) -> Result<(), CodedError> {
        let submission: RecordedSubmission = from_json(&stored.record, &stored.record.submission)?;
        let workers = self.registry.next_workers().await?;
        if let Some(result) = &stored.result {
            let spec = self.spec(&stored.record, workers, None)?;
            let machine = ended(spec, result)?;
            let status = ended_status(&machine, &stored.record, result);
            let past = Past {
                machine,
                status,
                reconcile_ms: None,
                is_cancelled: false,
                onlooker: None,
            };
            self.make_known(&stored.record, &submission, past, None).await?;
            return Ok(());
        }
        match self.how_it_was_left(&stored).await {
            Ok(left) => self.go_on(&stored, &submission, workers, left).await,
            Err(error) => {
                warn!(job_id = %stored.record.job_id, %error, "job is not recovered yet");
                self.wait_to_go_on(stored, submission, workers, &error).await
            }
        }
    }

    /// Starts the master of a job where it was left.
    async fn go_on(
        &self,
        stored: &StoredJob,
        submission: &RecordedSubmission,
        workers: WorkerId,
        left: Left,
    ) -> Result<(), CodedError> {
        let record = &stored.record;
        let Left { recovery, start } = left;
        let (point, pin) = start.unzip();
        let spec = self.spec(record, workers, point)?;
        let (attempt, restore) = (recovery.attempt, recovery.restore.as_ref());
        let restore = restore.map(|point| point.metadata.checkpoint_id);
        let onlookers = self.options.onlookers.as_ref();
        let onlooker = onlookers.map(|all| all.of_recovered(&spec, &recovery));
        let machine = JobMachine::recovered(spec, recovery);
        let mut status = JobStatus::new(machine.spec(), record.submitted_at);
        status.restarts = machine.restarts();
        status.last_failure = machine.failures().next_back().cloned();
        let past = Past {
            machine,
            status,
            reconcile_ms: (!stored.is_suspended).then_some(self.options.reconcile_ms),
            is_cancelled: stored.cancellation.is_some(),
            onlooker,
        };
        let job = self.make_known(record, submission, past, pin).await?;
        if !stored.is_suspended {
            self.resource_manager.reconcile(record.job_id).await;
        }
        info!(job_id = %record.job_id, %attempt, ?restore, suspended = stored.is_suspended, "job recovered");
        job.begin();
        Ok(())
    }

    /// Makes a job known that cannot be read now, and tries again until it can.
    async fn wait_to_go_on(
        &self,
        stored: StoredJob,
        submission: RecordedSubmission,
        workers: WorkerId,
        error: &CodedError,
    ) -> Result<(), CodedError> {
        let spec = self.spec(&stored.record, workers, None)?;
        let mut status = JobStatus::new(&spec, stored.record.submitted_at);
        status.state = JobState::Initializing;
        status.last_failure = Some(FailureRecord {
            failure: Failure {
                kind: match error.code {
                    ErrorCode::SnapshotCorrupt => FailureKind::DamagedSnapshot,
                    _other => FailureKind::Recoverable,
                },
                ..Failure::new(FaultDomain::External, error.on_one_line())
            },
            attempt: stored.attempt,
            at: self.clock.wall(),
            restart_delay_ms: None,
        });
        let is_cancelled = stored.cancellation.is_some();
        let past = Past {
            machine: JobMachine::new(spec),
            status,
            reconcile_ms: None,
            is_cancelled,
            onlooker: None,
        };
        let waiting = self.make_known(&stored.record, &submission, past, None).await?;
        if is_cancelled {
            // It needs no state to end.
            waiting.begin();
        }
        let dispatcher = self.clone();
        let retry = async move {
            loop {
                tokio::select! {
                    biased;
                    () = dispatcher.fence.revoked() => return,
                    () = waiting.over() => return,
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                }
                if let Ok(left) = dispatcher.how_it_was_left(&stored).await {
                    // Its workers have been sent home: nobody could say to which attempt they belong.
                    let stored = StoredJob {
                        is_suspended: true,
                        ..stored
                    };
                    if let Err(error) = dispatcher.go_on(&stored, &submission, workers, left).await {
                        warn!(job_id = %stored.record.job_id, %error, "job cannot go on");
                    }
                    return;
                }
            }
        };
        self.tasks.spawn(retry);
        Ok(())
    }

    async fn make_known(
        &self,
        record: &JobRecord,
        submission: &RecordedSubmission,
        past: Past,
        pin: Option<Pin>,
    ) -> Result<JobMasterHandle, CodedError> {
        let job_id = record.job_id;
        // A store that does not answer now must not have the job forgotten: task managers fetch the program when they need it.
        let program = self.named_program(submission.application(job_id))?;
        let submitted = Submitted {
            job_id,
            job_name: record.graph.name.clone(),
            warnings: record.warnings.clone(),
            restored_from: record.restore.as_ref().map(|snapshot| RestoredFrom {
                id: snapshot.checkpoint_id,
                uri: snapshot.uri.clone(),
                kind: snapshot.kind,
            }),
        };
        let master = job_master::spawn_with(past, self.environment(job_id, program), pin);
        let known = KnownJob {
            submission: submission.request(job_id),
            submitted,
            master: master.clone(),
        };
        self.registry.restore(known).await;
        Ok(master)
    }

    fn spec(
        &self,
        record: &JobRecord,
        workers: WorkerId,
        restore: Option<RestorePoint>,
    ) -> Result<JobSpec, CodedError> {
        let options: JobOptions = from_json(record, &record.options)?;
        Ok(JobSpec {
            job_id: record.job_id,
            fingerprint: record.graph.fingerprint(),
            graph: std::sync::Arc::new(record.graph.clone()),
            max_parallelism: record.max_parallelism.clone(),
            restore,
            options: JobOptions {
                leader_epoch: self.options.leader_epoch,
                ..options
            },
            first_worker: workers,
        })
    }

    /// Reads what a job has completed, and records that this leader goes on from there.
    async fn how_it_was_left(&self, stored: &StoredJob) -> Result<Left, CodedError> {
        let record = &stored.record;
        let options: JobOptions = from_json(record, &record.options)?;
        let completed = match &options.checkpoint_directory {
            Some(folder) => Completed::read(folder, stored)
                .await
                .map_err(|error| error.to_coded())?,
            None => Completed::default(),
        };
        let takeover = TakeoverRecord::new(
            self.options.leader_epoch,
            completed.latest(),
            stored.cancellation.clone(),
        );
        let taken = self.jobs.take_over(record.job_id, &takeover).await;
        taken.map_err(|error| error.to_coded())?;
        let committed = stored.committed.as_ref();
        let committed = committed.filter(|savepoint| Some(savepoint.checkpoint_id) > completed.latest());
        let restore = match (committed, &completed.latest_uri) {
            (Some(savepoint), _) => Some(read_restore_point(&savepoint.uri).await?),
            (None, Some(uri)) => Some(read_restore_point(uri).await?),
            (None, None) => None,
        };
        let start = match &record.restore {
            Some(snapshot) if restore.is_none() => Some(self.hold(record.job_id, &snapshot.uri).await?),
            // It is the job's to delete, if it is still there.
            Some(snapshot) if options.claim_mode == ClaimMode::Claim => {
                self.hold(record.job_id, &snapshot.uri).await.ok()
            }
            Some(_) | None => None,
        };
        let known = [
            completed.greatest,
            stored.committed.as_ref().map(|it| it.checkpoint_id),
            self.greatest_savepoint(record).await?,
            start.as_ref().map(|(point, _)| point.metadata.checkpoint_id),
        ];
        Ok(Left {
            recovery: Recovery {
                attempt: stored.attempt,
                failures: failures(&stored.failures),
                last_snapshot: known.into_iter().flatten().max(),
                completed: completed.checkpoints,
                is_stopping: committed.is_some(),
                restore,
                partly_needed: completed.partly_needed,
                abandoned: completed.abandoned,
            },
            start,
        })
    }

    /// The greatest number of a savepoint of the job that is recorded and still there: numbers are not used twice.
    async fn greatest_savepoint(&self, record: &JobRecord) -> Result<Option<CheckpointId>, CodedError> {
        let candidates = self.savepoints(&record.job_id.to_string()).await?;
        Ok(candidates.into_iter().map(|candidate| candidate.checkpoint_id).max())
    }
}

/// What there is in a job's folder of checkpoints.
#[derive(Default)]
struct Completed {
    checkpoints: Vec<(CheckpointId, CompletedCheckpoint)>,
    latest_uri: Option<String>,
    /// The greatest number in the folder, complete or not.
    greatest: Option<CheckpointId>,
    /// Folders that are no checkpoints and hold objects that complete ones refer to, with all objects that are there.
    partly_needed: Vec<(CheckpointId, String, BTreeSet<String>)>,
    abandoned: Vec<(CheckpointId, String)>,
}

impl Completed {
    async fn read(folder: &str, stored: &StoredJob) -> Result<Self, SnapshotError> {
        let folder = Location::open(folder)?;
        let counts = |record: &CompletionRecord| stored.takeovers.iter().all(|takeover| takeover.accepts(record));
        let records: Vec<CompletionRecord> = list_completed(&folder).await?.into_iter().filter(counts).collect();
        let names = folder.list_names().await?;
        let numbers = names
            .iter()
            .filter_map(|name| layout::checkpoint_number(name.strip_suffix('/').unwrap_or(name)));
        let numbers: BTreeSet<CheckpointId> = numbers.collect();
        let mut completed = Self {
            greatest: numbers.last().copied(),
            ..Self::default()
        };
        for record in &records {
            let uri = folder.child(&record.folder)?.uri();
            let snapshot = read_snapshot(&uri).await?;
            let checkpoint = CompletedCheckpoint {
                objects: Objects::of(&snapshot.metadata, &uri),
                location: uri.clone(),
                bytes: snapshot.bytes,
                duration_ms: 0,
            };
            completed.checkpoints.push((record.checkpoint_id, checkpoint));
            completed.latest_uri = Some(uri);
        }
        for id in numbers {
            if records.iter().any(|record| record.checkpoint_id == id) {
                continue;
            }
            let left = folder.child(&layout::checkpoint_name(id))?;
            let uri = left.uri();
            let mut complete = completed.checkpoints.iter();
            if complete.any(|(_, checkpoint)| checkpoint.objects.refers_into(&uri)) {
                let entries = left.list().await?;
                let objects = entries.iter().map(|entry| format!("{uri}/{}", entry.name)).collect();
                completed.partly_needed.push((id, uri, objects));
            } else {
                completed.abandoned.push((id, uri));
            }
        }
        Ok(completed)
    }

    fn latest(&self) -> Option<CheckpointId> {
        self.checkpoints.last().map(|(id, _)| *id)
    }
}

fn ended(spec: JobSpec, result: &JobResultRecord) -> Result<JobMachine, CodedError> {
    let states = [JobState::Finished, JobState::Canceled, JobState::Failed];
    let state = states.into_iter().find(|state| state.name() == result.state);
    let state = state.ok_or_else(|| {
        let message = format!(
            "job `{}` is recorded to have ended as `{}`",
            result.job_id, result.state
        );
        CodedError::new(ErrorCode::JobRecordUnreadable, message)
    })?;
    Ok(JobMachine::ended(
        spec,
        result.attempt,
        state,
        failures(&result.failures),
    ))
}

fn failures(recorded: &[RecordedFailure]) -> Vec<FailureRecord> {
    let failures = recorded.iter().map(|recorded| FailureRecord {
        failure: recorded.failure.clone(),
        attempt: recorded.attempt,
        at: recorded.at,
        restart_delay_ms: recorded.restart_delay_ms,
    });
    failures.collect()
}

fn ended_status(machine: &JobMachine, record: &JobRecord, result: &JobResultRecord) -> JobStatus {
    JobStatus {
        state: machine.state(),
        ended_at: Some(result.ended_at),
        restarts: machine.restarts(),
        last_failure: machine.failures().last().cloned(),
        ..JobStatus::new(machine.spec(), record.submitted_at)
    }
}

fn from_json<T: serde::de::DeserializeOwned>(record: &JobRecord, value: &serde_json::Value) -> Result<T, CodedError> {
    T::deserialize(value).map_err(|error| {
        let what = format!("the record of job `{}` cannot be read", record.job_id);
        CodedError::caused(ErrorCode::JobRecordUnreadable, what, &error)
            .with_hint("start the job manager of the version that wrote it")
    })
}

fn unreadable(error: &SnapshotError) -> CodedError {
    const WHAT: &str = "the records of jobs cannot be read";
    let told = error.to_coded();
    // A store that does not answer is no damaged record.
    if matches!(told.code.remedy(), Remedy::Unavailable | Remedy::Denied) {
        return CodedError {
            message: format!("{WHAT}: {}", told.message),
            ..told
        };
    }
    CodedError::caused(ErrorCode::JobRecordUnreadable, WHAT, error).with_hint(
        "restore the object that the message names; to give its job up, move the folder `jobs/<job id>` out of \
         `high-availability.storageDir`: its checkpoints stay, and `streamctl run -s` goes on from them",
    )
}

#[cfg(test)]
mod tests {
    use streamd_snapshot::StoreError;

    use super::*;

    #[test]
    fn a_store_that_does_not_answer_is_not_told_as_a_damaged_record() {
        let down = SnapshotError::Store(StoreError::TimedOut {
            operation: "list",
            uri: "s3://b/ha/jobs".to_owned(),
            seconds: 20,
        });
        let told = unreadable(&down);
        assert_eq!(told.code, ErrorCode::StorageUnavailable, "{told:?}");
        assert!(
            told.message.starts_with("the records of jobs cannot be read: "),
            "{told:?}"
        );
        let damaged = unreadable(&SnapshotError::Malformed {
            uri: "s3://b/ha/jobs/7/job.json".to_owned(),
            reason: "EOF".to_owned(),
        });
        assert_eq!(damaged.code, ErrorCode::JobRecordUnreadable, "{damaged:?}");
        assert!(damaged.hint.is_some_and(|hint| hint.contains("jobs/<job id>")));
    }
}
