//! Who wants to lead, and leads.

use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::CodedError;
use streamd_core::time::{Clock, MonotonicTime};
use streamd_snapshot::{LeaderRecords, Location, SnapshotError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::election::{Election, Sign};
use super::options::ElectionTimes;
use crate::fence::Fence;

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
    pub(crate) async fn win(
        self,
        mut election: impl Election,
        times: ElectionTimes,
        leader: &watch::Sender<Option<String>>,
    ) -> Leadership {
        loop {
            match self.look(&mut election, leader).await {
                Ok(Some(epoch)) => return self.lead(election, epoch, times),
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "this job manager cannot find out whether it may lead; trying again");
                    election.give_way().await;
                }
            }
            tokio::time::sleep(Duration::from_millis(times.retry_period_ms)).await;
        }
    }

    /// Looks once. Returns the epoch in which this job manager leads, if it does now.
    async fn look(
        &self,
        election: &mut impl Election,
        leader: &watch::Sender<Option<String>>,
    ) -> Result<Option<u64>, CodedError> {
        let latest = self.records.latest().await.map_err(|error| error.to_coded())?;
        if let Some(latest) = &latest {
            leader.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&latest.address);
                *known = Some(latest.address.clone());
                changed
            });
        }
        if !election.may_try(latest.as_ref()).await? {
            return Ok(None);
        }
        let next = latest.map_or(1, |latest| latest.epoch + 1);
        let claimed = self.claim(next).await.map_err(|error| error.to_coded())?;
        Ok(claimed.then_some(next))
    }

    fn lead(self, election: impl Election, epoch: u64, times: ElectionTimes) -> Leadership {
        info!(epoch, address = self.address, "elected leader");
        let fence = Fence::new(self.records, epoch, self.clock.clone());
        fence.hold_until(self.clock.monotonic().plus(times.renew_deadline_ms));
        let signs = SignsOfLife {
            resign: CancellationToken::new(),
            task: TaskTracker::new(),
        };
        let leader = Leader {
            election,
            epoch,
            times,
            fence: fence.clone(),
            clock: self.clock,
        };
        signs.task.spawn(leader.keep_alive(signs.resign.clone()));
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

/// Who leads, as far as signs of life go.
struct Leader<E> {
    election: E,
    epoch: u64,
    times: ElectionTimes,
    fence: Fence,
    clock: Arc<dyn Clock>,
}

impl<E: Election> Leader<E> {
    /// Gives signs of life until the leadership is lost or let go of.
    async fn keep_alive(mut self, resign: CancellationToken) {
        let mut was_heard = true;
        loop {
            let is_heard = self.give_sign(was_heard).await;
            if is_heard && !was_heard {
                info!("signs of life are heard again");
            }
            was_heard = is_heard;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(self.times.retry_period_ms)) => {}
                () = resign.cancelled() => break,
            }
            if self.fence.is_revoked() {
                resign.cancelled().await;
                break;
            }
        }
        if let Ok(Err(error)) = tokio::time::timeout(self.deadline(), self.election.resign(self.epoch)).await {
            warn!(%error, "standbys wait for the end of the lease");
        }
    }

    /// Gives one, and looks whether this job manager still leads. Returns whether anybody takes signs of life; says so if it has changed.
    async fn give_sign(&mut self, was_heard: bool) -> bool {
        let begun = self.clock.monotonic();
        let sign = tokio::time::timeout(self.deadline(), self.election.give_sign(self.epoch)).await;
        let mut unheard = false;
        match sign {
            Ok(Ok(Sign::Taken)) => self.hold_from(begun),
            Ok(Ok(Sign::Refused)) => self
                .fence
                .revoke("another job manager has been given the place of the leader"),
            Ok(Ok(Sign::Unheard(error))) => {
                unheard = true;
                if was_heard {
                    warn!(%error, "no sign of life is heard; this job manager goes on while the records say that it leads");
                }
            }
            Ok(Err(error)) => warn!(%error, "no sign of life could be given"),
            Err(_late) => warn!("the storage takes no sign of life in time"),
        }
        let asked = self.clock.monotonic();
        // Where the store does not answer, the deadline decides.
        let leads = tokio::time::timeout(self.deadline(), self.fence.check()).await;
        if unheard && matches!(leads, Ok(Ok(()))) {
            self.hold_from(asked);
        }
        !unheard
    }

    /// At this time nobody else led, and nobody does before the end of a lease.
    fn hold_from(&self, moment: MonotonicTime) {
        self.fence.hold_until(moment.plus(self.times.renew_deadline_ms));
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(self.times.renew_deadline_ms)
    }
}

