//! Whether a cluster has several job managers, and how they agree on one.

use std::path::PathBuf;

/// Whether a cluster has several job managers, and how they find out which of them leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HighAvailability {
    /// One at a time. Whoever starts leads.
    #[default]
    None,
    /// Several, of which one leads by records in the storage that outlives them.
    ObjectStore(ElectionTimes),
    /// Several, of which the one that holds a Lease leads, by the same records.
    Kubernetes(ElectionTimes, KubernetesLease),
}

/// The times of an election, in milliseconds, under Flink's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElectionTimes {
    /// How long a standby sees nothing new of the leader before it takes its place.
    pub lease_duration_ms: u64,
    /// How long a leader goes on that does not know that it still leads. Below the lease.
    pub renew_deadline_ms: u64,
    /// The time between two signs of life, and between two looks.
    pub retry_period_ms: u64,
}

/// A Lease of Kubernetes (`coordination.k8s.io/v1`), and how the API server that keeps it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesLease {
    /// The URL of the API server, without a slash at its end.
    pub api_server: String,
    /// The file with the certificates that the server's must be signed by; `None`: those that this machine trusts.
    pub ca_file: Option<PathBuf>,
    /// The file with the token to show, read anew for each request; `None`: none is asked for.
    pub token_file: Option<PathBuf>,
    /// The namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The host of this job manager, where that says more than its address: the name of a pod.
    pub host: Option<String>,
}
