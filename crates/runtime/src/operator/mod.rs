//! The kinds of operators, one file each.

mod async_wait;
mod broadcast;
mod filter;
mod flat_map;
mod keyed_broadcast;
mod keyed_process;
mod map;
mod process;
mod reduce;
mod sink;
mod source;
mod state_batch;

pub use async_wait::AsyncWait;
pub use broadcast::BroadcastProcess;
pub use filter::Filter;
pub use flat_map::FlatMap;
pub use keyed_broadcast::{KeyedBroadcastContext, KeyedBroadcastProcess, KeyedBroadcastProcessFunction};
pub use keyed_process::KeyedProcess;
pub use map::Map;
pub use process::Process;
pub use reduce::Reduce;
pub use sink::{COMMITTABLES, SinkOperator};
pub use source::{SPLITS, SourceHead};

pub(crate) use state_batch::KeyBatch;
