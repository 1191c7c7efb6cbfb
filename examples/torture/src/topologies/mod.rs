//! What a job can be made of. Each topology has one kind of state, and loses or doubles something if that goes wrong.

mod broadcast;
mod buffer;
mod chain;
mod count;
mod join;
mod timers;
mod window;

use clap::ValueEnum;
use streamd::prelude::*;

use crate::output::Output;
use crate::record::{Numbers, Record};

/// The name of a topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Topology {
    /// Numbers the records of each key
    Count,
    /// Counts them in windows of a second
    Window,
    /// Counts them in seconds, by timers
    Timers,
    /// Joins two streams in windows
    Join,
    /// Tells every subtask something, and asks at the end what it knows
    Broadcast,
    /// Keeps records in a list that belongs to no key
    Liststate,
    /// Two steps with state in one chain
    Chain2,
    /// Numbers the records of each key, and writes the results twice
    Twosinks,
}

impl Topology {
    /// The results of this topology.
    pub fn build(self, records: &DataStream<Record>, numbers: &Numbers, state_bytes: usize) -> DataStream<Output> {
        match self {
            Self::Count | Self::Twosinks => count::count(records, state_bytes),
            Self::Window => window::window(records),
            Self::Timers => timers::timers(records),
            Self::Join => join::join(records, numbers),
            Self::Broadcast => broadcast::broadcast(records, numbers),
            Self::Liststate => buffer::buffer(records),
            Self::Chain2 => chain::chain(&count::count(records, state_bytes)),
        }
    }
}
