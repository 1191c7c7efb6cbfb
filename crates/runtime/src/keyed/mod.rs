//! Keyed state as user functions see it: handles that are registered once, and read through the context of a record.
//!
//! ```
//! # use streamd_runtime::error::BoxError;
//! # use streamd_runtime::keyed::{KeyedContext, KeyedProcessFunction, KeyedStateStore, ValueState};
//! # use streamd_runtime::record::Collector;
//! #[derive(Clone)]
//! struct Count {
//!     seen: ValueState<u64>,
//! }
//!
//! impl KeyedProcessFunction<String, String, (String, u64)> for Count {
//!     fn open(&mut self, state: &mut KeyedStateStore<'_, String>) -> Result<(), BoxError> {
//!         state.register(&mut self.seen)
//!     }
//!
//!     fn process_element(
//!         &mut self,
//!         word: String,
//!         context: &mut KeyedContext<'_, String>,
//!         out: &mut Collector<'_, (String, u64)>,
//!     ) -> Result<(), BoxError> {
//!         let seen = self.seen.get_or_default(context);
//!         *seen += 1;
//!         out.collect((word, *seen));
//!         Ok(())
//!     }
//! }
//! # let _ = Count { seen: ValueState::new("seen") };
//! ```
//!
//! ```text
//!   KeyedProcessFunction ── open ──▶ KeyedStateStore: ValueState, ListState, MapState, ReducingState, AggregatingState
//!          │ process_element
//!          ▼
//!     KeyedContext ──▶ the key's state │ TimerService │ side outputs
//! ```

mod function;

mod store;

mod context;

mod binding;
mod folded;
mod list;
mod map;
mod time_to_live;
mod value;

pub use context::{AllKeys, KeyedContext, TimerService};
pub use folded::{AggregatingState, ReducingState};
pub use function::KeyedProcessFunction;
pub use list::ListState;
pub use map::{MapState, OrderedState};
pub(crate) use store::ENDED;
pub use store::{KeyedStateStore, StateHandle};
pub use time_to_live::{StateTtlConfig, StateVisibility, UpdateType};
pub use value::ValueState;
