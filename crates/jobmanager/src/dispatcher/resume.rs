//! Going on from where a job ended that is only named: its retained checkpoints and its savepoints are looked for, and the
//! latest is chosen by [`select_latest`].

use std::collections::BTreeSet;

use streamd_coordinator::job::OperationStatus;
use streamd_coordinator::resume::{Candidate, Selection, select_latest};
use streamd_core::barrier::SnapshotKind;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::JobId;
use streamd_snapshot::{Location, SnapshotError, list_retained, read_snapshot};

use super::submission::Dispatcher;

/// Operations of a job that are looked at, the newest: an older savepoint cannot be the latest of its job.
const SAVEPOINTS_READ: usize = 20;

impl Dispatcher {
    /// The URI of the latest snapshot of the job with this name or id. Looks into these folders of checkpoints and into the
    /// catalogue of savepoints. Errors list what was found.
    pub(super) async fn latest_snapshot(&self, job: &str, folders: BTreeSet<String>) -> Result<String, CodedError> {
        self.check_ended(job).await?;
        let mut candidates = Vec::new();
        for folder in &folders {
            candidates.extend(checkpoints(job, folder).await?);
        }
        candidates.extend(self.savepoints(job).await?);
        match select_latest(&candidates) {
            Selection::Latest(latest) => Ok(latest.uri),
            Selection::Nothing => Err(CodedError::new(
                ErrorCode::ResumeNotFound,
                format!("job `{job}` has left neither a retained checkpoint nor a savepoint"),
            )
            .with_hint("see `streamctl savepoint list`, or name the snapshot with -s PATH")),
            Selection::Ambiguous(found) => {
                let found: Vec<String> = found.iter().map(described).collect();
                let message = format!(
                    "several jobs `{job}` have left snapshots, and none is the latest by number and time: {}",
                    found.join("; ")
                );
                Err(CodedError::new(ErrorCode::ResumeAmbiguous, message)
                    .with_hint("choose one of them with -s PATH, or name the job by its id"))
            }
        }
    }

    /// A job that runs has no latest snapshot: the next is on its way.
    async fn check_ended(&self, job: &str) -> Result<(), CodedError> {
        for running in self.registry.list().await? {
            let id = running.job_id();
            if is_meant(job, id, running.name()) && !running.status().borrow().is_over() {
                let message = format!("job `{id}` of the name `{}` still runs", running.name());
                return Err(CodedError::new(ErrorCode::ResumeAmbiguous, message).with_hint(format!(
                    "end it first, with `streamctl stop {id}` or `streamctl cancel -s {id}`"
                )));
            }
        }
        Ok(())
    }

    pub(super) async fn savepoints(&self, job: &str) -> Result<Vec<Candidate>, CodedError> {
        let mut found = Vec::new();
        let recorded = self.catalogue.list().await.map_err(|error| error.to_coded())?;
        let meant = recorded
            .into_iter()
            .filter(|it| is_meant(job, it.begun.job_id, &it.begun.job_name));
        let meant: Vec<_> = meant.take(SAVEPOINTS_READ).collect();
        for recorded in meant {
            let OperationStatus::Ended(Ok(completed)) = self.known(recorded).await?.status else {
                continue;
            };
            let path = completed.savepoint_path;
            match read_snapshot(&path).await {
                Ok(snapshot) => found.push(Candidate {
                    job_id: snapshot.metadata.job_id,
                    checkpoint_id: snapshot.metadata.checkpoint_id,
                    kind: SnapshotKind::Savepoint,
                    triggered_at: snapshot.metadata.triggered_at,
                    uri: snapshot.folder,
                }),
                // Its owner has moved or deleted it.
                Err(SnapshotError::NotFound { .. } | SnapshotError::NoMetadata { .. }) => {}
                Err(error) => return Err(error.to_coded()),
            }
        }
        Ok(found)
    }
}

async fn checkpoints(job: &str, folder: &str) -> Result<Vec<Candidate>, CodedError> {
    let retained = async { list_retained(&Location::open(folder)?).await };
    let retained = retained.await.map_err(|error: SnapshotError| error.to_coded())?;
    let meant = retained.into_iter().filter(|it| is_meant(job, it.job_id, &it.job_name));
    let candidates = meant.map(|it| Candidate {
        job_id: it.job_id,
        checkpoint_id: it.checkpoint_id,
        kind: SnapshotKind::Checkpoint,
        triggered_at: it.triggered_at,
        uri: it.uri,
    });
    Ok(candidates.collect())
}

fn is_meant(job: &str, id: JobId, name: &str) -> bool {
    name == job || id.to_string() == job.to_ascii_lowercase()
}

fn described(candidate: &Candidate) -> String {
    let kind = match candidate.kind {
        SnapshotKind::Checkpoint => "checkpoint",
        SnapshotKind::Savepoint => "savepoint",
    };
    format!(
        "{kind} {} of job `{}` at `{}`",
        candidate.checkpoint_id, candidate.job_id, candidate.uri
    )
}
