//! What a job master has done to the store, in tasks of their own.

use std::sync::Arc;
use std::time::Duration;

use streamd_coordinator::event::{PublishError, PublishedSnapshot, RestorePoint};
use streamd_core::id::{CheckpointId, OperationId};
use streamd_core::snapshot::SnapshotMetadata;
use streamd_snapshot::{Abandon, Location, SnapshotError};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, warn};

use super::handle::JobMessage;
use crate::fence::Fence;
use crate::journal::Journal;
use crate::pins::Pins;
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
    /// What other jobs may still read: it is deleted only once they do not.
    pins: Pins,
    fence: Fence,
}

impl Effects {
    /// Effects whose tasks are tracked by `tasks`, and which delete nothing that is pinned. Nothing is done without leading.
    pub(crate) fn new(tasks: TaskTracker, pins: Pins, fence: Fence) -> Self {
        Self {
            fence,
            tasks,
            discards: Arc::new(Semaphore::new(DISCARDS_AT_ONCE)),
            pins,
        }
    }

    /// Publishes a snapshot, and reports to the mailbox what came of it.
    pub(super) fn publish(&self, mut publication: Publication, mailbox: mpsc::WeakSender<JobMessage>) {
        let checkpoint = publication.checkpoint;
        publication.metadata.nonce = random::nonce();
        let fence = self.fence.clone();
        // In a task of its own, so that even a panic is answered: the job's machine waits for exactly one answer.
        let publication = self
            .tasks
            .spawn(async move { publication.carry_out(&fence).await }.in_current_span());
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
        let fence = self.fence.clone();
        let report = async move {
            let result = match fence.check().await {
                Ok(()) => promotion.carry_out().await,
                Err(error) => Err(failed(error.on_one_line())),
            };
            if let Some(mailbox) = mailbox.upgrade() {
                // The receiver is there for as long as any sender.
                let _ended = mailbox.send(JobMessage::Promoted(operation, result)).await;
            }
        };
        self.tasks.spawn(report.in_current_span());
    }

    /// Deletes a snapshot in the background, as well as it can, once no other job may read it any more.
    pub(super) fn delete(&self, deletion: Deletion) {
        let (discards, pins, fence) = (self.discards.clone(), self.pins.clone(), self.fence.clone());
        let work = async move {
            let Deletion {
                checkpoint, location, ..
            } = &deletion;
            let Some(_begun) = pins.begin_deletion(location).await else {
                info!(checkpoint_id = %checkpoint, location, "snapshot stays: another job starts from it");
                return;
            };
            let _permit = discards.acquire_owned().await.expect("the semaphore is never closed");
            if let Err(error) = fence.check().await {
                info!(checkpoint_id = %checkpoint, location, %error, "snapshot stays");
                return;
            }
            if let Err(error) = deletion.carry_out().await {
                let error = streamd_core::error::chain(&error);
                warn!(checkpoint_id = %checkpoint, location, error, "snapshot could not be discarded");
            }
        };
        self.tasks.spawn(work.in_current_span());
    }
}

/// A snapshot to be deleted.
pub(super) struct Deletion {
    pub(super) checkpoint: CheckpointId,
    /// The URI of its folder.
    pub(super) location: String,
    pub(super) extent: Extent,
}

/// What goes with a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The job took it: its whole folder.
    Folder,
    /// The job took it, and later checkpoints refer to objects of it: what makes a checkpoint of it, and the objects with these URIs.
    Partly(Vec<String>),
    /// The user gave it to the job that started from it: what belongs to it, and nothing else in its folder.
    Claimed,
}

impl Deletion {
    async fn carry_out(&self) -> Result<(), SnapshotError> {
        for pause in DISCARD_PAUSES {
            if self.try_once().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
        }
        self.try_once().await
    }

    async fn try_once(&self) -> Result<(), SnapshotError> {
        match &self.extent {
            Extent::Folder => streamd_snapshot::discard(&Location::open(&self.location)?).await,
            Extent::Partly(unneeded) => {
                streamd_snapshot::unpublish(&Location::open(&self.location)?).await?;
                streamd_snapshot::delete_objects(unneeded).await
            }
            Extent::Claimed => streamd_snapshot::discard_claimed(&self.location).await,
        }
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

/// A snapshot to be made visible.
pub(super) struct Publication {
    pub(super) checkpoint: CheckpointId,
    pub(super) metadata: SnapshotMetadata,
    /// The URI of its folder.
    pub(super) location: String,
    /// Where it is recorded that sinks commit it, if they will: no attempt may start from anything older then.
    pub(super) commits: Option<Journal>,
}

impl Publication {
    /// Asks before and after whether this job manager leads. What a leader that is past makes visible does not count, so nobody may
    /// be told to commit it.
    async fn carry_out(self, fence: &Fence) -> Result<PublishedSnapshot, PublishError> {
        fence.check().await.map_err(|error| unknown(error.on_one_line()))?;
        let published = publish(&self.metadata, &self.location).await?;
        if let Some(journal) = &self.commits {
            let committed = journal.commit(self.checkpoint, &published.uri).await;
            committed.map_err(|error| unknown(error.on_one_line()))?;
        }
        fence.check().await.map_err(|error| unknown(error.on_one_line()))?;
        Ok(published)
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
