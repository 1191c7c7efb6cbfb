//! How a job manager comes to lead, and for how long: one of several, or the only one there is.
//!
//! ```text
//!   standby ── looks every retry period ──▶ election: the place is vacant ──▶ creates the record of the next epoch ──▶ leads
//!      ▲                                                                         │ taken: somebody else was faster
//!      └─────────────────────────────────────────────────────────────────────────┘
//!   leader ── gives a sign of life every retry period ──▶ not known to lead for the renew deadline ──▶ lets go, and ends
//! ```
//!
//! An [`election`] says who may try, by signs of life in the store (`by_records`) or by a Lease of Kubernetes (`kubernetes`). Times are
//! those of one's own monotonic clock, and decide only when to try: who leads is decided by the record of the epoch.
//!
//! Reading order: [`options`], `election` (the contract), `by_records`, `kubernetes`, `candidate` (who wants to lead, and leads).

pub mod options;

pub(crate) mod by_records;
pub(crate) mod candidate;
pub(crate) mod election;
#[cfg(feature = "kubernetes")]
pub(crate) mod kubernetes;

pub(crate) use by_records::ByRecords;
pub use candidate::leader_address;
pub(crate) use candidate::{Candidate, Leadership, SignsOfLife};
pub(crate) use election::Election;
pub use options::{ElectionTimes, HighAvailability, KubernetesLease};

#[cfg(test)]
mod tests;
