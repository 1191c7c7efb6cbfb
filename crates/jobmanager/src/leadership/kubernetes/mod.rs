//! An election by a Lease of Kubernetes: whoever holds it may try to lead.
//!
//! ```text
//!   election ──▶ Leases { get, create, update } ──▶ api_server ──▶ /apis/coordination.k8s.io/v1/namespaces/…/leases/…
//! ```
//!
//! Updates name the version of the Lease that they have seen, so that of two the server takes one. The Lease does not fence: a leader
//! that has lost it unawares is stopped by the record of the next epoch, like any other.
//!
//! Reading order: [`lease`] (the object), [`election`], [`api_server`] (the three requests), [`error`].

mod api_server;
mod election;
mod error;
mod lease;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use streamd_core::error::CodedError;
use streamd_core::time::Clock;

use self::api_server::ApiServer;
pub(crate) use self::election::ByLease;
use super::options::{ElectionTimes, KubernetesLease};

/// The election by this Lease, for the job manager at `address`. Errors if the API server refuses access; one that does not answer is
/// waited for.
pub(crate) async fn open(
    lease: &KubernetesLease,
    address: &str,
    times: ElectionTimes,
    clock: Arc<dyn Clock>,
) -> Result<ByLease<ApiServer>, CodedError> {
    // The address alone would not do: job managers that are reached through one name would all be the same.
    let identity = match &lease.host {
        Some(host) => format!("{host}_{address}"),
        None => address.to_owned(),
    };
    let mut election = ByLease::new(ApiServer::new(lease.clone()), lease, identity, (times, clock));
    election.check_access().await?;
    Ok(election)
}
