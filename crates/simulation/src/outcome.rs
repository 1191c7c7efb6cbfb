//! What came of a simulation.

use std::collections::BTreeMap;

/// How often each thing happened, by name.
pub type Sightings = BTreeMap<&'static str, u64>;

/// What came of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What does not hold, if anything does not.
    pub violation: Option<String>,
    /// What readers of each output see at the end, as JSON, in order.
    pub outputs: BTreeMap<String, Vec<String>>,
    /// What happened.
    pub sightings: Sightings,
    /// A digest of everything that happened, in order: two runs of a seed have the same.
    pub digest: u64,
    /// Milliseconds of simulated time.
    pub simulated_ms: u64,
    /// How many operations of the store there were: as many moments to crash at.
    pub store_operations: u64,
    /// How many messages there were.
    pub messages: u64,
}
