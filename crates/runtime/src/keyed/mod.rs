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

mod folded;
mod list;
mod map;
mod value;

pub use context::{AllKeys, KeyedContext, TimerService};
pub use folded::{AggregatingState, ReducingState};
pub use function::KeyedProcessFunction;
pub use list::ListState;
pub use map::{MapState, OrderedState};
pub(crate) use store::ENDED;
pub use store::{KeyedStateStore, StateHandle};
pub use value::ValueState;

use streamd_state::StateId;

/// Where a handle's state is, once it is registered.
#[derive(Debug)]
struct Binding<V> {
    name: &'static str,
    id: Option<StateId<V>>,
}

// By hand: a derive would ask `V: Clone`.
impl<V> Clone for Binding<V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            id: self.id,
        }
    }
}

impl<V> Binding<V> {
    const fn new(name: &'static str) -> Self {
        Self { name, id: None }
    }

    #[inline]
    fn id(&self) -> StateId<V> {
        self.id.unwrap_or_else(|| {
            panic!(
                "state `{0}` is used but was not registered: call `state.register(&mut self.{0})` in `open`",
                self.name
            )
        })
    }
}
