//! What a job master has done to the store, in tasks of their own.

use std::sync::Arc;
use std::time::Duration;

use streamd_coordinator::event::{PublishError, PublishedSnapshot};
use streamd_core::id::CheckpointId;
use streamd_core::snapshot::SnapshotMetadata;
use streamd_snapshot::{Location, SnapshotError};
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

    /// Deletes a snapshot in the background, as well as it can.
    pub(super) fn discard(&self, checkpoint: CheckpointId, location: String) {
        let discards = self.discards.clone();
        let deletion = async move {
            let _permit = discards.acquire_owned().await.expect("the semaphore is never closed");
            if let Err(error) = discard(&location).await {
                let error = streamd_core::error::chain(&error);
                warn!(checkpoint_id = %checkpoint, location, error, "snapshot could not be discarded");
            }
        };
        self.tasks.spawn(deletion.in_current_span());
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
