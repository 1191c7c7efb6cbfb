//! How a job manager comes to lead, and for how long: one of several, or the only one there is.
//!
//! ```text
//!   standby ── looks every retry period ──▶ nothing new of the leader for a lease ──▶ creates the record of the next epoch ──▶ leads
//!      ▲                                                                                   │ taken: somebody else was faster
//!      └───────────────────────────────────────────────────────────────────────────────────┘
//!   leader ── gives a sign of life every retry period ──▶ none could be given for the renew deadline ──▶ lets go, and ends
//! ```
//!
//! Times are those of one's own monotonic clock, and decide only when to try: who leads is decided by the record of the epoch.

use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::CodedError;
use streamd_core::time::{Clock, MonotonicTime};
use streamd_snapshot::{LeaderRecords, Location, Sighting, SnapshotError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::fence::Fence;

/// Whether a cluster has several job managers, and how they find out which of them leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HighAvailability {
    /// One at a time. Whoever starts leads.
    #[default]
    None,
    /// Several, of which one leads by records in the storage that outlives them.
    ObjectStore(ElectionTimes),
}

/// The times of an election, in milliseconds, under Flink's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElectionTimes {
    /// How long a standby sees nothing new of the leader before it takes its place.
    pub lease_duration_ms: u64,
    /// How long a leader that cannot give a sign of life goes on. Below the lease.
    pub renew_deadline_ms: u64,
    /// The time between two signs of life, and between two looks.
    pub retry_period_ms: u64,
}

/// The address of the job manager that leads the cluster whose storage this is; `None` where nobody can say.
pub async fn leader_address(storage: &str) -> Option<String> {
    let latest = async || -> Result<_, SnapshotError> { LeaderRecords::new(Location::open(storage)?).latest().await };
    match latest().await {
        Ok(leader) => leader.map(|leader| leader.address),
        Err(error) => {
            let error = streamd_core::error::chain(&error);
            debug!(error, "nobody can say who leads");
            None
        }
    }
}

/// The leadership of this job manager.
pub(crate) struct Leadership {
    /// Says whether it still holds.
    pub(crate) fence: Fence,
    /// Its epoch.
    pub(crate) epoch: u64,
    /// Signs of life, where there may be standbys.
    pub(crate) signs: Option<SignsOfLife>,
}

/// The task that gives signs of life.
pub(crate) struct SignsOfLife {
    resign: CancellationToken,
    task: TaskTracker,
}

/// Who wants to lead.
pub(crate) struct Candidate {
    pub(crate) records: LeaderRecords,
    /// `host:port` at which it is reached.
    pub(crate) address: String,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Candidate {
    /// Leads from now on, whoever did before: for a cluster that has one job manager at a time.
    pub(crate) async fn take(self) -> Result<Leadership, CodedError> {
        let claim = async || {
            let mut epoch = self.records.latest().await?.map_or(1, |latest| latest.epoch + 1);
            while !self.claim(epoch).await? {
                epoch += 1;
            }
            Ok(epoch)
        };
        let epoch = claim().await.map_err(|error: SnapshotError| error.to_coded())?;
        let fence = Fence::new(self.records.clone(), epoch, self.clock.clone());
        Ok(Leadership {
            fence,
            epoch,
            signs: None,
        })
    }

    async fn claim(&self, epoch: u64) -> Result<bool, SnapshotError> {
        let claimed = self.records.claim(epoch, &self.address, self.clock.wall()).await?;
        Ok(claimed.is_some())
    }

    /// Waits until it can lead, and says meanwhile who does. Cancel safe: whoever drops the future leads at most by a record that
    /// nobody renews.
    pub(crate) async fn win(self, times: ElectionTimes, leader: &watch::Sender<Option<String>>) -> Leadership {
        let mut seen: Option<(Sighting, MonotonicTime)> = None;
        loop {
            match self.look(&mut seen, times, leader).await {
                Ok(Some(epoch)) => return self.lead(epoch, times),
                Ok(None) => {}
                Err(error) => {
                    let error = streamd_core::error::chain(&error);
                    warn!(error, "the records of leaders cannot be read or written; trying again");
                }
            }
            tokio::time::sleep(Duration::from_millis(times.retry_period_ms)).await;
        }
    }

    /// Looks once. Returns the epoch in which this job manager leads, if it does now.
    async fn look(
        &self,
        seen: &mut Option<(Sighting, MonotonicTime)>,
        times: ElectionTimes,
        leader: &watch::Sender<Option<String>>,
    ) -> Result<Option<u64>, SnapshotError> {
        let sighting = self.records.sight().await?;
        let now = self.clock.monotonic();
        let Some(sighting) = sighting else {
            return Ok(self.claim(1).await?.then_some(1));
        };
        let next = sighting.leader.epoch + 1;
        leader.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&sighting.leader.address);
            *known = Some(sighting.leader.address.clone());
            changed
        });
        let since = match seen {
            Some((before, since)) if *before == sighting => *since,
            Some(_) | None => now,
        };
        // Whoever has the address of the leader is the leader started again: two cannot listen there.
        let is_vacant =
            sighting.resigned || sighting.leader.address == self.address || now.since(since) >= times.lease_duration_ms;
        *seen = Some((sighting, since));
        Ok(match is_vacant {
            true => self.claim(next).await?.then_some(next),
            false => None,
        })
    }

    fn lead(self, epoch: u64, times: ElectionTimes) -> Leadership {
        info!(epoch, address = self.address, "elected leader");
        let fence = Fence::new(self.records.clone(), epoch, self.clock.clone());
        fence.hold_until(self.clock.monotonic().plus(times.renew_deadline_ms));
        let signs = SignsOfLife {
            resign: CancellationToken::new(),
            task: TaskTracker::new(),
        };
        let living = keep_alive(self, epoch, times, fence.clone(), signs.resign.clone());
        signs.task.spawn(living);
        signs.task.close();
        Leadership {
            fence,
            epoch,
            signs: Some(signs),
        }
    }
}

impl SignsOfLife {
    /// Lets go of the leadership, which has been revoked: the standbys need not wait for the end of the lease.
    pub(crate) async fn resign(self) {
        self.resign.cancel();
        self.task.wait().await;
    }
}

/// Gives signs of life until the leadership is lost or let go of.
async fn keep_alive(leader: Candidate, epoch: u64, times: ElectionTimes, fence: Fence, resign: CancellationToken) {
    let mut number = 1;
    let deadline = Duration::from_millis(times.renew_deadline_ms);
    loop {
        let begun = leader.clock.monotonic();
        let sign = tokio::time::timeout(deadline, leader.records.give_sign(epoch, number));
        match sign.await {
            Ok(Ok(())) => {
                number += 1;
                fence.hold_until(begun.plus(times.renew_deadline_ms));
            }
            Ok(Err(error)) => {
                let error = streamd_core::error::chain(&error);
                warn!(error, "no sign of life could be given");
            }
            Err(_late) => warn!("the storage takes no sign of life in time"),
        }
        // Where the store does not answer, the deadline decides.
        let _unknown = tokio::time::timeout(deadline, fence.check()).await;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(times.retry_period_ms)) => {}
            () = resign.cancelled() => break,
        }
        if fence.is_revoked() {
            resign.cancelled().await;
            break;
        }
    }
    if let Ok(Err(error)) = tokio::time::timeout(deadline, leader.records.resign(epoch, number)).await {
        let error = streamd_core::error::chain(&error);
        warn!(error, "standbys wait for the end of the lease");
    }
}
