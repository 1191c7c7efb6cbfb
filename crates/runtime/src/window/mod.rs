//! Windows: the records of a key, cut into finite pieces of time.
//!
//! ```text
//!   record ──assigner──▶ windows ──▶ contents (folded at once, or kept)
//!                           │
//!                        trigger ──fire──▶ result, with the window's last moment as its timestamp
//! ```
//!
//! All windows of a key are one value of keyed state: an entry for each open window with its contents, what its trigger
//! remembers, and its timers. One lookup for each record, whatever the number of windows.
//!
//! Reading order: [`time_window`], [`assigner`], [`trigger`], [`contents`], [`evictor`], then the operators: `operator` (any
//! assigner and trigger) and `sliding` (sliding windows that share their panes).

pub mod assigner;
pub mod contents;
pub mod evictor;
mod keyed_windows;
mod operator;
mod sliding;
pub mod time_window;
pub mod trigger;
mod window_state;

pub use assigner::{
    EventTimeSessionWindows, GlobalWindows, ProcessingTimeSessionWindows, SlidingEventTimeWindows,
    SlidingProcessingTimeWindows, TimeDomain, TumblingEventTimeWindows, TumblingProcessingTimeWindows, WindowAssigner,
};
pub use contents::{
    AggregateContents, AggregateFunction, Applied, EvictingContents, ListContents, ProcessWindowFunction,
    ReduceContents, WindowContents, WindowContext,
};
pub use evictor::{CountEvictor, Evictor, TimeEvictor};
pub use operator::{WindowOperator, WindowOptions};
pub use sliding::SlidingWindowOperator;
pub use time_window::TimeWindow;
pub use trigger::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DefaultTrigger, EventTimeTrigger,
    NeverTrigger, ProcessingTimeTrigger, PurgingTrigger, Trigger, TriggerContext, TriggerResult,
};

use streamd_core::time::EventTime;

use crate::side_output::OutputTag;

/// What becomes of records that come late.
#[derive(Debug)]
pub struct Lateness<T> {
    /// For how many milliseconds after its end a window still takes records.
    pub allowed_ms: i64,
    /// Where records go that come later still; `None`: they are dropped, and counted.
    pub output: Option<OutputTag<T>>,
}

impl<T> Clone for Lateness<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Lateness<T> {}

impl<T> Default for Lateness<T> {
    fn default() -> Self {
        Self {
            allowed_ms: 0,
            output: None,
        }
    }
}

impl<T> Lateness<T> {
    /// Whether a window that ends at this time takes nothing any more.
    pub(crate) fn is_over(&self, end: i64, watermark: EventTime) -> bool {
        self.last_moment(end) <= watermark.0
    }

    /// The watermark at which a window that ends at this time is forgotten.
    pub(crate) fn last_moment(&self, end: i64) -> i64 {
        end.saturating_sub(1).saturating_add(self.allowed_ms)
    }
}
