//! An election by signs of life in the storage that outlives job managers.

use std::sync::Arc;

use streamd_core::error::CodedError;
use streamd_core::time::{Clock, MonotonicTime};
use streamd_snapshot::{LeaderRecord, LeaderRecords, Sighting};

use super::election::{Election, Sign};
use super::options::ElectionTimes;

/// Whoever sees no sign of life of the leader for a lease may try.
pub(crate) struct ByRecords {
    records: LeaderRecords,
    /// `host:port` of this job manager.
    address: String,
    clock: Arc<dyn Clock>,
    lease_duration_ms: u64,
    /// How the leader was last seen, and since when.
    seen: Option<(Sighting, MonotonicTime)>,
    /// The number of the next sign of life.
    next_sign: u64,
}

impl ByRecords {
    /// The election of the cluster whose records these are.
    pub(crate) fn new(records: LeaderRecords, address: String, clock: Arc<dyn Clock>, times: ElectionTimes) -> Self {
        Self {
            records,
            address,
            clock,
            lease_duration_ms: times.lease_duration_ms,
            seen: None,
            next_sign: 1,
        }
    }
}

impl Election for ByRecords {
    async fn may_try(&mut self, latest: Option<&LeaderRecord>) -> Result<bool, CodedError> {
        let Some(leader) = latest else { return Ok(true) };
        let sighting = self.records.sight(leader.clone()).await;
        let sighting = sighting.map_err(|error| error.to_coded())?;
        let now = self.clock.monotonic();
        let since = match &self.seen {
            Some((before, since)) if *before == sighting => *since,
            Some(_) | None => now,
        };
        // Whoever has the address of the leader is the leader started again: two cannot listen there.
        let is_vacant =
            sighting.resigned || sighting.leader.address == self.address || now.since(since) >= self.lease_duration_ms;
        self.seen = Some((sighting, since));
        Ok(is_vacant)
    }

    async fn give_sign(&mut self, epoch: u64) -> Result<Sign, CodedError> {
        let given = self.records.give_sign(epoch, self.next_sign).await;
        given.map_err(|error| error.to_coded())?;
        self.next_sign += 1;
        Ok(Sign::Taken)
    }

    async fn resign(&mut self, epoch: u64) -> Result<(), CodedError> {
        let resigned = self.records.resign(epoch, self.next_sign).await;
        resigned.map_err(|error| error.to_coded())
    }
}
