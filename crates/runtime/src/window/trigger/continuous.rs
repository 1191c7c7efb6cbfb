//! Fire again and again.

use std::time::Duration;

use streamd_core::time::{EventTime, WallTime};

use super::{Trigger, TriggerContext, TriggerResult};
use crate::window::TimeWindow;

/// Fires again and again while the window is open, each time the watermark passes a multiple of an interval, and at its end.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousEventTimeTrigger {
    interval: i64,
}

impl ContinuousEventTimeTrigger {
    /// With this interval of at least a millisecond.
    pub fn of(interval: Duration) -> Self {
        Self {
            interval: interval_ms(interval),
        }
    }

    fn register_next(self, after: i64, window: TimeWindow, context: &mut TriggerContext<'_, Option<i64>>) {
        let next = next_multiple(after, self.interval).min(window.max_timestamp().0);
        *context.state = Some(next);
        context.register_event_time_timer(EventTime(next));
    }
}

impl<T> Trigger<T> for ContinuousEventTimeTrigger {
    /// The next time to fire before the end.
    type State = Option<i64>;

    fn on_element(
        &mut self,
        _record: &T,
        timestamp: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, Option<i64>>,
    ) -> TriggerResult {
        if window.max_timestamp() <= context.current_watermark() {
            return TriggerResult::Fire;
        }
        context.register_event_time_timer(window.max_timestamp());
        if context.state.is_none() {
            self.register_next(timestamp.0, window, context);
        }
        TriggerResult::Continue
    }

    fn on_event_time(
        &mut self,
        time: EventTime,
        window: TimeWindow,
        context: &mut TriggerContext<'_, Option<i64>>,
    ) -> TriggerResult {
        if time == window.max_timestamp() {
            return TriggerResult::Fire;
        }
        if *context.state != Some(time.0) {
            return TriggerResult::Continue;
        }
        self.register_next(time.0, window, context);
        TriggerResult::Fire
    }

    fn check(&self) -> Result<(), String> {
        check_interval(self.interval)
    }

    fn on_merge(&mut self, other: Option<i64>, window: TimeWindow, context: &mut TriggerContext<'_, Option<i64>>) {
        if window.max_timestamp() > context.current_watermark() {
            context.register_event_time_timer(window.max_timestamp());
        }
        let next = [*context.state, other].into_iter().flatten().min();
        *context.state = next;
        if let Some(next) = next {
            context.register_event_time_timer(EventTime(next));
        }
    }
}

/// Fires again and again, at every multiple of an interval on the clock, as long as the window has records.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousProcessingTimeTrigger {
    interval: i64,
}

impl ContinuousProcessingTimeTrigger {
    /// With this interval of at least a millisecond.
    pub fn of(interval: Duration) -> Self {
        Self {
            interval: interval_ms(interval),
        }
    }
}

impl<T> Trigger<T> for ContinuousProcessingTimeTrigger {
    /// The next time to fire.
    type State = Option<i64>;

    fn on_element(
        &mut self,
        _record: &T,
        _timestamp: EventTime,
        _window: TimeWindow,
        context: &mut TriggerContext<'_, Option<i64>>,
    ) -> TriggerResult {
        if context.state.is_none() {
            let next = next_multiple(context.current_processing_time().0, self.interval);
            *context.state = Some(next);
            context.register_processing_time_timer(WallTime(next));
        }
        TriggerResult::Continue
    }

    fn on_processing_time(
        &mut self,
        time: WallTime,
        _window: TimeWindow,
        context: &mut TriggerContext<'_, Option<i64>>,
    ) -> TriggerResult {
        let next = next_multiple(time.0, self.interval);
        *context.state = Some(next);
        context.register_processing_time_timer(WallTime(next));
        TriggerResult::Fire
    }

    fn check(&self) -> Result<(), String> {
        check_interval(self.interval)
    }

    fn on_merge(&mut self, other: Option<i64>, _window: TimeWindow, context: &mut TriggerContext<'_, Option<i64>>) {
        let next = [*context.state, other].into_iter().flatten().min();
        *context.state = next;
        if let Some(next) = next {
            context.register_processing_time_timer(WallTime(next));
        }
    }
}

fn interval_ms(interval: Duration) -> i64 {
    i64::try_from(interval.as_millis()).unwrap_or(i64::MAX)
}

fn check_interval(interval: i64) -> Result<(), String> {
    match interval {
        0 => Err("a trigger that fires every 0 ms: at least 1 ms is needed".to_owned()),
        _ => Ok(()),
    }
}

/// The first multiple of an interval after a time.
fn next_multiple(time: i64, interval: i64) -> i64 {
    // None of 0 reaches a job, unless within a trigger of the application that does not pass its check on.
    let interval = interval.max(1);
    time.saturating_sub(time.rem_euclid(interval)).saturating_add(interval)
}
