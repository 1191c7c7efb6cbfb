//! What a job master has done to the store, in tasks of their own.

use std::sync::Arc;
use std::time::Duration;

use streamd_coordinator::event::{PublishError, PublishedSnapshot, RestorePoint};
use streamd_core::id::{CheckpointId, OperationId};
use streamd_core::snapshot::SnapshotMetadata;
use streamd_snapshot::{Abandon, Location, SnapshotError};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, warn};

use super::handle::JobMessage;
use crate::random;

/// Deletions at once, over all jobs: they are never urgent, and must not keep the store from what is.
const DISCARDS_AT_ONCE: usize = 4;

/// The pauses before deletions are tried again. What remains after the last is garbage, which never harms.
const DISCARD_PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// How long a publication may take: many times what a slow store needs for two small objects.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(120);

/// Carries out effects on the store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Effects {
    tasks: TaskTracker,
    discards: Arc<Semaphore>,
}

impl Effects {
    /// Effects whose tasks are tracked by `tasks`.
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self {
            tasks,
            discards: Arc::new(Semaphore::new(DISCARDS_AT_ONCE)),
        }
    }

    /// Publishes a snapshot, and reports to the mailbox what came of it.
    pub(super) fn publish(
        &self,
        checkpoint: CheckpointId,
        mut metadata: SnapshotMetadata,
        location: String,
        mailbox: mpsc::WeakSender<JobMessage>,
    ) {
        metadata.nonce = random::nonce();
        // In a task of its own, so that even a panic is answered: the job's machine waits for exactly one answer.
        let publication = self
            .tasks
            .spawn(async move { publish(&metadata, &location).await }.in_current_span());
        let report = async move {
            let result = match tokio::time::timeout(PUBLISH_TIMEOUT, publication).await {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => Err(unknown(format!("publication ended early: {panic}"))),
                Err(_late) => Err(unknown(format!(
                    "publication took longer than {} s",
                    PUBLISH_TIMEOUT.as_secs()
                ))),
            };
            if let Some(mailbox) = mailbox.upgrade() {
                // The receiver is there for as long as any sender.
                let _ended = mailbox.send(JobMessage::Published(checkpoint, result)).await;
            }
        };
        self.tasks.spawn(report.in_current_span());
    }

    /// Makes a savepoint of a complete snapshot, and reports to the mailbox what came of it.
    pub(super) fn promote(&self, promotion: Promotion, mailbox: mpsc::WeakSender<JobMessage>) {
        let operation = promotion.operation;
        let report = async move {
            let result = promotion.carry_out().await;
            if let Some(mailbox) = mailbox.upgrade() {
                // The receiver is there for as long as any sender.
                let _ended = mailbox.send(JobMessage::Promoted(operation, result)).await;
            }
        };
        self.tasks.spawn(report.in_current_span());
    }

    /// Deletes a snapshot in the background, as well as it can.
    pub(super) fn discard(&self, checkpoint: CheckpointId, location: String) {
        let deletion = {
            let location = location.clone();
            async move { discard(&location).await }
        };
        self.delete(checkpoint, location, deletion);
    }

    /// Deletes a snapshot that the user gave to the job.
    pub(super) fn discard_claimed(&self, checkpoint: CheckpointId, location: String) {
        let deletion = {
            let location = location.clone();
            async move { discard_claimed(&location).await }
        };
        self.delete(checkpoint, location, deletion);
    }

    fn delete(
        &self,
        checkpoint: CheckpointId,
        location: String,
        deletion: impl Future<Output = Result<(), SnapshotError>> + Send + 'static,
    ) {
        let discards = self.discards.clone();
        let deletion = async move {
            let _permit = discards.acquire_owned().await.expect("the semaphore is never closed");
            if let Err(error) = deletion.await {
                let error = streamd_core::error::chain(&error);
                warn!(checkpoint_id = %checkpoint, location, error, "snapshot could not be discarded");
            }
        };
        self.tasks.spawn(deletion.in_current_span());
    }
}

/// A savepoint to be made of a complete snapshot.
pub(super) struct Promotion {
    pub(super) operation: OperationId,
    pub(super) source: RestorePoint,
    pub(super) location: String,
    pub(super) timeout: Duration,
}

impl Promotion {
    async fn carry_out(self) -> Result<PublishedSnapshot, PublishError> {
        let abandon = Abandon::default();
        let target = Location::open(&self.location).map_err(|error| failed(error.to_string()))?;
        let RestorePoint { metadata, uri } = self.source;
        let nonce = random::nonce();
        let work = {
            let abandon = abandon.clone();
            async move { streamd_snapshot::promote(metadata, uri, &target, nonce, abandon).await }
        };
        let mut work = tokio::spawn(work.in_current_span());
        let done = match tokio::time::timeout(self.timeout, &mut work).await {
            Ok(done) => done,
            Err(_late) => {
                // It ends at its next row. Whoever discards what it has written must come after it.
                abandon.abandon();
                match tokio::time::timeout(PUBLISH_TIMEOUT, work).await {
                    Ok(done) => done,
                    Err(_later) => return Err(unknown("it took too long, and does not end".to_owned())),
                }
            }
        };
        match done {
            Ok(Ok(published)) => Ok(PublishedSnapshot {
                uri: published.uri,
                bytes: published.bytes,
            }),
            Ok(Err(error)) => Err(PublishError {
                message: error.message(),
                outcome_unknown: error.outcome_unknown(),
            }),
            Err(panic) => Err(unknown(format!("it ended early: {panic}"))),
        }
    }
}

fn failed(message: String) -> PublishError {
    PublishError {
        message,
        outcome_unknown: false,
    }
}

fn unknown(message: String) -> PublishError {
    PublishError {
        message,
        outcome_unknown: true,
    }
}

async fn publish(metadata: &SnapshotMetadata, location: &str) -> Result<PublishedSnapshot, PublishError> {
    let published = async {
        let folder = Location::open(location)?;
        streamd_snapshot::publish(&folder, metadata).await
    };
    match published.await {
        Ok(published) => Ok(PublishedSnapshot {
            uri: published.uri,
            bytes: published.bytes,
        }),
        Err(error) => Err(PublishError {
            message: error.message(),
            outcome_unknown: error.outcome_unknown(),
        }),
    }
}

async fn discard_claimed(location: &str) -> Result<(), SnapshotError> {
    for pause in DISCARD_PAUSES {
        if streamd_snapshot::discard_claimed(location).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
    }
    streamd_snapshot::discard_claimed(location).await
}

async fn discard(location: &str) -> Result<(), SnapshotError> {
    let folder = Location::open(location)?;
    for pause in DISCARD_PAUSES {
        if streamd_snapshot::discard(&folder).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
    }
    streamd_snapshot::discard(&folder).await
}
