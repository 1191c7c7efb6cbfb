//! Fires by the clock.

use streamd_core::time::{EventTime, WallTime};

use super::{Trigger, TriggerContext, TriggerResult};
use crate::window::{TimeDomain, TimeWindow};

/// Fires when the clock passes the end of the window. The default in processing time.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessingTimeTrigger;

impl<T> Trigger<T> for ProcessingTimeTrigger {
    type State = ();

    #[inline]
    fn on_element(
        &mut self,
        _record: &T,
        _timestamp: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        context.register_processing_time_timer(WallTime(window.max_timestamp().0));
        TriggerResult::Continue
    }

    fn on_processing_time(&mut self, _: WallTime, _: TimeWindow, _: &mut TriggerContext<'_, ()>) -> TriggerResult {
        TriggerResult::Fire
    }

    fn fires_at_end(&self) -> Option<TimeDomain> {
        Some(TimeDomain::Processing)
    }

    fn on_merge(&mut self, _other: (), window: TimeWindow, context: &mut TriggerContext<'_, ()>) {
        context.register_processing_time_timer(WallTime(window.max_timestamp().0));
    }
}
