//! When a window gives its result: what a trigger is, and those that there are.

mod continuous;
mod count;
mod default;
mod event_time;
mod processing_time;
mod purging;
mod times;

use streamd_core::state::State;
use streamd_core::time::{EventTime, WallTime};

use crate::timer::{TimeService, Timer};
use crate::window::{TimeDomain, TimeWindow};

pub use continuous::{ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger};
pub use count::CountTrigger;
pub use default::{DefaultTrigger, NeverTrigger};
pub use event_time::EventTimeTrigger;
pub use processing_time::ProcessingTimeTrigger;
pub use purging::PurgingTrigger;
pub(in crate::window) use times::Times;

/// What a trigger decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// The window gives its result and keeps its contents.
    Fire,
    /// The window drops its contents without a result.
    Purge,
    /// The window gives its result and drops its contents.
    FireAndPurge,
}

impl TriggerResult {
    pub(in crate::window) fn fires(self) -> bool {
        matches!(self, Self::Fire | Self::FireAndPurge)
    }

    pub(in crate::window) fn purges(self) -> bool {
        matches!(self, Self::Purge | Self::FireAndPurge)
    }
}

/// Decides when a window gives its result: asked at every record, and at the timers that it sets itself. Flink's noun.
pub trait Trigger<T>: Clone + Send + 'static {
    /// What it remembers of one window of one key: kept in snapshots with the window.
    type State: State + Default;

    /// A record has come into the window.
    fn on_element(
        &mut self,
        record: &T,
        timestamp: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult;

    /// The watermark has come to an event-time timer that the trigger has set for this window.
    fn on_event_time(
        &mut self,
        _time: EventTime,
        _window: TimeWindow,
        _context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    /// The clock has come to a processing-time timer that the trigger has set for this window.
    fn on_processing_time(
        &mut self,
        _time: WallTime,
        _window: TimeWindow,
        _context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    /// What is wrong with it, if anything: a job with such a trigger is refused. A trigger that contains another asks it.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// The time by which it fires where that is all it does: at the end of the window, and at late records. Overlapping windows of
    /// that time may then share what they keep.
    #[doc(hidden)]
    fn fires_at_end(&self) -> Option<TimeDomain> {
        None
    }

    /// A window has become one with another, whose state this is: `window` is what both are now. Timers of both are gone, and are
    /// to be set anew.
    fn on_merge(&mut self, other: Self::State, window: TimeWindow, context: &mut TriggerContext<'_, Self::State>);
}

/// The timers of one window.
#[derive(Debug, Clone, Default)]
pub(in crate::window) struct WindowTimers {
    pub(in crate::window) event: Times,
    pub(in crate::window) processing: Times,
}

/// What a trigger may know and do.
pub struct TriggerContext<'a, S> {
    /// What the trigger remembers of the window.
    pub state: &'a mut S,
    pub(in crate::window) timers: &'a mut WindowTimers,
    /// Timers that were not set before.
    pub(in crate::window) registered: &'a mut Vec<Timer>,
    pub(in crate::window) time: &'a TimeService,
}

impl<S> TriggerContext<'_, S> {
    /// How far the event time has come.
    pub fn current_watermark(&self) -> EventTime {
        self.time.watermark
    }

    /// What the clock of the machine says.
    pub fn current_processing_time(&self) -> WallTime {
        self.time.now()
    }

    /// Asks for [`Trigger::on_event_time`] at this time.
    pub fn register_event_time_timer(&mut self, time: EventTime) {
        if self.timers.event.insert(time.0) {
            self.registered.push(Timer::EventTime(time));
        }
    }

    /// Asks for [`Trigger::on_processing_time`] at this time.
    pub fn register_processing_time_timer(&mut self, time: WallTime) {
        if self.timers.processing.insert(time.0) {
            self.registered.push(Timer::ProcessingTime(time));
        }
    }

    /// Forgets an event-time timer of the window.
    pub fn delete_event_time_timer(&mut self, time: EventTime) {
        self.timers.event.remove(time.0);
    }

    /// Forgets a processing-time timer of the window.
    pub fn delete_processing_time_timer(&mut self, time: WallTime) {
        self.timers.processing.remove(time.0);
    }
}
