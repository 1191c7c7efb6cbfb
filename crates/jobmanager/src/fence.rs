//! Whether this job manager still leads: asked before whatever cannot be taken back (invariant I6).
//!
//! ```text
//!   effect ──▶ check: is there a later epoch? ── no ──▶ carried out ──▶ check again before anybody is told
//!                                 └── yes ──▶ revoked: every job master ends where it stands, and the job manager with them
//! ```
//!
//! The record of the next epoch decides. The clock only helps: a leader that was stopped for longer than its lease does nothing on
//! waking up, before it has even asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::time::{Clock, MonotonicTime};
use streamd_snapshot::LeaderRecords;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often a leader that does nothing looks whether it leads: as long as a silent task manager is waited for. One small object is read.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Says whether this job manager leads. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Fence {
    /// `None`: nobody else can lead, as in a process that is a whole cluster.
    guard: Option<Arc<Guard>>,
}

struct Guard {
    records: LeaderRecords,
    epoch: u64,
    clock: Arc<dyn Clock>,
    /// Until when the leadership holds without another sign of life, in milliseconds of the clock.
    valid_until: AtomicU64,
    revoked: CancellationToken,
}

impl Fence {
    /// A fence for the leader of this epoch.
    pub(crate) fn new(records: LeaderRecords, epoch: u64, clock: Arc<dyn Clock>) -> Self {
        let guard = Guard {
            records,
            epoch,
            clock,
            valid_until: AtomicU64::new(u64::MAX),
            revoked: CancellationToken::new(),
        };
        Self {
            guard: Some(Arc::new(guard)),
        }
    }

    /// The leader has given a sign of life: until then nobody takes its place.
    pub(crate) fn hold_until(&self, until: MonotonicTime) {
        if let Some(guard) = &self.guard {
            guard.valid_until.store(until.0, Ordering::Relaxed);
        }
    }

    /// Errors if another job manager leads, or if nobody can say.
    pub(crate) async fn check(&self) -> Result<(), CodedError> {
        let Some(guard) = &self.guard else { return Ok(()) };
        if self.is_revoked() {
            return Err(superseded(guard.epoch));
        }
        match guard.records.is_led_in(guard.epoch).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                guard.revoke("another job manager leads");
                Err(superseded(guard.epoch))
            }
            Err(error) => Err(error.to_coded()),
        }
    }

    /// Whether the leadership is lost. Reads no store.
    pub(crate) fn is_revoked(&self) -> bool {
        let Some(guard) = &self.guard else { return false };
        if guard.clock.monotonic().0 > guard.valid_until.load(Ordering::Relaxed) {
            guard.revoke("no sign of life could be given for too long");
        }
        guard.revoked.is_cancelled()
    }

    /// Looks now and then whether another job manager leads, until one does or nobody asks this one any more. Who has no job has no other
    /// occasion to find out, and would keep the task managers that the leader needs (invariant I20).
    pub(crate) fn watch(&self) {
        let Some(guard) = &self.guard else { return };
        let guard = Arc::downgrade(guard);
        // Nothing waits for the end of it: it holds nothing, and changes nothing but the guard.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                let Some(guard) = guard.upgrade() else { return };
                let fence = Self { guard: Some(guard) };
                if fence.is_revoked() {
                    return;
                }
                // A store that does not answer says nothing.
                let _unknown = fence.check().await;
            }
        });
    }

    /// Ends the leadership.
    pub(crate) fn revoke(&self, reason: &str) {
        if let Some(guard) = &self.guard {
            guard.revoke(reason);
        }
    }

    /// Waits until the leadership is lost; for ever if it cannot be.
    pub(crate) async fn revoked(&self) {
        match &self.guard {
            Some(guard) => guard.revoked.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// The error of whatever is done without leading.
    pub(crate) fn error(&self) -> CodedError {
        superseded(self.guard.as_ref().map_or(0, |guard| guard.epoch))
    }
}

impl Guard {
    fn revoke(&self, reason: &str) {
        if !self.revoked.is_cancelled() {
            warn!(epoch = self.epoch, reason, "leadership lost");
            self.revoked.cancel();
        }
    }
}

fn superseded(epoch: u64) -> CodedError {
    CodedError::new(
        ErrorCode::LeadershipLost,
        format!("this job manager led in epoch {epoch}, and does not lead any more"),
    )
    .with_hint(
        "its log says why; its jobs run on, and started again it leads them, or waits as a standby where another does",
    )
}

#[cfg(test)]
mod tests {
    use streamd_core::time::{ManualClock, WallTime};
    use streamd_snapshot::{Location, random_nonce};

    use super::*;

    async fn led() -> (LeaderRecords, Fence, Arc<ManualClock>) {
        let records = LeaderRecords::new(Location::open(&format!("memory://{}/ha", random_nonce())).unwrap());
        records.claim(1, "a:1", WallTime(0)).await.unwrap();
        let clock = Arc::new(ManualClock::default());
        let fence = Fence::new(records.clone(), 1, clock.clone());
        (records, fence, clock)
    }

    #[tokio::test]
    async fn whoever_is_not_the_leader_any_more_finds_out_before_it_does_anything() {
        let (records, fence, _clock) = led().await;
        fence.check().await.unwrap();
        records.claim(2, "b:1", WallTime(0)).await.unwrap();
        assert_eq!(fence.check().await.unwrap_err().code, ErrorCode::LeadershipLost);
        fence.revoked().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_of_the_past_that_has_nothing_to_do_finds_out_too() {
        let (records, fence, _clock) = led().await;
        fence.watch();
        tokio::time::sleep(2 * LOOK_INTERVAL).await;
        assert!(!fence.is_revoked());
        records.claim(2, "b:1", WallTime(0)).await.unwrap();
        tokio::time::sleep(2 * LOOK_INTERVAL).await;
        assert!(fence.is_revoked());
    }

    #[tokio::test]
    async fn a_leadership_that_is_given_up_is_over_for_all_who_ask_or_wait() {
        let (_records, fence, _clock) = led().await;
        assert!(!fence.is_revoked());
        let asked = fence.clone();
        let waiting = tokio::spawn(async move { asked.revoked().await });
        fence.revoke("in this test");
        waiting.await.unwrap();
        assert!(fence.is_revoked());
        let refused = fence.check().await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::LeadershipLost);
        assert!(fence.error().message.contains("epoch 1,"), "{}", fence.error().message);
    }

    #[tokio::test]
    async fn where_nobody_else_can_lead_there_is_nothing_to_lose() {
        let fence = Fence::default();
        fence.hold_until(MonotonicTime(0));
        fence.revoke("in this test");
        assert!(!fence.is_revoked());
        fence.check().await.unwrap();
    }

    #[tokio::test]
    async fn a_leader_that_was_stopped_for_longer_than_its_lease_does_nothing_without_asking() {
        let (_records, fence, clock) = led().await;
        fence.hold_until(MonotonicTime(1_000));
        clock.advance(1_000);
        assert!(!fence.is_revoked());
        clock.advance(1);
        assert!(fence.is_revoked());
        // It stays so, whatever comes late.
        fence.hold_until(MonotonicTime(9_000));
        assert!(fence.is_revoked() && fence.check().await.is_err());
    }
}
