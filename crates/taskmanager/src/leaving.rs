//! A task manager that is asked to end has its jobs move elsewhere first: the wish, and what became of it.

use tokio_util::sync::CancellationToken;
use tracing::info;

/// A cheap clone, for whoever asks and for the link that passes it on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leaving {
    asked: CancellationToken,
    settled: CancellationToken,
}

impl Leaving {
    /// Asks for the jobs to move.
    pub(crate) fn ask(&self) {
        self.asked.cancel();
    }

    /// Waits until somebody asks. Cancel safe.
    pub(crate) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Whether somebody has asked.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// The job manager has answered: no job is left, or none will move.
    pub(crate) fn settle(&self, reason: &str) {
        match reason.is_empty() {
            true => info!("no job is left here"),
            false => info!(reason, "the jobs that are here do not move"),
        }
        self.settled.cancel();
    }

    /// Waits for the answer. Cancel safe.
    pub(crate) async fn settled(&self) {
        self.settled.cancelled().await;
    }
}
