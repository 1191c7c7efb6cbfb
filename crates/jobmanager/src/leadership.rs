//! How a job manager comes to lead.

use std::sync::Arc;

use streamd_core::error::CodedError;
use streamd_core::time::Clock;
use streamd_snapshot::{LeaderRecords, Location};

use crate::fence::Fence;

/// The leadership of this job manager.
pub(crate) struct Leadership {
    /// Says whether it still holds.
    pub(crate) fence: Fence,
    /// Its epoch.
    pub(crate) epoch: u64,
}

impl Leadership {
    /// Leads from now on, whoever did before: for a cluster that has one job manager at a time.
    pub(crate) async fn take(storage: &Location, address: &str, clock: Arc<dyn Clock>) -> Result<Self, CodedError> {
        let records = LeaderRecords::new(storage.clone());
        let claim = async || {
            let mut epoch = records.latest().await?.map_or(1, |latest| latest.epoch + 1);
            while records.claim(epoch, address, clock.wall()).await?.is_none() {
                epoch += 1;
            }
            Ok(epoch)
        };
        let epoch = claim()
            .await
            .map_err(|error: streamd_snapshot::SnapshotError| error.to_coded())?;
        let fence = Fence::new(records.clone(), epoch, clock.clone());
        Ok(Self { fence, epoch })
    }
}