#[cfg(test)]
mod tests {
    use streamd_core::error::ErrorCode;
    use streamd_core::time::{ManualClock, WallTime};
    use streamd_snapshot::LeaderRecord;

    use super::*;

    /// An election whose signs of life become this, after so many milliseconds.
    struct Scripted<F>(F);

    impl<F: FnMut() -> (u64, Sign) + Send + 'static> Election for Scripted<F> {
        async fn may_try(&mut self, _latest: Option<&LeaderRecord>) -> Result<bool, CodedError> {
            Ok(false)
        }

        async fn give_sign(&mut self, _epoch: u64) -> Result<Sign, CodedError> {
            let (takes_ms, sign) = self.0();
            if takes_ms > 0 {
                tokio::time::sleep(Duration::from_millis(takes_ms)).await;
            }
            Ok(sign)
        }

        async fn resign(&mut self, _epoch: u64) -> Result<(), CodedError> {
            Ok(())
        }
    }

    fn nobody_listens() -> (u64, Sign) {
        let error = CodedError::new(ErrorCode::KubernetesUnavailable, "nobody listens");
        (0, Sign::Unheard(error))
    }

    const TIMES: ElectionTimes = ElectionTimes {
        lease_duration_ms: 15_000,
        renew_deadline_ms: 12_000,
        retry_period_ms: 5_000,
    };

    /// The leader of epoch 1, whose signs of life become what the function says.
    async fn leader<F: FnMut() -> (u64, Sign) + Send>(
        signs: F,
    ) -> (Leader<Scripted<F>>, LeaderRecords, Arc<ManualClock>) {
        let store = format!("memory://{}/ha", crate::random::nonce());
        let records = LeaderRecords::new(Location::open(&store).unwrap());
        records.claim(1, "a:1", WallTime(0)).await.unwrap();
        let clock = Arc::new(ManualClock::default());
        let fence = Fence::new(records.clone(), 1, clock.clone());
        fence.hold_until(MonotonicTime(TIMES.renew_deadline_ms));
        let leader = Leader {
            election: Scripted(signs),
            epoch: 1,
            times: TIMES,
            fence,
            clock: clock.clone(),
        };
        (leader, records, clock)
    }

    /// I6: the records say who leads, and an election that is out says nothing.
    #[tokio::test]
    async fn a_leader_that_nobody_hears_leads_until_a_record_says_otherwise() {
        let (mut leader, records, clock) = leader(nobody_listens).await;
        for _ in 0..10 {
            clock.advance(TIMES.renew_deadline_ms - 1);
            assert!(!leader.give_sign(true).await);
            assert!(!leader.fence.is_revoked());
        }
        records.claim(2, "b:1", WallTime(0)).await.unwrap();
        leader.give_sign(false).await;
        assert!(leader.fence.is_revoked());
    }

    #[tokio::test]
    async fn a_leader_that_nobody_hears_and_that_was_stopped_for_its_deadline_leads_no_more() {
        let (mut leader, _records, clock) = leader(nobody_listens).await;
        clock.advance(TIMES.renew_deadline_ms + 1);
        leader.give_sign(true).await;
        assert!(leader.fence.is_revoked());
    }

    #[tokio::test]
    async fn a_leader_whose_place_is_given_to_another_leads_no_more_before_that_one_does() {
        let mut signs = [Sign::Taken, Sign::Refused].into_iter();
        let (mut leader, records, _clock) = leader(move || (0, signs.next().unwrap())).await;
        assert!(leader.give_sign(true).await);
        assert!(!leader.fence.is_revoked());
        leader.give_sign(true).await;
        assert!(leader.fence.is_revoked());
        assert!(records.is_led_in(1).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_counts_from_when_it_was_begun_and_only_within_the_deadline() {
        for (takes_ms, counts) in [
            (TIMES.renew_deadline_ms - 1, true),
            (TIMES.renew_deadline_ms + 1, false),
        ] {
            let (mut leader, _records, clock) = leader(move || (takes_ms, Sign::Taken)).await;
            clock.advance(TIMES.renew_deadline_ms);
            leader.give_sign(true).await;
            clock.advance(TIMES.renew_deadline_ms);
            assert_eq!(!leader.fence.is_revoked(), counts, "after {takes_ms} ms");
            clock.advance(1);
            assert!(leader.fence.is_revoked());
        }
    }
}
