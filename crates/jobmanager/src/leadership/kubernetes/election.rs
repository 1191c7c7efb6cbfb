//! Who may try: whoever holds the Lease. Whoever sees it unchanged for a lease, on its own clock, may take it.

use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::CodedError;
use streamd_core::time::{Clock, MonotonicTime};
use streamd_snapshot::LeaderRecord;
use tracing::{info, warn};

use super::error::KubernetesError;
use super::lease::{Lease, Observation};
use crate::leadership::election::{Election, Sign};
use crate::leadership::options::{ElectionTimes, KubernetesLease};

/// What keeps the Lease.
pub(crate) trait Leases: Send + 'static {
    /// The Lease; `None`: there is none.
    fn get(&mut self) -> impl Future<Output = Result<Option<Lease>, KubernetesError>> + Send;

    /// Creates it. `None`: there is one.
    fn create(&mut self, lease: &Lease) -> impl Future<Output = Result<Option<Lease>, KubernetesError>> + Send;

    /// Changes it from the version that it was read with. `None`: somebody else was faster.
    fn update(&mut self, lease: &Lease) -> impl Future<Output = Result<Option<Lease>, KubernetesError>> + Send;
}

/// An election by a Lease.
pub(crate) struct ByLease<L> {
    leases: L,
    /// As whom this job manager holds it.
    identity: String,
    namespace: String,
    name: String,
    times: ElectionTimes,
    clock: Arc<dyn Clock>,
    /// How it was last seen in the hands of somebody else, and since when.
    seen: Option<(Observation, MonotonicTime)>,
    /// As this job manager has written it last, for as long as it holds it.
    held: Option<Lease>,
}

/// What became of a change of the Lease that this job manager holds.
enum Written {
    Done,
    /// Somebody else holds it.
    Foreign,
    /// Somebody has deleted it.
    Gone,
}

impl<L: Leases> ByLease<L> {
    /// The election by this Lease. Asks nobody yet.
    pub(super) fn new(
        leases: L,
        lease: &KubernetesLease,
        identity: String,
        (times, clock): (ElectionTimes, Arc<dyn Clock>),
    ) -> Self {
        Self {
            leases,
            identity,
            namespace: lease.namespace.clone(),
            name: lease.name.clone(),
            times,
            clock,
            seen: None,
            held: None,
        }
    }

    /// Errors if the Lease may not be read. A server that does not answer may answer later.
    pub(super) async fn check_access(&mut self) -> Result<(), CodedError> {
        match within(self.patience(), self.leases.get()).await {
            Err(error) if error.is_refusal() => Err(error.to_coded()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The time for one look of a standby, whose requests go one after the other.
    fn patience(&self) -> Duration {
        Duration::from_millis(self.times.renew_deadline_ms)
    }

    /// Takes the Lease if it may. Whether this job manager holds it then.
    async fn take(&mut self) -> Result<bool, KubernetesError> {
        self.held = match self.leases.get().await? {
            None => {
                self.leases
                    .create(&self.mine(Lease::new(&self.namespace, &self.name)))
                    .await?
            }
            Some(lease) if !self.is_vacant(&lease) => None,
            Some(lease) => {
                let from = lease
                    .holder()
                    .filter(|holder| *holder != self.identity)
                    .map(str::to_owned);
                let taken = self.leases.update(&self.mine(lease)).await?;
                if let (Some(from), Some(_)) = (from, &taken) {
                    info!(
                        lease = self.name,
                        from,
                        to = self.identity,
                        "the Lease has expired, and is taken"
                    );
                }
                taken
            }
        };
        Ok(self.held.is_some())
    }

    /// The same Lease, held by this job manager from now on.
    fn mine(&self, lease: Lease) -> Lease {
        lease.held_by(&self.identity, self.times.lease_duration_ms, self.clock.wall())
    }

    /// Whether nobody holds a Lease that was read just now. The times in it, of whatever clock, do not count.
    fn is_vacant(&mut self, lease: &Lease) -> bool {
        if self.is_free(lease) {
            return true;
        }
        let now = self.clock.monotonic();
        let observation = lease.observation();
        let since = match &self.seen {
            Some((before, since)) if *before == observation => *since,
            Some(_) | None => now,
        };
        self.seen = Some((observation, since));
        now.since(since) >= self.times.lease_duration_ms
    }

    /// Whether nobody else is named in it. Whoever has the same identity is this job manager before it was started again.
    fn is_free(&self, lease: &Lease) -> bool {
        lease.holder().is_none_or(|holder| holder == self.identity)
    }

    async fn renew(&mut self) -> Result<bool, KubernetesError> {
        match self.write(Self::mine).await? {
            Written::Done => Ok(true),
            Written::Foreign => Ok(false),
            Written::Gone => {
                let created = self
                    .leases
                    .create(&self.mine(Lease::new(&self.namespace, &self.name)))
                    .await?;
                self.held = Some(created.ok_or(KubernetesError::Contended)?);
                Ok(true)
            }
        }
    }

    async fn release(&mut self) -> Result<(), KubernetesError> {
        if self.held.is_some() {
            // Whoever else has it, or deleted it, has what a release would give.
            self.write(|election, lease| lease.released(election.clock.wall()))
                .await?;
            self.held = None;
        }
        Ok(())
    }

    /// Changes the Lease that this job manager holds.
    async fn write(&mut self, change: impl Fn(&Self, Lease) -> Lease + Send) -> Result<Written, KubernetesError> {
        if let Some(held) = self.held.clone()
            && let Some(written) = self.leases.update(&change(self, held)).await?
        {
            self.held = Some(written);
            return Ok(Written::Done);
        }
        // Somebody wrote in between: a tool, this job manager itself with an answer that was lost, or the next holder.
        match self.leases.get().await? {
            None => Ok(Written::Gone),
            Some(lease) if !self.is_free(&lease) => {
                self.held = None;
                Ok(Written::Foreign)
            }
            Some(lease) => {
                let written = self.leases.update(&change(self, lease)).await?;
                self.held = Some(written.ok_or(KubernetesError::Contended)?);
                Ok(Written::Done)
            }
        }
    }
}

impl<L: Leases> Election for ByLease<L> {
    async fn may_try(&mut self, _latest: Option<&LeaderRecord>) -> Result<bool, CodedError> {
        let taken = within(self.patience(), self.take()).await;
        taken.map_err(|error| {
            // While nobody could be asked, nobody could renew either: that time does not count.
            self.seen = None;
            error.to_coded()
        })
    }

    async fn give_way(&mut self) {
        if let Err(error) = within(self.patience(), self.release()).await {
            warn!(
                error = streamd_core::error::chain(&error),
                "standbys wait for the end of the Lease"
            );
        }
    }

    async fn give_sign(&mut self, _epoch: u64) -> Result<Sign, CodedError> {
        // So short that a leader who is not heard has time to ask the records before its deadline, and to try again.
        let patience = self.patience() / 4;
        Ok(match within(patience, self.renew()).await {
            Ok(true) => Sign::Taken,
            Ok(false) => Sign::Refused,
            Err(error) => Sign::Unheard(error.to_coded()),
        })
    }

    async fn resign(&mut self, _epoch: u64) -> Result<(), CodedError> {
        self.release().await.map_err(|error| error.to_coded())
    }
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, KubernetesError>>,
) -> Result<T, KubernetesError> {
    match tokio::time::timeout(patience, work).await {
        Ok(done) => done,
        Err(_late) => Err(KubernetesError::Late { patience }),
    }
}
