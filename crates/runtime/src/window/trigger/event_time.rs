//! Fires by the watermark.

use streamd_core::time::EventTime;

use super::{Trigger, TriggerContext, TriggerResult};
use crate::window::{TimeDomain, TimeWindow};

/// Fires when the watermark passes the end of the window, and again at every late record. The default in event time.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventTimeTrigger;

impl<T> Trigger<T> for EventTimeTrigger {
    type State = ();

    #[inline]
    fn on_element(
        &mut self,
        _record: &T,
        _timestamp: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        if window.max_timestamp() <= context.current_watermark() {
            return TriggerResult::Fire;
        }
        context.register_event_time_timer(window.max_timestamp());
        TriggerResult::Continue
    }

    fn on_event_time(&mut self, time: EventTime, window: TimeWindow, _: &mut TriggerContext<'_, ()>) -> TriggerResult {
        if time == window.max_timestamp() {
            TriggerResult::Fire
        } else {
            TriggerResult::Continue
        }
    }

    fn fires_at_end(&self) -> Option<TimeDomain> {
        Some(TimeDomain::Event)
    }

    fn on_merge(&mut self, _other: (), window: TimeWindow, context: &mut TriggerContext<'_, ()>) {
        // Behind the watermark there is nothing to wait for: the next late record fires.
        if window.max_timestamp() > context.current_watermark() {
            context.register_event_time_timer(window.max_timestamp());
        }
    }
}
